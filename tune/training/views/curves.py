"""A training history in, one self-contained HTML page out: curves, advice in words, settings and figures.

No script, nothing fetched, every text escaped. Draws only: what the curve means, `tune.training.views.advice` says.
Coordinates are per cent of a chart, which the browser stretches to its width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tune.training.views import advice
from tune.training.views.history import Entry, Floats, History, number, rates, read, smooth
from tune.training.views.scale import Axis, Labels, axis, decimals, ends, labels

if TYPE_CHECKING:
    import jinja2

DRAWN = 1200  # points of a line: as many as a wide screen has columns
SPIKE = 4  # a loss this many times as high over the least one as 95 % are is cut off, else it flattens the curve


class Mark(NamedTuple):
    """A dot with a title of its own, in the colour of its `kind`."""

    kind: str
    x: float
    y: float
    title: str


class Chart(NamedTuple):
    """One drawing: SVG paths and marks, and the labels around them, all placed in per cent."""

    name: str
    title: str  # what a screen reader says instead of the drawing
    lead: str
    x: Labels
    y: Labels
    line: str
    dots: str = ""
    dashed: float | None = None
    looks: str = ""
    marks: tuple[Mark, ...] = ()
    bands: tuple[tuple[float, float], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()


def page(
    history: Sequence[Entry],
    *,
    title: str,
    settings: Mapping[str, Any],
    figures: Mapping[str, Any],
    base_eval: float | None = None,
) -> str:
    """The page, UTF-8 text, to be written to a file of its own; it opens from file:// without network.

    `history` is as in tune.training.views.history; `settings` and `figures` are shown as they are, inner dicts under
    dotted names; `base_eval` is the untouched base's loss on the held-out rows, nats a learned token.
    """
    h = read(history)
    base = base_eval if isfinite(number(base_eval)) else None
    found = advice.findings(history, base_eval)
    window = max(5, min(101, len(h.step) // 20 | 1))  # odd, a twentieth of the run
    speed = rates(h, window)
    everywhere = [*h.step.tolist(), *(float(look.step) for look in h.looks)] or [0.0]
    x, coarse = (axis(min(everywhere), max(everywhere), count=n, whole=True, snug=True) for n in (5, 3))
    small = [
        _plain("Learning rate", coarse, h.step, h.lr, lambda v: f"{v:.3g}"),
        _plain("Tokens per second", coarse, h.step, speed, "{:,.0f}".format, f"Over {window} steps, without looks."),
        _plain("GPU memory", coarse, h.step, h.memory / 1e9, lambda v: f"{v:,.3g}", "GB, the peak so far."),
    ]
    return _template().render(
        title=title,
        found=found,
        enough=len(h.loss[np.isfinite(h.loss)]) >= advice.LEAST,
        least=advice.LEAST,
        tiles=_tiles(h, base, window, speed),
        loss=_loss(h, base, found, x, window),
        small=[chart for chart in small if chart],
        tables=[(n, list(_rows(t))) for n, t in (("Settings", settings), ("Figures", figures)) if t],
    )


def _loss(h: History, base: float | None, found: list[advice.Finding], x: Axis, window: int) -> Chart | None:
    whole = np.isfinite(h.loss)
    steps, losses = h.step[whole], h.loss[whole]
    held_out = [look.loss for look in h.looks] + ([base] if base is not None else [])
    values = [*losses.tolist(), *held_out]
    if not len(h.step) and not h.looks:
        return None
    y = axis(*_span(losses, held_out)) if values else axis(0, 1)
    jumped = {step for one in found if one.kind == "jumping" for step in one.steps}
    marks = [
        Mark("jump", x.at(s), 100 - y.at(v), f"step {s:.0f}: {v:.3f}{', beyond the scale' if v > y.high else ''}")
        for s, v in zip(steps.tolist(), losses.tolist(), strict=True)
        if v > y.high or int(s) in jumped
    ]
    looks = [(float(look.step), look.loss) for look in h.looks]
    marks += [Mark("look", x.at(s), 100 - y.at(v), f"step {s:.0f}: held out {v:.3f}") for s, v in looks]
    smoothed = np.full(len(h.loss), np.nan)
    smoothed[whole] = smooth(losses, window)
    bands = tuple(_bands(h.step, ~whole, x))
    keys = [("raw", "each step"), ("line", f"smoothed over {window} steps")]
    keys += [("look", "held-out rows")] * bool(looks) + [("base", "base on held-out rows")] * (base is not None)
    cut = ", at the edge: beyond the scale" if any(v > y.high for v in values) else ""
    keys += [("jump", f"jump{cut}")] * any(m.kind == "jump" for m in marks) + [("broken", "no number")] * bool(bands)
    course = f", from {losses[0]:.3f} to {losses[-1]:.3f}" if len(losses) else ""
    held = f"; held-out loss {looks[-1][1]:.3f} at step {looks[-1][0]:.0f}" if looks else ""
    against = f"; the base's is {base:.3f}" if base is not None else ""
    return Chart(
        name="Loss",
        title=f"Train loss by step{course}{held}{against}",
        lead="Nats a learned token, by optimizer step.",
        x=ends(x, 9),
        y=labels(y, decimals(y)),
        line=_path(x, y, h.step, smoothed),
        dots=" ".join(f"M{x.at(s):.2f} {100 - y.at(v):.2f}h0" for s, v in _thin(steps, losses)),
        dashed=None if base is None else 100 - y.at(base),
        looks=_path(x, y, np.array([s for s, _ in looks]), np.array([v for _, v in looks])),
        marks=tuple(marks),
        bands=bands,
        keys=tuple(keys),
    )


def _span(losses: Floats, held_out: list[float]) -> tuple[float, float]:
    """From the least to the highest value, but for spikes and what is as far off."""
    low, high = min([*losses, *held_out]), max([*losses, *held_out])
    if len(losses):
        usual = float(np.quantile(losses, 0.95)) - low
        cap = low + SPIKE * usual
        if usual > 0 and high > cap:
            high = max(low + 1.5 * usual, *(v for v in [*held_out, low] if v <= cap))
    return float(low), float(high)


def _plain(
    name: str, x: Axis, steps: Floats, values: Floats, label: Callable[[float], str], lead: str = ""
) -> Chart | None:
    """A chart of one line that begins at zero, or None when there is nothing to draw: no value, or all of them 0."""
    finite = values[np.isfinite(values)]
    if not finite.any():
        return None
    y = axis(min(0.0, float(finite.min())), max(0.0, float(finite.max())), count=3)
    return Chart(
        name=name,
        title=f"{name} by step, from {label(finite[0])} to {label(finite[-1])}",
        lead=lead,
        x=ends(x, 24),
        y=labels(y, label),
        line=_path(x, y, steps, values),
    )


def _path(x: Axis, y: Axis, steps: Floats, values: Floats) -> str:
    """An SVG path through the values; it breaks where there is none."""
    drawn, pen = [], "M"
    for step, value in _thin(steps, values):
        if isfinite(value):
            drawn.append(f"{pen}{x.at(step):.2f} {100 - y.at(value):.2f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(drawn) + ("h0" if len(drawn) == 1 else "")


def _thin(steps: Floats, values: Floats) -> list[tuple[float, float]]:
    """About DRAWN of the points, evenly, the last one among them."""
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), DRAWN)).round().astype(int))
    return list(zip(steps[chosen].tolist(), values[chosen].tolist(), strict=True))


def _bands(steps: Floats, broken: "np.typing.NDArray[np.bool_]", x: Axis) -> Iterator[tuple[float, float]]:
    """Where steps have no loss, as (left, width)."""
    began: float | None = None
    for step, none in [*zip(steps.tolist(), broken.tolist(), strict=True), (float("nan"), False)]:
        if none:
            began, ended = (step if began is None else began), step
        elif began is not None:
            left, right = x.at(began - 0.5), x.at(ended + 0.5)
            yield left, max(right - left, 0.4)
            began = None


def _tiles(h: History, base: float | None, window: int, speed: Floats) -> list[tuple[str, str, str]]:
    """The figures on top: name, value, what it is."""
    losses = h.loss[np.isfinite(h.loss)]
    tiles = [("Steps", f"{len(h.step):,}", "of the optimizer")]
    if len(losses):
        fell = f"{np.median(losses[:5]):.2f} → {np.median(losses[-window:]):.2f}"
        tiles.append(("Train loss", fell, "nats a learned token, first to last steps"))
    if h.looks:
        last = f"{h.looks[-1].loss:.2f}"
        told = (last, "at the last look") if base is None else (f"{base:.2f} → {last}", "base to adapter")
        tiles.append(("Held-out loss", *told))
    if np.isfinite(speed).any():
        tiles.append(("Speed", f"{np.nanmedian(speed):,.0f}", "tokens a second, median"))
    if (h.memory > 0).any():
        tiles.append(("GPU memory", f"{np.nanmax(h.memory) / 1e9:.1f} GB", "peak"))
    return tiles


def _rows(table: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", _shown(value)


def _shown(value: Any) -> str:
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.1f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@cache
def _template() -> "jinja2.Template":
    import jinja2

    env = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters["pct"] = lambda value: f"{value:.2f}"
    return env.from_string(Path(__file__).with_name("training.html.jinja").read_text(encoding="utf-8"))
