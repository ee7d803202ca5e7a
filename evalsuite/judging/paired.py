"""Some questions, asked of both arms: pairs of right, wrong or missing in, figures out. Knows no question, no policy.

A question whose either side is an error, or absent, is missing. Estimates are over paired questions; bounds and
p-values of a claim are over all that were asked, with every missing answer at its worst: they hold whatever it would
have been (worst-case bounds of C. F. Manski, American Economic Review 80 (1990) 319-323).
"""

from collections.abc import Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from evalsuite.judging import blind, exact, statistics
from evalsuite.replies.answers import Answer

Sides = tuple[bool | None, bool | None]  # base, tuned: right, wrong, or missing


class Part(BaseModel):
    """A part of a report: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(Part):
    """Tuned minus base, -1 to 1, with one-sided bounds at the report's alpha.

    `estimate` and `discordance` are over paired questions, 0 when nothing is paired. The bounds are over all questions:
    for `lower` a missing tuned answer is wrong and a missing base answer right, for `upper` the other way round.
    """

    estimate: float
    lower: float
    upper: float
    discordance: float  # share of the pairs that differ
    worse_p: float  # one-sided, exact: tuned is worse; missing answers at their best for tuned


class Group(Part):
    """Right answers of both arms on some of the questions. Accuracies over paired ones, None when nothing is paired."""

    asked: int
    paired: int
    missing: int
    base: float | None
    tuned: float | None
    difference: Difference
    lost: int
    gained: int
    mcnemar_p: float  # two-sided, mid-p
    better_p: float  # one-sided, exact: tuned is better; missing answers at their worst
    guess: float  # mean chance of being right without reading the question
    guessing_p: float  # one-sided, exact: tuned does more than that; missing answers are wrong

    @property
    def gain_p(self) -> float:
        """One-sided: tuned is better than base and than blind guessing, which a base that says nothing would hide."""
        return max(self.better_p, self.guessing_p)


def group(sides: Sequence[Sides], chances: Sequence[float], alpha: float) -> Group:
    """`chances`: of each question, of being right without reading it (judging/blind.py)."""
    paired = [(b, t) for b, t in sides if b is not None and t is not None]
    lost, gained = flipped(sides)
    return Group(
        asked=len(sides),
        paired=len(paired),
        missing=len(sides) - len(paired),
        base=fmean(b for b, _ in paired) if paired else None,
        tuned=fmean(t for _, t in paired) if paired else None,
        difference=difference(sides, alpha),
        lost=lost,
        gained=gained,
        mcnemar_p=statistics.mcnemar(lost, gained),
        better_p=statistics.better(*flipped(_filled(sides, base=True, tuned=False))),
        guess=fmean(chances) if chances else 0.0,
        guessing_p=blind.p_value(sum(t is True for _, t in sides), chances),
    )


def difference(sides: Sequence[Sides], alpha: float) -> Difference:
    n, paired, (lost, gained) = len(sides), sum(None not in s for s in sides), flipped(sides)
    worst, best = _filled(sides, base=True, tuned=False), _filled(sides, base=False, tuned=True)
    return Difference(
        estimate=(gained - lost) / max(paired, 1),
        lower=exact.lower(*flipped(worst), n, alpha),
        upper=-exact.lower(*reversed(flipped(best)), n, alpha),
        discordance=(lost + gained) / max(paired, 1),
        worse_p=statistics.better(*reversed(flipped(best))),
    )


def base_above(sides: Sequence[Sides], alpha: float) -> float:
    """One-sided Wilson lower bound of base's accuracy; a missing answer is wrong."""
    return statistics.wilson(sum(b is True for b, _ in sides), len(sides), alpha)[0]


def right(answer: Answer | None) -> bool | None:
    return None if answer is None or answer.score is None else answer.score > 0


def readable(answer: Answer | None) -> bool | None:
    return None if answer is None or answer.score is None else answer.outcome == "answered"


def flipped(sides: Sequence[Sides]) -> tuple[int, int]:
    """How many were lost and gained, of those with both sides."""
    return sum(s == (True, False) for s in sides), sum(s == (False, True) for s in sides)


def _filled(sides: Sequence[Sides], *, base: bool, tuned: bool) -> list[Sides]:
    """With every missing answer of an arm taken to be what is given."""
    return [(base if b is None else b, tuned if t is None else t) for b, t in sides]
