"""Scales of a drawing: where a value lies, in per cent, and round ticks with their labels. Pure; draws nothing."""

from collections.abc import Callable
from math import ceil, floor, log10
from typing import NamedTuple

Labels = tuple[tuple[float, str], ...]  # where, in per cent, and what


class Axis(NamedTuple):
    """A scale from `low` to `high` with ticks on round values."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a value lies, in per cent; values beyond the ends lie on them."""
        return 100 * ((min(max(value, self.low), self.high) - self.low) / (self.high - self.low))


def axis(low: float, high: float, *, count: int = 5, whole: bool = False, snug: bool = False) -> Axis:
    """Round ticks, about `count`, over low to high: in `whole` numbers, ending `snug` on the values or on ticks."""
    if high - low <= max(1e-9 * abs(high), 1e-30):
        low, high = low - max(abs(low) * 0.1, 1e-30), high + max(abs(high) * 0.1, 1e-30)
        if high - low < 1e-29 or whole:
            low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    unit = 10.0 ** floor(log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * 0.999)
    step = max(1.0, round(step)) if whole else step
    first, last = (ceil(low / step), floor(high / step)) if snug else (floor(low / step), ceil(high / step))
    ticks = tuple(i * step for i in range(first, last + 1))
    return Axis(low, high, ticks) if snug else Axis(ticks[0], ticks[-1], ticks)


def labels(scale: Axis, label: Callable[[float], str]) -> Labels:
    """Every tick, written by `label`, with a minus for a hyphen."""
    return tuple((scale.at(tick), label(tick).replace("-", "−")) for tick in scale.ticks)


def ends(scale: Axis, apart: float) -> Labels:
    """The first and the last step, and round ones between them that are `apart` per cent from both."""
    both = sorted({ceil(scale.low), floor(scale.high)})
    between = [tick for tick in scale.ticks if apart <= scale.at(tick) <= 100 - apart]
    return tuple((scale.at(step), f"{step:.0f}") for step in sorted({*both, *between}))


def decimals(scale: Axis) -> Callable[[float], str]:
    """How to write values of a scale: with as many decimals as its ticks differ in."""
    step = scale.ticks[1] - scale.ticks[0] if len(scale.ticks) > 1 else 1.0
    if not 1e-6 < step < 1e6:
        return lambda value: f"{value:.3g}"
    return f"{{:,.{max(0, -floor(log10(step) + 1e-9))}f}}".format
