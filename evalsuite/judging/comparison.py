"""Base against tuned at one effort, on one split: answers in, figures out. Knows no file and no verdict.

Answers are paired by question; judging/paired.py says what becomes of repeats and of what is missing. An empty,
truncated or unparsed answer scores 0 and is counted as what it is. Splits are never mixed: a question is in one of
them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Literal, NamedTuple, get_args

from pydantic import Field

from evalsuite.judging import blind, kinds, means, paired, statistics
from evalsuite.judging.flips import Flip, flips
from evalsuite.judging.kinds import KindRow
from evalsuite.judging.paired import Asked, Difference, Group, Lacking, Part
from evalsuite.questions import Question, Split
from evalsuite.replies.answers import Answer, Arm, Key, Outcome
from tune import harmony
from tune.section import EffortName

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
CONFIDENCE = 0.95  # of the two-sided intervals shown beside an accuracy


Repeats = Sequence[Answer | None]  # of an arm, to one question
Five = tuple[float, float, float, float, float]  # p5, p25, p50, p75, p95


class Spread(Part):
    """Where the times of one arm's replies lie, in seconds; None when no reply carries one."""

    first_token: Five | None
    first_answer: Five | None
    total: Five | None


class ArmFigures(Part):
    """One arm at one effort. Accuracy over paired questions, of the answers that came, and so its interval; the rest
    over all its answers. Times in seconds.

    Tokens and times leave errors out, and are None when no answer carries them.
    """

    accuracy: float | None  # None when nothing is paired
    interval: tuple[float, float]  # 95 %, two-sided: Wilson's; of repeats by means.py
    outcomes: dict[Outcome, int]  # of answers
    absent: int  # answers that are not on file
    reasoning_tokens: float | None  # median
    completion_tokens: float | None  # median
    first_token: tuple[float, float] | None  # p50, p95
    first_answer: tuple[float, float] | None  # p50, p95: when a reader sees the first word of the answer
    spread: Spread
    tokens_per_second: float | None  # median of one request: completion tokens over its whole duration


class Claim(NamedTuple):
    """What the gate asks of tuned at one effort: not to be worse in right answers, nor in answers that can be read."""

    effort: EffortName
    name: Literal["accuracy", "answering", "forgetting"]
    words: str
    difference: Difference
    asked: int  # questions that it is about
    lacking: Lacking
    without: tuple[str, ...] = ()  # kinds that it is not about: base is not shown to do more than guess there
    base: float | None = None  # right answers to those questions; None of readable ones, and when nothing is paired
    tuned: float | None = None


class Comparison(Part):
    """Base against tuned at one effort, on the questions of one split."""

    split: Split = "held-out"
    effort: EffortName
    repeats: int = Field(default=1, exclude_if=lambda count: count == 1)  # answers to each question, of each arm
    modules: int  # that the questions are about: what is bounded is bounded for others like them
    asked: int
    paired: int  # questions to which both arms have an answer
    missing: int  # questions to which an arm lacks one; of repeats any one, so some of these are paired
    missing_answers: int = Field(default=0, exclude_if=lambda count: count == 0)  # of asked x repeats; 0 of one each
    base: ArmFigures
    tuned: ArmFigures
    difference: Difference  # of accuracy
    answering: Difference  # of the share of questions that got a parsed answer, right or wrong
    lost: int
    gained: int
    mcnemar_p: float  # two-sided, mid-p
    better_p: float  # one-sided: tuned is better; missing answers at their worst
    guess: float  # mean chance of being right without reading the question (judging/blind.py)
    guessing_p: float  # one-sided: tuned does more than that; missing answers are wrong
    below_p: float = Field(default=1.0, exclude_if=lambda p: p == 1)  # it does less; missing answers are right
    base_above: float  # one-sided Wilson lower bound of base accuracy, at the report's alpha; a missing answer is wrong
    kinds: tuple[KindRow, ...]
    known: Group | None  # the kinds at which base does not only guess; None when there is none
    open_book: Group | None  # the kinds whose passage stands in the prompt; None when there is none
    flips: tuple[Flip, ...]

    @property
    def whole(self) -> Group:
        """All questions, as a group of them."""
        same = {name: getattr(self, name) for name in Group.model_fields}
        return Group(**same | {"base": self.base.accuracy, "tuned": self.tuned.accuracy})

    @property
    def guessed(self) -> tuple[str, ...]:
        """The kinds at which base only guesses."""
        return tuple(row.kind for row in self.kinds if row.only_guesses)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Right answers where base does more than guess, of all where it does nothing else; readable ones of all, but
        not of general questions: one that cannot be read is forgotten too."""
        about, without = (self.known, self.guessed) if self.known else (self.whole, ())
        told = (about.difference, about.asked, about.lacking, without, about.base, about.tuned)
        if self.split == "general":
            return (Claim(self.effort, "forgetting", "right answers to general questions", *told),)
        return (
            Claim(self.effort, "accuracy", "right answers", *told),
            Claim(self.effort, "answering", "readable answers", self.answering, self.asked, self.whole.lacking),
        )


def compare(
    effort: EffortName,
    questions: Sequence[Question],
    answers: Mapping[Key, Answer],
    *,
    alpha: float,
    margin: float,
    split: Split = "held-out",
    repeats: int = 1,
) -> Comparison:
    """Pair the answers of one effort to the questions of one split, and work out every figure.

    `answers` by `Answer.key`; other keys and other splits' questions are ignored. By `margin` base has to beat
    guessing at a kind of question, or it only guesses there.

    Of `repeats` an arm's side of a question is the mean, and those that did not come count as paired.py says.
    """
    mine = [q for q in questions if q.split == split]
    base, tuned = told(effort, mine, answers, repeats)
    seen, heard = paired_up(mine, base, tuned)
    both = [one.sides for one in seen if None not in one.sides]
    pairs = [
        (q, _like(b, one.sides[0]), _like(t, one.sides[1]))
        for q, one, b, t in zip(mine, seen, base, tuned, strict=True)
        if None not in one.sides
    ]
    whole, by_kind = paired.group(seen, alpha), kinds.rows(seen, alpha, margin)
    return Comparison(
        split=split,
        effort=effort,
        repeats=repeats,
        modules=len({q.module for q in mine}),
        asked=whole.asked,
        paired=whole.paired,
        missing=whole.missing,
        missing_answers=whole.missing_answers,
        base=_figures(base, [b for b, _ in both if b is not None]),
        tuned=_figures(tuned, [t for _, t in both if t is not None]),
        difference=whole.difference,
        answering=paired.difference(heard, alpha),
        lost=whole.lost,
        gained=whole.gained,
        mcnemar_p=whole.mcnemar_p,
        better_p=whole.better_p,
        guess=whole.guess,
        guessing_p=whole.guessing_p,
        below_p=whole.below_p,
        base_above=paired.base_above(seen, alpha),
        kinds=by_kind,
        known=kinds.known(seen, by_kind, alpha),
        open_book=kinds.open_book(seen, alpha),
        flips=flips(pairs, by_kind),
    )


def told(
    effort: EffortName, questions: Sequence[Question], answers: Mapping[Key, Answer], repeats: int
) -> tuple[list[Repeats], list[Repeats]]:
    """What base, and what tuned, said to each of the questions."""

    def of(arm: Arm) -> list[Repeats]:
        return [[answers.get((q.id, arm, effort, n)) for n in range(repeats)] for q in questions]

    return of("base"), of("tuned")


def paired_up(
    questions: Sequence[Question], base: Sequence[Repeats], tuned: Sequence[Repeats]
) -> tuple[list[Asked], list[Asked]]:
    """The questions of one split with both arms' answers to them: as right ones, and as readable ones."""
    each = zip(questions, blind.chances(questions), base, tuned, strict=True)
    seen = [_asked(Asked(q.kind, q.module, chance, (None, None)), paired.right, b, t) for q, chance, b, t in each]
    return seen, [_asked(one, paired.readable, b, t) for one, b, t in zip(seen, base, tuned, strict=True)]


