"""answers.jsonl while one run adds to it: lines in, and back once they are on the disk. Knows nothing about a line.

What is lost: a kill (also -9) and power loss alike cost at most the line that was being written by each worker, because
`add` returns only when its line is synced, and a worker asks its next question after that. A line cut short is taken
off when the file is opened again. Many lines share one fsync: those that are written while it runs wait for the next,
which is for all of them, so there is never more than one at a time, however many requests are in flight. The file's
entry in its folder, and those of folders made for it, are synced before the first line. This holds as far as the
system's fsync does: a disk that acknowledges what it has not kept can lose more.
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from tune.errors import UserError


class Journal:
    """A file that is open for adding lines. For one event loop."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._written = self._synced = 0  # lines
        self._syncing = asyncio.Lock()

    async def add(self, line: bytes) -> None:
        """Returns when the line is on the disk. Raises OSError, and then leaves no part of a line."""
        written = self._file.write(line) or 0
        if written != len(line):
            self._file.truncate(os.fstat(self._file.fileno()).st_size - written)  # else the next would go on in this
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._written += 1
        mine = self._written
        async with self._syncing:
            if self._synced < mine:
                upto = self._written
                await asyncio.to_thread(os.fsync, self._file.fileno())
                self._synced = upto


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """The file for us alone, without a torn last line; made, with its folders, if it is not there. However the block
    ends, what was written is synced. Raises OSError, and UserError while another run writes."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run is writing {path}", fix="wait for it, or stop it") from None
        file.truncate(path.read_bytes().rfind(b"\n") + 1)
        for folder in (path.parent, *(each.parent for each in made)):
            _sync(folder)
        try:
            yield Journal(file)
        finally:
            os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)
