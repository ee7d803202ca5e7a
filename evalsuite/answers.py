"""CONTRACT: what one arm said to one question, and what became of it. One JSON line an answer, appended.

An error is never an answer: it has no score. A truncated or empty answer scores 0 and is counted as what it is.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tune.errors import UserError
from tune.harmony import Effort

Arm = Literal["base", "tuned"]
Outcome = Literal["answered", "unparsed", "empty", "truncated", "error"]


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

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.question, self.arm, self.effort)


def read(path: Path) -> list[Answer]:
    """All answers on file; a last line cut short by a kill is dropped, any other bad line is a UserError."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
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


def append(path: Path, answers: Iterable[Answer]) -> None:
    """Add answers, first cutting off a half-written last line, so that a resumed run never merges two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as f:
        f.seek(0)
        whole = f.read()
        if whole and not whole.endswith(b"\n"):
            f.truncate(whole.rfind(b"\n") + 1)
        f.seek(0, 2)
        for answer in answers:
            f.write(answer.model_dump_json().encode() + b"\n")
