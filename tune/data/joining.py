"""From the parts of a dataset to its files: near-duplicates, ambiguous questions, the split, and each line copied once.

In: parts in the order of their pages, then of somebody's rows. Out: examples.jsonl, train.jsonl and eval.jsonl in a
fresh folder, sums for the figures; in a tally what was left out. Lines are bytes here: the text of an example is read
only to show why it is left out. Of one a byte is in memory, of a twin eight more, and a part's records at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tune.data import ambiguous, sides, twins
from tune.data.dropped import Tally
from tune.data.examples import Example
from tune.data.figures import Group, Sum
from tune.data.filling import CHECKS, EXAMPLES, KINDS, ROWS
from tune.data.parts import Part
from tune.data.spill import Spill
from tune.data.twins import Twins
from tune.harmony import EFFORTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOGETHER = 2**16  # rows whose questions are compared at a time
GIVEN, IMPORTED = CHECKS.index("given"), KINDS.index("imported")
KEPT, TWIN, SEVERAL, LONG = range(4)  # what becomes of a row
ASKED = np.dtype([("asked", "u8"), ("answer", "u8"), ("row", "u4"), ("page", "u4"), ("imported", "?")])


class Rows(NamedTuple):
    """What becomes of each row of all parts."""

    parts: Sequence[Part]
    starts: "NDArray[np.int64]"  # the first row of each part, and how many there are in all
    pages: "NDArray[np.int64]"  # the place of each part's first page among the pages of all parts
    fate: "NDArray[np.uint8]"
    twins: Twins  # of which earlier row each is one

    def example(self, row: int) -> Example:
        """Read from the parts."""
        number = int(np.searchsorted(self.starts, row, "right")) - 1
        part, own = self.parts[number], row - int(self.starts[number])
        lengths = part.records["example"]
        with (part.folder / EXAMPLES).open("rb") as f:
            f.seek(int(lengths[:own].sum(dtype=np.int64)))
            return Example.model_validate_json(f.read(int(lengths[own])))

    @property
    def kept(self) -> int:
        return int((self.fate == KEPT).sum())


class Split(NamedTuple):
    """Of the pages of all parts: the name of each as a number that is the same for the same name, and by name whether
    it has rows, and its side; what the figures say of them."""

    name: "NDArray[np.int64]"
    held: "NDArray[np.bool_]"
    pages: dict[str, int]
    alike: dict[str, int]


def judged(parts: Sequence[Part], scratch: Path) -> Rows:
    """Twins of earlier rows, then questions with several answers, then rows that are too long."""
    starts, pages = (
        np.cumsum([0, *counts], dtype=np.int64)
        for counts in ([len(part.records) for part in parts], [len(part.pages) for part in parts])
    )
    found = twins.find([block for part in parts for block in part.blocks()], scratch)
    made = Rows(parts, starts, pages, np.full(starts[-1], KEPT, np.uint8), found)
    made.fate[found.texts] = TWIN
    for some in _together(made, "asked", scratch, lambda records: records["check"] != GIVEN):
        made.fate[some["row"][ambiguous.several(some["asked"], some["answer"])]] = SEVERAL
    for own, _, records in _each(made):
        made.fate[own][(made.fate[own] == KEPT) & (records["row"] == 0)] = LONG
    return made


def split(rows: Rows, share: float, scratch: Path) -> Split:
    """The side of every page that has rows. Raises UserError when there is nothing to split.

    A row of a file is a page of its own, but with one that asks the same: it would be known on the other side.
    """
    pages = np.concatenate([part.pages for part in rows.parts])
    _, name = np.unique(pages["id"], return_inverse=True)
    group = np.arange(len(pages))
    alike = sides.groups(_signatures(rows))
    group[: len(alike)] = alike
    group[name] = group.copy()  # of pages of one name the last one tells
    place = np.zeros(len(pages), np.uint64)
    place[name] = pages["place"]
    asked, documented, imported = np.zeros(len(pages), bool), np.zeros(len(pages), bool), False
    for own, page, records in _each(rows):
        kept, ours = rows.fate[own] == KEPT, records["kind"] < IMPORTED
        asked[name[page[kept]]] = documented[name[page[kept & ours]]] = True
        imported = imported or not ours.all()
    if imported:
        _join(rows, name, group, scratch)
    used = np.flatnonzero(asked)
    held = np.zeros(len(pages), bool)
    held[used] = sides.split(group[used], place[used], share)

    documents = np.flatnonzero(documented)
    n = int(held[documents].sum())
    _, many = np.unique(group[documents], return_counts=True)
    together = {"pages": int(many[many > 1].sum()), "groups": int((many > 1).sum())}
    counted = {"train": len(documents) - n, "eval": n}
    return Split(name, held, {side: n for side, n in counted.items() if n}, together)


def _signatures(rows: Rows) -> "NDArray[np.uint32]":
    """Of the texts of all pages; put in their places, for together they are most of what is known of pages."""
    out, end = np.empty((int(rows.pages[-1]), sides.BANDS * sides.ROWS), np.uint32), 0
    for part in rows.parts:
        found = part.signatures
        out[end : end + len(found)] = found
        end += len(found)
    return out[:end]


def _join(rows: Rows, name: "NDArray[np.int64]", group: "NDArray[np.int64]", scratch: Path) -> None:
    """Put each row of a file into the group of the page, or of the row, that first asks what it asks."""
    before = group.copy()
    for asked in questions(rows, scratch):
        _, firsts, same = np.unique(asked["asked"], return_index=True, return_inverse=True)
        theirs = asked["imported"]
        group[name[asked["page"][theirs]]] = before[name[asked["page"][firsts[same[theirs]]]]]


def questions(rows: Rows, scratch: Path) -> "Iterator[NDArray[np.void]]":
    """What is known of the rows that stay, by question: all that have the same are given at once, in order."""
    return (some[rows.fate[some["row"]] == KEPT] for some in _together(rows, "question", scratch))


def _each(rows: Rows) -> "Iterator[tuple[slice, NDArray[np.int64], NDArray[np.void]]]":
    """Of each part where its rows are among all, the places of their pages, and their records."""
    for part, start, page in zip(rows.parts, rows.starts, rows.pages, strict=False):
        records = part.records
        yield slice(start, start + len(records)), records["page"] + page, records


def _together(
    rows: Rows, key: str, scratch: Path, taken: Callable[["NDArray[np.void]"], Any] = lambda _: True
) -> "Iterator[NDArray[np.void]]":
    """What is known of the rows, no twins, by what they ask: all that ask the same are given at once, in order,
    and digests rise from one time to the next."""
    times = 1 + len(rows.fate) // TOGETHER
    spilled = Spill(scratch, key, ASKED, times)
    for own, page, records in _each(rows):
        at = np.flatnonzero(taken(records) & (rows.fate[own] != TWIN))
        some = np.zeros(len(at), ASKED)
        some["asked"], some["answer"], some["page"] = records[key][at], records["answer"][at], page[at]
        some["row"], some["imported"] = at + own.start, records["kind"][at] == IMPORTED
        spilled.add(some, (some["asked"] >> np.uint64(32)) * np.uint64(times) >> np.uint64(32))
    return spilled.each()


def leave_out(rows: Rows, tally: Tally) -> None:
    """Count the rows that go, and show the first of each reason."""
    for own, _, records in _each(rows):
        for row in np.flatnonzero(rows.fate[own] != KEPT).tolist():
            _drop(rows, own.start + row, int(records["tokens"][row]), tally)


def write(fresh: Path, rows: Rows, found: Split) -> dict[Group, Sum]:
    """Copy the lines that stay, and count them."""
    sums: dict[Group, Sum] = {}
    with (
        (fresh / EXAMPLES).open("wb") as told,
        (fresh / "train.jsonl").open("wb") as train,
        (fresh / "eval.jsonl").open("wb") as held,
    ):
        for part, (own, page, records) in zip(rows.parts, _each(rows), strict=True):
            fate, side = rows.fate[own], found.held[found.name[page]]
            with (part.folder / EXAMPLES).open("rb") as f:
                _copy(f, {0: told}, records["example"], np.where(fate == KEPT, 0, -1))
            with (part.folder / ROWS).open("rb") as f:
                _copy(f, {0: train, 1: held}, records["row"], np.where(fate == KEPT, side, -1))
            _count(sums, records[fate == KEPT], side[fate == KEPT])
    return sums


def _drop(rows: Rows, row: int, tokens: int, tally: Tally) -> None:
    fate = rows.fate[row]
    reason = {TWIN: "near-duplicate", SEVERAL: ambiguous.REASON, LONG: "over max_tokens"}[int(fate)]
    if tally.count(reason):
        return
    detail = rows.example(_first(rows.twins, row)).id if fate == TWIN else f"{tokens:,} tokens" if fate == LONG else ""
    tally.add(rows.example(row), reason, detail)


def _first(found: Twins, row: int) -> int:
    return int(found.firsts[np.searchsorted(found.texts, row)])


def _copy(lines: IO[bytes], out: dict[int, IO[bytes]], lengths: Any, where: "NDArray[np.int64]") -> None:
    """Each stretch of lines that go to one file at once; -1: they go nowhere."""
    ends = np.cumsum(lengths, dtype=np.int64)
    edges = np.flatnonzero(np.diff(where, prepend=-2, append=-2))
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if where[a] >= 0:
            at = lines.seek(int(ends[a] - lengths[a]))
            _stretch(lines, out[int(where[a])], int(ends[b - 1]) - at)


def _stretch(lines: IO[bytes], out: IO[bytes], length: int) -> None:
    while length:
        read = lines.read(min(length, 2**20))
        if not read:
            raise RuntimeError(f"{lines.name} is shorter than it was")  # a full disk, or a hand in it
        out.write(read)
        length -= len(read)


def _count(sums: dict[Group, Sum], records: "NDArray[np.void]", held: "NDArray[np.bool_]") -> None:
    keys = np.stack([*(records[key] for key in ("kind", "effort", "check", "thinks", "control")), held], axis=1)
    kinds, of = np.unique(keys, axis=0, return_inverse=True)
    for n, (kind, effort, check, thinks, control, side) in enumerate(kinds.tolist()):
        own = records[of.reshape(-1) == n]
        group = Group(
            KINDS[kind], EFFORTS[effort], CHECKS[check], bool(thinks), bool(control), "eval" if side else "train"
        )
        tokens, learned = (int(own[key].sum(dtype=np.int64)) for key in ("tokens", "learned"))
        add(sums, group, Sum(len(own), tokens, learned))


def add(sums: dict[Group, Sum], group: Group, more: Sum) -> None:
    """Count rows of a group."""
    was = sums.get(group, Sum(0, 0, 0))
    sums[group] = Sum(*(a + b for a, b in zip(was, more, strict=True)))
