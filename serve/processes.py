"""The engine's processes: started as one group, told to end, and gone, whatever happened, and what they held with them.

That is shared memory, which is read from /proc, and a folder for their sockets. Knows nothing of what runs in a group.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from serve.pulse import Used

EXIT_GRACE = 4.0  # seconds past the drain before the group is killed
TOLD = 2.0  # seconds that a hung engine's server gets to tell its clients
GONE = 5  # seconds that killed processes get to be gone
SHARED = re.compile(r"/dev/shm/(?:psm_|sem\.|torch_|nccl-)\S+")  # noqa: S108 - what Python, torch and NCCL make there

SUPERVISOR = "GPTOSS_KIT_SUPERVISOR"  # environment variable: the process that the engine must not outlive
SOCKETS = "VLLM_RPC_BASE_PATH"  # where the engine's processes put the sockets between them, which none takes away
OWN = "gptoss-engine-"

Engine = subprocess.Popen[bytes]


class Rung(Protocol):
    """What cuts a wait short: serve.bell.Bell, or threading.Event."""

    def wait(self, timeout: float) -> bool: ...


_held: dict[int, set[str]] = {}  # a group's shared memory, as far as it was noted
_own: set[str] = set()  # the same of the group that this process leads
_places: dict[int, str] = {}  # a group's folder


def start(
    argv: Sequence[str], env: Mapping[str, str], log: Path | None, sockets: Sequence[int], *, again: bool
) -> tuple[Engine, int]:
    """The engine in a group of its own, and where in the log its words begin: `again` keeps what is there.

    `log` None: they go where ours go.
    """
    with ExitStack() as files:
        out, since = None, 0
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            out = files.enter_context(log.open("ab" if again else "wb"))
            since = out.tell()
        place = tempfile.mkdtemp(prefix=OWN, dir=os.environ.get(SOCKETS))
        unused = files.enter_context(ExitStack())
        unused.callback(_remove, place)
        engine = subprocess.Popen(
            argv,
            env={**os.environ, **env, SUPERVISOR: str(os.getpid()), SOCKETS: place},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if out else None,
            start_new_session=True,
            pass_fds=sockets,
        )
        unused.pop_all()
    _places[engine.pid] = place
    return engine, since


def ended(engine: Engine, seconds: float, *, unless: Rung) -> bool:
    """Give the engine some seconds to end by itself, or until the event. Whether it did."""
    deadline = time.monotonic() + seconds
    while engine.poll() is None and time.monotonic() < deadline and not unless.wait(0.05):
        pass
    return engine.poll() is not None


def note(engine: Engine) -> None:
    """Remember what shared memory the group holds now: of a process that has died, it can no longer be read."""
    _held.setdefault(engine.pid, set()).update(name for pid in _members(engine.pid) for name in _shared(pid))


def stop(engine: Engine, *, drain: float, urgent: Rung, drained: Callable[[], None]) -> None:
    """Let what is under way finish within `drain` seconds, say that, then kill whatever is left of the group."""
    if engine.poll() is None:
        note(engine)
        engine.send_signal(signal.SIGTERM)
        ended(engine, drain, unless=urgent)
        drained()
        ended(engine, EXIT_GRACE, unless=urgent)
    kill(engine)


def cut(engine: Engine, *, urgent: Rung) -> None:
    """Let the server of a hung engine tell its clients, if it still can, then kill the group."""
    if engine.poll() is None:
        note(engine)
        engine.send_signal(signal.SIGUSR2)  # serve.middleware: without a drain
        ended(engine, TOLD, unless=urgent)
    kill(engine)


def kill(engine: Engine) -> None:
    """End the group now; its shared memory and its folder, which nobody else would take away, go with it."""
    note(engine)
    with suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)
        deadline = time.monotonic() + GONE
        while _members(engine.pid) and time.monotonic() < deadline:  # killed is not yet gone; its memory is wanted
            time.sleep(0.02)
    with suppress(subprocess.TimeoutExpired):  # in the driver's hands even a killed process can stay
        engine.wait(GONE)
    with suppress(ChildProcessError):  # orphans of the group are ours where we are a container's first process
        while os.waitpid(-engine.pid, os.WNOHANG)[0]:
            pass
    for name in _held.pop(engine.pid):
        Path(name).unlink(missing_ok=True)
    _remove(_places.pop(engine.pid, ""))


def note_own() -> None:
    """Remember what shared memory the group of this process holds now."""
    _own.update(name for pid in _members(os.getpgrp()) for name in _shared(pid))


def end_own() -> None:
    """End the group that this process leads, itself with it, and what shared memory it is known to have held."""
    if os.getpgrp() == os.getpid():
        note_own()
        _remove(os.environ.get(SOCKETS, ""))
        for name in _own:
            Path(name).unlink(missing_ok=True)
        os.killpg(0, signal.SIGKILL)


def look(engine: Engine) -> Used:
    """Processor seconds of the group so far: of its first process, and of those below. Notes its shared memory, too."""
    note(engine)
    server = below = 0.0
    for pid, ticks in _members(engine.pid).items():
        server, below = (ticks, below) if pid == engine.pid else (server, below + ticks)
    second = os.sysconf("SC_CLK_TCK")
    return Used(server / second, below / second)


def _members(group: int) -> dict[int, int]:
    """Every living process of the group, with its processor time in ticks, that of its ended children too."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):  # it ended while we looked
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                found[int(stat.parent.name)] = sum(int(n) for n in fields[11:15])
    return found


def _remove(place: str) -> None:
    if Path(place).name.startswith(OWN):  # what a user named himself is his
        shutil.rmtree(place, ignore_errors=True)


def _shared(pid: int) -> Iterator[str]:
    with suppress(OSError):
        yield from SHARED.findall(Path(f"/proc/{pid}/maps").read_text())
