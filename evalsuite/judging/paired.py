"""Some questions, asked of both arms: pairs of right, wrong or missing in, figures out. Knows no question, no policy.

A question whose either side is an error, or absent, is missing. Estimates are over paired questions; bounds and
p-values of a claim are over all that were asked, with every missing answer at its worst: they hold whatever it would
have been (worst-case bounds of C. F. Manski, American Economic Review 80 (1990) 319-323).

Where a question was asked several times, an arm's side of it is the mean of its answers, 0 to 1, and the test is of
those means (means.py). For what is estimated it is the mean of the answers that came, and lost and gained are by their
majority: base is right in more than half of them, and tuned is not. For bounds and p-values every answer that did not
come counts at its worst within the mean: else time-outs that fall on wrong answers would be a score.

Bounds of a difference and one-sided p-values are the weaker of two: question by question, which is exact for one
answer each (exact.py; McNemar's test), and module by module, for questions about one module go together (clusters.py).
What is only shown (mcnemar_p), or chooses kinds (base_above), takes questions one by one.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.judging import blind, clusters, exact, means, statistics
from evalsuite.replies.answers import Answer

MAJORITY = 0.5
Side = float | None  # right or wrong, as a bool; of several answers their mean; None: missing
Sides = tuple[Side, Side]  # base, tuned
Flags = tuple[bool | None, ...]  # of each answer to a question, by repeat; None: missing


class Asked(NamedTuple):
    """A question of a kind, about a module, and what became of it. `chance`: of being right without reading it."""

    kind: str
    module: str
    chance: float
    sides: Sides
    repeats: tuple[Flags, Flags] | None = None  # what the sides are means of: base, tuned; None: one answer each


class Lacking(NamedTuple):
    """How many lack a score on either side, and of how many: questions, or all their repeats where there are some."""

    missing: int
    of: int
    words: str  # "3 of 300"; of repeats "20 of 1200 answers"

    @property
    def share(self) -> float:
        return self.missing / self.of if self.of else 0.0


class Part(BaseModel):
    """A part of a report: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(Part):
    """Tuned minus base, -1 to 1, with one-sided bounds at the report's alpha.

    `estimate` and `discordance` are over paired questions, of what came; 0 when nothing is paired. The bounds are over
    all that was asked: for `lower` a missing tuned answer is wrong and a missing base answer right, for `upper` the
    other way round, each repeat by itself.
    """

    estimate: float
    lower: float
    upper: float
    by_module: bool  # `lower` is the one by module: question by question it would be higher
    discordance: float  # share of the pairs that differ; of repeats their mean square difference, which takes its place
    worse_p: float  # one-sided: tuned is worse; missing answers at their best for tuned


class Group(Part):
    """Right answers of both arms on some of the questions. Accuracies over paired ones, of what came; None when nothing
    is paired."""

    asked: int
    paired: int  # questions to which both arms have an answer
    missing: int  # questions to which an arm lacks one; of repeats any one, so some of these are paired
    repeats: int = Field(default=1, exclude_if=lambda count: count == 1)
    missing_answers: int = Field(default=0, exclude_if=lambda count: count == 0)  # of asked x repeats; 0 of one each
    base: float | None
    tuned: float | None
    difference: Difference
    lost: int
    gained: int
    mcnemar_p: float  # two-sided, mid-p; of repeats by tossed signs
    better_p: float  # one-sided: tuned is better; missing answers at their worst
    guess: float  # mean chance of being right without reading the question
    guessing_p: float  # one-sided: tuned does more than that; missing answers are wrong
    # One-sided: tuned does less than that; missing answers are right.
    below_p: float = Field(default=1.0, exclude_if=lambda p: p == 1)

    @property
    def gain_p(self) -> float:
        """One-sided: tuned is better than base and than blind guessing, which a base that says nothing would hide."""
        return max(self.better_p, self.guessing_p)

    @property
    def refuted_p(self) -> float:
        """One-sided: there is no such gain, since tuned is worse than base or than blind guessing; twice the smaller p
        (Bonferroni)."""
        return min(1.0, 2 * min(self.difference.worse_p, self.below_p))

    @property
    def lacking(self) -> Lacking:
        if self.repeats == 1:
            return Lacking(self.missing, self.asked, f"{self.missing} of {self.asked}")
        of = self.asked * self.repeats
        return Lacking(self.missing_answers, of, f"{self.missing_answers} of {of} answers")


