"""Keeps one engine alive behind a port that never closes: starts it, watches it, restarts it, replaces it, stops it.

What happens moves the server along serve.states' table, and the present state is told at the port and on the terminal.
No process outlives this one. Knows nothing of how the command line came to be.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from serve import front, processes, pulse, starting
from serve.adapting import Adapting
from serve.aside import Aside
from serve.bell import Stop, stop_signals
from serve.control import Control, Request
from serve.last_words import Failure, explain
from serve.probe import NoAnswer
from serve.reloading import Change, Remake, odd, served
from serve.retiring import retire
from serve.starting import Job, Report, Start
from serve.states import Event, Life, State
from serve.tls import Certificate
from tune import checkpoint as checkpoints
from tune.errors import UserError

__all__ = ["Job", "run"]

RESTARTS = 3  # tries after an engine that was ready has gone, before giving up
STEADY = 600  # seconds ready after which earlier crashes no longer count
BACKOFF = 2.0  # seconds, doubled each time
LOADS = "the engine loads, which takes about a minute"


def run(job: Job, report: Report, on_ready: Callable[[], None] = lambda: None, remake: Remake | None = None) -> None:
    """Serve until SIGINT or SIGTERM; a second one kills at once. Must be called from the main thread.

    `on_ready` is called once, `report` at each change of state. Until all is proven everyone else hears 503. `remake`
    makes a job of another folder: without it, reloads are refused.

    Raises UserError when the engine fails to start, shows the model another prompt than the trained one, answers
    otherwise than the checkpoint's weights do, fails the job's proof, or goes more than RESTARTS times in a row.
    """
    checkpoints.canary(job.checkpoint)
    shown = Certificate(job.tls).context if job.tls else None
    with (
        stop_signals() as stop,
        front.Front(job.host, job.port, shown) as port,
        Control(job.port) as control,
        starting.shelved(job) as job,
    ):
        server = _Server(job, stop, port, control, report, remake)
        if control.why:
            server.report(f"note: serve reload cannot reach this server: {control.why}")
        try:
            server.run(on_ready)
        finally:
            server.end()


class _Server:
    """One server: its present job and engine, and what may come after them."""

    def __init__(
        self, job: Job, stop: Stop, port: front.Front, control: Control, report: Report, remake: Remake | None
    ) -> None:
        def heard(line: str) -> None:
            with suppress(OSError):  # a disk that is full under what we say ends no server
                report(line)

        self.job, self.stop, self.port, self.control, self.report = job, stop, port, control, heard
        self.remake = remake
        self.start: Start | None = None
        self.before: tuple[Job, Request] | None = None  # what is served again, should the job that replaced it fail
        self.change: Change | None = None  # under way
        self.adapting: Adapting | None = None  # likewise, or an adapter that comes or goes
        self.next: Change | None = None  # ready to take the place of what is served
        self.retiring: list[Aside] = []

        def tell(state: State, words: str) -> None:
            port.state = state
            self.report(f"{state}: {words}" if words else state)

        self.life = Life(tell)
        tell(self.life.state, f"{LOADS}; its log: {job.log}" if job.log else LOADS)

    def run(self, on_ready: Callable[[], None]) -> None:
        """Until told to stop. Raises as the function of this name."""
        gone, ever = 0, False
        while True:
            failure: UserError | None = None
            lived, drain, swapped = 0.0, 0, False
            try:
                try:
                    self.start = starting.begin(self.job, self.port, again=ever)
                    failure, lived = self._live(None if ever else on_ready)
                except Failure as e:
                    failure = e
                ever = ever or lived > 0
                gone = 1 if lived > STEADY else gone + 1
                pause = BACKOFF * 2 ** (gone - 1)
                if self.start and self.life.state is State.HUNG:
                    self.port.answer()
                    processes.cut(self.start.engine, urgent=self.stop.urgent)
                if self.next:
                    drain, gone, swapped = self.job.drain, 0, True
                    self._swap(self.next)
                elif failure is None:
                    drain = self.job.drain if lived else 0
                    self.life.on(Event.STOP, f"requests under way get {drain} s" if drain else "")
                elif self.before and not lived:
                    gone, pause = 0, 0.0
                    self._back(*self.before, failure)
                elif not ever or gone > RESTARTS or not _heals(failure, ever=ever):
                    self.life.on(Event.HOPELESS, failure.what)
                    raise _last(failure, gone)
                else:
                    tries = f"in {pause:.0f} s ({gone} of {RESTARTS})"
                    self.life.on(Event.ENDED, f"{tries}, since {failure.what}: {failure.why}")
                    self.port.answer()
            finally:
                if self.start:
                    processes.stop(self.start.engine, drain=drain, urgent=self.stop.urgent, drained=self.port.answer)
                    self.start.channel.close()
                    self.start = None
            if swapped:
                continue
            if failure is None:
                return self.life.on(Event.GONE)
            if self.stop.wait(pause):
                return self.life.on(Event.STOP)
            self.life.on(Event.RETRY, LOADS)

    def end(self) -> None:
        """Wait for engines that were replaced and have not yet ended."""
        if self.before:
            self.before[1].failed(UserError("the server stopped before it had reloaded", fix="serve run FOLDER"))
        self.stop.set()
        for each in self.retiring:
            each.done(self.job.drain + processes.EXIT_GRACE + processes.GONE)

    def _live(self, on_ready: Callable[[], None] | None) -> tuple[UserError | None, float]:
        """One engine's life, or that of several that took over from each other: what the last one failed of, None when
        told to stop or to swap, and how long it was ready. `on_ready` None: an engine of this server was ready before.
        """
        assert self.start is not None
        began, since = time.monotonic(), 0.0
        try:
            canary = checkpoints.canary(self.job.checkpoint)
            if not starting.await_ready(self.job, self.start, canary, self.stop, self.report):
                return None, 0
            since = time.monotonic()
            self.port.leave()
            self.life.on(Event.PROVEN, f"after {since - began:.0f} s")
            if on_ready:
                on_ready()
            if self.before:
                served(self.before[1], self.job)
                self.before = None
            failure = self._watch()
            while self.next and self.next.start:
                self._take_over(self.next, self.next.start)
                since = time.monotonic()
                failure = self._watch()
        except UserError as e:
            failure = e
        return failure, time.monotonic() - since if since else 0

    def _watch(self) -> UserError | None:
        """Look after a ready engine: what it died of or hangs in; None when told to stop, or when there is a `next`."""
        job, start = self.job, self.start
        assert start is not None
        processes.note(start.engine)
        with starting.trusted(job, start) as http:
            looking = pulse.Pulse(http, job.model, job.hang_after, lambda: processes.look(start.engine))
            try:
                while not self.stop.wait(0.25):
                    if self._changed():  # first: an engine that is proven has its first clients already
                        return None
                    if start.engine.poll() is not None:
                        return explain(start.words, start.engine.returncode, loaded=True)
                    if looking.why:
                        self.life.on(Event.STALLED, looking.why)
                        return Failure("the engine hung", why=looking.why, fix=start.words.where, heals=True)
                return None
            finally:
                looking.end()
                self._abandon()

    def _changed(self) -> bool:
        """Whether there is a `next`. Begins what was asked for."""
        if self.adapting:
            self._adapted(self.adapting)
            return False
        if self.change is None:
            if request := self.control.next():
                self._change(request)
            return False
        try:
            if not self.change.ready():
                return False
        except Exception as e:  # noqa: BLE001 - whatever is wrong with another checkpoint, this one goes on
            e = e if isinstance(e, UserError) else odd(e)
            self.life.on(Event.KEPT, f"{e.what}: {e.why}" if e.why else e.what)
            self.change.request.failed(e)
            self.change = None
            return False
        self.next, self.change = self.change, None
        return True

    def _adapted(self, adapting: Adapting) -> None:
        try:
            if (left := adapting.finished()) is None:
                return
            if left != self.job.adapters:
                self.job = self.job._replace(adapters=left)
                self.report(f"note: beside {self.job.model}: {', '.join(a.served_name for a in left) or 'no adapter'}")
            adapting.tell()
        except Exception as e:  # noqa: BLE001 - as with another checkpoint
            adapting.request.failed(e if isinstance(e, UserError) else odd(e, f"adapters {adapting.request.action}"))
        self.adapting = None

    def _change(self, request: Request) -> None:
        if request.action != "reload":
            assert self.start is not None
            self.adapting = Adapting(request, self.job, self.start)
            return
        if self.remake is None:
            request.failed(UserError("this server takes no reloads", fix="serve run FOLDER"))
            return
        self.life.on(Event.RELOAD, str(request.folder))
        self.change = Change(request, self.job, self.remake, lambda job: starting.begin(job, self.port, again=True))

    def _abandon(self) -> None:
        """Whatever is under way ends with the engine beside which it began."""
        if self.adapting:
            why = "the engine ended, or was told to"
            self.adapting.request.failed(UserError("it was given up", why=why, fix="again, once /readyz answers 200"))
            self.adapting = None
        if self.change:
            self.change.abandon()
            why = "the server was told to stop" if self.stop.is_set() else "the engine that served has ended or hangs"
            fix = "serve reload FOLDER, once /readyz answers 200"
            self.change.request.failed(UserError("the reload was given up", why=why, fix=fix))
            self.change = None

    def _take_over(self, change: Change, start: Start) -> None:
        """The next engine accepts already: the one before ends with its last request."""
        assert change.plan is not None
        assert self.start is not None
        job, old = self.job, self.start
        self.job, self.start, self.next = change.plan.job, start, None
        self.retiring = [each for each in self.retiring if not each.over]
        self.retiring.append(Aside(lambda: retire(job, old, self.stop)))
        self.life.on(Event.TAKEN, f"by {self.job.checkpoint.folder}")
        served(change.request, self.job)

    def _swap(self, change: Change) -> None:
        """Another job at the next start; this one again, should that fail."""
        assert change.plan is not None
        words = f"{change.plan.job.checkpoint.folder} loads once requests under way have had {self.job.drain} s"
        self.life.on(Event.SWAP, f"{words}, since memory does not hold both")
        change.request.say(f"memory does not hold both: the server drains for {self.job.drain} s, then loads it")
        self.before, self.job, self.next = (self.job, change.request), change.plan.job, None

    def _back(self, job: Job, request: Request, failure: UserError) -> None:
        self.life.on(Event.ENDED, f"back to {job.checkpoint.folder}, since {failure.what}: {failure.why}")
        request.failed(failure)
        self.job, self.before = job, None


def _heals(failure: UserError, *, ever: bool = False) -> bool:
    if isinstance(failure, Failure):
        return failure.heals or (ever and failure.passes)
    return isinstance(failure, NoAnswer)


def _last(failure: UserError, gone: int) -> UserError:
    """What to say at the end: the failure, and how often it came when it did more than once."""
    if gone == 1 or not _heals(failure):
        return failure
    return UserError(f"the engine failed {gone} times", why=f"{failure.what}: {failure.why}", fix=failure.fix)
