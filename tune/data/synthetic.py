"""A question that another model wrote about a passage, and the answer that was judged: a line of work/synthetic.

In: the lines. Out: rows by page, and facts made of them. Knows nothing about who wrote or judged them.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from tune.data.fact import Fact
from tune.errors import UserError

KIND = "synthetic"
LINES = "rows.jsonl"
REMAKE = "tune synthesize"

Filled = Annotated[str, StringConstraints(pattern=r"\S")]


class Synthetic(BaseModel):
    """`heading` is the one that the passage stands under; `analysis` says what of the passage answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    page: Filled
    heading: Filled
    question: Filled
    analysis: Filled
    answer: Filled

    @property
    def fact(self) -> Fact:
        return Fact("synthetic", "judged", self.question, self.answer, self.analysis, self.analysis)


def read(folder: Path) -> dict[str, list[Synthetic]]:
    """Rows by the id of their page, in order. Raises UserError naming the first line that is none."""
    out: dict[str, list[Synthetic]] = defaultdict(list)
    with (folder / LINES).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = Synthetic.model_validate_json(line)
            except ValidationError as e:
                why = str(e.errors()[0]["msg"])
                raise UserError(f"{folder / LINES}:{number} is not a row", why=why, fix=REMAKE) from None
            out[row.page].append(row)
    return dict(out)
