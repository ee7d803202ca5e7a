"""From examples to a part of a dataset: every filter, each example rendered once, and what joining has to know of each.

In: examples of some pages, or of some rows of a file. Out: a folder with their lines, one example and one row of token
ids after the other, a record of each in an array, the shingles of their texts, what was left out. Knows nothing of
other parts: what hangs on them, near-duplicates and the split, is joining's.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from pydantic_core import to_json

from tune import harmony
from tune.data import ambiguous, filters, quality, sides, twins
from tune.data.dropped import Tally
from tune.data.examples import Example, RowKind
from tune.data.fact import Check
from tune.data.filters import Filters
from tune.recipe import Dataset

EXAMPLES, ROWS = "examples.jsonl", "rows.jsonl"  # of a part; a part's rows have two sides
KINDS: tuple[str, ...] = (*get_args(get_args(RowKind)[0]), *get_args(get_args(RowKind)[1]))
CHECKS: tuple[str, ...] = get_args(Check)
RECORD = np.dtype(
    [
        ("page", "u4"),  # its place in the part's pages
        ("asked", "u8"),  # see ambiguous.digests
        ("answer", "u8"),
        ("question", "u8"),
        ("tokens", "u4"),
        ("learned", "u4"),
        ("shingles", "u4"),
        ("example", "u4"),  # bytes of its line
        ("row", "u4"),  # bytes of its line; 0 for one that is too long
        ("kind", "u1"),
        ("effort", "u1"),
        ("check", "u1"),
        ("thinks", "?"),
        ("control", "?"),  # its text spells a control token
    ]
)
PAGE = np.dtype([("id", "u8"), ("place", "u8")])  # a digest of its name; see sides.place


class Line(NamedTuple):
    """A row of token ids as it is written, with its line break, and how many it has and teaches."""

    text: str
    tokens: int
    learned: int


def fill(folder: Path, examples: Iterable[Example], pages: Sequence[str], asked: Dataset, by: Filters) -> Tally:
    """Write the examples that pass to a fresh folder; what was left out.

    `pages` are the ids of all pages of the part, with examples or without; an example of another adds one.
    """
    tally, kept, texts = Tally(), list[tuple[object, ...]](), list[str]()
    places: dict[str, int] = {}
    for n, page in enumerate(pages):
        places.setdefault(page, n)
    names = [*pages]
    with (folder / EXAMPLES).open("wb") as told, (folder / ROWS).open("wb") as rows:
        for example in examples:
            why, detail = judged(example, asked, by)
            if why:
                tally.add(example, why, detail)
                continue
            row = rendered(example, asked.date)
            fits = row.tokens <= asked.max_tokens
            if example.page not in places:
                places[example.page] = len(names)
                names.append(example.page)
            texts.append(example.text)
            kept.append(
                (
                    places[example.page],
                    *ambiguous.digests(example),
                    question(example),
                    row.tokens,
                    row.learned,
                    0,  # is known when all texts are cut into shingles
                    told.write((example.model_dump_json() + "\n").encode()),
                    rows.write(row.text.encode()) if fits else 0,
                    KINDS.index(example.kind),
                    harmony.EFFORTS.index(example.effort),
                    CHECKS.index(example.check),
                    example.messages[-1].thinking is not None,
                    quality.spells_control(texts[-1]),
                )
            )
    cut, records = twins.shingled(texts), np.array(kept, RECORD)
    records["shingles"] = cut.sizes
    np.save(folder / "records.npy", records)
    np.save(folder / "shingles.npy", cut.shingles)
    np.save(folder / "pages.npy", np.array([(digest(name), sides.place(name, asked.seed)) for name in names], PAGE))
    return tally


def judged(example: Example, asked: Dataset, by: Filters) -> tuple[str, str]:
    """Why an example goes whatever others there are, and what exactly; two empty texts when it stays."""
    if example.kind in KINDS[:-2] and example.kind not in asked.kinds:
        return "of another kind", example.kind
    return filters.judged(example, by)


def rendered(example: Example, date: str) -> Line:
    """An example as the line that a `Row` is read from. Raises RuntimeError when nothing of it would be learned."""
    ids, learned = render(example, date)
    first = learned.index(True)
    if not 0 < first < len(ids) or not all(learned[first:]):
        raise RuntimeError(f"{example.id}: what is learned is not the end of the row")  # a bug, not the user's
    head = json.dumps({"id": example.id, "page": example.page, "effort": example.effort}, separators=(",", ":"))
    shown, labels = to_json(ids).decode(), f"{harmony.IGNORE}," * first + to_json(ids[first:]).decode()[1:]
    return Line(f'{head[:-1]},"input_ids":{shown},"labels":[{labels}}}\n', len(ids), len(ids) - first)


def render(example: Example, date: str) -> harmony.Rendered:
    """Token ids and loss mask of one example, checked by `check_control`."""
    return check_control(example, harmony.render_training(example.messages, example.effort, date))


def check_control(example: Example, rendered: harmony.Rendered) -> harmony.Rendered:
    """The rendering itself. Raises RuntimeError when it holds other control tokens than the format puts there.

    Every turn, the system's included, has a start, a message and an end; every assistant turn a channel.
    """
    analysis = int(example.messages[-1].thinking is not None)
    turns, channels = 1 + len(example.messages) + analysis, sum(m.role == "assistant" for m in example.messages)
    if sorted([i for i in rendered.ids if i >= harmony.RANKS]) != _controls(turns, analysis + channels):
        raise RuntimeError(f"{example.id}: the text of a page became control tokens")  # a bug, not the user's
    return rendered


@lru_cache(maxsize=64)
def _controls(turns: int, channels: int) -> list[int]:
    """Every control token of a conversation, in the order of their ids."""
    counted = {harmony.START: turns, harmony.MESSAGE: turns, harmony.END: turns - 1, harmony.RETURN: 1}
    return sorted(Counter({**counted, harmony.CHANNEL: channels}).elements())


def question(example: Example) -> int:
    """What is asked, as far as it counts for telling two questions apart: 64 bits."""
    asked = " ".join(message.content for message in example.messages if message.role == "user")
    return digest(" ".join(quality.words(asked)))


def digest(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
