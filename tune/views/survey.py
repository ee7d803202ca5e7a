"""A dataset and its pages -> everything that a page about them counts, and which rows it shows. One pass, streamed.

Keeps figures of each page and kind, never a row. How much of a page reaches an example: a word counts when it stands
in a run of RUN words (and marks) that also stands, in this order, in a question, an analysis or an answer of that page.
"""

import hashlib
import heapq
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic import ValidationError

from tune.data.page import Page
from tune.errors import UserError
from tune.views import walk
from tune.views.walk import Files, Walked

SHOWN = 2000  # rows
LEAST = 20  # of a kind, where it has as many
RUN = 5  # words and marks
PROGRESS = 20_000  # rows between two lines of progress
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Han: written without spaces
_PART = rf"[^\W{_ALONE}]+"
_WORD = re.compile(rf"[{_ALONE}]|{_PART}(?:\.{_PART})*|[^\w\s`|#*]")  # Markdown's marks come and go with the rendering


class About:
    """Figures of one page. `characters` without spaces and Markdown's marks; `at` in pages.jsonl, -1: not there."""

    __slots__ = ("at", "characters", "kinds", "reached", "seen", "side", "title")

    def __init__(self, title: str, characters: int = 0, at: int = -1) -> None:
        self.title, self.characters, self.at = title, characters, at
        self.kinds, self.reached, self.seen, self.side = Counter[str](), 0, 0, ""

    @property
    def rows(self) -> int:
        return self.kinds.total()


class Choice(NamedTuple):
    """A row to show: its example's line, and its own in the file of its side, from 0. `rank`: 0 shows its kind best."""

    example: int
    side: str
    line: int
    rank: int


class Survey(NamedTuple):
    """What was counted. `lengths`: rows by kind and tokens. `chosen`: in the order of the file."""

    rows: Counter[str]  # by side
    tokens: Counter[str]
    learned: Counter[str]
    efforts: Counter[str]
    checks: Counter[str]
    lengths: Mapping[str, Counter[int]]
    pages: Mapping[str, About]
    chosen: Sequence[Choice]

    @property
    def kinds(self) -> dict[str, int]:
        """Rows by kind, the most frequent first."""
        return dict(sorted(((k, c.total()) for k, c in self.lengths.items()), key=lambda found: (-found[1], found[0])))

    @property
    def reached(self) -> float:
        """Share of the pages' characters that stands in an example, 0 to 1."""
        there = [about for about in self.pages.values() if about.at >= 0]
        return sum(about.reached for about in there) / max(1, sum(about.characters for about in there))


def survey(files: Files, pages: Path, report: Callable[[str], None] = lambda _: None) -> Survey:
    """Count. Raises UserError when a line of pages.jsonl or of the dataset cannot be read."""
    about = {page.id: About(page.title, sum(map(len, words(page.text))), at) for at, page in _pages(pages)}
    rows, tokens, learned = Counter[str](), Counter[str](), Counter[str]()
    efforts, checks, lengths = Counter[str](), Counter[str](), dict[str, Counter[int]]()
    best: dict[str, list[tuple[int, int, Choice]]] = {}
    number = -1
    with pages.open("rb") as texts:
        for name, found in groupby(walk.walk(files), lambda walked: walked.told.page):
            mine = about.setdefault(name, About(name))
            runs: set[tuple[str, ...]] = set()
            for walked in found:
                number += 1
                told = walked.told
                rows[walked.side] += 1
                tokens[walked.side] += walked.tokens
                learned[walked.side] += walked.learned
                efforts[told.effort] += 1
                checks[told.check] += 1
                lengths.setdefault(told.kind, Counter())[walked.tokens] += 1
                _keep(best.setdefault(told.kind, []), mine.kinds[told.kind], number, walked)
                mine.kinds[told.kind] += 1
                mine.side = walked.side
                for text in told.texts:
                    runs.update(_runs(words(text)))
                if (number + 1) % PROGRESS == 0:
                    report(f"page of the dataset: {number + 1:,} rows counted")
            if mine.at >= 0:
                _reach(mine, page_at(texts, mine.at), runs)
    counts = {kind: found.total() for kind, found in lengths.items()}
    return Survey(rows, tokens, learned, efforts, checks, lengths, about, tuple(_chosen(best, counts)))


def words(text: str) -> list[str]:
    """Words, dotted names in one, and marks that are not Markdown's."""
    return _WORD.findall(text)


def page_at(pages: BinaryIO, at: int) -> Page:
    """The page whose line begins at this byte of pages.jsonl."""
    pages.seek(at)
    return Page.model_validate_json(pages.readline())


def _pages(path: Path) -> Iterator[tuple[int, Page]]:
    at = 0
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            try:
                yield at, Page.model_validate_json(line)
            except ValidationError as e:
                raise UserError(
                    f"{path}:{number} is not a page", why=e.errors()[0]["msg"], fix="tune collect"
                ) from None
            at += len(line)


def _runs(said: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(said[k:] for k in range(RUN)), strict=False)


def _reach(about: About, page: Page, runs: set[tuple[str, ...]]) -> None:
    """Add what these runs reach of the page's characters. A page may come several times: bits say what was counted."""
    said = words(page.text)
    marks = bytearray(b"0" * len(said))
    for n, run in enumerate(_runs(said)):
        if run in runs:
            marks[n : n + RUN] = b"1" * RUN
    new = int(marks[::-1] or b"0", 2) & ~about.seen
    about.seen |= new
    about.reached += sum(len(word) for n, word in enumerate(said) if marks[n] == 49 and new >> n & 1)


def _keep(heap: list[tuple[int, int, Choice]], turn: int, number: int, walked: Walked) -> None:
    """The SHOWN best of a kind: the first row of every page before any second one, and pages by their rows' hashes."""
    drawn = int.from_bytes(hashlib.blake2b(json.dumps(walked.told.id).encode(), digest_size=8).digest())
    entry = (-turn, -drawn, Choice(number, walked.side, walked.line, 0))
    if len(heap) < SHOWN:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _chosen(best: Mapping[str, list[tuple[int, int, Choice]]], counts: Mapping[str, int]) -> list[Choice]:
    """Of each kind its share, and at least LEAST; deterministic."""
    ranked = []
    for kind, heap in sorted(best.items()):
        for rank, (_, _, choice) in enumerate(sorted(heap, reverse=True)):
            place = (rank >= LEAST, (rank + 0.5) / counts[kind])
            ranked.append((place, kind, choice._replace(rank=rank)))
    return sorted(choice for _, _, choice in sorted(ranked)[:SHOWN])
