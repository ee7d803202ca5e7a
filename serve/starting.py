"""One start of an engine, to its open door: asked, proven, opened. A process in, whether it is ready or why not out.

Raises `Failure` for what another start may heal, and any other UserError for what none can. Restarts nothing.
"""

import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from serve import front, loading, probe, processes
from serve.adapters import Adapter, Room
from serve.aside import Aside
from serve.bell import Bell
from serve.command import Command
from serve.effort import EffortPolicy
from serve.last_words import Failure, Words, explain
from serve.middleware import SECRET, START
from serve.tls import Pair
from serve.warming import Wave, warm
from tune.checkpoint import Canary, Checkpoint
from tune.errors import UserError, reason

if TYPE_CHECKING:
    import httpx

PATIENCE = 300  # seconds for one answer of an engine being proven: the first log-probabilities are slow to come
DYING = 6  # seconds that an engine which broke off gets to end, so that its last words can be read: vLLM looks each 5

Report = Callable[[str], None]


def _proven() -> None:
    """Nothing is left to prove."""


class Job(NamedTuple):
    """What to run and how to know that it runs.

    `log` None: the engine's output goes where ours goes. `proof` runs beside the engine's loading, at each start, and
    must have returned before anyone is let in; it raises UserError when what is being loaded must not be served.
    """

    command: Command
    host: str
    port: int
    model: str
    checkpoint: Checkpoint  # its folder as this process sees it
    policy: EffortPolicy
    key: str
    drain: int
    log: Path | None
    ready_timeout: float
    proof: Callable[[], None] = _proven
    hang_after: float = 25  # seconds without a step; 0: however long
    tls: Pair | None = None  # plain HTTP without
    need: int = 0  # bytes of memory that it is counted to take
    adapters: tuple[Adapter, ...] = ()  # what lies beside the checkpoint
    room: Room | None = None  # that the engine was told to keep for adapters
    shelf: Path | None = None  # the server's own folder of their copies
    device: Literal["cpu", "cuda"] = "cuda"
    waves: tuple[Wave, ...] = ()  # what it is asked before anyone is let in
    ranks: int = 1  # data-parallel engines behind the port, each with weights of its own

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        return front.reach(self.host, self.port, "https" if self.tls else "http")


@contextmanager
def shelved(job: Job) -> Iterator[Job]:
    """The job with copies of its adapters on a shelf of its own, where those that are added go, while it is served."""
    if job.room is None:
        yield job
        return
    with tempfile.TemporaryDirectory(prefix="gptoss-adapters-", ignore_cleanup_errors=True) as name:
        shelf = Path(name)
        yield job._replace(shelf=shelf, adapters=tuple(loading.keep(a, shelf) for a in job.adapters))


class Start(NamedTuple):
    """One start: the word told in every answer, the secret told in none, and the proof beside the loading."""

    word: str
    secret: str
    channel: socket.socket  # where only this engine answers
    proof: Aside
    engine: processes.Engine
    words: Words

    @property
    def url(self) -> str:
        """Where only this engine answers."""
        return front.reach("127.0.0.1", self.channel.getsockname()[1])


def begin(job: Job, port: front.Front, *, again: bool) -> Start:
    """A new engine; `again` keeps what its log holds.

    Raises Failure when the system gives no process, no socket or no log.
    """
    word, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    with ExitStack() as end:
        try:
            channel = end.enter_context(front.listen("127.0.0.1", 0))
            sockets = (port.public.fileno(), channel.fileno())
            env = {**job.command.env, START: word, SECRET: secret, front.SOCKETS: ",".join(map(str, sockets))}
            engine, since = processes.start(job.command.argv, env, job.log, sockets, again=again)
        except OSError as e:
            fix = "--log FILE, one that can be written; or make room: of memory, processes or the disk"
            raise Failure("the engine's process cannot be started", why=reason(e), fix=fix, heals=True) from None
        except UserError as e:  # no socket for it
            raise Failure(e.what, why=e.why, heals=True) from None
        end.pop_all()
    return Start(word, secret, channel, Aside(job.proof), engine, Words(job.log, since))


def await_ready(job: Job, start: Start, canary: Canary, stop: Bell, report: Report) -> bool:
    """True when ready and open, False when told to stop. Raises UserError when it cannot become ready."""
    engine = start.engine

    def going() -> bool:
        return engine.poll() is None and not stop.is_set() and not start.proof.failed

    def over() -> bool:
        """Whether to stop. Raises what ended the start early."""
        if not stop.is_set():
            start.proof.done(0)
            if engine.poll() is not None:
                raise explain(start.words, engine.returncode, loaded=False)
        return stop.is_set()

    def finished(work: Aside) -> bool:
        """Wait for it; False when told to stop meanwhile. Raises what it raised, or what the engine died of."""
        try:
            while not work.done(0.1):
                if over():
                    return False
        except UserError as e:
            if isinstance(e, probe.NoAnswer):
                processes.ended(engine, DYING, unless=stop)
            if over():
                return False
            raise
        return True

    if not finished(Aside(lambda: _prove(job, start, canary, going))):
        return False
    if not start.proof.done(0):
        report("the engine answers; the checkpoint's files are still being proven")
    # Once more at the end: what was proven early could have been changed before the engine read it. Files that did not
    # change are not read again.
    return finished(start.proof) and finished(Aside(job.proof)) and finished(Aside(lambda: _open(job, start)))


def _prove(job: Job, start: Start, canary: Canary, going: Callable[[], bool]) -> None:
    """Raise UserError unless the engine comes up and answers as the checkpoint should."""
    began, date = time.monotonic(), job.checkpoint.prompt_date
    with probe.client(start.url, word=start.word) as nobody:
        why = probe.wait(nobody, job.ready_timeout, path="/livez", alive=going)
    with trusted(job, start) as http:
        why = why or probe.wait(http, job.ready_timeout + began - time.monotonic(), alive=going)
        if why:
            fix = f"{start.words.where}, or raise --ready-timeout"
            raise Failure("the engine did not become ready", why=why, fix=fix, heals=True)
        probe.check_prompts(http, job.model, date, job.policy)
        for _ in probe.each_rank(http, job.ranks):
            probe.check_canary(http, job.model, date, canary)
        for adapter in job.adapters:
            loading.load(http, job.model, adapter, canary, job.ranks)
        if job.adapters:
            loading.show(http, job.adapters)
        warm(http, job.model, job.waves)


def _open(job: Job, start: Start) -> None:
    with trusted(job, start) as http:
        probe.open_door(http)


def trusted(job: Job, start: Start) -> "httpx.Client":
    """A client that the engine's door lets in at any time."""
    return probe.client(start.url, job.key, secret=start.secret, word=start.word, timeout=PATIENCE)
