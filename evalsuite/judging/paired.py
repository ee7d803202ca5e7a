"""Some questions, asked of both arms: pairs of right, wrong or missing in, figures out. Knows no question, no policy.

A question whose either side is an error, or absent, is missing. Estimates are over paired questions; bounds and
p-values of a claim are over all that were asked, with every missing answer at its worst: they hold whatever it would
have been (worst-case bounds of C. F. Manski, American Economic Review 80 (1990) 319-323).

Bounds of a difference and one-sided p-values are the weaker of two: question by question, which is exact (exact.py;
McNemar's test), and module by module, for questions about one module go together (clusters.py). What is only shown
(mcnemar_p), or chooses kinds (base_above), takes questions one by one.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from evalsuite.judging import blind, clusters, exact, statistics
from evalsuite.replies.answers import Answer

Sides = tuple[bool | None, bool | None]  # base, tuned: right, wrong, or missing


class Asked(NamedTuple):
    """A question of a kind, about a module, and what became of it. `chance`: of being right without reading it."""

    kind: str
    module: str
    chance: float
    sides: Sides


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
    by_module: bool  # `lower` is the one by module: question by question it would be higher
    discordance: float  # share of the pairs that differ
    worse_p: float  # one-sided: tuned is worse; missing answers at their best for tuned


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
    better_p: float  # one-sided: tuned is better; missing answers at their worst
    guess: float  # mean chance of being right without reading the question
    guessing_p: float  # one-sided: tuned does more than that; missing answers are wrong

    @property
    def gain_p(self) -> float:
        """One-sided: tuned is better than base and than blind guessing, which a base that says nothing would hide."""
        return max(self.better_p, self.guessing_p)


def group(asked: Sequence[Asked], alpha: float) -> Group:
    sides, modules = [one.sides for one in asked], [one.module for one in asked]
    paired = [(b, t) for b, t in sides if b is not None and t is not None]
    lost, gained = flipped(sides)
    worst = _filled(sides, base=True, tuned=False)
    over_guess = [(t is True) - one.chance for one, (_, t) in zip(asked, sides, strict=True)]
    by_chance = blind.p_value(sum(t is True for _, t in sides), [one.chance for one in asked])
    return Group(
        asked=len(sides),
        paired=len(paired),
        missing=len(sides) - len(paired),
        base=fmean(b for b, _ in paired) if paired else None,
        tuned=fmean(t for _, t in paired) if paired else None,
        difference=difference(asked, alpha),
        lost=lost,
        gained=gained,
        mcnemar_p=statistics.mcnemar(lost, gained),
        better_p=_better_p(worst, modules),
        guess=fmean(one.chance for one in asked) if asked else 0.0,
        guessing_p=max(by_chance, clusters.p_value(over_guess, modules)),
    )


def difference(asked: Sequence[Asked], alpha: float) -> Difference:
    sides, modules = [one.sides for one in asked], [one.module for one in asked]
    paired, (lost, gained) = sum(None not in s for s in sides), flipped(sides)
    worst, best = _filled(sides, base=True, tuned=False), _turned(_filled(sides, base=False, tuned=True))
    lower, by_module = _lower(worst, modules, alpha)
    return Difference(
        estimate=(gained - lost) / max(paired, 1),
        lower=lower,
        upper=-_lower(best, modules, alpha)[0],
        by_module=by_module,
        discordance=(lost + gained) / max(paired, 1),
        worse_p=_better_p(best, modules),
    )


def base_above(asked: Sequence[Asked], alpha: float) -> float:
    """One-sided Wilson lower bound of base's accuracy; a missing answer is wrong."""
    return statistics.wilson(sum(one.sides[0] is True for one in asked), len(asked), alpha)[0]


def right(answer: Answer | None) -> bool | None:
    return None if answer is None or answer.score is None else answer.score > 0


def readable(answer: Answer | None) -> bool | None:
    return None if answer is None or answer.score is None else answer.outcome == "answered"


def flipped(sides: Sequence[Sides]) -> tuple[int, int]:
    """How many were lost and gained, of those with both sides."""
    return sum(s == (True, False) for s in sides), sum(s == (False, True) for s in sides)


def _lower(sides: Sequence[tuple[bool, bool]], modules: Sequence[str], alpha: float) -> tuple[float, bool]:
    """The lower one, and whether that is the one by module."""
    by_question = exact.lower(*flipped(sides), len(sides), alpha)
    by_module = clusters.lower([t - b for b, t in sides], modules, alpha)
    return min(by_question, by_module), by_module < by_question


def _better_p(sides: Sequence[tuple[bool, bool]], modules: Sequence[str]) -> float:
    by_module = clusters.p_value([t - b for b, t in sides], modules)
    return max(statistics.better(*flipped(sides)), by_module)


def _turned(sides: Sequence[tuple[bool, bool]]) -> list[tuple[bool, bool]]:
    """Base for tuned, and tuned for base."""
    return [(t, b) for b, t in sides]


def _filled(sides: Sequence[Sides], *, base: bool, tuned: bool) -> list[tuple[bool, bool]]:
    """With every missing answer of an arm taken to be what is given."""
    return [(base if b is None else b, tuned if t is None else t) for b, t in sides]
