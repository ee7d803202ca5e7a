"""Which questions a dataset asks, and by which row first: of all its rows, then of those that come.

In: the rows of all parts, and a folder. Out: the id of the row that asks a question first. The questions lie in an
SQLite file: of one nothing is in memory. Knows nothing of texts: a question is 64 bits of one.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tune.data.joining import Rows, questions

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Asked:
    """Made by `opened`."""

    def __init__(self, rows: Rows, found: sqlite3.Connection) -> None:
        self._rows, self._found = rows, found

    def first(self, question: int, name: str) -> str:
        """The id of the row that asks it first: `name` when none did before."""
        key = int(np.array(question, np.uint64).astype(np.int64))
        said = self._found.execute("SELECT row, name FROM asked WHERE question = ?", (key,)).fetchone()
        if said is None:
            self._found.execute("INSERT INTO asked VALUES (?, -1, ?)", (key, name))
            return name
        return str(said[1]) if said[0] < 0 else self._rows.example(said[0]).id


@contextmanager
def opened(rows: Rows, scratch: Path) -> Iterator[Asked]:
    """All questions of the rows that stay, in a file of the folder until this ends."""
    path = scratch / "asked.part"
    found = sqlite3.connect(path)
    try:
        found.execute("PRAGMA journal_mode = OFF")  # nobody reads what is left of a run that was stopped
        found.execute("CREATE TABLE asked (question INTEGER PRIMARY KEY, row INTEGER, name TEXT)")
        for some in questions(rows, scratch):
            _, at = np.unique(some["asked"], return_index=True)
            found.executemany("INSERT INTO asked VALUES (?, ?, '')", _lines(some[at]))
        yield Asked(rows, found)
    finally:
        found.close()
        path.unlink(missing_ok=True)


def _lines(some: "NDArray[np.void]") -> Iterator[tuple[int, int]]:
    return zip(some["asked"].astype(np.int64).tolist(), some["row"].tolist(), strict=True)
