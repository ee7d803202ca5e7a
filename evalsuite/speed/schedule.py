"""When each request is due: computed before the run, so that a slow endpoint cannot slow the load down.

In: how many, how fast, a seed. Out: seconds from the start of the run. Knows nothing about requests.
"""

from typing import Literal

import numpy as np

from tune.errors import UserError

Arrivals = Literal["poisson", "constant"]


def offsets(count: int, rate: float, *, arrivals: Arrivals = "poisson", seed: int = 0) -> tuple[float, ...]:
    """Due times in seconds from the first request, which is due at 0; `rate` in requests per second.

    Poisson gaps are exponential and rescaled so that the last request is due at (count - 1) / rate exactly: two seeds
    then offer the same load and differ in burstiness alone.
    """
    if count < 1 or rate <= 0:
        raise UserError(f"cannot schedule {count} requests at {rate:g} a second", fix="give a positive count and rate")
    gaps = np.ones(count - 1) if arrivals == "constant" else np.random.default_rng(seed).exponential(size=count - 1)
    span = (count - 1) / rate
    scale = span / gaps.sum() if count > 1 else 0.0
    return (0.0, *(float(x) for x in np.cumsum(gaps * scale)))
