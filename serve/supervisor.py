"""Starts the engine in its own process group, waits until it truly answers, watches, restarts, drains, stops.

Nothing of the group outlives this process. The engine's output goes to a log file; what went wrong is read off
its tail. Knows nothing of how the command line came to be.
"""

import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from serve import probe
from serve.command import Command
from serve.effort import EffortPolicy
from serve.last_words import explain, tail_of, where_to_read
from serve.middleware import SECRET, START
from tune import checkpoint as checkpoints
from tune.checkpoint import Canary, Checkpoint
from tune.errors import UserError, unusable

if TYPE_CHECKING:
    import httpx

RESTARTS = 3  # crashes after being ready, before giving up
STEADY = 600  # seconds ready after which earlier crashes no longer count
BACKOFF = 2.0  # seconds, doubled each time
EXIT_GRACE = 10  # seconds past the drain before the group is killed
PATIENCE = 300  # seconds for one answer of an engine being proven: the first log-probabilities are slow to come
DYING = 6  # seconds that an engine which broke off gets to end, so that its last words can be read: vLLM looks each 5
GONE = 5  # seconds that killed processes get to be gone

Report = Callable[[str], None]


def _proven() -> None:
    """Nothing is left to prove."""


class Job(NamedTuple):
    """What to run and how to know that it runs.

    `log` None: the engine's output goes where ours goes. `proof` runs beside the engine's loading, at each start, and
    must have returned before anyone is let in; it raises UserError when what is being loaded must not be served.
    """

    command: Command
    url: str
    model: str
    checkpoint: Checkpoint  # its folder as this process sees it
    policy: EffortPolicy
    key: str
    drain: int
    log: Path | None
    ready_timeout: float
    proof: Callable[[], None] = _proven


def run(job: Job, report: Report, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; a second one kills at once. Must be called from the main thread.

    `on_ready` is called once, `report` at each start. Until all is proven the server answers 503 to everyone else.

    Raises UserError when the engine fails to start, shows the model another prompt than the trained one, answers
    otherwise than the checkpoint's weights do, fails the job's proof, or crashes more than RESTARTS times in a row.
    """
    canary = checkpoints.canary(job.checkpoint)
    with _stop_signals() as stop:
        crashes, told = 0, False
        while not stop.is_set():
            start = _Start(secrets.token_hex(8), secrets.token_urlsafe(32), _Aside(job.proof))
            engine = _start(job, start, again=crashes > 0)
            ready = False
            try:
                ready = _await_ready(job, engine, start, canary, stop, report)
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
            failure = explain(tail_of(job.log), engine.returncode, job.log)
            if crashes > RESTARTS:
                raise UserError(f"the engine crashed {crashes} times", why=failure.what, fix=where_to_read(job.log))
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


class _Aside:
    """Work under way in a thread of its own, so that signals are heard; nothing waits for it at a stop."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as e:
            self._failure = unusable(e)
        except BaseException as e:  # noqa: BLE001 - it is raised where it is waited for
            self._failure = e

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def done(self, timeout: float) -> bool:
        """Whether it has returned, waiting a while for it. Raises what it raised."""
        self._thread.join(timeout)
        if self._failure:
            raise self._failure
        return not self._thread.is_alive()


class _Start(NamedTuple):
    """One start: the word told in every answer, the secret told in none, and the proof beside the loading."""

    word: str
    secret: str
    proof: _Aside


def _start(job: Job, start: _Start, *, again: bool) -> "subprocess.Popen[bytes]":
    with ExitStack() as files:
        log = None
        if job.log:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            log = files.enter_context(job.log.open("ab" if again else "wb"))  # what the crash said is kept
        return subprocess.Popen(
            job.command.argv,
            env={**os.environ, **job.command.env, START: start.word, SECRET: start.secret},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
        )


def _await_ready(
    job: Job,
    engine: "subprocess.Popen[bytes]",
    start: _Start,
    canary: Canary,
    stop: _Stop,
    report: Report,
) -> bool:
    """True when ready and open, False when told to stop. Raises UserError when it cannot become ready."""
    began = time.monotonic()
    report(f"starting the engine (about a minute); its log: {job.log}" if job.log else "starting the engine")

    def going() -> bool:
        return engine.poll() is None and not stop.is_set() and not start.proof.failed

    def over() -> bool:
        """Whether to stop. Raises what ended the start early."""
        if not stop.is_set():
            start.proof.done(0)
            if engine.poll() is not None:
                raise explain(tail_of(job.log), engine.returncode, job.log)
        return stop.is_set()

    def finished(work: _Aside) -> bool:
        """Wait for it; False when told to stop meanwhile. Raises what it raised, or what the engine died of."""
        try:
            while not work.done(0.1):
                if over():
                    return False
        except UserError as e:
            if isinstance(e, probe.NoAnswer):
                _ended(engine, DYING, unless=stop)
            if over():
                return False
            raise
        return True

    if not finished(_Aside(lambda: _prove(job, start, canary, going))):
        return False
    if not start.proof.done(0):
        report("the engine answers; the checkpoint's files are still being proven")
    # Once more at the end: what was proven early could have been changed before the engine read it. Files that did not
    # change are not read again.
    if not (finished(start.proof) and finished(_Aside(job.proof)) and finished(_Aside(lambda: _open(job, start)))):
        return False
    report(f"ready after {time.monotonic() - began:.0f} s")
    return True


def _prove(job: Job, start: _Start, canary: Canary, going: Callable[[], bool]) -> None:
    """Raise UserError unless the engine comes up and answers as the checkpoint should.

    Key and secret are shown to nobody who has not told the word of this start: another server may hold the port.
    """
    began, date = time.monotonic(), job.checkpoint.prompt_date
    with probe.client(job.url, word=start.word) as nobody:
        why = probe.wait(nobody, job.ready_timeout, path="/livez", alive=going)
    with _trusted(job, start) as http:
        why = why or probe.wait(http, job.ready_timeout + began - time.monotonic(), alive=going)
        if why:
            fix = f"{where_to_read(job.log)}, or raise --ready-timeout"
            raise UserError("the engine did not become ready", why=why, fix=fix)
        probe.check_prompts(http, job.model, date, job.policy)
        probe.check_canary(http, job.model, date, canary)


def _open(job: Job, start: _Start) -> None:
    with _trusted(job, start) as http:
        probe.open_door(http)


def _trusted(job: Job, start: _Start) -> "httpx.Client":
    return probe.client(job.url, job.key, secret=start.secret, word=start.word, timeout=PATIENCE)


def _ended(engine: "subprocess.Popen[bytes]", seconds: float, *, unless: threading.Event) -> None:
    """Give the engine some seconds to end by itself, or until the event."""
    deadline = time.monotonic() + seconds
    while engine.poll() is None and time.monotonic() < deadline and not unless.wait(0.1):
        pass


def _stop(engine: "subprocess.Popen[bytes]", *, drain: int, urgent: threading.Event) -> None:
    """Drain and end the engine, then kill whatever is left of its group."""
    if engine.poll() is None:
        engine.send_signal(signal.SIGTERM)
        _ended(engine, drain + EXIT_GRACE, unless=urgent)
    with suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()
        deadline = time.monotonic() + GONE
        while time.monotonic() < deadline:  # killed is not yet gone; the memory and the port are wanted
            os.killpg(engine.pid, 0)
            time.sleep(0.02)
    engine.wait()
