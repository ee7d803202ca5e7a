"""A surveyed dataset in, one self-contained HTML page out: figures, what was lost, rows to read. Nothing is fetched.

Everything on it is untrusted: the template escapes it, the page's one script puts text into the document as text, and
the page's own policy forbids every request, and every script but that one, by its digest.
"""

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tune.artefact import Artefact
from tune.training.views.scale import Axis, Labels, axis, labels
from tune.views import sample
from tune.views.lost import Group
from tune.views.plain import cut, one_line, plain
from tune.views.sample import Shown
from tune.views.survey import Survey

if TYPE_CHECKING:
    import jinja2

PAGES = 400  # in the table
BARE = 400  # pages without a row that are named
BARS = 32  # of the histogram, about
EXAMPLE = 600  # characters of a kind's example
FLOOR = 0.5  # per cent that a bar is high at least, where there are rows
UNASKED = "of another kind"  # what the recipe did not ask for is no loss
# Which of the recipe's words or of the filters an example fell to, for who has not read them.
MEANING = {
    "contaminated": "asks or says what a held-out question asks",
    "near-duplicate": "nearly the same as an earlier row",
    UNASKED: "of a kind that dataset.kinds leaves out",
    "over max_tokens": "longer than dataset.max_tokens",
    "empty": "a message without text",
    "no analysis": "an answer without analysis",
    "short": "the answer is too short",
    "long": "the answer is too long",
}


class Kind(NamedTuple):
    """A kind's line: its place in the colours, rows, tokens, and one of its rows."""

    name: str
    place: int
    rows: int
    median: int
    longest: int
    example: tuple[tuple[str, str, int], ...]


class Histogram(NamedTuple):
    """Bars (left, width, height, what it says), in per cent; where max_tokens lies; labels."""

    bars: tuple[tuple[float, float, float, str], ...]
    limit: float
    x: Labels
    y: Labels
    title: str


def page(
    found: Survey,
    shown: Sequence[Shown],
    *,
    name: str,
    dataset: Artefact,
    pages: Artefact,
    dropped: Sequence[Group],
    failures: Sequence[Group],
    stale: Mapping[str, str],
    mark: str,
) -> str:
    """The page, UTF-8 text, to be written to a file of its own; it opens from file:// without network.

    `stale`: why a stage is no longer what the recipe would make, by the command that makes it anew. `mark`: what it is
    made of, in one digest, for who finds it again.
    """
    there = found.pages
    with_rows = sorted(((k, a) for k, a in there.items() if a.rows), key=lambda one: (-one[1].rows, one[0]))
    bare = [(key, about) for key, about in there.items() if not about.rows]
    limit = int(dataset.settings.get("max_tokens", 0))
    places = {kind: place for place, kind in enumerate(found.kinds)}
    unasked = sum(group.total for group in dropped if group.reason == UNASKED)
    kept, lost = found.rows.total(), sum(group.total for group in dropped)
    return _template().render(
        name=name,
        dataset=dataset.digest[:12],
        pages=pages.digest[:12],
        stale=stale,
        mark=mark,
        found=found,
        total=kept,
        page_count=sum(about.at >= 0 for about in there.values()),
        with_rows=with_rows[:PAGES],
        more_pages=len(with_rows) - len(with_rows[:PAGES]),
        more_rows=sum(about.rows for _, about in with_rows[PAGES:]),
        most=max((about.rows for _, about in with_rows), default=1),
        bare=bare[:BARE],
        bare_count=len(bare),
        bare_share=_share(sum(a.characters for _, a in bare), sum(a.characters for a in there.values())),
        with_count=len(with_rows),
        kinds=[_kind(kind, places[kind], found, shown) for kind in found.kinds],
        checks=found.checks.most_common(),
        efforts=[(e, found.efforts[e]) for e in ("low", "medium", "high") if e in found.efforts],
        limit=limit,
        histogram=_histogram(found, limit),
        dropped=dropped,
        made=kept + lost,
        lost=lost - unasked,
        unasked=unasked,
        sampled=any(group.samples for group in dropped),
        meaning=MEANING,
        failures=failures,
        failed=sum(group.total for group in failures),
        held_out=int(pages.figures.get("held_out", 0)),
        shown=len(shown),
        shown_kinds=sorted({row.told.kind for row in shown}),
        shown_efforts=[e for e in ("low", "medium", "high") if any(row.told.effort == e for row in shown)],
        data=sample.embedded(shown, found.pages),
    )


def _kind(kind: str, place: int, found: Survey, shown: Sequence[Shown]) -> Kind:
    lengths = found.lengths[kind]
    best = min((row for row in shown if row.told.kind == kind), key=lambda row: row.rank)
    example = tuple((turn.who, *cut(turn.text, EXAMPLE)) for turn in best.turns if turn.text)
    return Kind(kind, place, lengths.total(), _median(lengths), max(lengths), example)


def _median(lengths: Counter[int]) -> int:
    """The lower of the two in the middle."""
    half, seen = (lengths.total() + 1) // 2, 0
    for length in sorted(lengths):
        seen += lengths[length]
        if seen >= half:
            return length
    return 0


def _histogram(found: Survey, limit: int) -> Histogram:
    lengths = sum(found.lengths.values(), Counter[int]())
    longest = max(lengths)
    wide = axis(0, max(longest + 1, limit), count=BARS, whole=True)
    step = round(wide.ticks[1] - wide.ticks[0])
    bins = Counter[int]()
    for length, count in lengths.items():
        bins[length // step] += count
    high = axis(0, max(bins.values()), count=3, whole=max(bins.values()) > 3)
    bars = tuple(
        (
            wide.at(n * step),
            wide.at((n + 1) * step) - wide.at(n * step),
            max(high.at(count), FLOOR),
            f"{n * step:,} to {(n + 1) * step - 1:,} tokens: {count:,} rows",
        )
        for n, count in sorted(bins.items())
    )
    coarse = axis(0, wide.high, count=6, whole=True)
    apart = 0.3 * wide.high  # so that no label lies on that of max_tokens
    free = tuple(tick for tick in coarse.ticks if tick <= wide.high and abs(tick - limit) > apart)
    ticks = (*labels(Axis(wide.low, wide.high, free), "{:,.0f}".format), (wide.at(limit), f"max_tokens {limit:,}"))
    title = f"Rows by tokens: median {_median(lengths):,}, longest {longest:,}, at most {limit:,} allowed"
    return Histogram(bars, wide.at(limit), ticks, labels(high, "{:,.0f}".format), title)


def _share(part: float, whole: float) -> str:
    """In per cent; what is there and rounds to nothing, or to all, is not said to be that."""
    share = 100 * part / whole if whole else 0.0
    if share in {0, 100}:
        text = f"{share:.0f}"
    else:
        text = "< 0.1" if share < 0.1 else "> 99.9" if share > 99.9 else f"{share:.1f}"
    return f"{text} %".replace(" ", "\u00a0")


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
        finalize=_seen,
    )
    env.filters |= {"num": "{:,}".format, "line": one_line, "seen": plain}
    env.globals |= {"share": _share}
    script = (folder / "dataset.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    env.globals |= {"script": script, "script_digest": f"sha256-{digest}"}
    return env.get_template("dataset.html.jinja")


def _seen(value: Any) -> Any:
    """What a template prints: strangers' text without controls. Markup is the template's own."""
    return plain(value) if type(value) is str else value
