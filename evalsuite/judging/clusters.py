"""Bounds of a difference when questions about one module go together: the module, not the question, is what is drawn.

A model that is worse at one module is worse at many of its questions at once, so two hundred questions about twenty
modules say less than about two hundred. How much the mean hangs on which modules were drawn is seen by leaving out one
at a time: the delete-one jackknife of the clusters, with Student's t for their number less one (B. Efron and C. Stein,
Annals of Statistics 9 (1981) 586-596; as CR3 in A. C. Cameron and D. L. Miller, Journal of Human Resources 50 (2015)
317-372). Only as exact as a t-test is, and a module in twenty that is lost as a whole is often not among those drawn:
benchmarks/gate_groups.py measures both.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def lower(differences: Sequence[float], modules: Sequence[str], alpha: float) -> float:
    """One-sided lower bound of the mean of `differences` (-1 to 1, one a question), at level `alpha`.

    1, which bounds nothing, for questions of only one module: nothing shows how modules differ.
    """
    mean, error, g = _jackknife(differences, modules)
    return 1.0 if g < 2 else min(1.0, max(-1.0, mean - _quantile(alpha, g - 1) * error))


def p_value(differences: Sequence[float], modules: Sequence[str]) -> float:
    """One-sided p of H0: the mean of `differences` is at most 0. The same test; 0, which shows nothing, for one module
    alone."""
    mean, error, g = _jackknife(differences, modules)
    if g < 2:
        return 0.0
    if error < 1e-12:
        return 0.0 if mean > 0 else 1.0
    from scipy.stats import t

    return float(t.sf(mean / error, g - 1))


def shown(totals: "NDArray[np.int64]", sizes: "NDArray[np.int64]", margin: float, alpha: float) -> "NDArray[np.bool_]":
    """Whether `lower` is above -margin, of many evaluations at once: totals [evaluations, modules], sizes [modules]."""
    import numpy as np

    g, n, s = len(sizes), sizes.sum(), totals.sum(axis=1)
    without = (s[:, None] - totals) / (n - sizes)
    error = np.sqrt(((without - (s / n)[:, None]) ** 2).sum(axis=1) * (g - 1) / g)
    enough: NDArray[np.bool_] = s / n - _quantile(alpha, g - 1) * error > -margin
    return enough


def _jackknife(differences: Sequence[float], modules: Sequence[str]) -> tuple[float, float, int]:
    """The mean of all, its standard error from leaving out a module at a time, and how many modules there are."""
    sizes, totals = Counter(modules), Counter[str]()
    for module, d in zip(modules, differences, strict=True):
        totals[module] += d  # type: ignore[assignment]
    g, n, s = len(sizes), len(modules), sum(totals.values())
    if g < 2:
        return s / max(n, 1), 0.0, g
    without = [(s - totals[m]) / (n - size) for m, size in sizes.items()]
    return s / n, sqrt(sum((each - s / n) ** 2 for each in without) * (g - 1) / g), g


@lru_cache(maxsize=1024)
def _quantile(alpha: float, degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - alpha, degrees))
