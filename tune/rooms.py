"""One writer a folder: a lock that the kernel takes back from a killed run, and the rooms that such a run left.

A stage is written in a hidden room beside its folder, `.<name>-<random>`, holding `new` and, for the moment of the
swap, `old`. Knows folders and processes, nothing about what is written.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tune.errors import UserError
from tune.terminal import say

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # NFS without its lock service, some FUSE
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
_held: set[tuple[Path, int]] = set()  # by this process: folder and thread


class Holder(NamedTuple):
    """Who writes a folder. `since` is a local time."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid}{'' if self.host == _host() else f' on {self.host}'}, since {self.since}"


@contextmanager
def writing(folder: Path, kind: str) -> Iterator[None]:
    """Be the one writer of `folder`, a stage of this kind; within it, again at no cost. First tidies up after a killed
    run: a stage that was whole when it was killed takes its place, the rest is removed.

    Raises UserError at once when another run is at work there. A file system without locks is told of and no reason
    to stop, one that may not be written neither: what is there can be kept.
    """
    place = folder.parent.resolve() / folder.name
    me = (place, threading.get_ident())
    if me in _held:
        yield
        return
    path = place.with_name(f".{place.name}.lock")
    lock = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path, folder)
    except OSError as e:
        if e.errno not in _NO_LOCKS | _READ_ONLY:
            raise
        if e.errno in _NO_LOCKS:
            say(f"{folder}: its file system has no locks, so two runs at a time would not notice each other")
    if lock is None:
        yield
        return
    _held.add(me)
    try:
        _tidy(place, kind)
        yield
    finally:
        _held.discard(me)
        with suppress(OSError):
            path.unlink()  # while it is still locked: who waits for this file finds that it is gone, and makes another
        os.close(lock)


def fresh(folder: Path) -> Path:
    """A room for making `folder` anew, on the same disk."""
    return Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))


def left(folder: Path) -> dict[Path, str]:
    """Rooms in a folder, and the name of what each was to become: a running stage's, or left by a killed one."""
    found = {}
    for path in sorted(folder.glob(".*")):
        told = re.fullmatch(r"\.(.+)-[a-z0-9_]{8}", path.name)  # mkdtemp's letters
        with suppress(OSError):
            if told and path.is_dir() and not path.is_symlink() and {p.name for p in path.iterdir()} <= {"new", "old"}:
                found[path] = told[1]
    return found


def holder(folder: Path) -> Holder | None:
    """Who is writing the folder now, as far as it can be told without asking for its lock."""
    told = _told(folder.with_name(f".{folder.name}.lock"))
    if told is None or told.host != _host():
        return told
    try:
        os.kill(told.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return told


def _lock(path: Path, folder: Path) -> int:
    """The descriptor that holds the lock: closed by the kernel, whatever becomes of this process."""
    while True:
        found = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(path, found):
                os.ftruncate(found, 0)
                now = datetime.now(UTC).astimezone().isoformat(" ", "seconds")
                os.pwrite(found, json.dumps(Holder(os.getpid(), _host(), now)).encode(), 0)
                return found
        except BlockingIOError:
            os.close(found)
            told = _told(path)
            raise UserError(
                f"another run is writing {folder}",
                why=str(told) if told else "",
                fix=f"wait for it, or stop it: kill {told.pid}" if told and told.host == _host() else "wait for it",
            ) from None
        except OSError:
            os.close(found)
            raise
        os.close(found)  # its last holder removed it in between


def _same(path: Path, found: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(found))
    return False


def _tidy(folder: Path, kind: str) -> None:
    for room, name in left(folder.parent).items():
        if name != folder.name:
            continue
        new, old = room / "new", room / "old"
        whole = new if (new / f"{kind}.json").is_file() else old
        if whole.is_dir() and not folder.exists():
            whole.rename(folder)
        shutil.rmtree(room, ignore_errors=True)


def _told(path: Path) -> Holder | None:
    try:
        pid, host, since = json.loads(path.read_text(encoding="utf-8"))
        return Holder(int(pid), str(host), str(since))
    except (OSError, ValueError, TypeError):
        return None


def _host() -> str:
    return socket.gethostname()
