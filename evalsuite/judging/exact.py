"""Bounds of a paired difference whose error is at most alpha at every number of questions and share of flips.

Tango's score bound is only asymptotic: at 52 questions and 5 % of flips it lets 6.9 % through where 5 % are said. Here
it does no more than put the tables (lost, gained) in order; how far the bound lies from them is worked out from the
trinomial distribution itself. The lower bound of a table is the smallest difference d at which a table as good or
better has a probability over alpha, for the share of flips that makes it most likely: R. J. Buehler, Journal of the
American Statistical Association 52 (1957) 482-493; for paired questions see J.-P. Hsueh, J.-P. Liu and J. J. Chen,
Biometrics 57 (2001) 478-483, and K. Sidik, Statistics in Medicine 22 (2003) 265-278.

Why that holds. "As good or better" is a set that with a table has every table of fewer lost or more gained. To raise d
is to turn lost into unchanged or unchanged into gained questions, which only ever leads into the set; so its greatest
probability grows with d, and a model that is worse than d has a smaller one than a model at d.
"""

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from evalsuite.judging import statistics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPREAD = 6.5  # standard deviations of the number lost that are summed over: 1e-10 is left out
STEP = 1e-7  # to which a bound is found; it is rounded away from the estimate


@lru_cache(maxsize=65536)
def lower(lost: int, gained: int, n: int, alpha: float) -> float:
    """One-sided lower bound of the difference, -1 to 1, at level `alpha`. -1 when n is 0 or everything was lost."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    near = statistics.tango_bounds(lost, gained, n, alpha)[0]
    if n == 0 or lost == n:
        return -1.0
    least = as_good(n, near, alpha)
    least[: lost + 1] = least[: lost + 1].clip(max=gained)
    goal = float(ndtri(alpha))

    @cache
    def over(d: float) -> float:
        return float(ndtri(min(max(most_likely(least, n, d), 1e-300), 1 - 1e-16))) - goal

    edge, sd = 1 - 1e-9, ((gained - lost) / n - near) / statistics.normal_quantile(1 - alpha)
    low = high = max(-edge, min(near, edge))
    step = (abs(over(near)) + 0.01) * 1.3 * sd  # about where it is, if `over` rises by 1 a standard deviation
    while low > -edge and over(low) > 0:
        low, high, step = max(-edge, low - step), low, 2 * step
    while high < edge and over(high) <= 0:
        low, high, step = high, min(edge, high + step), 2 * step
    return max(-1.0, float(brentq(over, low, high, xtol=STEP / 2)) - STEP)


def bounds(lost: int, gained: int, n: int, alpha: float) -> tuple[float, float]:
    """Lower and upper bound, each at level `alpha`: together they are the two-sided 1 - 2 alpha interval."""
    return lower(lost, gained, n, alpha), -lower(gained, lost, n, alpha)


@lru_cache(maxsize=1024)
def passing(n: int, margin: float, alpha: float) -> "NDArray[np.int64]":
    """The fewest gained, by number lost, with which `lower` is above -margin; (n + 1,), n + 1 where none is enough."""
    low, high = -1 + 1e-9, 1 - 1e-9
    while high - low > STEP:
        middle = (low + high) / 2
        if most_likely(as_good(n, middle, alpha), n, -margin) > alpha:
            low = middle
        else:
            high = middle
    return as_good(n, high, alpha)


def as_good(n: int, null: float, alpha: float) -> "NDArray[np.int64]":
    """Of the tables whose Tango bound is at least `null`: the fewest gained that it takes, by number lost; (n + 1,).

    n + 1 where no number is enough.
    """
    import numpy as np

    lost, goal = np.arange(n + 1), statistics.normal_quantile(1 - alpha) - 1e-6
    low, high = np.full(n + 1, -1), n - lost + 1
    while np.any(high - low > 1):
        middle = np.maximum((low + high) // 2, 0)
        enough = statistics.tango_z(lost, middle, n, null) >= goal
        low, high = np.where(enough, low, np.minimum(middle, high - 1)), np.where(enough, middle, high)
    high = np.where(high > n - lost, n + 1, high)
    found: NDArray[np.int64] = np.minimum.accumulate(high[::-1])[::-1]
    return found


def most_likely(least: "NDArray[np.int64]", n: int, d: float) -> float:
    """The greatest probability, over the share of flips, of at least `least[lost]` gained at a true difference d."""
    import numpy as np

    # Even in the angle, which is how fine the probability changes: closest where nothing flips, and where everything.
    angles = np.linspace(0, np.pi / 2, 24 + int(2 * np.sqrt(n)))
    gap, found = angles[1], _at(least, n, d, angles)
    for _ in range(2):
        around = gap * np.linspace(-1, 1, 9)[:, None]
        angles = np.clip(angles[np.argsort(found)[-4:]] + around, 0, np.pi / 2).ravel()
        gap, found = gap / 4, _at(least, n, d, angles)
    return float(found.max())


def _at(least: "NDArray[np.int64]", n: int, d: float, angles: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    either = (1 - abs(d)) / 2 * np.sin(angles) ** 2
    return chance(least, n, either + max(-d, 0.0), either + max(d, 0.0))


def chance(
    least: "NDArray[np.int64]", n: int, losing: "NDArray[np.float64]", gaining: "NDArray[np.float64]"
) -> "NDArray[np.float64]":
    """Probability of at least `least[lost]` gained of n, for each chance that a question is lost or gained; arrays."""
    import numpy as np
    from scipy.special import betainc, gammaln, xlog1py, xlogy

    losing, gaining = np.atleast_1d(losing)[:, None], np.atleast_1d(gaining)[:, None]
    width = int(np.ceil(SPREAD * np.sqrt(n * float((losing * (1 - losing)).max())))) + 12
    lost = np.floor(n * losing).astype(np.int64) + np.arange(-width, width + 1)
    inside = (lost >= 0) & (lost <= n)
    lost = lost.clip(0, n)
    ways = gammaln(n + 1) - gammaln(lost + 1) - gammaln(n - lost + 1)
    weight = np.where(inside, np.exp(ways + xlogy(lost, losing) + xlog1py(n - lost, -losing)), 0.0)
    need, left = least[lost], n - lost
    share = np.minimum(gaining / np.maximum(1 - losing, 1e-300), 1.0)
    tail = np.where(need <= 0, 1.0, betainc(np.maximum(need, 1), np.maximum(left - need + 1, 1), share))
    total: NDArray[np.float64] = (weight * np.where(need > left, 0.0, tail)).sum(axis=1)
    return total
