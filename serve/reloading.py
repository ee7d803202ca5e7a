"""Another checkpoint for a running server, as far as a thread of its own can take it: planned, and where memory allows
two engines, loaded and proven beside the one that serves.

In: a request and what makes a job of its folder. Out: the proven start, or what speaks against it. Switches nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from serve import processes, starting
from serve.aside import Aside
from serve.bell import Bell
from serve.control import Request
from serve.starting import Job, Start
from tune import checkpoint as checkpoints
from tune.errors import UserError


class Plan(NamedTuple):
    """What a folder would be served by. `beside`: while another engine runs, memory is left for it."""

    job: Job
    beside: bool


# Of a folder, while a job runs. Raises UserError when the folder cannot be served.
Remake = Callable[[Path, Job], Plan]


class Change:
    """One reload under way. `plan` is there once `ready` is true, and `start` if it goes beside."""

    def __init__(self, request: Request, serving: Job, remake: Remake, begin: Callable[[Job], Start]) -> None:
        self.request = request
        self.plan: Plan | None = None
        self.start: Start | None = None
        self._remake, self._begin, self._serving = remake, begin, serving
        self._over = Bell()
        self._work = Aside(self._look)

    def ready(self) -> bool:
        """Whether it is planned, and proven where it goes beside. Raises UserError when it cannot be served.

        To be called by the thread that outlives all engines: Linux ends a process with the thread that started it.
        """
        try:
            if not self._work.done(0):
                return False
            assert self.plan is not None
            if self.start or not self.plan.beside:
                self._over.close()
                return True
            self.request.say("its engine loads beside the one that serves")
            self.start = self._begin(self.plan.job)
        except BaseException:
            self._drop()
            raise
        self._work = Aside(self._prove)
        return False

    def abandon(self) -> None:
        """Give it up; no process of it is left. What is only being planned is not waited for: it may take long."""
        self._over.set()
        try:
            with suppress(Exception):  # whatever it is, it has been given up
                while self.start and not self._work.done(1):
                    pass
        finally:
            self._drop()

    def _look(self) -> None:
        plan = self._remake(self.request.folder, self._serving)
        checkpoints.canary(plan.job.checkpoint)
        if gone := [a.name for a in self._serving.adapters if a not in plan.job.adapters]:
            self.request.say(f"of another base, and gone with the one before: {', '.join(gone)}")
        self.plan = plan

    def _prove(self) -> None:
        assert self.plan is not None
        assert self.start is not None
        canary = checkpoints.canary(self.plan.job.checkpoint)
        if not starting.await_ready(self.plan.job, self.start, canary, self._over, self.request.say):
            raise UserError("it was given up")

    def _drop(self) -> None:
        self._over.close()
        if self.start:
            processes.kill(self.start.engine)
            self.start.channel.close()
            self.start = None


def served(request: Request, job: Job) -> None:
    """Tell who asked where and what is served now."""
    request.done({"url": f"{job.url}/v1", "model": job.model, "digest": job.checkpoint.digest})


def odd(error: Exception, what: str = "the reload") -> UserError:
    """A bug met on the way, as the failure of what was asked for: the server goes on."""
    why = f"{type(error).__name__}: {error}"
    return UserError(f"{what} failed", why=why, fix="serve preflight FOLDER says more; if not, please report it")
