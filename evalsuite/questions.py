"""CONTRACT: a question set: frozen, hashed, one JSON line a question behind one header line."""

import ast
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

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
NONE_HELD_OUT = "name what is kept out of training in [evaluate] modules of the recipe, then tune collect"

Grader = Literal["exact", "literal", "choice", "yesno", "signature", "call", "fix", "doctest"]
RUN: tuple[Grader, ...] = ("call", "fix", "doctest")  # by running the answer: these have a `code`
# About what was never trained on; about what was, asked in other words; about what no tuning should make forgotten.
Split = Literal["held-out", "taught", "general"]
ADVICE: Final = "advice"  # the split of questions that are answered in prose and never judged: in no figure of a Split


class Point(BaseModel):
    """One fact that a free-text answer to its question should tell: it does where one of these is found in it.

    `any`: regular expressions, case ignored, spaces as they come. `code`: names of nodes of Python's ast, such as With,
    in a code block of the answer. `false`: a common false claim, which should not be there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    says: str  # the fact in words, as it is shown
    any: tuple[str, ...] = Field(default=(), exclude_if=lambda some: not some)
    code: tuple[str, ...] = Field(default=(), exclude_if=lambda some: not some)
    false: bool = Field(default=False, exclude_if=lambda false: not false)

    @model_validator(mode="after")
    def _rules(self) -> Self:
        try:
            for pattern in self.any:
                re.compile(pattern)
        except re.error as e:
            raise ValueError(f"no regular expression: {e}") from None
        unknown = [name for name in self.code if not isinstance(getattr(ast, name, None), type)]
        if unknown or not (self.any or self.code):
            raise ValueError(f"ast has no node {unknown[0]}" if unknown else "a point needs any or code")
        return self


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
    One of the split "advice" has `points` in place of an answer: its `answer` is empty, its `grader` says nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: str
    module: str
    prompt: str
    answer: str
    grader: Grader
    split: Split | Literal["advice"] = "held-out"
    guess: float = Field(default=0.0, ge=0, le=1)
    developer: str = ""
    twin: str = Field(default="", exclude_if=lambda twin: not twin)  # id of the item it is a twin of
    points: tuple[Point, ...] = Field(default=(), exclude_if=lambda points: not points)
    code: Code | None = Field(default=None, exclude_if=lambda code: code is None)

    @property
    def is_code(self) -> bool:
        """Whether its answer is code."""
        return self.code is not None or self.kind == "code-signature"

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if bool(self.points) != (self.split == ADVICE) or (self.points and (self.answer or self.twin)):
            raise ValueError(f'points, and no answer, are what a question of the split "{ADVICE}" has, and no other')
        return self

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
    made: dict[str, JsonValue] = {}  # evaluate.Evaluate.about_questions, and the digests of pages; empty: by hand
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
    def judged(self) -> tuple[Question, ...]:
        """All but those whose answers are advice: what figures and verdict are about."""
        return tuple(q for q in self.questions if q.split != ADVICE)

    @property
    def advice(self) -> tuple[Question, ...]:
        """Those that are answered in prose."""
        return tuple(q for q in self.questions if q.split == ADVICE)

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
