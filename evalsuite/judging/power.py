"""How often two equal models pass a whole gate, how many questions that takes, and how often a gain is shown.

Of a gate: every claim, and every limit of a share, at every effort. Of one check: the probability of all tables with
which its own test passes, exact where questions are taken one by one; by simulation where there are modules, which its
second test is about (judging/clusters.py), with as many questions in each. Checks count as independent, which is the
careful assumption: efforts and checks that go together pass together more often.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, prod, sqrt
from typing import TYPE_CHECKING, NamedTuple

from evalsuite.judging import clusters, exact, shares, statistics
from evalsuite.judging.comparison import Comparison
from evalsuite.judging.policy import Policy
from evalsuite.questions import Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT = 5000  # questions; with more the normal approximation is as good, and the exact way takes seconds
GATES = 4000  # simulated


class Limited(NamedTuple):
    """A limit that tuned is held to, of a share of the held-out questions, and the share that is expected of it.
    `steering`: of those that it does not reason longer on; held to it only where base is shown to keep it."""

    share: float
    limit: float
    modules: int = 1
    each: float = 0.0  # as of Planned
    steering: bool = False


class Planned(NamedTuple):
    """One claim of a gate: which share of the questions it is about, and which share of those flip."""

    flips: float
    share: float = 1.0
    modules: int = 1
    each: float = 0.0  # questions about a module, where more questions are about more modules; 0: about those
    split: Split = "held-out"  # which says the margin; as many questions of each are planned for


@lru_cache(maxsize=1024)
def one(n: int, flips: float, margin: float, alpha: float, modules: int = 1) -> float:
    """Probability that two equal models pass one claim with `n` questions of which a share `flips`, over 0, flips.

    Above EXACT by the normal approximation to the score test at a true difference of 0 (J. M. Lu and J. A. Bean,
    Statistics in Medicine 14 (1995) 1831-1839), by the noncentral t where there are modules.
    """
    if flips <= 0:
        raise ValueError("flips must be positive: two models that never differ are one model")
    if n > EXACT:
        return _approximate(n, flips, margin, alpha, modules)
    return _chance(exact.passing(n, margin, alpha), n, (flips / 2, flips / 2), margin, alpha, modules)


@lru_cache(maxsize=4096)
def gains(n: int, flips: float, gain: float, alpha: float, modules: int = 1) -> float:
    """Probability that tuned is shown to be better than base at `alpha`, with `n` questions of which it gained a share
    `gain` and of the others a share `flips` flips, as many either way. That it beats guessing is taken as shown."""
    if n > EXACT:
        return _approximate(n, flips + gain * (1 - gain), gain, alpha, modules)
    chances = flips / 2 * (1 - gain), flips / 2 * (1 - gain) + gain
    return _chance(_better(n, alpha), n, chances, 0.0, alpha, modules)


@lru_cache(maxsize=1024)
def gains_on_some(
    n: int, some: int, flips: float, gain: float, margin: float, alpha: float, gain_alpha: float, modules: int = 1
) -> float:
    """Probability that tuned, which gained on `some` of `n` questions alone, is shown to be better on those and not
    worse on all. By simulation: the two hang together. With more than EXACT as if they did not."""
    import numpy as np

    if n > EXACT:
        return gains(some, flips, gain, gain_alpha, modules) * one(n, flips, margin, alpha, modules)
    modules, rng = min(modules, some), np.random.default_rng(0)
    sizes, others, still = _sizes(some, modules), _sizes(n - some, modules), flips / 2
    moved = still * (1 - gain)
    drawn = rng.multinomial(sizes, [moved, moved + gain, 1 - 2 * moved - gain], (GATES, modules))
    whole = drawn + rng.multinomial(others, [still, still, 1 - flips], (GATES, modules))
    better = _passes(_better(some, gain_alpha), drawn, sizes, 0.0, gain_alpha)
    return float(np.mean(better & _passes(exact.passing(n, margin, alpha), whole, sizes + others, margin, alpha)))


@lru_cache(maxsize=1024)
def kept(n: int, share: float, limit: float, alpha: float, modules: int = 1) -> float:
    """Probability that a share is shown to be within its limit with `n` questions."""
    import numpy as np
    from scipy.stats import binom

    most = bisect_left(range(n + 1), True, key=lambda count: shares.exact_upper(count, n, alpha) > limit) - 1
    if (modules := min(modules, n)) > 1:
        sizes, rng = _sizes(n, modules), np.random.default_rng(0)
        found = rng.binomial(sizes, share, (GATES, modules))
        by_question = found.sum(axis=1) <= most
        return float(np.mean(by_question & clusters.shown(-found, sizes, limit, alpha)))
    return float(binom.cdf(most, n, share))


def gate(n: int, claims: Sequence[Planned], policy: Policy, limits: Sequence[Limited] = ()) -> float:
    """Probability that two equal models pass every claim, and keep every limit, with `n` questions."""
    sized = ((max(1, round(n * c.share)), c) for c in claims)
    passed = (one(some, c.flips, policy.at(c.split), policy.alpha, _about(some, c)) for some, c in sized)
    return prod(passed) * prod(_keeps(n, limit, policy.alpha) for limit in limits)


def needed(claims: Sequence[Planned], policy: Policy, limits: Sequence[Limited] = ()) -> int:
    """The fewest questions, in two significant digits, with which two equal models pass with `policy.power`.

    Looked for near the number that the normal approximation gives: each exact look costs a second.
    """
    hard_first = sorted(claims, key=lambda c: c.flips / (policy.at(c.split) ** 2 * c.share), reverse=True)

    def enough(n: int) -> bool:
        passed = 1.0
        for claim in hard_first:
            if (passed := passed * gate(n, [claim], policy)) < policy.power:
                return False
        return passed * gate(n, [], policy, limits) >= policy.power

    high = _rounded(_normal(claims, policy, limits))
    while _roughly(high, claims, policy) < policy.power:
        high = _rounded(ceil(1.05 * high))
    low = _rounded(round(0.8 * high))
    while not enough(high):
        low, high = high, _rounded(ceil(1.25 * high))
    if enough(low):
        low, high = 0, low
    while (middle := _rounded((low + high) // 2)) < high and middle > low:
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def least_gain(n: int, flips: float, alpha: float, modules: int, efforts: int, target: float) -> float | None:
    """The smallest gain, in whole points, that is shown at every effort as often as `target`; None for none."""
    points = range(1, 101)
    found = bisect_left(points, target, key=lambda p: gains(n, flips, p / 100, alpha, modules) ** efforts)
    return points[found] / 100 if found < len(points) else None


def seen(comparisons: Sequence[Comparison]) -> list[Planned]:
    """The claims of non-inferiority that were made, at the flips seen in each (at least one question)."""
    return [
        Planned(max(claim.difference.discordance, 1 / claim.asked), claim.asked / c.asked, c.modules, split=c.split)
        for c in comparisons
        if c.split != "taught"
        for claim in c.claims
        if claim.name == "answering" or c.known is not None
    ]


def _roughly(n: int, claims: Sequence[Planned], policy: Policy) -> float:
    sized = ((max(1, round(n * c.share)), c) for c in claims)
    return prod(_approximate(some, c.flips, policy.at(c.split), policy.alpha, _about(some, c)) for some, c in sized)


def _keeps(n: int, limit: Limited, alpha: float) -> float:
    """Base steers as tuned does: what it is not shown to do is not asked of tuned."""
    shown = kept(n, limit.share, limit.limit, alpha, _about(n, limit))
    return 1 - shown * (1 - shown) if limit.steering else shown


def _about(n: int, check: Planned | Limited) -> int:
    return max(check.modules, round(n / check.each)) if check.each else check.modules


def _chance(
    least: "NDArray[np.int64]", n: int, chances: tuple[float, float], margin: float, alpha: float, modules: int
) -> float:
    """Of at least `least[lost]` gained, and by module a mean over -margin; `chances`: that one is lost, or gained."""
    import numpy as np

    losing, gaining = map(np.array, zip(chances, strict=True))
    by_question = float(exact.chance(least, n, losing, gaining)[0])
    if (modules := min(modules, n)) == 1:
        return by_question
    sizes, rng = _sizes(n, modules), np.random.default_rng(0)
    drawn = rng.multinomial(sizes, [*chances, max(0.0, 1 - sum(chances))], (GATES, modules))
    return min(float(np.mean(_passes(least, drawn, sizes, margin, alpha))), by_question)


def _passes(
    least: "NDArray[np.int64]", drawn: "NDArray[np.int64]", sizes: "NDArray[np.int64]", margin: float, alpha: float
) -> "NDArray[np.bool_]":
    """Of evaluations at once: `drawn` [evaluations, modules, lost and gained and neither]."""
    lost, gained = drawn[..., 0], drawn[..., 1]
    passes: NDArray[np.bool_] = gained.sum(axis=1) >= least[lost.sum(axis=1)]
    return passes & clusters.shown(gained - lost, sizes, margin, alpha) if len(sizes) > 1 else passes


def _approximate(n: int, variance: float, away: float, alpha: float, modules: int) -> float:
    """`away`: how far the mean lies from what has to be ruled out."""
    from scipy.special import ndtr
    from scipy.stats import nct, t

    errors = away * sqrt(n / max(variance, 1e-12))
    if modules > 1:
        return float(nct.sf(t.ppf(1 - alpha, modules - 1), modules - 1, errors))
    return float(ndtr(errors - statistics.normal_quantile(1 - alpha)))


@lru_cache(maxsize=64)
def _better(n: int, alpha: float) -> "NDArray[np.int64]":
    """The fewest gained, by number lost, with which statistics.better is at most alpha; n + 1 where none is enough."""
    import numpy as np
    from scipy.stats import binom

    lost = np.arange(n + 1)
    low, high = np.zeros(n + 1, np.int64), np.full(n + 1, n + 1)  # not enough, enough or too many to be asked
    while np.any(high - low > 1):
        middle = (low + high) // 2
        enough = binom.sf(middle - 1, lost + middle, 0.5) <= alpha
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(high > n - lost, n + 1, high)


def _sizes(n: int, modules: int) -> "NDArray[np.int64]":
    import numpy as np

    return np.full(modules, n // modules) + (np.arange(modules) < n % modules)


def _normal(claims: Sequence[Planned], policy: Policy, limits: Sequence[Limited]) -> int:
    """The most that any check takes by itself: n = (z_alpha + z_beta)^2 variance / distance^2."""
    z = statistics.normal_quantile(1 - policy.alpha) + statistics.normal_quantile(policy.power)
    sizes = [c.flips / (policy.at(c.split) ** 2 * c.share) for c in claims]
    sizes += [each.share * (1 - each.share) / (each.limit - each.share) ** 2 for each in limits]
    return max(ceil(z * z * size) for size in sizes)


def _rounded(n: int) -> int:
    """Up to two significant digits."""
    step = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // step) * step
