"""Why replies failed: a small sample of each arm at each effort, whatever split they are of. Decides nothing.

Error texts are a server's, and replies a model's: both are cut, and what looks like a key is left out.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from pydantic import Field

from evalsuite.judging.excerpt import cut, without_secrets
from evalsuite.judging.paired import Part
from evalsuite.replies.answers import ARMS, Answer, Arm, Outcome
from tune.section import EffortName

ERRORS_SHOWN = 5  # texts, an arm and effort
SHOWN = 200  # characters of a text

# Times and long numbers differ from one error to the next of the same cause.
_NUMBERS = re.compile(r"\d+\.\d+|\d{4,}")


class ErrorText(Part):
    """What so many errors or timeouts said, or running so many wrong answers that are code."""

    text: str  # at most 200 characters
    count: int


class Example(Part):
    """So many replies had this outcome; what one of them said, and where, cut to 200 characters."""

    outcome: Outcome
    count: int
    question: str
    said: Literal["text", "refusal", "reasoning", "nothing"]
    text: str


class Failures(Part):
    """What went wrong with one arm's replies at one effort."""

    arm: Arm
    effort: EffortName
    errors: tuple[ErrorText, ...]  # the most frequent first, at most 5
    other_errors: int  # that say something else
    replies: tuple[Example, ...]  # of each outcome without an answer that there was, as Outcome has them in order
    code: tuple[ErrorText, ...] = Field(default=(), exclude_if=lambda said: not said)  # of wrong answers that are code


def failures(answers: Iterable[Answer], efforts: Sequence[EffortName]) -> tuple[Failures, ...]:
    """One for each effort and arm at which something went wrong; examples are the first by the question's id."""
    failed = sorted((a for a in answers if a.outcome != "answered" or a.ran), key=lambda a: a.question)
    mine = {
        (effort, arm): [a for a in failed if (a.effort, a.arm) == (effort, arm)] for effort in efforts for arm in ARMS
    }
    return tuple(_failures(arm, effort, found) for (effort, arm), found in mine.items() if found)


def _failures(arm: Arm, effort: EffortName, failed: Sequence[Answer]) -> Failures:
    errors, code = _grouped(a.error for a in failed), _grouped(a.ran for a in failed)
    unanswered = [a for a in failed if not a.error and not a.ran]
    replies = {outcome: [a for a in unanswered if a.outcome == outcome] for outcome in get_args(Outcome)}
    return Failures(
        arm=arm,
        effort=effort,
        errors=errors[:ERRORS_SHOWN],
        other_errors=sum(e.count for e in errors[ERRORS_SHOWN:]),
        replies=tuple(_example(outcome, found) for outcome, found in replies.items() if found),
        code=code[:ERRORS_SHOWN],
    )


def _grouped(said: Iterable[str]) -> tuple[ErrorText, ...]:
    """Texts that differ in numbers alone together, the most frequent first."""
    texts: dict[str, list[str]] = {}
    for text in (without_secrets(each, SHOWN) for each in said if each):
        texts.setdefault(_NUMBERS.sub("#", text), []).append(text)
    groups = sorted(texts.values(), key=lambda same: (-len(same), same[0]))
    return tuple(ErrorText(text=same[0], count=len(same)) for same in groups)


def _example(outcome: Outcome, found: Sequence[Answer]) -> Example:
    """The first that said anything."""
    told = next((a for a in found if _said(a)[1]), found[0])
    where, text = _said(told)
    return Example(
        outcome=outcome,
        count=len(found),
        question=told.question,
        said=where,
        text=without_secrets(cut(text, SHOWN), 2 * SHOWN),
    )


def _said(answer: Answer) -> tuple[Literal["text", "refusal", "reasoning", "nothing"], str]:
    if answer.text.strip():
        return "text", answer.text
    if answer.refusal.strip():
        return "refusal", answer.refusal
    return ("reasoning", answer.reasoning) if answer.reasoning.strip() else ("nothing", "")
