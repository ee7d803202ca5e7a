"""Is tuned better at what it was taught, or at reading: comparisons and a policy in, one more check an effort out.

There are two ways to show it: on taught questions, and on held-out ones whose passage stands in the prompt. They are
never added up. Two ways are two chances, so each has to be shown at half of alpha (Bonferroni), whether or not the
question set has both: a model that is better in neither is let through with a chance of at most alpha.
"""

from collections.abc import Sequence
from typing import NamedTuple

from evalsuite.judging.checks import Finding
from evalsuite.judging.comparison import Comparison
from evalsuite.judging.notation import percent, points
from evalsuite.judging.paired import Group
from evalsuite.judging.policy import Policy
from tune.section import EffortName

WAYS = 2
TAUGHT, OPEN = "taught questions", "open-book held-out questions"
LACKING = (
    "a gain is required, and the set has neither taught nor open-book questions to show it on; set taught over 0, or "
    'book = "open" or "both", in [evaluate] of the recipe and run evalsuite questions, or set require_gain = false'
)


class Way(NamedTuple):
    """One kind of evidence for a gain at one effort."""

    effort: EffortName
    words: str
    figures: Group


def ways(comparisons: Sequence[Comparison]) -> list[Way]:
    """What a gain may be shown on, an effort after the other: taught questions first, then open-book ones."""
    out = []
    for effort in dict.fromkeys(c.effort for c in comparisons):
        mine = {c.split: c for c in comparisons if c.effort == effort}
        if taught := mine.get("taught"):
            out.append(Way(effort, TAUGHT, taught.whole))
        if (held_out := mine.get("held-out")) and held_out.open_book:
            out.append(Way(effort, OPEN, held_out.open_book))
    return out


def check(effort: EffortName, ways: Sequence[Way], policy: Policy) -> Finding:
    """Passes if either way shows tuned to be better than base and than blind guessing, both one-sided
    at alpha / 2: a base that answers nothing is beaten by a model that has learned nothing but what answers look like.
    It is refuted only if every way refutes it, so its p is the largest of theirs."""
    mine = [way for way in ways if way.effort == effort]
    most = policy.alpha / WAYS
    better = [way.words for way in mine if way.figures.gain_p <= most]
    figures = f"{effort}, gain: {'; '.join(_figures(way) for way in mine)}"
    over = "base" if all(way.figures.better_p > most for way in mine) else "blind guessing"
    worse = [way.figures.difference.worse_p <= way.figures.below_p for way in mine]
    beaten = "base" if all(worse) else "base or blind guessing" if any(worse) else "blind guessing"
    not_shown = f"tuned is not shown to be better than {over} (p is over {most:g})"
    return Finding(
        effort=effort,
        name="gain",
        passes=bool(better),
        worse_p=max((way.figures.refuted_p for way in mine), default=1.0),
        passed=f"{figures}: tuned is shown to be better on {' and on '.join(better)} (p at most {most:g})",
        failed=f"{figures}: tuned is shown to be worse than {beaten} where it had to be better",
        undecided=f"{figures}: {not_shown}; ask more of these questions, or train longer",
    )


def _figures(way: Way) -> str:
    g = way.figures
    missing = g.lacking.words if g.repeats > 1 else f"{g.missing}"
    unheard = f", {missing} missing at their worst" if g.lacking.missing else ""
    right = f"{percent(g.tuned)} right where blind guessing gets {percent(g.guess)} (p = {g.guessing_p:.2g})"
    change = f"{points(g.difference.estimate)} points on {g.asked} {way.words} (p = {g.better_p:.2g}{unheard})"
    return f"{change}, {right}" if g.guess else change
