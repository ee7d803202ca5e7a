"""CONTRACT: what one arm said to one question, and what became of it. One JSON line an answer, appended.

An error is never an answer: it has no score. A truncated or empty answer scores 0 and is counted as what it is.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from tune.errors import UserError
from tune.harmony import Effort

Arm = Literal["base", "tuned"]
Outcome = Literal["answered", "unparsed", "empty", "truncated", "error"]

EFFORT_MISMATCH = "effort did not reach the prompt"  # begins the error of a reply made at another effort than asked


class Answer(BaseModel):
    """One reply. Times in seconds from sending the request; None when that moment never came.

    `outcome`: answered (an answer was parsed and graded), unparsed (text without the asked-for answer line),
    empty (no content at all), truncated (the token limit ended it), error (the endpoint failed; `score` is None).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    arm: Arm
    effort: Effort
    model: str  # the id that /v1/models gave: name@digest16 for our own server
    outcome: Outcome
    score: float | None
    parsed: str = ""
    text: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    error: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    first_token_s: float | None = None  # first token of any channel
    first_answer_s: float | None = None  # first token of the answer: what a reader waits for
    total_s: float | None = None

    @field_validator("score")
    @classmethod
    def _right_or_wrong(cls, score: float | None) -> float | None:
        """What is paired and tested later is a flip: there is no half an answer."""
        if score not in {None, 0.0, 1.0}:
            raise ValueError("a score is 0 or 1")
        return score

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.question, self.arm, self.effort)


def read(path: Path) -> list[Answer]:
    """All answers on file; a last line cut short by a kill is dropped, any other bad line is a UserError."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")  # bytes: a kill may cut within a character
    out: list[Answer] = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            out.append(Answer.model_validate_json(line))
        except ValidationError:
            if number == len(lines):
                break
            raise UserError(f"{path}:{number} is not an answer", fix=f"remove the line, or the file {path}") from None
    return out
