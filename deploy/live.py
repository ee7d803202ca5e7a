"""CONTRACT: what was done at a platform with a rendered folder, kept in a file beside the folder: FOLDER.live.json.

Each push is a Release: what it was of, by what right, and what each step gave. Holds no secret: results are kept only
as far as the last word of their keys is named in KEPT, and cleaned. Does nothing at a platform.
"""

import hashlib
import json
import re
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy import secrets
from deploy.spec import Target
from deploy.steps import Action, Result
from tune import artefact
from tune.errors import UserError

# Last words of keys whose values are kept: executionRoleArn is an arn, base_url a url. A table or a list is gone into
# under any key without a word of LEFT_OUT; its texts are held to KEPT again, those of a list to the list's own key.
KEPT = re.compile(
    "arn|at|code|count|created|date|digest|endpoint|host|id|image|items?|kind|max|method|min|names?|namespace|out|owner|"
    "phase|port|ready|reason|region|release|replicas|repository|revision|running|size|stage|state|status|target|time|"
    "type|updated|uri|urls?|value|version|workers|zone"
)
LEFT_OUT = re.compile(
    "auth|authorization|credentials?|env|environment|headers?|keys?|login|metadata|password|secrets?|tokens?"
)
SUFFIX = ".live.json"  # of a record's name, after the folder's
LONGEST, MOST = 4000, 200  # characters of a text, and entries of a list, that are kept


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Done(Part):
    """A step that was done, and what it gave. `makes`, `remove` and `ends` as in Step, {name}s filled in."""

    id: str
    what: str
    action: Action
    result: dict[str, Any] = {}
    makes: str = ""
    remove: str = ""
    ends: str = ""


class Release(Part):
    """One push of one rendered folder. `folder_digest`: of all its files, as its manifest has it. `gate`: PASS and the
    report's digest, or why there is none."""

    at: str  # when it was finished, until then when it was begun: ISO 8601, UTC
    model: str  # name@digest16
    folder_digest: str
    gate: str
    finished: bool = False
    steps: tuple[Done, ...] = ()


class Live(Part):
    """All pushes of a folder, the newest last. `taken_back`: those that a rollback has undone."""

    schema_version: Literal[1] = 1
    target: Target
    name: str
    releases: tuple[Release, ...] = ()
    taken_back: tuple[Release, ...] = ()

    @property
    def last(self) -> Release | None:
        """The newest release, whether it was finished or not."""
        return self.releases[-1] if self.releases else None

    @property
    def stands(self) -> "Live":
        """The record up to the release that was finished last, which is what answers; all of it where none was."""
        ends = [n for n, release in enumerate(self.releases) if release.finished]
        return self.model_copy(update={"releases": self.releases[: ends[-1] + 1]}) if ends else self

    def gave(self, id: str) -> Result:
        """What the newest step of that id gave; {} when none has been done."""
        found = (d.result for r in reversed(self.releases) for d in reversed(r.steps) if d.id == id)
        return next(found, {})


def place(folder: Path) -> Path:
    """Where the record of a rendered folder lies."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}{SUFFIX}")


def read(folder: Path, target: Target, name: str) -> Live:
    """What was done with the folder; nothing where no record lies. Raises UserError for a record that is not ours."""
    path = place(folder)
    try:
        found = Live.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Live(target=target, name=name)
    except ValidationError as e:
        first = e.errors(include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'top level'}: {first['msg']}"
        fix = f"look what runs at {target}, then move {path.name} away"
        raise UserError(f"{path} is not a record that deploy push wrote", why=why, fix=fix) from None
    if (found.target, found.name) != (target, name):
        if not (found.releases or found.taken_back):  # destroyed
            return Live(target=target, name=name)
        what = f"{path} is about {found.name} on {found.target}, the folder is {name} for {target}"
        fix = f"deploy destroy {quote(str(folder))} removes what was pushed; or render into a folder of its own"
        raise UserError(what, why="what runs there would be forgotten", fix=fix)
    return found


def look(path: Path) -> Live | None:
    """A record by its own path; None where none lies, or what does is none."""
    try:
        return Live.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write(folder: Path, live: Live) -> None:
    """Keep the record: a reader sees the old one or the new one, never half."""
    artefact.write_text(place(folder), live.model_dump_json(indent=1) + "\n")


def digest(action: Action) -> str:
    """sha256 of an action, 64 hex characters: whether a step would do the same again."""
    said = json.dumps(action.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def kept(result: Result) -> dict[str, Any]:
    """What of a result may stand in a file: see KEPT. Texts are cleaned and cut."""
    return {str(key): value for key, given in result.items() if (value := _kept(str(key), given)) is not None}


def _kept(key: str, value: Any) -> Any:
    """The value as it is kept under that key; None when it is not."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", key)]
    if any(map(LEFT_OUT.fullmatch, words)):
        return None
    if isinstance(value, dict):
        return kept(value)
    if isinstance(value, (list, tuple)):
        return [found for v in value[:MOST] if (found := _kept(key, v)) is not None]
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and KEPT.fullmatch(words[-1] if words else ""):
        return secrets.cleaned(value)[:LONGEST]
    return None
