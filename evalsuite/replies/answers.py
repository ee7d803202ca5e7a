"""CONTRACT: what one arm said to one question. answers.jsonl holds what was heard, a line a reply, and no judgement.

Before the replies of a run stands a header: whom it asked, and how, so that the file can be judged without a server.
Outcome, parsed value and score are made anew from the question set whenever the file is read. Each line ends in a
sha256 over the rest of it. Lines are only ever added: those of another server or another request stay, and do not
count.

An error or a timeout is never an answer: it has no score. A refused, truncated or empty one scores 0 and is counted as
what it is.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evalsuite.questions import ADVICE, Question, QuestionSet
from evalsuite.replies import graders, request, sealed
from evalsuite.replies.graders import grade, lenient, parse
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import Server
from tune.errors import UserError, reason
from tune.section import EffortName

Arm = Literal["base", "tuned"]
ARMS: tuple[Arm, ...] = get_args(Arm)
Outcome = Literal[
    "answered", "unparsed", "off-format", "refused", "empty", "truncated", "truncated-reasoning", "timeout", "error"
]
Item = tuple[str, str, str]  # question, arm, effort
Key = tuple[str, str, str, int]  # and which of its repeats

EFFORT_MISMATCH = "effort did not reach the prompt"  # begins the error of a reply made at another effort than asked
MODEL_MISMATCH = "another model replied"  # begins the error of a reply that names another model, or another digest

TIMED_OUT = "timed out"  # begins the error of a reply that did not come in time

_HEADER = b'{"asked":'  # begins the line of a run; that of a reply begins with its question


class Reply(BaseModel):
    """One reply as it was heard. Times in seconds from sending the request; None when that moment never came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    arm: Arm
    effort: EffortName
    repeat: int = Field(default=0, ge=0, exclude_if=lambda number: number == 0)
    model: str  # the id that was asked for
    server: str  # Server.id
    request: str  # digest of everything that was sent
    text: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    refusal: str = Field(default="", exclude_if=lambda text: not text)  # what it said in place of an answer
    tool_calls: bool = Field(default=False, exclude_if=lambda called: not called)  # it called a function
    error: str = ""
    prompt_tokens: int | None = None  # as the server counted them; None when it did not
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    first_token_s: float | None = None  # first token of any channel
    first_answer_s: float | None = None  # first token of the answer: what a reader waits for
    total_s: float | None = None

    @property
    def key(self) -> Key:
        return (self.question, self.arm, self.effort, self.repeat)


class Answer(Reply):
    """A reply and what became of it.

    `outcome`: answered (an answer was parsed and graded), unparsed (text without the asked-for answer line),
    off-format (a tool call instead of text), refused (by the model or a content filter, whatever was said before),
    empty (no content at all), truncated (the token limit ended the answer), truncated-reasoning (it ended the reply
    before an answer began), timeout and error (no whole reply came; `score` is None).
    """

    outcome: Outcome
    score: Literal[0, 1] | None  # what is paired and tested later is a flip: there is no half an answer
    parsed: str = ""  # of an unparsed reply what it seems to say, unscored
    ran: str = Field(default="", exclude_if=lambda text: not text)  # what running said of a wrong answer that is code


class Meta(BaseModel):
    """Whom the answers that count are from, and what was asked: the header of a run, and a part of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: str  # digest of the question set
    servers: dict[Arm, Server]
    sampling: Sampling
    unlike_allowed: bool = Field(default=False, exclude_if=lambda allowed: not allowed)  # --allow-unlike-servers
    stop_early: bool = Field(default=False, exclude_if=lambda early: not early)  # no more, once PASS is out of reach

    @model_validator(mode="after")
    def _both(self) -> Self:
        if set(self.servers) != set(ARMS):
            raise ValueError(f"servers are of {', '.join(ARMS)}")
        return self


def line(reply: Reply) -> bytes:
    """A reply as it stands in the file: what was heard of it, and no more."""
    return sealed.seal(reply.model_dump_json(include=set(Reply.model_fields)).encode())


def graded(question: Question | None, reply: Reply) -> Answer:
    """A reply judged by the question's own grader; without the question nothing is known of its worth."""
    heard = reply.model_dump(include=set(Reply.model_fields))
    if reply.error:
        return Answer(**heard, outcome="timeout" if reply.error.startswith(TIMED_OUT) else "error", score=None)
    if wrong := _unanswered(reply):
        return Answer(**heard, outcome=wrong, score=0)
    if question and question.split == ADVICE:
        return Answer(**heard, outcome="answered", score=None)
    parsed = parse(reply.text, question.grader if question else "exact")
    if parsed is None:
        return Answer(**heard, outcome="unparsed", score=0, parsed=lenient(reply.text))
    score: Literal[0, 1] | None = None if question is None else 1 if grade(question, parsed) else 0
    ran = graders.ran(question, parsed) if question else ""
    return Answer(**heard, outcome="answered", score=score, parsed=parsed, ran=ran)


