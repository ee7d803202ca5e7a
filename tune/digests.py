"""Digests of many large files: read side by side, and not again while nothing about a file has changed.

In: a folder and file names. Out: the sha256 of each. What was read is remembered in the user's cache, and counts only
while the file's device, inode, size, mtime and ctime are what they were, and while nobody else can write the cache: a
user can set the mtime back, not the ctime. A file that was changed less than RACY before it was read is not remembered,
since a later change could fall into the same tick of its clock (git's "racy" rule). A lost or damaged cache costs time
and nothing else. What none of this sees: a disk that returns other bytes than were written, a program that goes on
writing for longer than RACY, and a file system whose ctime can be set (FAT, images made with fixed times). `tune check`
reads every file anew.
"""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from tune import cache

READERS = 8  # files at a time, at most; one a core: hashing holds no lock
RACY = 2_000_000_000  # nanoseconds; the coarsest clock of a file system in use, FAT's, ticks every two seconds
KEPT = 256  # folders remembered


class Seen(BaseModel):
    """A file as it was when it was read, and its sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


_read_here: dict[str, dict[str, Seen]] = {}  # by this process, of each folder: where no cache can be kept


class Memory(BaseModel):
    """What is remembered of one folder, by file name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, Seen]


def each(folder: Path, names: Sequence[str], *, anew: bool) -> Generator[tuple[str, str]]:
    """Name and sha256 (64 hex characters) of each file, in the order given, as they come.

    `anew`: read every file, whatever is remembered. Raises OSError at a file that cannot be read. Once nobody asks for
    more, no further file is begun; threads that are still reading one never keep the process alive.
    """
    place, here = _place(folder), os.path.realpath(folder)
    kept = _recall(place) if place else {}
    known = {} if anew else {**_read_here.get(here, {}), **kept}
    found: dict[str, Future[tuple[Seen, bool]]] = {name: Future() for name in names}
    waiting, enough = iter(names), threading.Event()

    def read() -> None:
        for name in waiting:  # a list's iterator gives each name to one thread
            if enough.is_set():
                return
            try:
                found[name].set_result(_read(folder / name, known.get(name)))
            except BaseException as e:  # noqa: BLE001 - it is raised where it is waited for
                found[name].set_exception(e)

    for _ in range(min(READERS, os.cpu_count() or 1, len(names))):
        threading.Thread(target=read, daemon=True).start()
    sure: dict[str, Seen] = {}
    try:
        for name in names:
            seen, settled = found[name].result()
            if settled:
                sure[name] = seen
            yield name, seen.digest
    finally:
        enough.set()
        _read_here[here] = {**_read_here.get(here, {}), **sure}
        if place is not None and any(kept.get(name) != seen for name, seen in sure.items()):
            _remember(place, {name: seen for name, seen in {**kept, **sure}.items() if name in found})


def _read(path: Path, known: Seen | None) -> tuple[Seen, bool]:
    """The file as it is, and whether that can be relied on later: it had settled, and nobody wrote while it was read.

    Asks the open file, not its name: a network file system then looks again at the server.
    """
    with path.open("rb") as f:
        before, now = _about(f), time.time_ns()
        if known is not None and known.model_copy(update={"digest": ""}) == before:
            return known, True
        digest = hashlib.file_digest(f, "sha256").hexdigest()
        settled = max(before.mtime_ns, before.ctime_ns) < now - RACY and _about(f) == before
    return before.model_copy(update={"digest": digest}), settled


def _about(f: BinaryIO) -> Seen:
    s = os.fstat(f.fileno())
    return Seen(
        digest="", device=s.st_dev, inode=s.st_ino, size=s.st_size, mtime_ns=s.st_mtime_ns, ctime_ns=s.st_ctime_ns
    )


def _place(folder: Path) -> Path | None:
    """The cache's file for a folder: never inside it. None where there is no home to keep one in."""
    home, whole = cache.home(), os.path.realpath(folder)
    if home is None:
        return None
    place = home / "digests" / f"{hashlib.sha256(os.fsencode(whole)).hexdigest()}.json"
    return None if Path(os.path.realpath(place)).is_relative_to(whole) else place


def _recall(place: Path) -> dict[str, Seen]:
    """What is remembered; nothing of it when another user could have written it."""
    try:
        ours = cache.is_ours(place.parent, place)
        return Memory.model_validate_json(place.read_bytes()).files if ours else {}
    except (OSError, ValidationError):
        return {}


def _remember(place: Path, files: dict[str, Seen]) -> None:
    """Write the cache's file whole or not at all, and let the oldest folders go."""
    with suppress(OSError):
        place.parent.parent.mkdir(parents=True, exist_ok=True)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, suffix=".part", delete=False, encoding="utf-8") as f:
            f.write(Memory(files=files).model_dump_json())
        Path(f.name).replace(place)
        others = sorted(place.parent.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in others[KEPT:]:
            old.unlink(missing_ok=True)
