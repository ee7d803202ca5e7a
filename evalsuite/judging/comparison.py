"""Base against tuned at one effort: answers in, figures out. Knows no file, no policy and no verdict.

Answers are paired by question. A question whose either side is an error, or absent, is counted as missing. Estimates
are over paired questions; bounds are over all that were asked, with every missing answer at its worst: they hold
whatever it would have been (worst-case bounds of C. F. Manski, American Economic Review 80 (1990) 319-323). An empty,
truncated or unparsed answer scores 0 and is counted as what it is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

from evalsuite.judging import statistics
from evalsuite.questions import Question
from evalsuite.replies.answers import Answer, Outcome
from tune import harmony
from tune.harmony import Effort

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
CONFIDENCE = 0.95  # of the two-sided intervals shown beside an accuracy
FLIPS_SHOWN = 20  # in each direction, an effort
TEXT_SHOWN = 600  # characters of an answer


class Part(BaseModel):
    """A part of a report: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(Part):
    """Tuned minus base, -1 to 1, with one-sided bounds at the report's alpha.

    `estimate` and `discordance` are over paired questions, 0 when nothing is paired. The bounds are over all questions:
    for `lower` a missing tuned answer is wrong and a missing base answer right, for `upper` the other way round.
    """

    estimate: float
    lower: float
    upper: float
    discordance: float  # share of the pairs that differ


class ArmFigures(Part):
    """One arm at one effort. Accuracy over paired questions, the rest over all its answers. Times in seconds.

    Tokens and times leave errors out, and are None when no answer carries them.
    """

    accuracy: float | None  # None when nothing is paired
    interval: tuple[float, float]  # Wilson, 95 %, two-sided
    outcomes: dict[Outcome, int]
    absent: int  # questions without any answer on file
    reasoning_tokens: float | None  # median
    completion_tokens: float | None  # median
    first_token: tuple[float, float] | None  # p50, p95
    first_answer: tuple[float, float] | None  # p50, p95: when a reader sees the first word of the answer
    tokens_per_second: float | None  # median of one request: completion tokens over its whole duration


class Flip(Part):
    """A question that one arm got right and the other did not. Texts are cut to 600 characters."""

    question: str
    kind: str
    prompt: str
    answer: str
    direction: Literal["lost", "gained"]  # lost: base right, tuned wrong
    base_outcome: Outcome
    tuned_outcome: Outcome
    base_text: str
    tuned_text: str


class KindRow(Part):
    """Accuracy on one kind of question, over its paired questions; None when nothing is paired."""

    kind: str
    asked: int
    paired: int
    base: float | None
    tuned: float | None
    difference: Difference


class Claim(NamedTuple):
    """What the gate asks of tuned at one effort: not to be worse in right answers, nor in answers that can be read."""

    effort: Effort
    name: Literal["accuracy", "answering"]
    words: str
    difference: Difference


class Comparison(Part):
    """Base against tuned at one effort."""

    effort: Effort
    asked: int
    paired: int
    missing: int
    base: ArmFigures
    tuned: ArmFigures
    difference: Difference  # of accuracy
    answering: Difference  # of the share of questions that got a parsed answer, right or wrong
    lost: int
    gained: int
    mcnemar_p: float  # two-sided, mid-p
    better_p: float  # one-sided, exact: tuned is better; missing answers at their worst
    guess: float  # mean chance of a blind guess
    base_above: float  # one-sided Wilson lower bound of base accuracy, at the report's alpha; a missing answer is wrong
    kinds: tuple[KindRow, ...]
    flips: tuple[Flip, ...]

    @property
    def claims(self) -> tuple[Claim, Claim]:
        return (
            Claim(self.effort, "accuracy", "right answers", self.difference),
            Claim(self.effort, "answering", "readable answers", self.answering),
        )


Pair = tuple[Question, Answer, Answer]  # base, tuned: both have a score
Sides = tuple[bool | None, bool | None]  # base, tuned: right, wrong, or missing


def compare(
    effort: Effort, questions: Sequence[Question], answers: Mapping[tuple[str, str, str], Answer], alpha: float
) -> Comparison:
    """Pair the answers of one effort and work out every figure. `answers` by `Answer.key`; other keys are ignored."""
    rows = [(q, answers.get((q.id, "base", effort)), answers.get((q.id, "tuned", effort))) for q in questions]
    base, tuned = [b for _, b, _ in rows if b], [t for _, _, t in rows if t]
    pairs = [(q, b, t) for q, b, t in rows if b and t and b.score is not None and t.score is not None]
    right = [(_right(b), _right(t)) for _, b, t in rows]
    lost, gained = _flipped(right)
    return Comparison(
        effort=effort,
        asked=len(rows),
        paired=len(pairs),
        missing=len(rows) - len(pairs),
        base=_figures(base, len(rows), [_score(b) for _, b, _ in pairs]),
        tuned=_figures(tuned, len(rows), [_score(t) for _, _, t in pairs]),
        difference=_difference(right, alpha),
        answering=_difference([(_readable(b), _readable(t)) for _, b, t in rows], alpha),
        lost=lost,
        gained=gained,
        mcnemar_p=statistics.mcnemar(lost, gained),
        better_p=statistics.better(*_flipped(_filled(right, base=True, tuned=False))),
        guess=fmean(q.guess for q in questions) if questions else 0.0,
        base_above=statistics.wilson(sum(b is True for b, _ in right), len(rows), alpha)[0],
        kinds=tuple(
            _kind(kind, [side for (q, _, _), side in zip(rows, right, strict=True) if q.kind == kind], alpha)
            for kind in sorted({q.kind for q in questions})
        ),
        flips=(*_flips(pairs, "lost"), *_flips(pairs, "gained")),
    )


