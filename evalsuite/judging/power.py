"""How often two equal models pass, and how many questions that takes. Of the whole gate: every claim at every effort.

Of one claim: the trinomial probability of all tables with which its bound is above -margin, exact where questions are
taken one by one; by simulation where there are modules, which its second bound is about (judging/clusters.py), with as
many questions in each. Claims count as independent, which is the careful assumption: efforts and claims that go
together pass together more often.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, prod, sqrt
from typing import NamedTuple

from evalsuite.judging import clusters, exact, statistics
from evalsuite.judging.comparison import Comparison
from evalsuite.judging.policy import Policy
from evalsuite.questions import Split

EXACT = 5000  # questions; with more the normal approximation is as good, and the exact way takes seconds
GATES = 4000  # simulated


class Planned(NamedTuple):
    """One claim of a gate: which share of the questions it is about, and which share of those flip."""

    flips: float
    share: float = 1.0
    modules: int = 1
    split: Split = "held-out"  # which says the margin; as many questions of each are planned for


@lru_cache(maxsize=1024)
def one(n: int, flips: float, margin: float, alpha: float, modules: int = 1) -> float:
    """Probability that two equal models pass one claim with `n` questions of which a share `flips`, over 0, flips.

    Above EXACT by the normal approximation to the score test at a true difference of 0 (J. M. Lu and J. A. Bean,
    Statistics in Medicine 14 (1995) 1831-1839), by the noncentral t where there are modules.
    """
    import numpy as np
    from scipy.special import ndtr
    from scipy.stats import nct, t

    if flips <= 0:
        raise ValueError("flips must be positive: two models that never differ are one model")
    modules = min(modules, n)
    if n > EXACT:
        away = margin * sqrt(n / flips)
        if modules > 1:
            return float(nct.sf(t.ppf(1 - alpha, modules - 1), modules - 1, away))
        return float(ndtr(away - statistics.normal_quantile(1 - alpha)))
    if modules > 1:
        sizes = np.full(modules, n // modules) + (np.arange(modules) < n % modules)
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(sizes, [flips / 2, flips / 2, 1 - flips], (GATES, modules))
        lost, gained = drawn[..., 0], drawn[..., 1]
        by_question = gained.sum(axis=1) >= exact.passing(n, margin, alpha)[lost.sum(axis=1)]
        both = float(np.mean(by_question & clusters.shown(gained - lost, sizes, margin, alpha)))
        return min(both, one(n, flips, margin, alpha))
    either = np.array([flips / 2])
    return float(exact.chance(exact.passing(n, margin, alpha), n, either, either)[0])


def gate(n: int, claims: Sequence[Planned], policy: Policy) -> float:
    """Probability that two equal models pass every claim with `n` questions."""
    return prod(one(max(1, round(n * c.share)), c.flips, policy.at(c.split), policy.alpha, c.modules) for c in claims)


def needed(claims: Sequence[Planned], policy: Policy) -> int:
    """The fewest questions, in two significant digits, with which two equal models pass with `policy.power`."""
    low, high = 0, _rounded(_normal(claims, policy))
    while gate(high, claims, policy) < policy.power:
        low, high = high, _rounded(2 * high)
    while (middle := _rounded((low + high) // 2)) < high and middle > low:
        low, high = (low, middle) if gate(middle, claims, policy) >= policy.power else (middle, high)
    return high


def seen(comparisons: Sequence[Comparison]) -> list[Planned]:
    """The claims of non-inferiority that were made, at the flips seen in each (at least one question)."""
    return [
        Planned(max(claim.difference.discordance, 1 / claim.asked), claim.asked / c.asked, c.modules, c.split)
        for c in comparisons
        if c.split != "taught"
        for claim in c.claims
        if claim.name == "answering" or c.known is not None
    ]


def _normal(claims: Sequence[Planned], policy: Policy) -> int:
    """The most that any claim takes by itself: n = (z_alpha + z_beta)^2 flips / margin^2."""
    z = statistics.normal_quantile(1 - policy.alpha) + statistics.normal_quantile(policy.power)
    return max(ceil(z * z * c.flips / (policy.at(c.split) ** 2 * c.share)) for c in claims)


def _rounded(n: int) -> int:
    """Up to two significant digits."""
    step = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // step) * step
