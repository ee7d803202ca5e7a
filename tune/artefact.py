"""CONTRACT: what every stage leaves behind: files, and one manifest written last.

The manifest's presence means the stage is whole. It names the digest of each input, so a stage can refuse
an input that is not the one it was made from. Knows files and digests, nothing about what is in them.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from tune import digests, rooms
from tune.errors import UserError
from tune.rooms import writing as writing

VERSION = "0.1.0"
SCHEMA = 2  # 1 left the settings out of the digest


class Artefact(BaseModel):
    """One finished stage. `digest` depends on what it is and was made with: on no time of making."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    kind: str
    made_by: str = f"gptoss-kit {VERSION}"
    inputs: dict[str, str] = {}
    settings: dict[str, Any] = {}
    files: dict[str, str]
    figures: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """sha256 over kind, inputs, settings and file digests, 64 hex characters."""
        core = self.model_dump(mode="json", include={"kind", "inputs", "settings", "files"})
        return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()


class Written(NamedTuple):
    """A file as it was written: sha256, 64 hex characters, and size in bytes."""

    digest: str
    size: int


def file_digest(path: Path) -> str:
    """sha256 of one file, 64 hex characters."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def finish(
    folder: Path,
    kind: str,
    *,
    inputs: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    figures: Mapping[str, Any] | None = None,
    known: Mapping[str, Written] | None = None,
) -> Artefact:
    """Digest every file under `folder` and write `<kind>.json` last.

    `known`, by relative path: files that were digested while they were written, and are not read again. Raises
    RuntimeError when such a file is missing or of another size.
    """
    name = f"{kind}.json"
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != name and p.suffix != ".part")
    files, told = {p.relative_to(folder).as_posix(): p for p in paths}, dict(known or {})
    for file, written in told.items():
        if file not in files or files[file].stat().st_size != written.size:
            raise RuntimeError(f"{folder / file} is not the file that was written there")  # a bug, or a full disk
    artefact = Artefact(
        kind=kind,
        inputs=dict(inputs or {}),
        settings=dict(settings or {}),
        files={file: told[file].digest if file in told else file_digest(path) for file, path in files.items()},
        figures=dict(figures or {}),
    )
    write_text(folder / name, artefact.model_dump_json(indent=1) + "\n")
    return artefact


def read(folder: Path, kind: str, *, remake: str) -> Artefact:
    """The manifest of a finished stage.

    Raises UserError, naming `remake` as the next command, when the stage is missing, unfinished or unreadable.
    """
    path = folder / f"{kind}.json"
    if not path.is_file():
        if other := _kind(folder):
            what = f"{folder} holds a finished {other}, not a {kind}"
            raise UserError(what, why=f"it has {other}.json and no {path.name}", fix=remake)
        why = f"it has no {path.name}: another folder is meant, or its stage was interrupted" if folder.is_dir() else ""
        raise UserError(f"{folder} holds no finished {kind}", why=why, fix=remake)
    try:
        artefact = Artefact.model_validate_json(path.read_bytes())
    except ValidationError as e:
        raise UserError(f"{path} is not a manifest this version reads", why=_first(e), fix=remake) from None
    if artefact.schema_version != SCHEMA:
        why = (
            f"it is of version {artefact.schema_version}, this tool reads version {SCHEMA}: its digest covers settings"
        )
        raise UserError(f"{path} is not a manifest this version reads", why=why, fix=remake)
    missing = [name for name in artefact.files if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing[:3])}", why=f"named in {path.name}", fix=remake)
    return artefact


def _kind(folder: Path) -> str:
    """The kind of the stage that left its manifest there, or ""."""
    for path in sorted(p for p in folder.glob("*.json") if p.is_file()):
        with path.open("rb") as f:
            if re.match(rb'\{\s*"schema_version": \d+,\s*"kind": "%s",' % re.escape(path.stem).encode(), f.read(200)):
                return path.stem
    return ""


def verify(folder: Path, artefact: Artefact, *, remake: str, anew: bool = False) -> None:
    """Hold every file's digest against the manifest's, reading those that may have changed since they were last read.

    `anew` reads them all. Raises UserError naming the first that changed or went since the stage finished.
    """
    with closing(digests.each(folder, [*artefact.files], anew=anew)) as found:
        try:
            apart = ((name, artefact.files[name]) for name, digest in found if digest != artefact.files[name])
            # A wrong digest may be a remembered one: before anything is called changed, the file itself is read.
            wrong = next((name for name, wanted in apart if file_digest(folder / name) != wanted), "")
        except FileNotFoundError as e:
            lost = Path(e.filename).relative_to(folder)
            raise UserError(f"{folder} lacks {lost}", why=f"named in {artefact.kind}.json", fix=remake) from None
    if wrong:
        raise UserError(
            f"{folder / wrong} is not the file that {artefact.kind}.json describes",
            why="its sha256 differs: it was edited, truncated or replaced",
            fix=remake,
        )


def strays(folder: Path, artefact: Artefact) -> list[str]:
    """What lies in the folder and is neither in the manifest nor a plain folder, by relative path."""
    own = {*artefact.files, f"{artefact.kind}.json"}
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    return sorted(name for name in found if name not in own)


def unchanged(folder: Path, artefact: Artefact) -> bool:
    """Whether every file still has the digest that the manifest names."""
    try:
        verify(folder, artefact, remake="")
    except UserError:
        return False
    return True


def is_current(
    folder: Path,
    kind: str,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    files: Collection[str] = (),
    spoilt: Callable[[str], None] = lambda _: None,
) -> Artefact | None:
    """The finished stage if it is whole and was made from exactly these inputs and settings by this version, else None.

    Digests every file of a stage that matches: one that was edited is made again. `files`: those that it must have.
    `spoilt` is told why a folder that is there holds no such stage.
    """
    try:
        artefact = read(folder, kind, remake="")
    except UserError as e:
        if folder.exists():
            spoilt(e.what)
        return None
    same = (artefact.inputs, artefact.settings, artefact.made_by) == (
        dict(inputs),
        json.loads(json.dumps(dict(settings))),
        f"gptoss-kit {VERSION}",
    )
    same = same and artefact.files.keys() >= set(files)
    return artefact if same and unchanged(folder, artefact) else None


def remake_folder(folder: Path, kind: str, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a fresh folder beside `folder`, then swap it in: an interrupted stage leaves the old one.

    Works in a hidden room of its own, under the lock that `writing` takes. Raises UserError when another run is at work
    there, and when the old folder holds what the stage did not write: it would be lost.
    """
    with writing(folder, kind):
        _only_ours(folder, kind)
        room = rooms.fresh(folder)
        fresh, old = room / "new", room / "old"
        try:
            fresh.mkdir()  # not the room itself: mkdtemp's is closed to others, and containers run as another user
            fill(fresh)
            if not (fresh / f"{kind}.json").is_file():
                raise RuntimeError(f"{kind} stage ended without a manifest")  # a bug of ours, not of the user
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(room, ignore_errors=True)


def _only_ours(folder: Path, kind: str) -> None:
    try:
        left = [name for name in strays(folder, read(folder, kind, remake="")) if "__pycache__" not in name]
    except UserError:
        return  # no stage was finished there
    if left:
        more = ", …" if left[3:] else ""
        raise UserError(
            f"{folder} would be made again, and it holds what is not its own: {', '.join(left[:3])}{more}",
            why="it would be lost",
            fix=f"move it out of {folder}",
        )


def _first(error: ValidationError) -> str:
    e = error.errors()[0]
    return f"{'.'.join(map(str, e['loc'])) or 'top level'}: {e['msg']}"