def _asked(one: Asked, flag: Callable[[Answer | None], bool | None], base: Repeats, tuned: Repeats) -> Asked:
    b, t = tuple(map(flag, base)), tuple(map(flag, tuned))
    return one._replace(sides=(paired.side(b), paired.side(t)), repeats=(b, t) if len(b) > 1 else None)


def _like(answers: Sequence[Answer | None], side: float | None) -> Answer:
    """The first answer that is as most of them are, to be shown."""
    return next(a for a in answers if a and a.score is not None and bool(a.score) == paired.mostly(side or 0.0))


def _figures(asked: Sequence[Sequence[Answer | None]], scores: Sequence[float]) -> ArmFigures:
    """`asked`: the answers to each question. `scores`: of the paired ones."""
    answers, repeats = [a for each in asked for a in each if a], max(map(len, asked), default=1)
    heard = [a for a in answers if not a.error]
    counts = Counter(a.outcome for a in answers)
    lengths = [a.completion_tokens for a in heard if a.completion_tokens]
    rates = [a.completion_tokens / a.total_s for a in heard if a.total_s and a.completion_tokens]
    spread = Spread(
        first_token=_five([a.first_token_s for a in heard]),
        first_answer=_five([a.first_answer_s for a in heard]),
        total=_five([a.total_s for a in heard]),
    )
    return ArmFigures(
        accuracy=fmean(scores) if scores else None,
        interval=_interval(scores, (1 - CONFIDENCE) / 2, once=repeats == 1),
        outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
        absent=sum(map(len, asked)) - len(answers),
        reasoning_tokens=median(map(reasoning_tokens, heard)) if heard else None,
        completion_tokens=median(lengths) if lengths else None,
        first_token=_p50_p95(spread.first_token),
        first_answer=_p50_p95(spread.first_answer),
        spread=spread,
        tokens_per_second=median(rates) if rates else None,
    )


def _interval(scores: Sequence[float], alpha: float, *, once: bool) -> tuple[float, float]:
    if once:
        return statistics.wilson(round(sum(scores)), len(scores), alpha)
    return means.lower(scores, alpha, 0.0), 1 - means.lower([1 - score for score in scores], alpha, 0.0)


def reasoning_tokens(answer: Answer) -> int:
    """As the server counted them; where it did not, the reasoning is counted in the harmony vocabulary."""
    return answer.reasoning_tokens or (len(harmony.encode(answer.reasoning)) if answer.reasoning else 0)


def _five(seconds: Sequence[float | None]) -> Five | None:
    known = [s for s in seconds if s is not None]
    if not known:
        return None
    p5, p25, p50, p75, p95 = statistics.percentiles(known, 5, 25, 50, 75, 95)
    return p5, p25, p50, p75, p95


def _p50_p95(at: Five | None) -> tuple[float, float] | None:
    return (at[2], at[4]) if at else None
