"""The proof that a checkpoint may be deployed: checkpoint and report.json in, Receipt out.

Who has to deploy without one says why, and the reason stands wherever the receipt would.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsuite import report
from evalsuite.report import Judged, Report
from tune import artefact
from tune import checkpoint as checkpoints
from tune.checkpoint import Checkpoint
from tune.errors import UserError

NAMED = "@[0-9a-f]{16}$"  # ends an id that names a checkpoint
Reason = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9 .,:;()%-]{0,199})?$")]  # safe to render
SKEW = timedelta(minutes=10)  # that two clocks may be apart


class Receipt(BaseModel):
    """A PASS that names this very checkpoint. `report` is the sha256 of the file, `created` the report's own date.

    `judged` is what the verdict holds for: efforts, requests and questions, and how much worse tuned may be.
    `base_known_by` says what the base's identity rests on: a Hub commit is no digest that an endpoint shows.
    `note` is the report's own, such as that a nano model proves the path and not quality.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["PASS"]
    report: str
    created: str = Field(pattern=r"^[0-9][0-9T:.+Z-]{9,40}$")
    tuned_model: str
    # an endpoint's own word: held to a pattern
    base_model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@/:-]{0,200}$")
    base_known_by: Literal["digest", "name"]
    judged: Judged
    note: str = Field(default="", pattern=r"^[A-Za-z0-9 .,:;()%-]{0,300}$")


def prove(checkpoint: Checkpoint, path: Path) -> Receipt:
    """Raises UserError when the report is missing, not proven by the replies beside it, not a PASS, or about another
    checkpoint or base."""
    found = report.read(path)
    _of_this(checkpoint, found, path)
    known_by = _base_known_by(checkpoint, found, path)
    if found.verdict.outcome != "PASS":
        raise UserError(
            f"{path} says {found.verdict.outcome}: {found.tuned_model} is not to be deployed",
            why="\n       ".join(found.verdict.reasons),
            fix="evalsuite gate " + str(path),
        )
    try:
        return Receipt(
            outcome="PASS",
            report=artefact.file_digest(path),
            created=found.created,
            tuned_model=found.tuned_model,
            base_model=found.base_model,
            base_known_by=known_by,
            judged=found.judged,
            note=found.note,
        )
    except ValidationError as e:
        field = e.errors(include_input=False)[0]
        why = f"{'.'.join(map(str, field['loc']))}: {field['msg']}"
        raise UserError(f"{path} holds text that is not safe to render", why=why, fix=report.REMAKE) from None


def reason(given: str) -> str:
    """Why there is no report, in words that are safe to render. Raises UserError when they are not."""
    words = " ".join(given.split())
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 .,:;()%-]{0,199}", words):
        raise UserError(
            "--no-gate takes a reason that can stand in every rendered file",
            why="it has 1 to 200 letters, digits, spaces and .,:;()%-, and begins with a letter or a digit",
            fix='--no-gate "to be compared on its GPU"',
        )
    return words


def stale(receipt: Receipt, days: int, now: datetime | None = None) -> str:
    """Why the receipt is not fresh: it is older than so many days, or of a time to come; "" when it is."""
    try:
        made = datetime.fromisoformat(receipt.created)
    except ValueError:
        return f"the report's date {receipt.created} is none"
    made = made if made.tzinfo else made.replace(tzinfo=UTC)
    age = (now or datetime.now(UTC)) - made
    if age < -SKEW:
        return f"the report is of {receipt.created}, which is still to come: a clock was wrong"
    if age > timedelta(days=days):
        return f"the report is of {receipt.created}, {age.days} days ago; [deploy] receipt_days = {days}"
    return ""


def _of_this(checkpoint: Checkpoint, found: Report, path: Path) -> None:
    """Raises UserError unless the tuned server sent the checkpoint's digest: its id alone could be any model's.

    It was asked for by the id that holds the digest, too: by that, reports are read and found again.
    """
    header, fix = found.asked.servers["tuned"].header, f"serve run {checkpoint.folder}, and evalsuite compare again"
    named = found.tuned_model == checkpoint.served_name
    if named and header == checkpoint.digest:
        return
    if header == checkpoint.digest and not re.search(NAMED, found.tuned_model):
        raise _misnamed(path, "tuned", found.tuned_model, checkpoint.served_name)
    if named and not header:
        raise UserError(
            f"{path} shows by a name alone that it is about {checkpoint.served_name}",
            why="the tuned endpoint sent no x-model-digest, and any model can be listed under any name",
            fix=fix,
        )
    raise UserError(
        f"{path} is about {found.tuned_model!r}{f' ({header})' if header else ''}, not about {checkpoint.served_name}",
        why="a verdict holds for the checkpoint it was measured on, byte for byte",
        fix=fix,
    )


def _base_known_by(checkpoint: Checkpoint, found: Report, path: Path) -> Literal["digest", "name"]:
    """What shows that the base is the one that the checkpoint was made from: its digest, or, where a Hub base has none,
    no more than its name. Raises UserError when it is another."""
    served, header = found.base_model, found.asked.servers["base"].header
    if any(_exports(place / "base", header, checkpoint) for place in (path.parent, checkpoint.folder.parent)):
        return "digest"
    if re.fullmatch("[0-9a-f]{64}", checkpoint.base_digest):
        if header == checkpoint.base_digest and served.endswith("@" + header[:16]):
            return "digest"
        if header == checkpoint.base_digest and not re.search(NAMED, served):
            raise _misnamed(path, "base", served, f"{checkpoint.base.partition('@')[0]}@{header[:16]}")
        told = f"sent the digest {header}" if header else "sent no x-model-digest"
        fix = "serve the base by serve run, and evalsuite compare again"
    else:
        name, _, revision = checkpoint.base.partition("@")
        short = name.rpartition("/")[2]  # what is served of openai/gpt-oss-20b is often called gpt-oss-20b
        if served in {f"{n}{v}" for n in (name, short) if n for v in ("", f"@{revision}")}:
            return "name"
        told, fix = "goes by another name", "evalsuite compare again with a --base that serves it under this name"
    raise UserError(
        f"{path} was measured against {served!r}, not against the base this checkpoint was made from",
        why=f"that is {checkpoint.base or 'none'}, and the base endpoint {told}: a weaker one is easily beaten",
        fix=fix,
    )


def _exports(folder: Path, digest: str, checkpoint: Checkpoint) -> bool:
    """Whether `folder` is what `tune export --format base` made of the checkpoint's base, of that digest: what an
    endpoint sends of it is the export's own."""
    try:
        found = checkpoints.verify(folder)
    except UserError:
        return False
    return found.digest == digest and checkpoint.base_digest in checkpoints.bases(found)


def _misnamed(path: Path, arm: Literal["base", "tuned"], asked: str, name: str) -> UserError:
    """The right weights under an id that does not say so. `serve run --name` lists that id beside the other."""
    return UserError(
        f"{path} calls its {arm} model {asked!r}: the right digest was sent, but the id does not name it",
        why="a verdict, and what is rendered from it, names its checkpoints by name@digest",
        fix=f"evalsuite compare again with --{arm}-model {name}, which serve run lists whatever its --name",
    )
