"""Starts the engine in its own process group, waits until it truly answers, watches, restarts, drains, stops.

Nothing of the group outlives this process. The engine's output goes to a log file; what went wrong is read off
its tail. Knows nothing of how the command line came to be.
"""

import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from serve import probe
from serve.command import Command
from serve.middleware import START
from tune.errors import UserError

RESTARTS = 3  # crashes after being ready, before giving up
STEADY = 600  # seconds ready after which earlier crashes no longer count
BACKOFF = 2.0  # seconds, doubled each time
EXIT_GRACE = 10  # seconds past the drain before the group is killed
GONE = 5  # seconds that killed processes get to be gone

Report = Callable[[str], None]


class Job(NamedTuple):
    """What to run and how to know that it runs."""

    command: Command
    url: str
    model: str
    prompt_date: str
    key: str
    drain: int
    log: Path
    ready_timeout: float


# What the engine's last words mean: pattern, what is wrong, what to do.
CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"Address already in use", "the port is in use", "serve run FOLDER --port 0 takes a free one"),
    (
        r"out of memory|Cannot allocate memory|MemoryError|No available memory for the cache|KV cache is needed|"
        r"Free memory on device|Available memory on node",
        "there is not enough memory",
        "serve run FOLDER --max-model-len with a smaller number, or a larger machine; serve preflight FOLDER counts",
    ),
    (
        r"weights were not initialized|KeyError: '.*(weight|bias|proj|sinks)",
        "the checkpoint's weights do not fit the architecture",
        "tune check FOLDER, then tune export",
    ),
    (r"SafetensorError|HeaderTooLarge|MetadataIncompleteBuffer", "a weight file is damaged", "tune export"),
    (
        r"No MXFP4 MoE backend|No Mxfp4 MoE backend|no.*MoE backend supports",
        "this machine has no kernel for these expert weights",
        "tune export --format merged, or serve on a GPU",
    ),
    (
        r"error: (unrecognized arguments|argument|ambiguous option)",
        "the engine does not know one of its flags",
        "look at what follows -- on your command line",
    ),
    (
        r"serve\.launcher: vLLM|ModuleNotFoundError|ImportError",
        "the engine's installation is not whole",
        "install the pinned requirements",
    ),
    (r"should hold the API key", "the API key is empty", "export the variable that --api-key-env names"),
)


def explain(tail: str, code: int | None, log: Path) -> UserError:
    """One error for a failed engine, from the end of its log and its exit code (negative: the signal)."""
    errors = [line for line in tail.splitlines() if re.search(r"\w*(Error|Exception)\b|error:|serve\.launcher:", line)]
    for pattern, what, fix in CAUSES:
        if match := re.search(pattern, tail):
            line = next((e for e in reversed(errors) if match.group(0) in e), errors[-1] if errors else match.group(0))
            return UserError(f"the engine failed: {what}", why=f"{_words(line)}\n       all of it: {log}", fix=fix)
    if code is not None and -code == signal.SIGKILL:
        why = f"killed by the system, as when memory runs out\n       log: {log}"
        return UserError("the engine was killed", why=why, fix="serve preflight FOLDER counts the memory")
    what = f"the engine stopped with exit code {code}" if code is not None else "the engine did not become ready"
    return UserError(what, why=_words(errors[-1]) if errors else "its log names no error", fix=f"read {log}")


def _words(line: str) -> str:
    """A log line without its process, level, date and source."""
    return re.sub(r"^\(.*?\) ?(ERROR .*?\] ?)?", "", line).strip()[:300]


def run(job: Job, report: Report, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; a second one kills at once. Must be called from the main thread.

    `on_ready` is called once, `report` at each start.

    Raises UserError when the engine fails to start, shows the model another prompt than the trained one, or
    crashes more than RESTARTS times in a row.
    """
    with _stop_signals() as stop:
        crashes, told = 0, False
        while not stop.is_set():
            word = secrets.token_hex(8)
            engine = _start(job, word, again=crashes > 0)
            ready = False
            try:
                ready = _await_ready(job, engine, word, stop, report)
                if ready and not told:
                    on_ready()
                told, since = told or ready, time.monotonic()
                while ready and not stop.is_set() and engine.poll() is None:
                    stop.wait(0.5)
            finally:
                _stop(engine, drain=job.drain if ready else 0, urgent=stop.urgent)
            if stop.is_set():
                break
            crashes = 1 if time.monotonic() - since > STEADY else crashes + 1
            failure = explain(_tail(job.log), engine.returncode, job.log)
            if crashes > RESTARTS:
                raise UserError(f"the engine crashed {crashes} times", why=failure.what, fix=f"read {job.log}")
            pause = BACKOFF * 2 ** (crashes - 1)
            report(f"the engine crashed ({failure.what}); restart {crashes} of {RESTARTS} in {pause:.0f} s")
            stop.wait(pause)
        report("stopped")


class _Stop(threading.Event):
    """Set by the first signal; `urgent` by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.urgent = threading.Event()


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop = _Stop()

    def on_signal(*_: object) -> None:
        (stop.urgent if stop.is_set() else stop).set()

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def _start(job: Job, word: str, *, again: bool) -> "subprocess.Popen[bytes]":
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab" if again else "wb") as log:  # what the crash said is kept
        return subprocess.Popen(
            job.command.argv,
            env={**os.environ, **job.command.env, START: word},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await_ready(job: Job, engine: "subprocess.Popen[bytes]", word: str, stop: _Stop, report: Report) -> bool:
    """True when ready, False when told to stop. Raises UserError when it cannot become ready.

    An answer without this start's `word` is another server's, which took the port meanwhile.
    """
    began = time.monotonic()
    report(f"starting the engine (about a minute); its log: {job.log}")
    with probe.client(job.url, job.key) as http:
        why = probe.wait(http, job.ready_timeout, alive=lambda: engine.poll() is None and not stop.is_set())
        if stop.is_set():
            return False
        if engine.poll() is not None:
            raise explain(_tail(job.log), engine.returncode, job.log)
        if why:
            raise UserError("the engine did not become ready", why=why, fix=f"read {job.log}, or raise --ready-timeout")
        if http.get("/health").headers.get("x-serve-start") != word:
            what, fix = CAUSES[0][1:]
            raise UserError(f"the engine did not start: {what}", why=f"another server answers at {job.url}", fix=fix)
        probe.check_prompts(http, job.model, job.prompt_date)
    report(f"ready after {time.monotonic() - began:.0f} s")
    return True


def _stop(engine: "subprocess.Popen[bytes]", *, drain: int, urgent: threading.Event) -> None:
    """Drain and end the engine, then kill whatever is left of its group."""
    if engine.poll() is None:
        engine.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + drain + EXIT_GRACE
        while engine.poll() is None and time.monotonic() < deadline and not urgent.wait(0.1):
            pass
    with suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()
        deadline = time.monotonic() + GONE
        while time.monotonic() < deadline:  # killed is not yet gone; the memory and the port are wanted
            os.killpg(engine.pid, 0)
            time.sleep(0.02)
    engine.wait()


def _tail(path: Path, size: int = 65_536) -> str:
    with path.open("rb") as f:
        f.seek(0, os.SEEK_END)
        f.seek(max(0, f.tell() - size))
        return f.read().decode("utf-8", errors="replace")
