"""The proof that a checkpoint may be deployed: checkpoint and report.json in, Receipt out. There is no way round it."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsuite import report
from tune import artefact
from tune.checkpoint import Checkpoint
from tune.errors import UserError


class Receipt(BaseModel):
    """A PASS that names this very checkpoint. `report` is the sha256 of the file, `created` the report's own date.

    `margin` and `alpha` are what the gate judged by: how much worse tuned may be, and how often that may be missed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["PASS"]
    report: str
    created: str = Field(pattern=r"^[0-9][0-9T:.+Z-]{9,40}$")
    tuned_model: str
    base_model: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@/:-]{0,200}$"
    )  # an endpoint's own word: held to a pattern
    margin: float
    alpha: float


def prove(checkpoint: Checkpoint, path: Path) -> Receipt:
    """Raises UserError when the report is missing, unreadable, not a PASS, or about another checkpoint."""
    found = report.read(path)
    if found.tuned_model != checkpoint.served_name:
        raise UserError(
            f"{path} is about {found.tuned_model}, not about {checkpoint.served_name}",
            why="a verdict holds for the checkpoint it was measured on, byte for byte",
            fix="serve this checkpoint and run evalsuite compare again",
        )
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
            margin=found.policy.margin,
            alpha=found.policy.alpha,
        )
    except ValidationError as e:
        field = e.errors(include_input=False)[0]
        why = f"{'.'.join(map(str, field['loc']))}: {field['msg']}"
        raise UserError(f"{path} holds a name that is not safe to render", why=why, fix="evalsuite compare") from None
