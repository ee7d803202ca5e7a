"""General conversations against forgetting: a sample of somebody's rows that makes a given share of the train rows.

In: a file of the recipe or a data set on the Hub, at a commit. Out: rows, chosen by seed, that pass every filter. They
are for training alone: a held-out loss is about the documents. Keeps places in a spool, not rows.
"""

import hashlib
import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tune.data import imported, rowfile
from tune.data.dropped import Tally
from tune.data.examples import Example
from tune.data.imported import Refusal, Source
from tune.errors import UserError
from tune.recipe import Dataset

SUFFIXES = (".jsonl", ".json", ".gz", ".parquet")  # of files: a Hub id ends in none of them

Lines = tuple[str, str]  # of an example, and of its row of token ids


class Sample(NamedTuple):
    """How many rows are wanted, by which seed, how an example is judged (its lines, or None when it goes), and whether
    rows come shuffled, so that the first will do."""

    wanted: int
    seed: int
    lines: Callable[[Example], Lines | None]
    first: bool = False


def source(asked: Dataset, folder: Path) -> Source:
    """Where the recipe's general rows are. Raises UserError when it is no file and no Hub id at a commit."""
    path = folder / asked.general
    if path.is_file():
        return imported.of_file(folder, Path(asked.general), "general")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", asked.general) or asked.general.endswith(SUFFIXES):
        raise UserError(f"dataset.general = {asked.general!r} is no file", why=f"there is no {path}", fix="edit it")
    if not re.fullmatch(r"[0-9a-f]{40}", asked.general_revision):
        raise UserError(
            f"dataset.general = {asked.general!r} needs dataset.general_revision",
            why="a Hub id can change under its name; a commit (40 hex digits) cannot",
            fix=f"set it to the commit shown at huggingface.co/datasets/{asked.general}/commits/main",
        )
    return Source(asked.general, "general", rowfile.hub(asked.general, asked.general_revision, asked.seed))


def wanted(share: float, others: int) -> int:
    """So many rows are `share` of all, beside `others`: n / (n + others) = share, rounded."""
    return round(share / (1 - share) * others)


def sample(spool: Path, rows: Iterable[Example | Refusal], asked: Sample, dropped: Tally) -> Iterator[Lines]:
    """The lines of the rows that are taken, in the order they came.

    Those with the smallest sha256 of seed and id; or the first, of rows that come shuffled. A row that cannot be
    among them any more is not looked at, so what it would be dropped for is not counted.
    """
    least: list[tuple[int, int]] = []  # a heap of (-rank, place in the spool): the worst on top
    with spool.open("w+b") as f:
        for row in rows if asked.wanted else ():
            if isinstance(row, Refusal):
                dropped.refuse(row.id, "general", row.reason, row.detail)
                continue
            digest = hashlib.sha256(f"{asked.seed}:{row.id}".encode()).digest()
            rank, full = -int.from_bytes(digest[:8]), len(least) >= asked.wanted
            if full and rank <= least[0][0]:
                continue
            if (lines := asked.lines(row)) is None:
                continue
            place = f.seek(0, 2)
            f.write("".join(lines).encode())
            (heapq.heappushpop if full else heapq.heappush)(least, (rank, place))
            if asked.first and len(least) >= asked.wanted:
                break
        for _, place in sorted(least, key=lambda one: one[1]):
            f.seek(place)
            yield f.readline().decode(), f.readline().decode()
