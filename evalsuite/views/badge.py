"""Report in, a badge out: a static SVG, or the JSON that shields.io draws one from. Decides nothing, fetches nothing.

Green is a PASS that may be used, and nothing else. Names are somebody's text: shown in one short line, and escaped.
"""

import json
import re
import unicodedata
from functools import cache
from html import escape
from pathlib import Path

from evalsuite.report import Report
from tune.errors import UserError
from tune.terminal import one_line

MOST = 48  # characters of a name that are shown
HEIGHT, PAD, NARROW, WIDE, ROUND = 20, 7, 7, 12, 3  # px; the width of a character, of an East Asian one; of a corner


def render(report: Report, suffix: str) -> str:
    """The badge as text for a file that ends in `suffix`, .svg or .json. Raises UserError for another."""
    if suffix == ".svg":
        return svg(report)
    if suffix == ".json":
        return endpoint(report)
    raise UserError(f"a badge is no {suffix or 'file without an ending'}", fix="--badge badge.svg, or badge.json")


def svg(report: Report) -> str:
    """An SVG image, one line high, with its meaning as its title."""
    left, right = label(report), message(report)
    title = f"{right}: {name(report.tuned_model)} against {name(report.base_model)}"
    title += f". {one_line(report.note)}" if report.note else ""
    a, b = (sum(map(_width, text)) + 2 * PAD for text in (left, right))
    side = HEIGHT - 2 * ROUND
    drawn = (
        f'<path fill="{colour("ink")}" d="M{a} 0v{HEIGHT}H{ROUND}a{ROUND} {ROUND} 0 0 1-{ROUND}-{ROUND}v-{side}'
        f'a{ROUND} {ROUND} 0 0 1 {ROUND}-{ROUND}z"/>',
        f'<path fill="{_tone(report)}" d="M{a} 0v{HEIGHT}h{b - ROUND}a{ROUND} {ROUND} 0 0 0 {ROUND}-{ROUND}v-{side}'
        f'a{ROUND} {ROUND} 0 0 0-{ROUND}-{ROUND}z"/>',
    )
    words = "".join(
        f'<text x="{x}" y="14" textLength="{width - 2 * PAD}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        for text, x, width in ((left, PAD, a), (right, a + PAD, b))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{a + b}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n' + "\n".join(drawn) + "\n"
        f'<g fill="#fff" font-family="system-ui, DejaVu Sans, sans-serif" font-size="11">{words}</g>\n</svg>\n'
    )


def endpoint(report: Report) -> str:
    """What https://shields.io/badges/endpoint-badge reads."""
    facts = {"schemaVersion": 1, "label": label(report), "message": message(report), "color": _tone(report)[1:]}
    return json.dumps(facts, indent=1) + "\n"


def label(report: Report) -> str:
    """Whom it is about."""
    return name(report.tuned_model)


def message(report: Report) -> str:
    """The verdict and its day."""
    return f"{outcome(report)} {one_line(report.created[:10])}".rstrip()


def outcome(report: Report) -> str:
    """The verdict; of servers that could not be compared INVALID, whatever else it says."""
    return "INVALID" if report.evidence.unfit else report.verdict.outcome


def name(text: str) -> str:
    """A model's name in at most MOST characters."""
    shown = one_line(text, MOST + 1)
    return shown if len(shown) <= MOST else f"{shown[: MOST - 1]}…"


@cache
def colour(variable: str) -> str:
    """A colour of the page in its light scheme, as #rrggbb."""
    page = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    found = re.search(rf"--{variable}: (#[0-9a-f]{{6}});", page)
    if found is None:
        raise RuntimeError(f"the page has no colour {variable}")
    return found[1]


def _tone(report: Report) -> str:
    return colour(outcome(report).lower())


def _width(character: str) -> int:
    return WIDE if unicodedata.east_asian_width(character) in "WF" else NARROW
