"""Base against tuned at one effort: answers in, figures out. Knows no file, no policy and no verdict.

Answers are paired by question. A question whose either side is an error, or absent, has no score: it is left out
and counted as missing. An empty, truncated or unparsed answer scores 0 and is counted as what it is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from evalsuite import statistics
from evalsuite.answers import Answer, Outcome
from evalsuite.questions import Question
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
    """Tuned minus base, -1 to 1, with one-sided bounds at the report's alpha; 0 and (-1, 1) when nothing is paired."""

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
    """Accuracy on one kind of question."""

    kind: str
    paired: int
    base: float
    tuned: float
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
    better_p: float  # one-sided, exact: tuned is better
    guess: float  # mean chance of a blind guess
    base_above: float  # one-sided Wilson lower bound of base accuracy, at the report's alpha
    kinds: tuple[KindRow, ...]
    flips: tuple[Flip, ...]


Pair = tuple[Question, Answer, Answer]  # base, tuned: both have a score


def compare(
    effort: Effort, questions: Sequence[Question], answers: Mapping[tuple[str, str, str], Answer], alpha: float
) -> Comparison:
    """Pair the answers of one effort and work out every figure. `answers` by `Answer.key`; other keys are ignored."""
    base = [a for q in questions if (a := answers.get((q.id, "base", effort)))]
    tuned = [a for q in questions if (a := answers.get((q.id, "tuned", effort)))]
    pairs: list[Pair] = []
    for q in questions:
        b, t = (answers.get((q.id, arm, effort)) for arm in ("base", "tuned"))
        if b and t and b.score is not None and t.score is not None:
            pairs.append((q, b, t))
    steps = [_score(t) - _score(b) for _, b, t in pairs]
    lost, gained = sum(d < 0 for d in steps), sum(d > 0 for d in steps)
    right = sum(_score(b) > 0 for _, b, _ in pairs)
    answering = [float(t.outcome == "answered") - float(b.outcome == "answered") for _, b, t in pairs]
    return Comparison(
        effort=effort,
        asked=len(questions),
        paired=len(pairs),
        missing=len(questions) - len(pairs),
        base=_figures(base, len(questions), [_score(b) for _, b, _ in pairs]),
        tuned=_figures(tuned, len(questions), [_score(t) for _, _, t in pairs]),
        difference=_difference(steps, alpha),
        answering=_difference(answering, alpha),
        lost=lost,
        gained=gained,
        mcnemar_p=statistics.mcnemar(lost, gained),
        better_p=statistics.better(lost, gained),
        guess=fmean(q.guess for q, _, _ in pairs) if pairs else 0.0,
        base_above=statistics.wilson(right, len(pairs), alpha)[0],
        kinds=tuple(_kind(kind, pairs, alpha) for kind in sorted({q.kind for q, _, _ in pairs})),
        flips=(*_flips(pairs, "lost"), *_flips(pairs, "gained")),
    )


def _score(answer: Answer) -> float:
    if answer.score is None:
        raise ValueError(f"{answer.key} has no score")
    return answer.score


def _difference(steps: Sequence[float], alpha: float) -> Difference:
    """`steps`: tuned minus base of each pair, each -1, 0 or 1."""
    if not steps:
        return Difference(estimate=0, lower=-1, upper=1, discordance=0)
    n, lost, gained = len(steps), sum(d < 0 for d in steps), sum(d > 0 for d in steps)
    lower, upper = statistics.tango_bounds(lost, gained, n, alpha)
    return Difference(estimate=(gained - lost) / n, lower=lower, upper=upper, discordance=(lost + gained) / n)


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
    import numpy as np

    known = [s for s in seconds if s is not None]
    return (float(np.quantile(known, 0.5)), float(np.quantile(known, 0.95))) if known else None


def _kind(kind: str, pairs: Sequence[Pair], alpha: float) -> KindRow:
    base, tuned = zip(*((_score(b), _score(t)) for q, b, t in pairs if q.kind == kind), strict=True)
    return KindRow(
        kind=kind,
        paired=len(base),
        base=fmean(base),
        tuned=fmean(tuned),
        difference=_difference([t - b for b, t in zip(base, tuned, strict=True)], alpha),
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
