"""Does effort still steer: reasoning tokens of both arms at two efforts in, a figure for each step between efforts out.

On each question an arm steers if it reasons longer at the higher effort, by more than 5 %; a tie counts against. An arm
is shown to steer from one effort to the next when that happens on more than half of the questions: exact one-sided sign
test, and a t-test of the modules, both at alpha. Only where base is shown to is tuned asked to. Tuned is shown to have
lost it where it steers on fewer of the same questions than base does (worse_p of judging/paired.py): a model that
equals base is called that with a chance of at most alpha, and one that thinks 50 tokens at every effort nearly always
is.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, sqrt

from evalsuite.judging import paired, shares, statistics
from evalsuite.judging.comparison import reasoning_tokens
from evalsuite.judging.limits import MEND, Figure
from evalsuite.judging.paired import Asked
from evalsuite.judging.policy import Policy
from evalsuite.questions import Question
from evalsuite.replies.answers import Answer, Arm, Item
from tune.section import EffortName

LONGER = 1.05  # times as much reasoning as the effort below: what steers at all
HALF = 0.5


def figures(
    questions: Sequence[Question], answers: Mapping[Item, Answer], efforts: Sequence[EffortName], policy: Policy
) -> list[Figure]:
    """One for each step of `efforts`, low to high, at which base is shown to steer.

    Of efforts but GPT-OSS's three nobody knows which thinks longer: the caller leaves them out.
    """
    tokens = {key: reasoning_tokens(a) for key, a in answers.items() if not a.error}
    out, modules = [], [q.module for q in questions]
    for low, high in pairwise(efforts):
        sides = [
            (_longer(tokens, q.id, "base", low, high), _longer(tokens, q.id, "tuned", low, high)) for q in questions
        ]
        base, tuned = ([side[arm] is True for side in sides] for arm in (0, 1))
        if least(base, modules, policy.alpha) <= HALF:
            continue
        lower, n, k = least(tuned, modules, policy.alpha), len(sides), sum(tuned)
        rows = [Asked("", module, 0.0, side) for module, side in zip(modules, sides, strict=True)]
        out.append(
            Figure(
                effort=high,
                below=low,
                name="steering",
                value=k / n,
                base=sum(base) / n,
                bound=lower,
                limit=HALF,
                kept=lower > HALF,
                broken_p=paired.difference(rows, policy.alpha).worse_p,
                of=f"{k} of {n}",
                lacking="" if lower > HALF else _lacking(k, n, policy),
            )
        )
    return out


def least(longer: Sequence[bool], modules: Sequence[str], alpha: float) -> float:
    """One-sided lower bound of the share of questions on which the higher effort reasons longer: over a half where the
    sign test and the t-test say so."""
    return 1 - shares.share([not each for each in longer], modules, HALF, alpha).upper


def _longer(tokens: Mapping[Item, int], question: str, arm: Arm, low: EffortName, high: EffortName) -> bool | None:
    below, above = tokens.get((question, arm, low)), tokens.get((question, arm, high))
    return None if below is None or above is None else above > below * LONGER


def _lacking(k: int, n: int, policy: Policy) -> str:
    """Questions with which a share as seen is shown as often as the policy's power says."""
    over = k / n - HALF
    if over <= 0:
        return f"more questions would not show it: {MEND['steering']}"
    z = statistics.normal_quantile(1 - policy.alpha) / 2
    z += statistics.normal_quantile(policy.power) * sqrt(k / n * (1 - k / n))
    more = ceil((z / over) ** 2)
    if more <= n:
        return "questions about more modules would show it"
    return f"if so, about {more - n} more questions would show it"
