"""From the parts of a dataset to its files: near-duplicates, ambiguous questions, the split, and each line copied once.

In: parts in the order of their pages, then of somebody's rows. Out: examples.jsonl, train.jsonl and eval.jsonl in a
fresh folder, sums for the figures; in a tally what was left out. Lines are bytes here: the text of an example is read
only to show why it is left out. Of one some 40 bytes are in memory, or a million's at a time, whatever their number.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tune.data import ambiguous, sides, twins
from tune.data.dropped import Tally
from tune.data.examples import Example
from tune.data.figures import Group, Sum
from tune.data.filling import CHECKS, EXAMPLES, KINDS, ROWS
from tune.data.parts import Part
from tune.harmony import EFFORTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOGETHER = 2**20  # rows whose questions are compared at a time
GIVEN, IMPORTED = CHECKS.index("given"), KINDS.index("imported")
KEPT, TWIN, SEVERAL, LONG = range(4)  # what becomes of a row


class Rows(NamedTuple):
    """What becomes of each row of all parts."""

    parts: Sequence[Part]
    starts: "NDArray[np.int64]"  # the first row of each part, and how many there are in all
    fate: "NDArray[np.uint8]"
    twin: "NDArray[np.int32]"  # the first earlier row that is the same, or -1
    page: "NDArray[np.int32]"  # its page's place among the pages of all parts

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
    counts = np.array([0, *(len(part.records) for part in parts)], np.int64)
    rows, pages = int(counts.sum()), np.cumsum([0, *(len(part.pages) for part in parts)])
    twin = twins.find([block for part in parts for block in part.blocks()], scratch)
    made = Rows(parts, np.cumsum(counts), np.where(twin >= 0, TWIN, KEPT).astype(np.uint8), twin, np.zeros(rows, "i4"))
    for which in range(1 + rows // TOGETHER):
        found = [*_some(made, "asked", which, 1 + rows // TOGETHER, given=False)]
        at = np.concatenate([at for at, _ in found])
        asked, answers = (np.concatenate([records[key] for _, records in found]) for key in ("asked", "answer"))
        made.fate[at[ambiguous.several(asked, answers)]] = SEVERAL
    for part, start, page in zip(parts, made.starts, pages, strict=False):
        records = part.records
        own = slice(start, start + len(records))
        made.fate[own][(made.fate[own] == KEPT) & (records["row"] == 0)] = LONG
        made.page[own] = records["page"] + page
    return made


def split(rows: Rows, share: float) -> Split:
    """The side of every page that has rows. Raises UserError when there is nothing to split.

    A row of a file is a page of its own, but with one that asks the same: it would be known on the other side.
    """
    pages = np.concatenate([part.pages for part in rows.parts])
    _, name = np.unique(pages["id"], return_inverse=True)
    signatures = np.concatenate([part.signatures for part in rows.parts])
    group = np.arange(len(pages))
    group[: len(signatures)] = sides.groups(signatures)
    group[name] = group.copy()  # of pages of one name the last one tells
    place = np.zeros(len(pages), np.uint64)
    place[name] = pages["place"]
    _join(rows, name, group)
    kept = rows.fate == KEPT
    used = np.unique(name[rows.page[kept]])
    held = np.zeros(len(pages), bool)
    held[used] = sides.split(group[used], place[used], share)

    own = [_kinds(part) < IMPORTED for part in rows.parts]
    documents = np.unique(name[rows.page[kept & np.concatenate(own)]])
    n = int(held[documents].sum())
    _, many = np.unique(group[documents], return_counts=True)
    alike = {"pages": int(many[many > 1].sum()), "groups": int((many > 1).sum())}
    counted = {"train": len(documents) - n, "eval": n}
    return Split(name, held, {side: n for side, n in counted.items() if n}, alike)


def _kinds(part: Part) -> "NDArray[np.uint8]":
    found: NDArray[np.uint8] = part.records["kind"]
    return found


def _join(rows: Rows, name: "NDArray[np.int64]", group: "NDArray[np.int64]") -> None:
    """Put each row of a file into the group of the page, or of the row, that first asks what it asks."""
    if not any((_kinds(part) == IMPORTED).any() for part in rows.parts):
        return
    own = group.copy()
    for which in range(times := 1 + len(rows.fate) // TOGETHER):
        found = [*_some(rows, "question", which, times)]
        at, asked = (np.concatenate([one[i] for one in found]) for i in (0, 1))
        kept = rows.fate[at] == KEPT
        at, asked = at[kept], asked[kept]
        _, firsts, same = np.unique(asked["question"], return_index=True, return_inverse=True)
        theirs = asked["kind"] == IMPORTED
        first = at[firsts[same[theirs]]]
        group[name[rows.page[at[theirs]]]] = own[name[rows.page[first]]]


def _some(
    rows: Rows, key: str, which: int, of: int, *, given: bool = True
) -> "Iterator[tuple[NDArray[np.int64], NDArray[np.void]]]":
    """Places and records of the rows, no twins, whose `key` leaves this rest; of all, or without those of files."""
    for part, start in zip(rows.parts, rows.starts, strict=False):
        records = part.records
        taken = (records[key] % of == which) & (rows.fate[start : start + len(records)] != TWIN)
        taken &= given | (records["check"] != GIVEN)
        yield np.flatnonzero(taken) + start, records[taken]


def leave_out(rows: Rows, tally: Tally) -> None:
    """Count the rows that go, and show the first of each reason."""
    for part, start in zip(rows.parts, rows.starts, strict=False):
        tokens = part.records["tokens"]
        for row in np.flatnonzero(rows.fate[start : start + len(tokens)] != KEPT).tolist():
            _drop(rows, int(start) + row, int(tokens[row]), tally)


def write(fresh: Path, rows: Rows, found: Split) -> dict[Group, Sum]:
    """Copy the lines that stay, and count them."""
    sums: dict[Group, Sum] = {}
    with (
        (fresh / EXAMPLES).open("wb") as told,
        (fresh / "train.jsonl").open("wb") as train,
        (fresh / "eval.jsonl").open("wb") as held,
    ):
        for part, start in zip(rows.parts, rows.starts, strict=False):
            records = part.records
            own = slice(start, start + len(records))
            fate, side = rows.fate[own], found.held[found.name[rows.page[own]]]
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
    detail = rows.example(int(rows.twin[row])).id if fate == TWIN else f"{tokens:,} tokens" if fate == LONG else ""
    tally.add(rows.example(row), reason, detail)


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


class Asked:
    """Which questions are asked by now, and by which row first: of all parts, then of those that come."""

    def __init__(self, rows: Rows) -> None:
        found = [*_some(rows, "question", 0, 1)]
        at, asked = (np.concatenate([one[i] for one in found]) for i in (0, 1))
        kept = rows.fate[at] == KEPT
        self._rows = rows
        self._known, first = np.unique(asked["question"][kept], return_index=True)
        self._at = at[kept][first]
        self._since: dict[int, str] = {}

    def first(self, question: int, name: str) -> str:
        """The id of the row that asks it first: `name` when none did before."""
        at = int(np.searchsorted(self._known, np.uint64(question)))
        if at < len(self._known) and int(self._known[at]) == question:
            return self._rows.example(int(self._at[at])).id
        return self._since.setdefault(question, name)