def group(asked: Sequence[Asked], alpha: float) -> Group:
    sides, modules, once = [one.sides for one in asked], [one.module for one in asked], asked_once(asked)
    paired = [(b, t) for b, t in sides if b is not None and t is not None]
    lost, gained = flipped(sides)
    worst, lacking = filled(asked, base=True, tuned=False), [_lacking(one) for one in asked]
    best, chances = filled(asked, base=False, tuned=True), [one.chance for one in asked]
    over_guess = [t - chance for chance, (_, t) in zip(chances, worst, strict=True)]
    under_guess = [chance - t for chance, (_, t) in zip(chances, best, strict=True)]
    by_chance, by_less = means.p_value(over_guess), means.p_value(under_guess)
    if once:
        by_chance = blind.p_value(sum(t is True for _, t in sides), chances)
        by_less = blind.below_p(sum(t is not False for _, t in sides), chances)
    return Group(
        asked=len(sides),
        paired=len(paired),
        missing=sum(count > 0 for count in lacking),
        repeats=max((len(_repeats(one)[0]) for one in asked), default=1),
        missing_answers=0 if once else sum(lacking),
        base=fmean(b for b, _ in paired) if paired else None,
        tuned=fmean(t for _, t in paired) if paired else None,
        difference=difference(asked, alpha),
        lost=lost,
        gained=gained,
        mcnemar_p=statistics.mcnemar(lost, gained) if once else means.signs_p([t - b for b, t in paired], both=True),
        better_p=_better_p(worst, modules, once),
        guess=fmean(chances) if asked else 0.0,
        guessing_p=max(by_chance, clusters.p_value(over_guess, modules)),
        below_p=max(by_less, clusters.p_value(under_guess, modules)),
    )


def difference(asked: Sequence[Asked], alpha: float) -> Difference:
    sides, modules, once = [one.sides for one in asked], [one.module for one in asked], asked_once(asked)
    change = [t - b for b, t in sides if b is not None and t is not None]
    worst, best = filled(asked, base=True, tuned=False), _turned(filled(asked, base=False, tuned=True))
    lower, by_module = _lower(worst, modules, alpha, once)
    return Difference(
        estimate=sum(change) / max(len(change), 1),
        lower=lower,
        upper=-_lower(best, modules, alpha, once)[0],
        by_module=by_module,
        discordance=sum(d * d for d in change) / max(len(change), 1),
        worse_p=_better_p(best, modules, once),
    )


def base_above(asked: Sequence[Asked], alpha: float) -> float:
    """One-sided lower bound of base's accuracy (Wilson's; of repeats by means.py); a missing answer is wrong."""
    if not asked_once(asked):
        return means.lower([b for b, _ in filled(asked, base=False, tuned=False)], alpha, worst=0.0)
    return statistics.wilson(sum(one.sides[0] is True for one in asked), len(asked), alpha)[0]


def right(answer: Answer | None) -> bool | None:
    return None if answer is None or answer.score is None else answer.score > 0


def readable(answer: Answer | None) -> bool | None:
    return None if answer is None or answer.score is None else answer.outcome == "answered"


def side(flags: Sequence[bool | None]) -> Side:
    """Of one answer, which has tests of its own, its flag; of several the mean of those that came, None if none did."""
    known = [flag for flag in flags if flag is not None]
    return flags[0] if len(flags) == 1 else fmean(known) if known else None


def mostly(side: float) -> bool:
    """Right in more than half of the answers."""
    return side > MAJORITY


def flipped(sides: Sequence[Sides]) -> tuple[int, int]:
    """How many were lost and gained, of those with both sides."""
    ways = [(mostly(b), mostly(t)) for b, t in sides if b is not None and t is not None]
    return ways.count((True, False)), ways.count((False, True))


def asked_once(asked: Sequence[Asked]) -> bool:
    return all(one.repeats is None for one in asked)


def _repeats(one: Asked) -> tuple[Sequence[Side], Sequence[Side]]:
    """The answers of base and of tuned, one each where there are no repeats."""
    return one.repeats or ((one.sides[0],), (one.sides[1],))


def _lacking(one: Asked) -> int:
    """Of the repeats of a question those without a score on either side."""
    return sum(b is None or t is None for b, t in zip(*_repeats(one), strict=True))


def _lower(
    sides: Sequence[tuple[float, float]], modules: Sequence[str], alpha: float, once: bool
) -> tuple[float, bool]:
    """The lower one, and whether that is the one by module."""
    change = [t - b for b, t in sides]
    by_question = exact.lower(*flipped(sides), len(sides), alpha) if once else means.lower(change, alpha)
    by_module = clusters.lower(change, modules, alpha)
    return min(by_question, by_module), by_module < by_question


def _better_p(sides: Sequence[tuple[float, float]], modules: Sequence[str], once: bool) -> float:
    change = [t - b for b, t in sides]
    by_question = statistics.better(*flipped(sides)) if once else max(means.signs_p(change), means.p_value(change))
    return max(by_question, clusters.p_value(change, modules))


def _turned(sides: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Base for tuned, and tuned for base."""
    return [(t, b) for b, t in sides]


def filled(asked: Sequence[Asked], *, base: bool, tuned: bool) -> list[tuple[float, float]]:
    """The sides, with every missing answer of an arm taken to be what is given."""
    return [(_full(b, base), _full(t, tuned)) for b, t in map(_repeats, asked)]


def _full(answers: Sequence[Side], missing: bool) -> float:
    full = [missing if answer is None else answer for answer in answers]
    return full[0] if len(full) == 1 else fmean(full)
