"""What a killed run leaves beside its folder, and the next one takes up; of an export whole shards, with a record each.

In: the inputs and settings of a run, and files as they are finished. Out: those that are whole and of the same run.
Knows nothing of what is in them.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from tune import artefact

NOTE = "run.json"


class Record(BaseModel):
    """A finished file: its sha256, and what was counted while it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    counted: dict[str, Any] = {}


class Part(NamedTuple):
    """The folder of one run."""

    folder: Path

    def finished(self, file: str) -> Record | None:
        """The record of a file that is whole: it is read again, and has the digest that it was written with."""
        try:
            record = Record.model_validate_json(self._record(file).read_bytes())
            return record if artefact.file_digest(self.folder / file) == record.sha256 else None
        except (OSError, ValidationError):
            return None

    def finish(self, file: str, sha256: str, counted: dict[str, Any]) -> Record:
        """Write down that a file is whole."""
        record = Record(sha256=sha256, counted=counted)
        artefact.write_text(self._record(file), record.model_dump_json())
        return record

    def place(self, files: Iterable[str], into: Path) -> None:
        """The files in another folder of the same disk, without writing them again; here they stay where links can be
        made, so that a kill before that folder is finished loses nothing."""
        for name in files:
            try:
                os.link(self.folder / name, into / name)
            except OSError:  # a file system without links
                (self.folder / name).rename(into / name)

    def _record(self, file: str) -> Path:
        return self.folder / f"{file}.json"


def open_part(folder: Path, key: dict[str, Any]) -> Part:
    """The folder of a run with these inputs and settings, emptied when it is of other ones."""
    note = folder / NOTE
    if not _is_of(note, key):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        artefact.write_text(note, json.dumps(key))
    return Part(folder)


def _is_of(note: Path, key: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(note.read_bytes()) == json.loads(json.dumps(key)))
    except (OSError, ValueError):
        return False
