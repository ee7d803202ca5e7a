"""Evaluations for tests: replies as an endpoint would give them, graded as they are, and the folder of a run."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evalsuite import questions, report
from evalsuite.judging.policy import Policy
from evalsuite.questions import Question, QuestionSet, Split
from evalsuite.replies import answers, request
from evalsuite.replies.answers import Answer, Arm, Meta, Outcome, Reply
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import Server
from tune.harmony import Effort

BASE, TUNED = "base@0000000000000000", "tuned@1111111111111111"
ARMS: tuple[Arm, ...] = ("base", "tuned")
CREATED = "2026-11-21"


def question(i: int, kind: str = "kind", **more: Any) -> Question:
    """Question qi, whose answer is Ai."""
    known = {"id": f"q{i}", "kind": kind, "module": "ast", "prompt": f"P{i}?", "answer": f"A{i}", "grader": "exact"}
    return Question.model_validate(known | more)


def question_set(n: int, kinds: int = 1, **more: Any) -> QuestionSet:
    made = tuple(question(i, f"kind{i % kinds}", **more) for i in range(n))
    return QuestionSet(name="python-docs", python="3.11.7", questions=made)


def asked_of(
    questions: QuestionSet, base: str = BASE, tuned: str = TUNED, header: dict[Arm, str] | None = None
) -> Meta:
    """A run over two servers that list these ids."""
    servers = {
        arm: Server(url=f"http://{arm}/v1", model=model, header=(header or {}).get(arm, ""))
        for arm, model in zip(ARMS, (base, tuned), strict=True)
    }
    return Meta(questions=questions.digest, servers=servers, sampling=Sampling(max_tokens=256, temperature=0, seed=0))


def reply(
    question: Question, arm: Arm, effort: Effort = "low", right: bool = True, outcome: Outcome = "answered", **more: Any
) -> Reply:
    """One that says what has this outcome; `filed` says of whom it is."""
    text = {
        "answered": f"{arm} says\nANSWER: {question.answer if right else 'not so'}",
        "unparsed": f"{arm} does not know",
        "truncated": f"{arm} was saying",
    }
    known: dict[str, Any] = {"question": question.id, "arm": arm, "effort": effort, "model": "", "server": ""}
    known |= {"request": "", "text": text.get(outcome, ""), "finish_reason": "stop"}
    ends: dict[str, dict[str, Any]] = {
        "truncated": {"finish_reason": "length"},
        "truncated-reasoning": {"finish_reason": "length"},
        "off-format": {"tool_calls": True},
        "refused": {"finish_reason": "content_filter"},
        "timeout": {"error": answers.TIMED_OUT},
        "error": {"error": "HTTP 502"},
    }
    known |= ends.get(outcome, {})
    return Reply(**(known | more))


def filed(replies: Iterable[Reply], questions: QuestionSet, asked: Meta) -> list[Answer]:
    """Graded, and each that is of nobody yet of the run's own servers, to the run's own requests."""
    known = {q.id: q for q in questions.questions}
    out = []
    for r in replies:
        if not r.server:
            server, found = asked.servers[r.arm], known.get(r.question)
            sent = request.digest(request.body(found, server.model, r.effort, asked.sampling)) if found else "0" * 16
            r = r.model_copy(update={"model": server.model, "server": server.id, "request": sent})
        out.append(answers.graded(known.get(r.question), r))
    return out


def none(_arm: str, _i: int) -> bool:
    return False


def both(questions: QuestionSet, wrong: Any = none, efforts: Sequence[Effort] = ("low",)) -> list[Reply]:
    """A reply of each arm to each question at each effort; `wrong(arm, i)` says which are wrong."""
    items = [(effort, i, q) for effort in efforts for i, q in enumerate(questions.questions)]
    return [reply(q, arm, effort, not wrong(arm, i)) for effort, i, q in items for arm in ARMS]


def flipped(
    questions: QuestionSet,
    lost: int,
    gained: int,
    *,
    base_right: int,
    effort: Effort = "low",
    silent: tuple[int, int] = (0, 0),
    missing: int = 0,
) -> list[Reply]:
    """`base_right` of base, and tuned as right but for what it `lost` and `gained`; the last `missing` without a reply.

    `silent`: of those that both got wrong, how many cannot be read from tuned, and from base.
    """
    out: list[Reply] = []
    quiet = base_right + gained  # from here on both are wrong
    for i, q in enumerate(questions.questions[: len(questions.questions) - missing]):
        mute: dict[str, Outcome] = {"tuned": "unparsed"} if quiet <= i < quiet + silent[0] else {}
        mute |= {"base": "unparsed"} if quiet + silent[0] <= i < quiet + sum(silent) else {}
        right = {"base": i < base_right, "tuned": lost <= i < quiet}
        out += [reply(q, arm, effort, right[arm], mute.get(arm, "answered")) for arm in ARMS]
    return out


class Some(NamedTuple):
    """Questions of one kind and split: base right at the first ones, tuned too but for what it lost and gained."""

    n: int
    base_right: int
    lost: int = 0
    gained: int = 0
    kind: str = "kind"
    split: Split = "held-out"
    guess: float = 0.0
    silent: int = 0  # of those that both got wrong, how many cannot be read from tuned


def several(*some: Some, efforts: Sequence[Effort] = ("low",)) -> tuple[QuestionSet, list[Reply]]:
    """One question set of them, and what both arms said at each effort."""
    rows = [(s, i) for s in some for i in range(s.n)]
    made = [question(k, s.kind, split=s.split, guess=s.guess, module=s.split) for k, (s, _) in enumerate(rows)]
    told = []
    for effort in efforts:
        for q, (s, i) in zip(made, rows, strict=True):
            quiet = s.base_right + s.gained <= i < s.base_right + s.gained + s.silent
            told.append(reply(q, "base", effort, i < s.base_right))
            right = s.lost <= i < s.base_right + s.gained
            told.append(reply(q, "tuned", effort, right, "unparsed" if quiet else "answered"))
    return QuestionSet(name="docs", python="3.11.7", questions=tuple(made)), told


def built(questions: QuestionSet, replies: Iterable[Reply], asked: Meta | None = None, **more: Any) -> report.Report:
    """The report on these replies, in memory."""
    replies, asked = list(replies), asked or asked_of(questions)
    efforts = {r.effort for r in replies}
    policy = Policy(**{name: more.pop(name) for name in Policy.model_fields.keys() & more.keys()})
    given = {"created": CREATED, "policy": policy, "efforts": sorted(efforts)} | more
    return report.build(questions, filed(replies, questions, asked), asked=asked, **given)


def evaluated(
    path: Path, questions_: QuestionSet, replies: Iterable[Reply], asked: Meta | None = None, **more: Any
) -> report.Report:
    """The same, and the files that `evalsuite compare` leaves: report.json as `path`, its proof beside it."""
    replies, asked = list(replies), asked or asked_of(questions_)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(report.ANSWERS)
    questions.write(path.with_name(report.QUESTIONS), questions_)
    file.write_bytes(b"".join(map(answers.line, filed(replies, questions_, asked))))
    made = built(questions_, replies, asked, **more)
    report.write(path, made)
    return made
