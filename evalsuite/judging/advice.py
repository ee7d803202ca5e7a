"""Free-text answers, which are advice beside a verdict: the key points that each arm tells, and in how many words.

Decides nothing. The share of points alone rewards who says much: the words stand beside it, and so do false claims. An
answer that an error kept away is missing; an empty one tells nothing and is counted.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from evalsuite.judging.excerpt import cut
from evalsuite.judging.paired import Part
from evalsuite.questions import Question
from evalsuite.replies import points
from evalsuite.replies.answers import Answer, Arm, Item, first
from evalsuite.replies.answers import digest as digest_of
from tune.section import EffortName

TEXT_SHOWN = 2400  # characters of a prompt or an answer


class Seen(Part):
    """One key point, or false claim, and whether each arm's answer has it; None without an answer."""

    says: str
    false: bool
    base: bool | None
    tuned: bool | None


class Told(Part):
    """One question, both answers, and their points. Longer texts are cut, of both ends."""

    question: str
    prompt: str
    base: str | None
    tuned: str | None
    points: tuple[Seen, ...]


class ArmAdvice(Part):
    """One arm at one effort, over the questions that it answered: `answers` of them."""

    answers: int
    points: float | None  # mean share of key points found, 0 to 1; None without answers
    false: int  # false claims
    words: float | None  # mean length of an answer
    cut: int  # answers that max_tokens ended


class AdviceRow(Part):
    """One effort."""

    effort: EffortName
    asked: int
    base: ArmAdvice
    tuned: ArmAdvice
    told: tuple[Told, ...]


class Advice(Part):
    """Beside the gate: no figure of it is looked at by a check."""

    answers_digest: str  # of the free-text replies that count
    rows: tuple[AdviceRow, ...]  # one an effort


def advice(questions: Sequence[Question], answers: Sequence[Answer], efforts: Sequence[EffortName]) -> Advice | None:
    """None without questions of that split. `answers`: those that count, to them; of repeats the first is looked at."""
    if not questions:
        return None
    heard = first(a for a in answers if not a.error)
    return Advice(answers_digest=digest_of(answers), rows=tuple(_row(e, questions, heard) for e in efforts))


def _row(effort: EffortName, questions: Sequence[Question], heard: Mapping[Item, Answer]) -> AdviceRow:
    return AdviceRow(
        effort=effort,
        asked=len(questions),
        base=_arm("base", effort, questions, heard),
        tuned=_arm("tuned", effort, questions, heard),
        told=tuple(_told(q, heard.get((q.id, "base", effort)), heard.get((q.id, "tuned", effort))) for q in questions),
    )


def _arm(arm: Arm, effort: EffortName, questions: Sequence[Question], heard: Mapping[Item, Answer]) -> ArmAdvice:
    mine = [(q, a) for q in questions if (a := heard.get((q.id, arm, effort)))]
    shares, false = [], 0
    for q, a in mine:
        has = list(zip(q.points, points.found(a.text, q.points), strict=True))
        wanted = [told for point, told in has if not point.false]
        shares += [sum(wanted) / len(wanted)] if wanted else []
        false += sum(told for point, told in has if point.false)
    return ArmAdvice(
        answers=len(mine),
        points=fmean(shares) if shares else None,
        false=false,
        words=fmean(points.words(a.text) for _, a in mine) if mine else None,
        cut=sum(a.finish_reason == "length" for _, a in mine),
    )


def _told(q: Question, base: Answer | None, tuned: Answer | None) -> Told:
    sides = [points.found(a.text, q.points) if a else (None,) * len(q.points) for a in (base, tuned)]
    return Told(
        question=q.id,
        prompt=cut(q.prompt, TEXT_SHOWN),
        base=cut(base.text, TEXT_SHOWN) if base else None,
        tuned=cut(tuned.text, TEXT_SHOWN) if tuned else None,
        points=tuple(
            Seen(says=p.says, false=p.false, base=b, tuned=t) for p, b, t in zip(q.points, *sides, strict=True)
        ),
    )
