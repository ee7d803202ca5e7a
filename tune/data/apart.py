"""One call in a process of its own, which ends when it takes too much time or memory.

In: a function that a module names, what it is called with, and how much it may take. Out: what it returns, or a
ValueError that says in one line why there is nothing: its own, or that it took too much, or broke down. A process that
is left over waits for the next call; all end with this one. Knows nothing about documents.

The limit of time is the system's timer of processor time, which ends the process whatever it is doing, so nothing has
to watch it, from any thread; memory is looked at by a thread beside the call.
"""

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

MEMORY = 2_000_000_000  # bytes, with what Python and the libraries take
LOOK = 0.02  # seconds between two looks at memory
_TOO_MUCH = 77  # the exit code of a process that took more memory
_COMMAND = (sys.executable, "-P", "-X", "utf8", "-m", __name__)

T = TypeVar("T")
_Process = subprocess.Popen[bytes]
_idle: list[_Process] = []  # append and pop are whole in any thread


def call(seconds: float, memory: int, function: Callable[..., T], *args: Any) -> T:
    """What `function(*args)` returns, in at most so many seconds of processor time and bytes of memory.

    Raises ValueError for whatever it raises, in one line.
    """
    process = _idle.pop() if _idle else _started()
    try:
        said = _answer(process, pickle.dumps((seconds, memory, function, args)))
    except BaseException:
        process.kill()
        _close(process)
        raise
    if said is None:
        raise ValueError(_end(process, seconds, memory))
    _idle.append(process)
    good, result = said
    if not good:
        raise ValueError(result)
    return result  # type: ignore[no-any-return]


def _started() -> _Process:
    places = os.pathsep.join(map(os.path.abspath, sys.path))
    return subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": places},
    )


def _answer(process: _Process, asked: bytes) -> tuple[bool, Any] | None:
    """None when the process ended before it answered."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _send(process.stdin, asked)
        said = _received(process.stdout)
    except OSError:
        said = b""
    return pickle.loads(said) if said else None  # noqa: S301 - of our own process


def _end(process: _Process, seconds: float, memory: int) -> str:
    import signal

    _close(process)
    if process.returncode == -signal.SIGPROF:
        return f"takes more than {seconds:,.3g} s to read"
    if process.returncode in {_TOO_MUCH, -signal.SIGKILL}:  # the system kills whom it has no memory for
        return f"takes more than {memory / 1e6:,.0f} MB of memory to read"
    return f"its reader broke down (exit code {process.returncode})"


def _close(process: _Process) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


@atexit.register
def _close_all() -> None:
    while _idle:
        _close(_idle.pop())


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(len(message).to_bytes(8, "big") + message)
    pipe.flush()


def _received(pipe: IO[bytes]) -> bytes:
    """The next message, whole; empty when there is none any more."""
    length = int.from_bytes(pipe.read(8), "big")
    message = pipe.read(length)
    return message if len(message) == length else b""


def _serve() -> NoReturn:
    """The other process: one call after another, until nobody can ask any more."""
    import signal
    import threading

    asked, answered = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # what a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    limit = [MEMORY]
    threading.Thread(target=_watch, args=(limit,), daemon=True).start()
    while message := _received(asked):
        seconds, limit[0], function, args = pickle.loads(message)  # noqa: S301 - of our own process
        signal.setitimer(signal.ITIMER_PROF, seconds)
        said = _called(function, args)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(answered, pickle.dumps(said))
    os._exit(0)


def _watch(limit: list[int]) -> None:
    import time

    while _memory() < limit[0]:
        time.sleep(LOOK)
    os._exit(_TOO_MUCH)


def _memory() -> int:
    """Bytes that this process holds. Of Linux not the peak, which is the asking process' own where it was larger."""
    import resource

    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes


def _called(function: Callable[..., Any], args: Any) -> tuple[bool, Any]:
    try:
        return True, function(*args)
    except ValueError as e:
        return False, str(e)
    except RecursionError:
        return False, "nested too deeply"
    except MemoryError:
        os._exit(_TOO_MUCH)
    except Exception as e:  # noqa: BLE001 - on broken files the libraries raise whatever they meet
        return False, f"broken, or beyond its reader: {type(e).__name__}: {e}".rstrip(": ")


if __name__ == "__main__":
    _serve()
