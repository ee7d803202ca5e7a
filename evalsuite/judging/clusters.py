"""Bounds of a difference when questions about one module go together: the module, not the question, is what is drawn.

A model that is worse at one module is worse at many of its questions at once, so two hundred questions about twenty
modules say less than about two hundred. Here every module counts once, by its total: at a true difference d the totals
of (tuned - base - d) have the mean 0 (a t-test of that, solved for d, is E. C. Fieller's bound of a ratio of two means:
Journal of the Royal Statistical Society B 16 (1954) 175-185; for clusters see W. G. Cochran, Sampling Techniques (1977)
9A). Only as exact as a t-test is; benchmarks/gate_false_release.py measures it.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def lower(differences: Sequence[int], modules: Sequence[str], alpha: float) -> float:
    """One-sided lower bound of the mean of `differences` (-1, 0 or 1 a question), at level `alpha`.

    1, which bounds nothing, for questions of only one module: nothing shows how modules differ. -1 where so few
    modules are of such unlike sizes that nothing can be said.
    """
    sizes, totals = Counter(modules), Counter[str]()
    for module, d in zip(modules, differences, strict=True):
        totals[module] += d
    return of_totals([totals[m] for m in sizes], list(sizes.values()), alpha)


def p_value(differences: Sequence[float], modules: Sequence[str]) -> float:
    """One-sided p of H0: the mean of `differences` is at most 0. The same t-test; 0, which shows nothing, for questions
    of only one module."""
    sums: dict[str, float] = {}
    for module, d in zip(modules, differences, strict=True):
        sums[module] = sums.get(module, 0.0) + d
    g, s = len(sums), sum(sums.values())
    if g < 2:
        return 0.0
    spread = sum((x - s / g) ** 2 for x in sums.values()) * g / (g - 1)
    if spread < 1e-12:
        return 0.0 if s > 0 else 1.0
    from scipy.stats import t

    return float(t.sf(s / sqrt(spread), g - 1))


def of_totals(totals: Sequence[int], sizes: Sequence[int], alpha: float) -> float:
    """The same of each module's sum and number of questions."""
    g, n, s = len(sizes), sum(sizes), sum(totals)
    if g < 2:
        return 1.0
    k = _quantile(alpha, g - 1) ** 2 * g / (g - 1)
    spread = k * (sum(t * t for t in totals) - s * s / g)
    together = k * (sum(t * m for t, m in zip(totals, sizes, strict=True)) - s * n / g)
    uneven = k * (sum(m * m for m in sizes) - n * n / g)
    # (s - d n)^2 = spread - 2 d together + d^2 uneven, and the smaller d of the two
    a, half, c = n * n - uneven, s * n - together, s * s - spread
    if a <= 0:
        return -1.0
    root = sqrt(max(half * half - a * c, 0.0))
    return min(1.0, max(-1.0, (half - root) / a))


def shown(totals: "NDArray[np.int64]", sizes: "NDArray[np.int64]", margin: float, alpha: float) -> "NDArray[np.bool_]":
    """Whether `lower` is above -margin, of many evaluations at once: totals [evaluations, modules], sizes [modules]."""
    import numpy as np

    left = totals + margin * sizes
    g, s = len(sizes), left.sum(axis=1)
    spread = ((left - s[:, None] / g) ** 2).sum(axis=1) * g / (g - 1)
    enough: NDArray[np.bool_] = s > _quantile(alpha, g - 1) * np.sqrt(spread)
    return enough


@lru_cache(maxsize=1024)
def _quantile(alpha: float, degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - alpha, degrees))
