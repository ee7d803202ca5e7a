"""CONTRACT: what was done at a platform with a rendered folder, kept in a file beside the folder: FOLDER.live.json.

Each push is a Release: what it was of, by what right, and what each step gave. Holds no secret: results are kept only
as far as their keys are named in KEPT. Does nothing at a platform.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from deploy.spec import Target
from deploy.steps import Action, Result


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Done(Part):
    """A step that was done, and what it gave. `makes` and `remove` as in Step, {name}s filled in."""

    id: str
    what: str
    action: Action
    result: dict[str, Any] = {}
    makes: str = ""
    remove: str = ""


class Release(Part):
    """One push of one rendered folder. `folder_digest`: of all its files, as its manifest has it. `gate`: PASS and the
    report's digest, or why there is none."""

    at: str  # ISO 8601, UTC
    model: str  # name@digest16
    folder_digest: str
    gate: str
    finished: bool = False
    steps: tuple[Done, ...] = ()


class Live(Part):
    """All pushes of a folder, the newest last."""

    schema_version: int = 1
    target: Target
    name: str
    releases: tuple[Release, ...] = ()

    @property
    def last(self) -> Release | None:
        """The newest release, whether it was finished or not."""
        return self.releases[-1] if self.releases else None

    def gave(self, id: str) -> Result:
        """What the newest step of that id gave; {} when none has been done."""
        found = (d.result for r in reversed(self.releases) for d in reversed(r.steps) if d.id == id)
        return next(found, {})


def place(folder: Path) -> Path:
    """Where the record of a rendered folder lies."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.live.json")