def _score(answer: Answer) -> float:
    if answer.score is None:
        raise ValueError(f"{answer.key} has no score")
    return answer.score


def _right(answer: Answer | None) -> bool | None:
    return None if answer is None or answer.score is None else answer.score > 0


def _readable(answer: Answer | None) -> bool | None:
    return None if answer is None or answer.score is None else answer.outcome == "answered"


def _filled(sides: Sequence[Sides], *, base: bool, tuned: bool) -> list[Sides]:
    """With every missing answer of an arm taken to be what is given."""
    return [(base if b is None else b, tuned if t is None else t) for b, t in sides]


def _flipped(sides: Sequence[Sides]) -> tuple[int, int]:
    """How many were lost and gained, of those with both sides."""
    return sum(s == (True, False) for s in sides), sum(s == (False, True) for s in sides)


def _difference(sides: Sequence[Sides], alpha: float) -> Difference:
    n, paired, (lost, gained) = len(sides), sum(None not in s for s in sides), _flipped(sides)
    worst, best = _filled(sides, base=True, tuned=False), _filled(sides, base=False, tuned=True)
    return Difference(
        estimate=(gained - lost) / max(paired, 1),
        lower=statistics.tango_bounds(*_flipped(worst), n, alpha)[0],
        upper=statistics.tango_bounds(*_flipped(best), n, alpha)[1],
        discordance=(lost + gained) / max(paired, 1),
    )


def _figures(answers: Sequence[Answer], asked: int, scores: Sequence[float]) -> ArmFigures:
    heard = [a for a in answers if a.outcome != "error"]
    counts = Counter(a.outcome for a in answers)
    lengths = [a.completion_tokens for a in heard if a.completion_tokens]
    rates = [a.completion_tokens / a.total_s for a in heard if a.total_s and a.completion_tokens]
    return ArmFigures(
        accuracy=fmean(scores) if scores else None,
        interval=statistics.wilson(round(sum(scores)), len(scores), (1 - CONFIDENCE) / 2),
        outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
        absent=asked - len(answers),
        reasoning_tokens=median(map(_reasoning_tokens, heard)) if heard else None,
        completion_tokens=median(lengths) if lengths else None,
        first_token=_p50_p95([a.first_token_s for a in heard]),
        first_answer=_p50_p95([a.first_answer_s for a in heard]),
        tokens_per_second=median(rates) if rates else None,
    )


def _reasoning_tokens(answer: Answer) -> int:
    """As the server counted them; where it did not, the reasoning is counted in the harmony vocabulary."""
    return answer.reasoning_tokens or (len(harmony.encode(answer.reasoning)) if answer.reasoning else 0)


def _p50_p95(seconds: Sequence[float | None]) -> tuple[float, float] | None:
    known = [s for s in seconds if s is not None]
    if not known:
        return None
    p50, p95 = statistics.percentiles(known, 50, 95)
    return p50, p95


def _kind(kind: str, sides: Sequence[Sides], alpha: float) -> KindRow:
    paired = [side for side in sides if None not in side]
    base, tuned = zip(*paired, strict=True) if paired else ((), ())
    return KindRow(
        kind=kind,
        asked=len(sides),
        paired=len(paired),
        base=fmean(base) if paired else None,
        tuned=fmean(tuned) if paired else None,
        difference=_difference(sides, alpha),
    )


def _flips(pairs: Sequence[Pair], direction: Literal["lost", "gained"]) -> list[Flip]:
    found = [p for p in pairs if (_score(p[2]) < _score(p[1]) if direction == "lost" else _score(p[2]) > _score(p[1]))]
    return [
        Flip(
            question=q.id,
            kind=q.kind,
            prompt=_cut(q.prompt),
            answer=_cut(q.answer),
            direction=direction,
            base_outcome=b.outcome,
            tuned_outcome=t.outcome,
            base_text=_cut(b.text),
            tuned_text=_cut(t.text),
        )
        for q, b, t in found[:FLIPS_SHOWN]
    ]


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]} […{len(text) - TEXT_SHOWN} more characters]"
