"""Keeps one engine alive behind a port that never closes: starts it, watches it, restarts it, drains it, stops it.

What happens moves the server along serve.states' table, and the present state is told at the port and on the terminal.
No process outlives this one. Knows nothing of how the command line came to be.
"""

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from serve import front, processes, pulse, starting
from serve.aside import Aside
from serve.bell import Bell
from serve.last_words import Failure, Words, explain
from serve.middleware import SECRET, START
from serve.probe import NoAnswer
from serve.starting import Job, Report
from serve.states import Event, Life, State
from serve.tls import Certificate
from tune import checkpoint as checkpoints
from tune.errors import UserError, reason

__all__ = ["Job", "run"]

RESTARTS = 3  # tries after an engine that was ready has gone, before giving up
STEADY = 600  # seconds ready after which earlier crashes no longer count
BACKOFF = 2.0  # seconds, doubled each time
LOADS = "the engine loads, which takes about a minute"


def run(job: Job, report: Report, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; a second one kills at once. Must be called from the main thread.

    `on_ready` is called once, `report` at each change of state. Until all is proven everyone else hears 503.

    Raises UserError when the engine fails to start, shows the model another prompt than the trained one, answers
    otherwise than the checkpoint's weights do, fails the job's proof, or goes more than RESTARTS times in a row.
    """
    canary = checkpoints.canary(job.checkpoint)
    shown = Certificate(job.tls).context if job.tls else None
    with _stop_signals() as stop, front.Front(job.host, job.port, shown) as port:

        def tell(state: State, words: str) -> None:
            port.state = state
            report(f"{state}: {words}" if words else state)

        life = Life(tell)
        tell(life.state, f"{LOADS}; its log: {job.log}" if job.log else LOADS)
        gone, ever = 0, False
        while True:
            start: starting.Start | None = None
            failure: UserError | None = None
            lived = drain = 0.0
            try:
                try:
                    start = _start(job, port, again=gone > 0)
                    failure, lived = _live(job, start, port, life, canary, stop, report, None if ever else on_ready)
                except Failure as e:
                    failure = e
                ever = ever or lived > 0
                gone = 1 if lived > STEADY else gone + 1
                pause = BACKOFF * 2 ** (gone - 1)
                if start and life.state is State.HUNG:
                    port.answer()
                    processes.cut(start.engine, urgent=stop.urgent)
                if failure is None:
                    drain = job.drain if lived else 0
                    life.on(Event.STOP, f"requests under way get {drain} s" if drain else "")
                elif not ever or gone > RESTARTS or not _heals(failure, ever=ever):
                    life.on(Event.HOPELESS, failure.what)
                    raise _last(failure, gone)
                else:
                    tries = f"in {pause:.0f} s ({gone} of {RESTARTS})"
                    life.on(Event.ENDED, f"{tries}, since {failure.what}: {failure.why}")
                    port.answer()
            finally:
                if start:
                    processes.stop(start.engine, drain=drain, urgent=stop.urgent, drained=port.answer)
                    start.channel.close()
            if failure is None:
                return life.on(Event.GONE)
            if stop.wait(pause):
                return life.on(Event.STOP)
            life.on(Event.RETRY, LOADS)


def _live(
    job: Job,
    start: starting.Start,
    port: front.Front,
    life: Life,
    canary: checkpoints.Canary,
    stop: "_Stop",
    report: Report,
    on_ready: Callable[[], None] | None,
) -> tuple[UserError | None, float]:
    """One engine's life: what it failed of, None when told to stop, and how long it was ready.

    `on_ready` None: an engine of this server was ready before.
    """
    began, since = time.monotonic(), 0.0
    try:
        if not starting.await_ready(job, start, canary, stop, report):
            return None, 0
        since = time.monotonic()
        port.leave()
        life.on(Event.PROVEN, f"after {since - began:.0f} s")
        if on_ready:
            on_ready()
        failure: UserError | None = _watch(job, start, stop, life)
    except UserError as e:
        failure = e
    return failure, time.monotonic() - since if since else 0


class _Stop(Bell):
    """Rung by the first signal; `urgent` by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.urgent = Bell()


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
        stop.close()
        stop.urgent.close()


def _start(job: Job, port: front.Front, *, again: bool) -> starting.Start:
    """A new engine. Raises Failure when the system gives no process, no socket or no log."""
    word, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    with ExitStack() as end:
        try:
            channel = end.enter_context(front.listen("127.0.0.1", 0))
            sockets = (port.public.fileno(), channel.fileno())
            env = {**job.command.env, START: word, SECRET: secret, front.SOCKETS: ",".join(map(str, sockets))}
            engine, since = processes.start(job.command.argv, env, job.log, sockets, again=again)
        except OSError as e:
            raise Failure("the engine's process cannot be started", why=reason(e), heals=True) from None
        except UserError as e:  # no socket for it
            raise Failure(e.what, why=e.why, heals=True) from None
        end.pop_all()
    return starting.Start(word, secret, channel, Aside(job.proof), engine, Words(job.log, since))


def _watch(job: Job, start: starting.Start, stop: _Stop, life: Life) -> Failure | None:
    """Look after a ready engine: what it died of or hangs in, None when told to stop."""
    engine = start.engine
    processes.note(engine)
    with starting.trusted(job, start) as http:
        looking = pulse.Pulse(http, job.model, job.hang_after, lambda: processes.look(engine))
        try:
            while not stop.wait(0.25):
                if engine.poll() is not None:
                    return explain(start.words, engine.returncode, loaded=True)
                if looking.why:
                    life.on(Event.STALLED, looking.why)
                    return Failure("the engine hung", why=looking.why, fix=start.words.where, heals=True)
            return None
        finally:
            looking.end()


def _heals(failure: UserError, *, ever: bool = False) -> bool:
    if isinstance(failure, Failure):
        return failure.heals or (ever and failure.passes)
    return isinstance(failure, NoAnswer)


def _last(failure: UserError, gone: int) -> UserError:
    """What to say at the end: the failure, and how often it came when it did more than once."""
    if gone == 1 or not _heals(failure):
        return failure
    return UserError(f"the engine failed {gone} times", why=f"{failure.what}: {failure.why}", fix=failure.fix)
