"""Paired comparison of two arms on the same questions: score bounds and tests; percentiles. Pure; knows no policy.

`lost` counts the questions that base got right and tuned got wrong, `gained` the reverse, `n` all paired questions.
A difference is always tuned minus base, from -1 to 1. `alpha` is one-sided. Arguments marked "array" broadcast.
"""

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

TINY = 1e-12


def normal_quantile(p: float) -> float:
    """z with P(Z <= z) = p."""
    from scipy.special import ndtri

    return float(ndtri(p))


def tango_z(lost: "ArrayLike", gained: "ArrayLike", n: "ArrayLike", null: "ArrayLike") -> "NDArray[np.float64]":
    """Score statistic for H0: difference = `null`, -1 < null < 1; arrays. Standard normal under H0, 0 if n is 0.

    T. Tango, Statistics in Medicine 17 (1998) 891-908, section 3: the variance is taken at the maximum-likelihood
    estimate under H0, the positive root of 2n q^2 + Bq + C = 0, which is what keeps the size right at small n.
    """
    import numpy as np

    b, c, n, d = (np.asarray(x, dtype=np.float64) for x in (lost, gained, n, null))
    linear = (2 * n - c + b) * d - c - b
    constant = -b * d * (1 - d)
    # With no discordant pair that could carry H0 (b = 0, d > 0) rounding may push the root to -1e-17.
    root = np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0))
    q = np.maximum((root - linear) / np.maximum(4 * n, TINY), 0)
    variance = np.maximum(n * (2 * q + d * (1 - d)), 0)
    top = c - b - n * d
    with np.errstate(divide="ignore", invalid="ignore"):
        z = top / np.sqrt(variance)
    return np.where(np.abs(top) < TINY, 0.0, z)


def tango_bounds(lost: int, gained: int, n: int, alpha: float) -> tuple[float, float]:
    """One-sided lower and upper bound of the difference, each at level `alpha`, by inverting `tango_z`.

    Asymptotic: at small n a bound errs in up to 7 % of cases at a nominal 5 %, so the gate takes those of
    judging/exact.py. With n = 0 nothing is known: (-1, 1). With n = 1 a bound is 1 / (1 + z^2) away from its end.
    """
    from scipy.optimize import brentq

    _check(lost, gained, n)
    if n == 0:
        return -1.0, 1.0
    z, estimate, edge = normal_quantile(1 - alpha), (gained - lost) / n, 1 - 1e-10

    def root(target: float, low: float, high: float) -> float:
        return float(brentq(lambda d: float(tango_z(lost, gained, n, d)) - target, low, high, xtol=1e-10))

    lower = -1.0 if lost == n else root(z, -edge, min(estimate, edge))
    upper = 1.0 if gained == n else root(-z, max(estimate, -edge), edge)
    return lower, upper


def wald_z(lost: "ArrayLike", gained: "ArrayLike", n: "ArrayLike", null: "ArrayLike") -> "NDArray[np.float64]":
    """The same statistic with the variance at the estimate (the usual mean over standard error); arrays.

    Only to compare with: at small n it releases a worse model two or three times as often as its alpha
    says (benchmarks/gate_false_release.py). It is +inf with no discordant pair.
    """
    import numpy as np

    b, c, n, d = (np.asarray(x, dtype=np.float64) for x in (lost, gained, n, null))
    variance = np.maximum(b + c - (c - b) ** 2 / n, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z: NDArray[np.float64] = (c - b - n * d) / np.sqrt(variance)
    return z


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided mid-p value of H0: a flip is as likely either way. 1 when nothing flipped.

    Fagerland, Lydersen, Laake, BMC Medical Research Methodology 13 (2013) 91: half the probability of the observed
    table is left out, so the test is not as timid as the exact one.
    """
    from scipy.stats import binom

    _check(lost, gained, lost + gained)
    flips, few = lost + gained, min(lost, gained)
    return min(1.0, float(2 * binom.cdf(few, flips, 0.5) - binom.pmf(few, flips, 0.5))) if lost != gained else 1.0


def better(lost: int, gained: int) -> float:
    """One-sided exact McNemar p-value of H0: tuned is not better. Small: tuned is better. 1 when nothing flipped.

    Binomial tail P(X >= gained), X ~ Bin(lost + gained, 1/2): McNemar, Psychometrika 12 (1947) 153-157, exact form.
    """
    from scipy.stats import binom

    _check(lost, gained, lost + gained)
    return float(binom.sf(gained - 1, lost + gained, 0.5))


def wilson(right: int, n: int, alpha: float) -> tuple[float, float]:
    """One-sided lower and upper bound of a proportion, each at level `alpha`. (0, 1) when n is 0.

    E. B. Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    if not 0 <= right <= n:
        raise ValueError(f"{right} right of {n}")
    if n == 0:
        return 0.0, 1.0
    z, p = normal_quantile(1 - alpha), right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Exact ends: at 0 or n right, rounding would leave 1e-18 between bound and end.
    return (0.0 if right == 0 else max(0.0, middle - half)), (1.0 if right == n else min(1.0, middle + half))


def holm(p: Sequence[float], alpha: float) -> list[bool]:
    """Which of several hypotheses are rejected, so that any true one is with a chance of at most `alpha`.

    S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70: from the smallest p on, each is held against alpha by
    the number that are left, until one is over it. Needs no independence.
    """
    out, left = [False] * len(p), len(p)
    for i in sorted(range(len(p)), key=p.__getitem__):
        if p[i] > alpha / left:
            break
        out[i], left = True, left - 1
    return out


def percentiles(values: Sequence[float], *at: float) -> tuple[float, ...]:
    """The percentiles `at`, 0 to 100, of one or more values, linear between neighbours (Hyndman and Fan's type 7)."""
    import numpy as np

    return tuple(float(x) for x in np.percentile(values, at))


def _check(lost: int, gained: int, n: int) -> None:
    if lost < 0 or gained < 0 or lost + gained > n:
        raise ValueError(f"{lost} lost and {gained} gained of {n} questions")
