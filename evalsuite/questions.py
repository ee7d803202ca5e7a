"""CONTRACT: a question set: frozen, hashed, one JSON line a question behind one header line."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)

from tune.artefact import write_text
from tune.errors import UserError, reason
from tune.terminal import one_line

SCHEMA = 5

Grader = Literal["exact", "literal", "choice", "yesno", "signature", "call", "fix", "doctest"]
RUN: tuple[Grader, ...] = ("call", "fix", "doctest")  # by running the answer: these have a `code`
# About what was never trained on; about what was, asked in other words; about what no tuning should make forgotten.
Split = Literal["held-out", "taught", "general"]


class Code(BaseModel):
    """What an answer that is code is run in, and held to. Only `about` and `source` may stand in the prompt; of a
    `call` its `value`, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str  # path of the object in the question's module
    source: str  # the line: of a call with the blank, of a fix with the wrong keyword
    value: str  # of a call a Python literal, of the others what the right line shows


class Question(BaseModel):
    """One question with one verified answer.

    A closed-book `answer` never appears in `prompt`, choices and Python's version apart; an open-book one is there to
    be found. `guess` is the chance of a blind guess being right, where the prompt shows what there is to choose from.
    `twin` is the id of the question that this one is, with other literals: who had memorised that one gets it wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: str
    module: str
    prompt: str
    answer: str
    grader: Grader
    split: Split = "held-out"
    guess: float = Field(default=0.0, ge=0, le=1)
    developer: str = ""
    twin: str = Field(default="", exclude_if=lambda twin: not twin)  # id of the item it is a twin of
    code: Code | None = Field(default=None, exclude_if=lambda code: code is None)

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        if (self.grader in RUN) != (self.code is not None):
            raise ValueError(f"a question has code if its grader is one of {', '.join(RUN)}, and else none")
        return self


class QuestionSet(BaseModel):
    """Questions in a fixed order, each once, and how they were made. Raises UserError for one that stands there twice:
    it would count twice, and make the bounds too narrow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    name: str
    python: str  # the version they ask about; "" for one's own
    made: dict[str, JsonValue] = {}  # recipe.Evaluate.about_questions, and the digests of pages; empty: by hand
    left_out: dict[str, int] = {}  # reason -> closed-book candidates that it kept out
    skipped: dict[str, str] = {}  # module of which no closed-book question was made -> reason
    questions: tuple[Question, ...]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        ids = Counter(q.id for q in self.questions)
        asked: dict[tuple[str, str], list[str]] = {}
        for q in self.questions:
            asked.setdefault((q.developer.strip(), q.prompt.strip()), []).append(q.id)
        again = [f"the id {name} stands {count} times" for name, count in ids.items() if count > 1]
        again += [f"{', '.join(names)} ask the same" for names in asked.values() if len(set(names)) > 1]
        if alone := [q.id for q in self.questions if q.twin and (q.twin == q.id or q.twin not in ids)]:
            why = f"what {one_line(alone[0])} is a twin of is not in the set"
            raise UserError("a question is a twin of none", why=why, fix="keep both, or take its twin field out")
        if again:
            why = "\n       ".join(
                [*map(one_line, again[:5]), *([f"and {len(again) - 5} more"] if len(again) > 5 else [])]
            )
            raise UserError("a question is in the set more than once", why=why, fix="keep one of each")
        return self

    @property
    def digest(self) -> str:
        """sha256 over how they were made and every question, in order: 64 hex characters."""
        head = json.dumps(self.model_dump(exclude={"questions"}), sort_keys=True)
        lines = "\n".join([head, *(q.model_dump_json() for q in self.questions)])
        return hashlib.sha256(lines.encode()).hexdigest()


def write(path: Path, questions: QuestionSet) -> None:
    """Header line (name, python, what it was made from, what was left out, count, digest), then a question a line."""
    head = {
        **questions.model_dump(exclude={"questions"}),
        "count": len(questions.questions),
        "digest": questions.digest,
    }
    lines: Sequence[str] = [json.dumps(head), *(q.model_dump_json() for q in questions.questions)]
    write_text(path, "\n".join(lines) + "\n")


def read(path: Path) -> QuestionSet:
    """Raises UserError when the file is missing, cut short, of another version, or edited since it was frozen."""
    remake = f"evalsuite questions --out {path}"
    try:
        # Not splitlines: a prompt may hold any other line separator that Unicode has.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        head = json.loads(lines[0])
        if head["schema_version"] != SCHEMA:
            why = f"it has version {head['schema_version']}, this tool reads version {SCHEMA}"
            raise UserError("this is a question set of another version", why=why, fix=remake)
        found = QuestionSet(
            **{k: head[k] for k in ("schema_version", "name", "python", "made", "left_out", "skipped")},
            questions=tuple(Question.model_validate_json(line) for line in lines[1:]),
        )
        count, digest = head["count"], head["digest"]
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"there is no question set {path}", fix=remake) from None
    except UserError as e:
        raise UserError(f"{path}: {e.what}", why=e.why, fix=e.fix) from None
    except (KeyError, TypeError, ValueError, RecursionError) as e:
        raise UserError(f"{path} is not a question set", why=reason(e), fix=remake) from None
    if len(found.questions) != count or found.digest != digest:
        raise UserError(f"{path} was changed after it was frozen", why="its digest differs", fix=remake)
    return found
