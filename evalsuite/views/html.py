"""Report in, one self-contained HTML page out: nothing fetched, every text escaped, one script. Decides nothing.

Model answers are untrusted: the template escapes them, and the page's own content policy forbids requests, and every
script but the one that filters questions, by its digest.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from evalsuite.judging import advice, gain, limits
from evalsuite.judging import flips as changed
from evalsuite.judging.checks import Result, only_guesses
from evalsuite.judging.comparison import OUTCOMES, Comparison, Spread
from evalsuite.judging.flips import Flip
from evalsuite.judging.gate import worst
from evalsuite.judging.notation import bounds, confidence, percent, place, points, stated
from evalsuite.judging.opinions import Opinions
from evalsuite.judging.reasoning import Steering
from evalsuite.report import Report
from evalsuite.views import pareto, provenance
from evalsuite.views.axis import Axis, around, between
from tune.harmony import EFFORTS

if TYPE_CHECKING:
    import jinja2

T = TypeVar("T")

MEANING: dict[Result, str] = {
    "PASS": "Tuned is shown to be not worse than base, within the margin, at every effort.",
    "FAIL": "Tuned is shown to be worse than base, and not shown to stay within the margin.",
    "INCONCLUSIVE": "Neither “no worse” nor “worse” is shown. This is no release.",
    "INVALID": "The measurement is void. Nothing below may be used to decide.",
}
STOPPED = "Asking was stopped: however the rest were answered, the gate would not pass. This is no release."
BROKEN = "Tuned is shown to be beyond a limit of the recipe."
GAINED = " And better at what it was taught, or at reading."
SIGN: dict[Result, str] = {"PASS": "✓", "FAIL": "✕", "INCONCLUSIVE": "?", "INVALID": "∅"}


class Line(NamedTuple):
    """One arm's reasoning tokens, as points of a drawing 100 % wide and HEIGHT px high."""

    arm: str
    points: tuple[tuple[str, float, float], ...]  # x, y, tokens
    above: tuple[bool, ...]  # the label goes above its point


HEIGHT = 210
TIMES = {"first_token": "First token", "first_answer": "First answer", "total": "Whole reply"}


def render(report: Report, opinions: Opinions | None = None) -> str:
    """The page, UTF-8 text, to be written to a file of its own; it opens from file:// without network. `opinions`: what
    another model prefers, of this very report."""
    held_out, general, ways = report.of("held-out"), report.of("general"), gain.ways(report.comparisons)
    claimed = [claim.difference for c in held_out if c.paired for claim in c.claims]
    outcomes = {(check.effort, check.name): check.outcome for check in report.verdict.checks}
    arms = [arm for c in report.comparisons for arm in (c.base, c.tuned)]
    told = [c for c in held_out if not (report.stopped and c.base.absent)]  # of a base that was not asked all nothing
    forgetting = report.policy.at("general")
    margin, rows = report.policy.margin, [row for c in report.comparisons for row in c.kinds]
    return _template().render(
        r=report,
        others=[e for e in report.efforts if e not in EFFORTS],
        repeats=report.asked.sampling.repeats,
        v=report.verdict,
        meaning=_meaning(report),
        sign=SIGN,
        outcomes=[o for o in OUTCOMES if any(arm.outcomes[o] for arm in arms)],
        absent=any(arm.absent for arm in arms),
        held_out=held_out,
        splits=[(cs, worst_first(cs)) for cs in (held_out, report.of("taught"), general)],
        axis=around(claimed, margin),
        general=general,
        general_axis=around([c.claims[0].difference for c in general if c.paired], forgetting),
        unit=Axis(0, 1, (0, 0.25, 0.5, 0.75, 1)),
        checks={(check.effort, check.name): check for check in report.verdict.checks},
        worst=None if report.stopped else worst(report.comparisons, report.policy),
        blind=[c.effort for c in told if only_guesses(c)],
        fewer=[c for c in told if c.known and c.guessed],
        ways=ways,
        most=report.policy.alpha / gain.WAYS,
        gain_axis=around([way.figures.difference for way in ways], margin),
        cells={(c.split, c.effort, row.kind): row for c in report.comparisons for row in c.kinds},
        kind_axis=around([row.difference for row in rows], margin),
        steering=[(arm, s) for arm, s in (("base", report.base_steering), ("tuned", report.tuned_steering)) if s],
        lines=_lines(report.base_steering, report.tuned_steering),
        height=HEIGHT,
        plots=pareto.plots(held_out, _number, _seconds),
        pareto_height=pareto.HEIGHT,
        times=_times(report),
        flips=flips,
        limits=[(limits.row(f), outcomes.get((f.effort, f.name))) for f in report.limits],
        shown=[flip for c in report.comparisons for flip in c.flips],
        flips_shown=changed.SHOWN,
        text_shown=changed.TEXT_SHOWN,
        reasoning_shown=changed.REASONING_SHOWN,
        facts=provenance.facts(report),
        advice=report.advice,
        advice_shown=advice.TEXT_SHOWN,
        opinions=opinions,
        arms=lambda c: (("base", c.base), ("tuned", c.tuned)),
    )


