"""CONTRACT: a checkpoint folder and its manifest, `checkpoint.json`, written last.

A checkpoint is what `serve` serves and `deploy` deploys: weights, config, tokenizer, and the facts that
cannot be read off them: which base it came from, which format it is in, which prompt it was trained on.
"""

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tune import artefact, harmony
from tune.artefact import Artefact, Written
from tune.errors import UserError, reason
from tune.harmony import Effort

Format = Literal["merged", "mxfp4", "lora"]
KIND = "checkpoint"
CANARY = "canary.json"  # written by tune/weights/canary.py beside the weights
# What a checkpoint takes over from its base beside weights and config.
COMPANIONS = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*", "generation_config.json")
OF_A_BASE = ("config.json", "*.safetensors", "model.safetensors.index.json", *COMPANIONS)
# What a checkpoint that came from the Hub may have beside it: the Hub's own, the card of `tune push`, and the notes of
# huggingface_hub. No engine reads any of them, so none needs a digest.
CARD, LIBRARYS = "README.md", ".cache"
OF_THE_HUB = (".gitattributes", CARD)
EXPORT = "tune export"  # what makes one, as long as nothing is known of it


class Canary(BaseModel):
    """What the weights say about a fixed prompt, to hold an engine against.

    `logprobs`: by effort, the log-probability of every token of `harmony.PROBE` but the first, in float32 arithmetic.
    `rounding`: how far bfloat16 arithmetic is from that, in nats a token, on average.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    logprobs: dict[Effort, list[Annotated[float, Field(le=0, allow_inf_nan=False)]]] = Field(
        min_length=len(harmony.EFFORTS)
    )
    rounding: float = Field(ge=0, allow_inf_nan=False)


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
    tuned: bool = Field(default=True, exclude=True)  # by an adapter

    @property
    def served_name(self) -> str:
        """`name@digest16`: how `/v1/models` names it, and how a report is matched to it."""
        return f"{self.name}@{self.digest[:16]}"

    @property
    def remake(self) -> str:
        """The command that makes it again."""
        if not self.base:
            return "tune nano"
        return f"tune export --format {self.format if self.tuned else 'base'}"


class Facts(TypedDict):
    """What a stage says about the checkpoint that it makes."""

    name: str
    base: str
    format: Format
    prompt_date: str


def stated(settings: Mapping[str, object], facts: Facts) -> dict[str, object]:
    """The settings in a checkpoint's manifest: those of its stage, and the facts beside them."""
    fingerprint = harmony.fingerprint(facts["prompt_date"])
    return {**settings, "checkpoint": {**facts, "prompt_fingerprint": fingerprint}}


def finish(
    folder: Path,
    *,
    name: str,
    base: str,
    format: Format,
    prompt_date: str,
    inputs: dict[str, str],
    settings: Mapping[str, object],
    figures: dict[str, object],
    known: Mapping[str, Written] | None = None,
) -> Checkpoint:
    """Write the manifest of a folder whose files are all in place. `known` is `artefact.finish`'s."""
    facts = Facts(name=name, base=base, format=format, prompt_date=prompt_date)
    artefact.finish(folder, KIND, inputs=inputs, settings=stated(settings, facts), figures=figures, known=known)
    return read(folder)


def read(folder: Path, *, remake: str = EXPORT) -> Checkpoint:
    """The checkpoint in `folder`. Raises UserError when it is missing, half-written or of another kind."""
    return of(folder, artefact.read(folder, KIND, remake=remake), remake=remake)


def of(folder: Path, made: Artefact, *, remake: str = EXPORT) -> Checkpoint:
    """The checkpoint that a manifest describes."""
    try:
        facts = {"folder": folder, "digest": made.digest, "base_digest": made.inputs.get("base", "")}
        facts["tuned"] = set(made.inputs) != {"base"}
        return Checkpoint.model_validate({**made.settings["checkpoint"], **facts})
    except (KeyError, TypeError, ValidationError) as e:
        raise UserError(f"{folder}/{KIND}.json describes no checkpoint", why=reason(e), fix=remake) from None


def verify(folder: Path, *, remake: str = "", anew: bool = False) -> Checkpoint:
    """Read the checkpoint, look for files that are not its own, and prove the digest of every file.

    A file is read (about 1 s per GB and core) unless it was before and is untouched since; `anew` reads each.
    `remake` is the next command when that fails; not given, it is the one that makes such a checkpoint.
    """
    made = _only_its_own(folder, remake or EXPORT)
    found = of(folder, made, remake=remake or EXPORT)
    artefact.verify(folder, made, remake=remake or found.remake, anew=anew)
    return found


def look(folder: Path, *, remake: str = EXPORT) -> Checkpoint:
    """`verify` without the digests: what can be seen at once, before files of many GB are read."""
    return of(folder, _only_its_own(folder, remake), remake=remake)


def _only_its_own(folder: Path, remake: str) -> Artefact:
    """The manifest. An engine loads every .safetensors file that it finds: one that is not named there is refused."""
    made = artefact.read(folder, KIND, remake=remake)
    beside = (*OF_THE_HUB, f"{LIBRARYS}/huggingface/*")
    if strays := [s for s in artefact.strays(folder, made) if not any(fnmatch(s, known) for known in beside)]:
        raise UserError(
            f"{folder} holds what {KIND}.json does not name: {', '.join(strays[:3])}{', …' if strays[3:] else ''}",
            why="an engine may load it too, and no digest covers it",
            fix="move it out of the folder",
        )
    return made


def as_base(files: Mapping[str, str]) -> str:
    """The digest of a base that lies in a folder: over the names and digests of its files."""
    listed = {name: files[name] for name in sorted(files) if any(fnmatch(name, known) for known in OF_A_BASE)}
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def bases(found: Checkpoint) -> set[str]:
    """What an adapter that was trained on this checkpoint has as its `base_digest`: of a nano its digest, of a folder
    that base.model named the one of its files, of a base that was exported as it is the one that it was made of."""
    made = artefact.read(found.folder, KIND, remake=found.remake)
    if made.digest != found.digest:
        return set()
    return {made.digest, as_base(made.files), *([] if found.tuned else [found.base_digest])}


def canary(found: Checkpoint) -> Canary:
    """The checkpoint's canary. Raises UserError when it has none, as those of older versions, or an unreadable one."""
    path = found.folder / CANARY
    try:
        return Canary.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        why = f"it has no {CANARY}: it was made by an older version, and what the engine makes of it cannot be checked"
    except (OSError, ValidationError) as e:
        why = f"{CANARY} cannot be read: {reason(e)}"
    raise UserError(f"{found.folder} cannot be proven when it is served", why=why, fix=found.remake)
