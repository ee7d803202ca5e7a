"""CONTRACT: a checkpoint folder and its manifest, `checkpoint.json`, written last.

A checkpoint is what `serve` serves and `deploy` deploys: weights, config, tokenizer, and the facts that
cannot be read off them: which base it came from, which format it is in, which prompt it was trained on.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tune import artefact, harmony
from tune.artefact import Artefact
from tune.errors import UserError

Format = Literal["merged", "mxfp4", "lora"]
KIND = "checkpoint"


class Checkpoint(BaseModel):
    """A finished checkpoint folder.

    `prompt_date` is the date line of the system message that the data was rendered with; the server must
    show the model the same line. `prompt_fingerprint` is `harmony.fingerprint(prompt_date)` at training time.
    `base_digest` is the digest of the base's contents, "" for a checkpoint that was made from none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    name: str
    base: str
    format: Format
    prompt_date: str
    prompt_fingerprint: str
    digest: str
    base_digest: str = ""

    @property
    def served_name(self) -> str:
        """`name@digest16`: how `/v1/models` names it, and how a report is matched to it."""
        return f"{self.name}@{self.digest[:16]}"


def finish(
    folder: Path,
    *,
    name: str,
    base: str,
    format: Format,
    prompt_date: str,
    inputs: dict[str, str],
    settings: dict[str, object],
    figures: dict[str, object],
) -> Checkpoint:
    """Write the manifest of a folder whose files are all in place."""
    facts = {
        "name": name,
        "base": base,
        "format": format,
        "prompt_date": prompt_date,
        "prompt_fingerprint": harmony.fingerprint(prompt_date),
    }
    artefact.finish(folder, KIND, inputs=inputs, settings={**settings, "checkpoint": facts}, figures=figures)
    return read(folder)


def read(folder: Path, *, remake: str = "tune export") -> Checkpoint:
    """The checkpoint in `folder`. Raises UserError when it is missing, half-written or of another kind."""
    return of(folder, artefact.read(folder, KIND, remake=remake), remake=remake)


def of(folder: Path, made: Artefact, *, remake: str = "tune export") -> Checkpoint:
    """The checkpoint that a manifest describes."""
    try:
        facts = {"folder": folder, "digest": made.digest, "base_digest": made.inputs.get("base", "")}
        return Checkpoint.model_validate({**made.settings["checkpoint"], **facts})
    except (KeyError, TypeError, ValidationError) as e:
        raise UserError(
            f"{folder}/{KIND}.json describes no checkpoint", why=str(e).splitlines()[0], fix=remake
        ) from None


def verify(folder: Path, *, remake: str = "tune export") -> Checkpoint:
    """Read the checkpoint and digest every file again (about 1 s per GB)."""
    made = artefact.read(folder, KIND, remake=remake)
    artefact.verify(folder, made, remake=remake)
    return of(folder, made, remake=remake)
