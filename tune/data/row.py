"""One line of a dataset's train.jsonl or eval.jsonl: what the dataset stage writes and the train stage reads.

Knows token ids and labels, nothing about examples, and nothing about what a model makes of them.
"""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tune.errors import UserError
from tune.harmony import IGNORE, Effort


class Row(BaseModel):
    """One example: its token ids, and of the same length the ids that are learned, else -100."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    page: str
    effort: Effort
    input_ids: list[int]
    labels: list[int]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.input_ids) != len(self.labels):
            raise ValueError("input_ids and labels differ in length")
        if any(y not in (IGNORE, x) for x, y in zip(self.input_ids, self.labels, strict=True)):
            raise ValueError("labels holds an id that is not in input_ids at that place")
        if all(y == IGNORE for y in self.labels[1:]):
            raise ValueError("nothing is learned")
        return self

    @property
    def line(self) -> str:
        """The row as it is written, with its line break."""
        return json.dumps(self.model_dump(), separators=(",", ":")) + "\n"


def read(path: Path, vocabulary: int) -> list[Row]:
    """Rows of a dataset file. Raises UserError naming the first line that is not one, or has ids past `vocabulary`."""
    rows = []
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            try:
                row = Row.model_validate_json(line)
                if not 0 <= min(row.input_ids) <= max(row.input_ids) < vocabulary:
                    raise ValueError(f"an id is outside the base's vocabulary of {vocabulary}")
            except ValidationError as e:
                raise UserError(f"{path}:{number} is no row", why=e.errors()[0]["msg"], fix="tune dataset") from None
            except ValueError as e:
                raise UserError(f"{path}:{number} is no row", why=str(e), fix="tune dataset") from None
            rows.append(row)
    return rows
