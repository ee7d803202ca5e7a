"""How long each arm reasons at each effort, and whether that still grows with it: comparisons in, what is shown out.

Whether tuned may be released for it is judging/steering.py's, which looks question by question.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from evalsuite.judging.comparison import Comparison
from evalsuite.judging.paired import Part
from evalsuite.judging.steering import LONGER
from evalsuite.replies.answers import Arm
from tune.harmony import EFFORTS
from tune.section import EffortName


class Step(NamedTuple):
    """From one effort to the next that was measured."""

    lower: EffortName
    higher: EffortName
    times: float | None  # as long the higher one reasons; None when the lower has no reasoning
    steers: bool  # it reasons longer, by more than 5 %: less would read as 1.0 times


class Steering(Part):
    """Does effort still steer one arm: median reasoning tokens by effort, and high over low."""

    tokens: dict[EffortName, float]
    ratio: float | None  # highest effort over lowest; None when the lowest has no reasoning
    monotone: bool  # no effort thinks less than the one below it

    @property
    def steps(self) -> tuple[Step, ...]:
        """Each step by itself: a high ratio of the ends says nothing about what lies between."""
        return tuple(
            Step(low, high, t / s if s else None, t > s * LONGER)
            for (low, s), (high, t) in pairwise(self.tokens.items())
        )


def steering(comparisons: Sequence[Comparison], arm: Arm) -> Steering | None:
    """Of one arm, from an effort's comparison each; None with fewer than two efforts that were measured.

    Of low, medium and high alone: of other efforts nobody knows which thinks longer.
    """
    comparisons = [c for c in comparisons if c.effort in EFFORTS]
    figures = {c.effort: (c.base if arm == "base" else c.tuned).reasoning_tokens for c in comparisons}
    tokens = {effort: t for effort, t in figures.items() if t is not None}
    if len(tokens) < 2:
        return None
    values = list(tokens.values())
    return Steering(
        tokens=tokens,
        ratio=values[-1] / values[0] if values[0] else None,
        monotone=all(a <= b for a, b in pairwise(values)),
    )
