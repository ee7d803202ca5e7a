"""What a report.json says of one checkpoint: its verdict and a row an effort, if it is the file that was written.

The report is evalsuite's, and read here as the JSON that it is. As in `tune status` the verdict is as stored:
`evalsuite gate` proves it from the replies beside the report. One of another checkpoint, or one changed by hand, is no
evaluation.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tune.errors import UserError, reason
from tune.status import PROOF, VERDICTS

REMAKE = "evalsuite compare --base URL --tuned URL"


class _Said(BaseModel):
    """What is read of a report; it says more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Arm(_Said):
    accuracy: float | None = None


class _Difference(_Said):
    estimate: float
    lower: float
    upper: float


class Row(_Said):
    """One effort, on one split of the questions: shares of right answers, the difference with its bounds, -1 to 1."""

    split: str = "held-out"
    effort: str
    asked: int
    missing: int
    base: _Arm
    tuned: _Arm
    difference: _Difference


class _Verdict(_Said):
    outcome: str
    reasons: tuple[str, ...] = ()


class _Policy(_Said):
    margin: float
    alpha: float
    require_gain: bool = False


class Evaluation(_Said):
    """A verdict, what it rests on, and the rows of its table, none where the report has no such table."""

    digest: str
    created: str = ""
    note: str = ""
    base_model: str
    tuned_model: str
    questions_name: str = ""
    questions_count: int = 0
    policy: _Policy | None = None
    comparisons: tuple[Row, ...] = ()
    verdict: _Verdict

    def of(self, split: str) -> tuple[Row, ...]:
        """The rows of one split of the questions."""
        return tuple(row for row in self.comparisons if row.split == split)


def read(path: Path, served_name: str) -> Evaluation:
    """The evaluation of the checkpoint of that name. Raises UserError saying why the file is none of it."""
    try:
        data = json.loads(path.read_bytes())
        found = Evaluation.model_validate(data)
    except FileNotFoundError:
        raise UserError(f"there is no report {path}", fix=REMAKE) from None
    except ValidationError as e:
        why = f"{'.'.join(map(str, e.errors()[0]['loc']))}: {e.errors()[0]['msg']}"
        raise UserError(f"{path} is not a report", why=why, fix=REMAKE) from None
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} is not a report", why=reason(e), fix=REMAKE) from None
    if _digest(data) != found.digest or found.verdict.outcome not in VERDICTS:
        raise UserError(f"{path} was changed after it was written", why="its digest differs", fix=REMAKE)
    if lacking := [name for name in PROOF if not path.with_name(name).is_file()]:
        what = f"{path} lies without its {' and '.join(lacking)}"
        raise UserError(what, why="the replies prove the verdict", fix=REMAKE)
    if found.tuned_model != served_name:
        why = f"it is about {found.tuned_model:.120}, the checkpoint is {served_name}"
        raise UserError(f"{path} is about another checkpoint", why=why, fix=REMAKE)
    return found


def _digest(data: dict[str, Any]) -> str:
    rest = {key: value for key, value in data.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
