"""One arm against a limit: a share of questions, and a ratio over them, with one-sided bounds and p-values. Pure.

Of every bound and p-value the weaker of two is given: question by question, and module by module (judging/clusters.py),
for questions about one module go together. A value that is missing is None, and counts at its worst for what is shown.
"""

from collections.abc import Sequence
from math import floor, inf, isfinite, sqrt
from typing import NamedTuple

from evalsuite.judging import clusters

MOST = 1_000_000  # questions: nobody asks more


class Bounded(NamedTuple):
    """An upper bound at alpha, and the one-sided p of H0: the true value is at most the limit. Small: it is over it."""

    upper: float
    over_p: float


def share(flags: Sequence[bool | None], modules: Sequence[str], limit: float, alpha: float) -> Bounded:
    """Of the share of questions that are True. C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404-413."""
    from scipy.stats import binom

    most, least = [flag is not False for flag in flags], [flag is True for flag in flags]
    by_module = -clusters.lower([-int(flag) for flag in most], modules, alpha)
    return Bounded(
        upper=max(exact_upper(sum(most), len(most), alpha), by_module),
        over_p=max(
            float(binom.sf(sum(least) - 1, len(least), limit)),
            clusters.p_value([flag - limit for flag in least], modules),
        ),
    )


def exact_upper(count: int, n: int, alpha: float) -> float:
    """Clopper and Pearson's one-sided upper bound. 1 when n is 0."""
    from scipy.special import betaincinv

    return 1.0 if count >= n else float(betaincinv(count + 1, n - count, 1 - alpha))


def needed(seen: float, limit: float, alpha: float) -> int | None:
    """Questions with which a share as seen would be shown to be within the limit; None when no number would do."""
    n = 10
    while n < MOST:
        if exact_upper(floor(seen * n), n, alpha) <= limit:
            return n
        n += max(1, n // 20)
    return None


def ratio(
    tokens: Sequence[float | None], right: Sequence[bool | None], modules: Sequence[str], limit: float, alpha: float
) -> Bounded:
    """Of all tokens over all right answers, a question each. A missing one took as much as the longest and was wrong,
    or, for `over_p`, took nothing and was right.

    E. C. Fieller's bound of a ratio of two means (see judging/clusters.py), and the t-test that it inverts: with n
    questions p is no smaller than 2^-n, however alike they are. Approximate where counts are skewed: at alpha 5 % and
    log-normal counts, a ratio exactly at its limit is kept 9.9 % of the time with 60 questions, 7.5 % with 200.
    """
    n, heard = len(tokens), [t for t in tokens if t is not None]
    if n < 2 or not heard:
        return Bounded(inf, 1.0)
    most, least = [max(heard) if t is None else t for t in tokens], [t or 0.0 for t in tokens]
    wrong, best = [r is True for r in right], [r is not False for r in right]
    each = [str(i) for i in range(n)]
    over = [t - limit * r for t, r in zip(least, best, strict=True)]
    return Bounded(
        upper=max(_fieller(most, wrong, each, alpha), _fieller(most, wrong, modules, alpha)),
        over_p=max(clusters.p_value(over, each), clusters.p_value(over, modules), 0.5**n),
    )


def _fieller(tops: Sequence[float], bottoms: Sequence[float], groups: Sequence[str], alpha: float) -> float:
    """Upper bound of sum(tops) / sum(bottoms). 0, which bounds nothing, for one group; inf where none is found."""
    from scipy.stats import t

    sums: dict[str, tuple[float, float]] = {}
    for group, top, bottom in zip(groups, tops, bottoms, strict=True):
        y, x = sums.get(group, (0.0, 0.0))
        sums[group] = (y + top, x + bottom)
    g, y, x = len(sums), sum(tops), sum(bottoms)
    if g < 2:
        return 0.0
    k = float(t.ppf(1 - alpha, g - 1)) ** 2 * g / (g - 1)
    spread, together, uneven = (
        k * (sum(each[i] * each[j] for each in sums.values()) - (y, x)[i] * (y, x)[j] / g)
        for i, j in ((0, 0), (0, 1), (1, 1))
    )
    # (y - r x)^2 = spread - 2 r together + r^2 uneven, and the larger r of the two
    a, half, c = x * x - uneven, x * y - together, y * y - spread
    if a <= 0:
        return inf
    upper = (half + sqrt(max(half * half - a * c, 0.0))) / a
    return upper if isfinite(upper) else inf
