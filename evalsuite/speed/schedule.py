"""When each request is due: computed before the run, so that a slow endpoint cannot slow the load down.

In: how many, how fast, a seed; or a file of moments. Out: seconds from the start of the run. Knows nothing about
requests.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from tune.errors import UserError

Arrivals = Literal["closed", "poisson", "constant", "trace"]  # closed: the next when one is answered


def offsets(count: int, rate: float, *, even: bool = False, seed: int = 0) -> tuple[float, ...]:
    """Due times in seconds from the first request, which is due at 0; `rate` in requests per second.

    Gaps are `even`, or exponential (a Poisson process) and rescaled so that the last request is due at
    (count - 1) / rate exactly: two seeds then offer the same load and differ in burstiness alone.
    """
    if count < 1 or not 0 < rate < math.inf:
        raise UserError(f"cannot schedule {count} requests at {rate:g} a second", fix="give a positive count and rate")
    gaps = np.ones(count - 1) if even else np.random.default_rng(seed).exponential(size=count - 1)
    span = (count - 1) / rate
    scale = span / gaps.sum() if count > 1 else 0.0
    return (0.0, *(float(x) for x in np.cumsum(gaps * scale)))


def trace(path: Path) -> tuple[float, ...]:
    """Offsets that were recorded: a number of seconds a line, in order; the first is taken for 0.

    Raises UserError for a file or a line that is not that.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
        found = [float(line) for line in lines]
    except (OSError, ValueError) as e:
        raise UserError(f"{path} is no trace", why=str(e), fix="write one number of seconds a line") from None
    if not found or not all(map(math.isfinite, found)) or any(b < a for a, b in pairwise(found)):
        why = "it needs at least one number, all finite, none smaller than the one before"
        raise UserError(f"{path} is no trace", why=why, fix=f"sort -n -o {path} {path}")
    return tuple(at - found[0] for at in found)
