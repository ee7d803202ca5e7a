"""A horizontal scale: values in, SVG percentages out, with ticks on round values. Knows no report."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import NamedTuple

from evalsuite.judging.paired import Difference


class Axis(NamedTuple):
    """A horizontal scale from `low` to `high`, in shares, seconds or tokens, with ticks on round values."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def x(self, value: float) -> str:
        """Where a value lies, as an SVG percentage; values beyond the ends lie on them."""
        return f"{100 * self.share(value):.2f}%"

    def share(self, value: float) -> float:
        """The same from 0 to 1."""
        return (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)

    def span(self, low: float, high: float) -> str:
        """How wide the stretch between two values is, as an SVG percentage."""
        return f"{float(self.x(high)[:-1]) - float(self.x(low)[:-1]):.2f}%"


def around(differences: Sequence[Difference], margin: float) -> Axis:
    """Wide enough for every bound and the margin, a little air at both ends."""
    low = min([-1.5 * margin, *(d.lower for d in differences)])
    high = max([0.75 * margin, *(d.upper for d in differences)])
    air = (high - low) * 0.05
    low, high = max(-1.0, low - air), min(1.0, high + air)
    step = next((s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / s <= 8), 0.5)
    return Axis(low, high, ticks(low, high, step))


def between(low: float, high: float, most: int = 5) -> Axis:
    """From `low` to a greater `high`, with at most about `most` ticks at steps of 1, 2 or 5 by a power of ten."""
    ten = 10.0 ** floor(log10((high - low) / most))
    return Axis(
        low, high, ticks(low, high, next(s for s in (ten, 2 * ten, 5 * ten, 10 * ten) if (high - low) / s <= most))
    )


def ticks(low: float, high: float, step: float) -> tuple[float, ...]:
    return tuple(round(i * step, 9) for i in range(ceil(low / step), floor(high / step) + 1))
