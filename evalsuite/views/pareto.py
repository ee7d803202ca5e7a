"""Right answers against what they cost: the points of both arms by effort, where they and their labels lie, in words.

A plot is as wide as the page lets it be: x is in per cent, all else in px. Labels are laid for the narrowest page;
wider, they only move apart. Decides nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from evalsuite.judging.comparison import ArmFigures, Comparison
from evalsuite.judging.notation import percent
from evalsuite.replies.answers import ARMS, Arm
from evalsuite.views.axis import Axis, between

HEIGHT, TOP, BOTTOM = 230, 26, 36  # px: all, above the highest point, below the lowest
LEFT, RIGHT = 0.16, 0.95  # share of the width that the points lie in
NARROWEST = 290  # px
LETTER, LINE = 7, 13  # px: the most room that a label of 11.5 px takes


class Point(NamedTuple):
    """One arm at one effort. `dx`, `dy`, `anchor` lay the label; x is a percentage, y in px."""

    arm: Arm
    effort: str
    cost: float
    right: float
    x: float
    y: float
    front: bool  # nothing is both cheaper and better
    dx: int = 0
    dy: int = 0
    anchor: str = "middle"


class Plot(NamedTuple):
    """One drawing: points, the lines through the efforts of each arm, grid lines with their labels, all of it told."""

    title: str
    points: tuple[Point, ...]
    lines: tuple[tuple[Point, Point], ...]
    across: tuple[tuple[str, float], ...]  # label, x
    up: tuple[tuple[str, float], ...]  # label, y
    words: str
    front: str


Cost = Callable[[ArmFigures], float | None]
Told = Callable[[float], str]


def plots(comparisons: Sequence[Comparison], number: Told, seconds: Told) -> list[Plot]:
    """Against median completion tokens, and against the median time to first answer; none of fewer than 2 points."""
    against: list[tuple[str, Cost, Told, str]] = [
        ("median completion tokens", lambda a: a.completion_tokens, lambda n: f"{number(n)} tokens", ""),
        ("time to first answer, p50", lambda a: a.first_answer[0] if a.first_answer else None, seconds, " s"),
    ]
    made = (_plot(title, comparisons, cost, told, unit) for title, cost, told, unit in against)
    return [plot for plot in made if plot]


def _plot(title: str, comparisons: Sequence[Comparison], cost: Cost, told: Told, unit: str) -> Plot | None:
    arms: list[tuple[Arm, str, ArmFigures]] = [
        *(("base", c.effort, c.base) for c in comparisons),
        *(("tuned", c.effort, c.tuned) for c in comparisons),
    ]
    found = [(arm, e, x, a.accuracy) for arm, e, a in arms if a.accuracy is not None and (x := cost(a)) is not None]
    if len(found) < 2:
        return None
    across = between(0, max(x for _, _, x, _ in found) * 1.05 or 1)
    up = _up([right for *_, right in found])
    points = _labelled(
        [
            Point(arm, e, x, right, _x(across, x), _y(up, right), _front(x, right, [(c, r) for _, _, c, r in found]))
            for arm, e, x, right in found
        ]
    )
    said = "; ".join(
        f"{arm}: " + ", ".join(f"{p.effort} {percent(p.right)} at {told(p.cost)}" for p in points if p.arm == arm)
        for arm in dict.fromkeys(p.arm for p in points)
    )
    ahead = {arm: [p.effort for p in points if p.front and p.arm == arm] for arm in ARMS}
    front = "; ".join(f"{arm} at {', '.join(efforts)}" for arm, efforts in ahead.items() if efforts)
    return Plot(
        title=title,
        points=tuple(points),
        lines=tuple((p, q) for p, q in pairwise(points) if p.arm == q.arm),
        across=tuple((f"{t:,.10g}{unit}", _x(across, t)) for t in across.ticks),
        up=tuple((f"{100 * t:g} %", _y(up, t)) for t in up.ticks),
        words=f"Right answers against {title}. {said}. No other is both cheaper and better than {front}.",
        front=front,
    )


def _front(cost: float, right: float, all_: Sequence[tuple[float, float]]) -> bool:
    return not any(c <= cost and r >= right and (c, r) != (cost, right) for c, r in all_)


def _up(shares: Sequence[float]) -> Axis:
    """At least 10 points high, so that noise looks like noise."""
    middle = (min(shares) + max(shares)) / 2
    half = max(0.05, (max(shares) - min(shares)) / 2 * 1.1)
    low = max(0.0, min(middle - half, 1 - 2 * half))
    return between(low, min(1.0, low + 2 * half), 4)


def _x(axis: Axis, value: float) -> float:
    return round(100 * (LEFT + (RIGHT - LEFT) * axis.share(value)), 2)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * axis.share(value), 1)


Box = tuple[float, float, float, float]  # left, top, right, bottom in px at the narrowest


def _labelled(points: Sequence[Point]) -> list[Point]:
    """Each label above, below or beside its point, where it lies on no other and no point, or on the fewest."""
    taken = [(at - 6, p.y - 6, at + 6, p.y + 6) for p in points for at in [p.x / 100 * NARROWEST]]
    out = []
    for p in points:
        other = next((o for o in points if o.effort == p.effort and o.arm != p.arm), None)
        above = other is None or (p.right, p.arm == "tuned") > (other.right, other.arm == "tuned")
        ways = list(_ways(p, above))
        best, box = min(ways, key=lambda way: _overlap(way[1], taken))
        taken.append(box)
        out.append(best)
    return out


def _ways(p: Point, above: bool) -> Iterator[tuple[Point, Box]]:
    wide, at = len(p.effort) * LETTER, p.x / 100 * NARROWEST
    up, down = (0, -11, "middle", at - wide / 2), (0, 20, "middle", at - wide / 2)
    for dx, dy, anchor, left in (
        *((up, down) if above else (down, up)),
        (10, 4, "start", at + 10),
        (-10, 4, "end", at - 10 - wide),
    ):
        yield p._replace(dx=dx, dy=dy, anchor=anchor), (left, p.y + dy - LINE + 3, left + wide, p.y + dy + 3)


def _overlap(box: Box, taken: Sequence[Box]) -> float:
    """The area that a label shares with others; what would be cut off at a side weighs more than any."""
    left, top, right, bottom = box
    shared = sum(
        max(0.0, min(right, r) - max(left, a)) * max(0.0, min(bottom, d) - max(top, b)) for a, b, r, d in taken
    )
    return shared + 1000 * (max(0.0, -left) + max(0.0, right - NARROWEST))
