"""Records that do not fit into memory, on disk in parts by a number of each: what belongs together lies in one part.

In: arrays of records, and the part of each record. Out: each part once, as one array, in the order of adding. Knows
nothing of what a record says.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WAITING = 2**22  # bytes that wait in memory to be written at once


class Spill:
    """`parts` parts of records of one type, each a file of the folder, which knows them by `name`."""

    def __init__(self, folder: Path, name: str, dtype: "np.dtype[np.void]", parts: int) -> None:
        self._folder, self._name, self._dtype, self._parts = folder, name, dtype, parts
        self._waiting: list[tuple[NDArray[np.void], NDArray[np.integer[Any]]]] = []
        self._bytes = 0

    def add(self, records: "NDArray[np.void]", part: "NDArray[np.integer[Any]]") -> None:
        """`part`: of each record, from 0."""
        self._waiting.append((records, part))
        self._bytes += records.nbytes
        if self._bytes >= WAITING:
            self._write()

    def each(self) -> "Iterator[NDArray[np.void]]":
        """The parts in order, empty ones too; a part's file is gone when it has been given."""
        self._write()
        for path in map(self._path, range(self._parts)):
            found = np.fromfile(path, self._dtype) if path.is_file() else np.zeros(0, self._dtype)
            path.unlink(missing_ok=True)
            yield found

    def _write(self) -> None:
        if not self._waiting:
            return
        records, part = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        self._waiting.clear()
        self._bytes = 0
        order = np.argsort(part, kind="stable")
        records, part = records[order], part[order]
        present, begins = np.unique(part, return_index=True)
        ends = np.append(begins[1:], len(part))
        for one, begin, end in zip(present.tolist(), begins, ends, strict=False):  # of nothing there is one end
            with self._path(one).open("ab") as f:
                records[begin:end].tofile(f)

    def _path(self, part: int) -> Path:
        return self._folder / f"{self._name}-{part:05d}.part"
