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


Remake = Callable[[Path], Plan]  # raises UserError when the folder cannot be served


class Change:
    """One reload under way. `plan` is there once `ready` is true, and `start` if it goes beside."""

    def __init__(self, request: Request, remake: Remake, begin: Callable[[Job], Start]) -> None:
        self.request = request
        self.plan: Plan | None = None
        self.start: Start | None = None
        self._remake, self._begin = remake, begin
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
                return True
            self.request.say("its engine loads beside the one that serves")
            self.start = self._begin(self.plan.job)
        except BaseException:
            self._drop()
            raise
        self._work = Aside(self._prove)
        return False

    def abandon(self) -> None:
        """Give it up; nothing of it is left."""
        self._over.set()
        with suppress(UserError):
            while not self._work.done(1):
                pass
        self._drop()

    def _look(self) -> None:
        plan = self._remake(self.request.folder)
        checkpoints.canary(plan.job.checkpoint)
        self.plan = plan

    def _prove(self) -> None:
        assert self.plan is not None
        assert self.start is not None
        canary = checkpoints.canary(self.plan.job.checkpoint)
        if not starting.await_ready(self.plan.job, self.start, canary, self._over, self.request.say):
            raise UserError("it was given up")

    def _drop(self) -> None:
        if self.start:
            processes.kill(self.start.engine)
            self.start.channel.close()
            self.start = None
