"""An adapter added to a running server, removed or listed: a request in, what the server serves from then on out.

What takes long goes on in a thread of its own; the server goes on serving. Switches nothing itself.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from serve import adapters, contents, loading, starting
from serve.adapters import Adapter
from serve.aside import Aside
from serve.control import Request
from serve.starting import Job, Start
from tune import checkpoint as checkpoints
from tune.errors import UserError

NONE = "it was started with room for none: the engine is told at its start"


class Adapting:
    """One request under way beside a ready engine."""

    def __init__(self, request: Request, job: Job, start: Start) -> None:
        self.request = request
        self._job, self._start = job, start
        self._left: tuple[Adapter, ...] = job.adapters
        self._done: dict[str, Any] = {}
        self._work = Aside(self._do)

    def finished(self) -> tuple[Adapter, ...] | None:
        """What is served beside the base from now on, once that is known. Raises UserError: then nothing changed."""
        return self._left if self._work.done(0) else None

    def tell(self) -> None:
        """Whoever asked, that it is done."""
        self.request.done(self._done)

    def _do(self) -> None:
        if self.request.action == "add":
            self._add(self.request.name, self.request.folder)
        elif self.request.action == "remove":
            self._remove(self.request.name)
        self._done |= {"adapters": [told(a) for a in self._left], "base": self._job.model}

    def _add(self, name: str, folder: Path) -> None:
        job = self._job
        if job.room is None:
            raise UserError("this server takes no adapters", why=NONE, fix="serve run BASE --adapter-rank 16")
        adapters.require_name(name, {job.model, *(a.name for a in job.adapters)})
        adapter = adapters.read(name, folder, job.checkpoint, contents.shape(job.checkpoint.folder), job.device)
        adapters.require_room(adapter, job.room, len(job.adapters))
        if same := next((a for a in job.adapters if a.digest == adapter.digest), None):
            raise UserError(f"{folder} is served already", why=f"as {same.name}", fix="serve adapters list")
        self.request.say("it is of this base and changes it; the engine loads it")
        adapter = loading.keep(adapter, job.shelf) if job.shelf else adapter
        left = (*job.adapters, adapter)
        with starting.trusted(job, self._start) as http:
            loading.load(http, job.model, adapter, checkpoints.canary(job.checkpoint), job.ranks)
            try:
                loading.show(http, left)
            except UserError:
                with suppress(UserError):
                    loading.drop(http, adapter)
                raise
        self._left = left
        self._done = {"url": f"{job.url}/v1", "model": adapter.served_name}

    def _remove(self, name: str) -> None:
        job = self._job
        gone = next((a for a in job.adapters if name in (a.name, a.served_name)), None)
        if gone is None:
            there = ", ".join(a.name for a in job.adapters) or "none"
            raise UserError(f"no adapter is called {name}", why=f"there is: {there}", fix="serve adapters list")
        with starting.trusted(job, self._start) as http:
            left = tuple(a for a in job.adapters if a != gone)
            loading.show(http, left)
            with suppress(UserError):  # nobody can ask for it any more, whatever the engine still holds
                loading.drop(http, gone)
        if gone.copy_at:
            shutil.rmtree(gone.copy_at, ignore_errors=True)
        self._left = left
        self._done = {"url": f"{job.url}/v1", "model": gone.served_name}


def told(adapter: Adapter) -> dict[str, Any]:
    """An adapter, for whoever asked."""
    of = adapter.checkpoint
    return {"name": adapter.name, "digest": of.digest, "folder": str(of.folder), "rank": adapter.rank}