def _unanswered(reply: Reply) -> Outcome | None:
    """Why a reply holds no answer to be read; None when it may hold one."""
    said = bool(reply.text.strip())
    if reply.finish_reason == "content_filter" or reply.refusal.strip():
        return "refused"
    if reply.finish_reason == "length":
        return "truncated" if said else "truncated-reasoning"
    if said:
        return None
    return "off-format" if reply.tool_calls or reply.finish_reason in {"tool_calls", "function_call"} else "empty"


def read(path: Path, questions: QuestionSet) -> list[Answer]:
    """All replies on file, graded. A last line without its end, cut short by a kill, is dropped.

    Raises UserError for any other line that is not as it was written, and when a request has two replies: one of them
    could be chosen. An error and then a reply is a retry. Raises it too where answers have to be run and cannot be
    (graders.require), replies or not.
    """
    graders.require(questions)
    known = {q.id: q for q in questions.questions}
    out: list[Reply] = []
    heard: dict[tuple[object, ...], int] = {}
    for number, text in sealed.read(path):
        if text.startswith(_HEADER):
            continue
        try:
            reply = Reply.model_validate_json(text)
        except ValidationError as e:
            raise UserError(f"{path}:{number} is not an answer", why=reason(e), fix=sealed.AGAIN) from None
        identity = (reply.key, reply.server, reply.request)
        if not reply.error and (first := heard.setdefault(identity, number)) != number:
            raise UserError(
                f"{path}:{number} is a second reply to one request",
                why=f"line {first} holds another, and which of them counts must not be a choice",
                fix="remove both lines: the question is asked again",
            )
        out.append(reply)
    asked = [(known[r.question], r.text) for r in out if r.question in known]
    graders.prepare((q, parse(text, q.grader)) for q, text in asked if q.code)
    return [graded(known.get(reply.question), reply) for reply in out]


def headers(path: Path) -> list[Meta]:
    """What each run that wrote to the file asked of whom, in order; of a run like the one before it nothing.

    Raises UserError as `read` does.
    """
    try:
        lines = [text[len(_HEADER) : -1] for _, text in sealed.read(path) if text.startswith(_HEADER)]
        return [Meta.model_validate_json(text) for text in lines]
    except ValidationError as e:
        fix = "evalsuite compare --base URL --tuned URL: what is on file is not asked again"
        raise UserError(f"{path} does not say who answered", why=reason(e), fix=fix) from None


def header(meta: Meta) -> bytes:
    """A run as it stands in the file, before its replies."""
    return sealed.seal(_HEADER + meta.model_dump_json().encode() + b"}")


def counted(
    answers: Iterable[Answer], questions: QuestionSet, efforts: Sequence[EffortName], meta: Meta
) -> tuple[list[Answer], Counter[str]]:
    """The answers to exactly these requests of exactly these servers, one a key, and why how many others do not count.

    Of several on file a reply counts before an error, and of errors the last.
    """
    wanted = expected(questions, efforts, meta)
    found: dict[Key, Answer] = {}
    others: Counter[str] = Counter()
    for answer in answers:
        if answer.arm in meta.servers and answer.server != meta.servers[answer.arm].id:
            others["of another server"] += 1
        elif answer.repeat >= meta.sampling.repeats:
            others["of repeats that are not asked"] += 1
        elif answer.key not in wanted:
            others["to questions or at efforts that are not asked"] += 1
        elif answer.request != wanted[answer.key]:
            others["to another request"] += 1
        elif not answer.error or found.get(answer.key, answer).error:
            found.pop(answer.key, None)  # the order stays that of the file
            found[answer.key] = answer
    return list(found.values()), others


def expected(questions: QuestionSet, efforts: Sequence[EffortName], meta: Meta) -> Mapping[Key, str]:
    """The digest of every request of a run."""
    return {
        (q.id, arm, effort, n): request.digest(request.body(q, server.model, effort, meta.sampling, server.usage, n))
        for q in questions.questions
        for arm, server in meta.servers.items()
        for effort in efforts
        for n in request.repeats(q, meta.sampling)
    }


def first(answers: Iterable[Answer]) -> dict[Item, Answer]:
    """Of the repeats of a question the first. Where it failed or is not there no later one takes its place: that would
    choose among answers by which of them came."""
    return {(answer.question, answer.arm, answer.effort): answer for answer in answers if answer.repeat == 0}


def digest(answers: Iterable[Answer]) -> str:
    """sha256 over what was heard, whatever order it came in: 64 hex characters."""
    return hashlib.sha256(b"".join(sorted(map(line, answers)))).hexdigest()
