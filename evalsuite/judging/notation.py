"""How shares, points, bounds and confidence are written, in sentences, tables and on the page. Pure text.

A share lies between -1 and 1; a point is a hundredth of it. What was measured has one decimal, what was stated has the
digits that it was stated with.
"""

from evalsuite.judging.comparison import Comparison
from evalsuite.judging.paired import Difference


def percent(share: float | None) -> str:
    """ "61.3%"; a dash for None."""
    return "–" if share is None else f"{share:.1%}"


def points(share: float) -> str:
    """ "+1.2", "-0.3", and "0.0" without a sign."""
    text = f"{share * 100:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def bounds(d: Difference) -> str:
    """ "-2.1 to +0.4", in points."""
    return f"{points(d.lower)} to {points(d.upper)}"


def interval(d: Difference) -> str:
    """ "-0.8 (-2.1 to +0.4)", in points."""
    return f"{points(d.estimate)} ({bounds(d)})"


def stated(share: float) -> str:
    """A share that somebody chose, such as a margin, as points: "5", "2.5"."""
    return f"{share * 100:.6g}"


def confidence(alpha: float) -> str:
    """Of a bound at a one-sided alpha: "95%", "97.5%"."""
    return f"{stated(1 - alpha)}%"


def place(c: Comparison) -> str:
    """Where a figure belongs: "low", and of the taught questions "taught, low"."""
    return c.effort if c.split == "held-out" else f"{c.split}, {c.effort}"
