"""Whether an engine moves: its step counter and a tiny request now and then in, why it is taken for hung out.

The engine's own /health never notices a core that is stopped or deadlocked. What counts as moving is a step (what
/metrics tells of them) or an answer to a canary, one token of one token; it is sent only when no step has been
seen for a third of the patience, so a busy engine is never asked and an idle one every few seconds. An engine that
computes without ending a step (a long one on a slow CPU, a kernel being compiled) gets LONGER as much.
"""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from serve.aside import Aside
from tune.errors import UserError

if TYPE_CHECKING:
    import httpx

# One more with each step that gave somebody a token; and a share that grows with each chunk of a prefill, which gives
# nobody any.
STEPS = ("vllm:iteration_tokens_total_count", "vllm:kv_cache_usage_perc")
LOOKS = 12  # times the patience is divided by between two looks
LONGER = 10  # times the patience, for an engine that computes all the while
COMPUTES = 0.1  # seconds of processor a second: an engine that waits takes a hundredth


class Used(NamedTuple):
    """Processor seconds that the server's process took so far, and the processes below it."""

    server: float
    below: float


class Stillness:
    """How long nothing has moved. Pure: it is told the time."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.still = self.idle = 0.0  # seconds without a step; those of them in which hardly anything was computed
        self.answers = True
        self._before: tuple[float, Used] | None = None
        self._steps: float | None = None

    def look(self, now: float, steps: float | None, used: Used, *, answered: bool) -> None:
        """What is seen now. `steps` None: the server's process did not say. `answered`: a canary was."""
        self.answers = steps is not None
        if answered or self._before is None or (steps is not None and steps != self._steps):
            self.still = self.idle = 0.0
        else:
            then, took = self._before
            elapsed = now - then
            # Of a server's process that does not answer, its own work says whether it is at something; of one that
            # does, only the work below it: it is busy with clients however long the core hangs.
            worked = used.below - took.below + (0 if self.answers else used.server - took.server)
            lasted = min(elapsed, 2 * self.patience / LOOKS)  # when we were stopped ourselves, that says nothing
            self.still += lasted
            self.idle += lasted if worked < COMPUTES * elapsed else 0
        self._before = (now, used)
        self._steps = self._steps if steps is None else steps

    @property
    def asks(self) -> bool:
        """Whether it is time for a canary."""
        return self.still >= self.patience / 3

    @property
    def why(self) -> str:
        """Why the engine is taken for hung; "" while it is not."""
        if self.idle < self.patience and self.still < LONGER * self.patience:
            return ""
        who = "the engine makes no step" if self.answers else "the server's process does not answer"
        how = "" if self.idle >= self.patience else ", though it computes"
        return f"{who} for {self.still:.0f} s{how}"


class Pulse:
    """Looks after one engine in a thread of its own, until `end`. `why` is not "" once it hangs."""

    def __init__(self, http: "httpx.Client", model: str, patience: float, used: Callable[[], Used]) -> None:
        self.why = ""
        self._http, self._model, self._used = http, model, used
        self._still = Stillness(patience)
        self._over = threading.Event()
        self._canary: Aside | None = None
        if patience:
            threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def _run(self) -> None:
        pause = self._still.patience / LOOKS
        while not self.why and not self._over.wait(pause):
            steps = _steps(self._http, pause)
            self._still.look(time.monotonic(), steps, self._used(), answered=self._answered())
            if self._still.asks and self._canary is None:
                self._canary = Aside(self._ask)
            self.why = self._still.why

    def _answered(self) -> bool:
        """Whether a canary has been answered since the last look."""
        try:
            done = self._canary is not None and self._canary.done(0)
        except UserError:
            done, self._canary = False, None
        if done:
            self._canary = None
        return done

    def _ask(self) -> None:
        import httpx

        body = {"model": self._model, "prompt": [0], "max_tokens": 1}
        try:
            status = self._http.post("/v1/completions", json=body, timeout=LONGER * self._still.patience).status_code
        except httpx.HTTPError as e:
            raise UserError("the canary got no answer", why=str(e)) from None
        if status != 200:
            raise UserError(f"the canary got {status}")


def _steps(http: "httpx.Client", timeout: float) -> float | None:
    """A number that changes with each step of the engine; None when its server does not say in time."""
    import httpx

    try:
        lines = http.get("/metrics", params={"name[]": list(STEPS)}, timeout=max(timeout, 0.5)).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(STEPS))
    except (httpx.HTTPError, ValueError, IndexError, UserError, RuntimeError):  # the last of a client that was closed
        return None