def _meaning(report: Report) -> str:
    """The verdict in a sentence."""
    outcome = report.verdict.outcome
    broken = {check.name for check in report.verdict.checks if check.outcome == "FAIL"}
    if broken and broken <= {f.name for f in report.limits}:
        said = BROKEN
    elif outcome == "INCONCLUSIVE" and report.stopped:
        return STOPPED
    else:
        said = MEANING[outcome] + (GAINED if outcome == "PASS" and report.policy.require_gain else "")
    return f"{said} {STOPPED}" if report.stopped else said


def worst_first(comparisons: Sequence[Comparison]) -> list[str]:
    """The kinds of all of them."""
    return changed.worst_first(row for c in comparisons for row in c.kinds)


def flips(c: Comparison) -> list[Flip]:
    """Lost ones before gained ones, each those of the worst kinds first."""
    kinds = worst_first([c])
    return sorted(c.flips, key=lambda flip: (flip.direction == "gained", kinds.index(flip.kind)))


def _times(report: Report) -> list[tuple[str, str, Axis]]:
    """Each time that was measured: its name, its field in Spread, and a scale for both arms at every effort."""
    spreads = [arm.spread for c in report.comparisons for arm in (c.base, c.tuned)]
    longest = {
        field: max((five[4] for s in spreads if (five := getattr(s, field))), default=None)
        for field in Spread.model_fields
    }
    return [(TIMES[field], field, between(0, top or 1)) for field, top in longest.items() if top is not None]


def _lines(base: Steering | None, tuned: Steering | None) -> list[Line]:
    arms = [(name, s) for name, s in (("base", base), ("tuned", tuned)) if s]
    top = max((t for _, s in arms for t in s.tokens.values()), default=0) or 1
    lines = []
    for name, s in arms:
        other = next((o for n, o in arms if n != name), None)
        n = len(s.tokens)
        points = tuple(
            (f"{100 * (i + 0.5) / n:.2f}%", HEIGHT - 44 - (HEIGHT - 76) * t / top, t)
            for i, t in enumerate(s.tokens.values())
        )
        above = tuple(
            other is None or t > other.tokens.get(e, -1) or (t == other.tokens.get(e) and name == "base")
            for e, t in s.tokens.items()
        )
        lines.append(Line(name, points, above))
    return lines


@cache
def _template() -> "jinja2.Template":
    import jinja2

    folder = Path(__file__).parent
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"place": place, "secs": _seconds, "num": _number, "p": _p_value}
    env.filters |= {"pct": _typeset(percent), "pts": _typeset(points), "bounds": _typeset(bounds)}
    env.filters |= {"typeset": _typeset(str), "stated": _typeset(stated), "confidence": _typeset(confidence)}
    script = (folder / "flips.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    env.globals |= {"script": script, "script_digest": f"sha256-{digest}"}
    return env.get_template("report.html.jinja")


def _typeset(how: Callable[[T], str]) -> Callable[[T], str]:
    """With a minus for a hyphen, and a space before the per cent sign."""
    return lambda value: how(value).replace("-", "−").replace("%", " %")


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
