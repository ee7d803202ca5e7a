"""A model's reply to an answer, and an answer to a score.

A reply is data of any size and shape: it is cut before it is parsed. It is never run, but for answers that are code, in
a sandbox (evalsuite/code); all else is pure.
"""

import ast
import platform
import re
import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from evalsuite.code import answer, execution, signature
from evalsuite.questions import Grader, Question, QuestionSet
from evalsuite.replies import normal
from evalsuite.replies.normal import LONGEST
from tune.errors import UserError

VERSION = 2  # raised whenever a reply may be scored otherwise than before

_CHOICE = re.compile(r"\(?([A-Za-z])\)?(?:[).:]\s.*)?")


def parse(text: str, grader: Grader = "exact") -> str | None:
    """What the last answer line says, without Markdown around it or one period after it; else None. Of a doctest what
    the last code fence holds."""
    return normal.fenced(text) if grader == "doctest" else normal.answer(text)


def said(grader: Grader, answer: str) -> str:
    """How a reply ends that gives this answer."""
    return f"```\n{answer}\n```" if grader == "doctest" else f"ANSWER: {answer}"


def lenient(text: str) -> str:
    """What a reply without an answer line seems to say: the end of its last line. Shown, never scored."""
    lines = [line for line in text.splitlines() if line.strip()]
    return normal.undressed(re.split(r"(?i)\banswer(?: is)?:?\s", lines[-1][-LONGEST:])[-1])[-200:] if lines else ""


def grade(question: Question, parsed: str | None) -> float:
    """1.0 when the parsed answer is right by the question's grader, else 0.0; None is wrong."""
    if parsed is None or len(parsed) > LONGEST:
        return 0.0
    if question.code:
        return float(answer.verdict(question, question.code, _spellings(parsed)).right)
    read = _READERS[question.grader]
    truth = read(question.answer)
    return float(truth is not None and truth in _given(question.grader, parsed))


def ran(question: Question, parsed: str | None) -> str:
    """What running said of an answer that is wrong; "" for a right one, and where nothing is run."""
    if question.code is None or parsed is None or len(parsed) > LONGEST:
        return ""
    return answer.verdict(question, question.code, _spellings(parsed)).log


def prepare(asked: Iterable[tuple[Question, str | None]]) -> None:
    """Run what grading these will run, several at once and each distinct program once. Raises UserError where no
    sandbox shuts code in."""
    each = [(q, q.code, parsed) for q, parsed in asked if q.code and parsed is not None and len(parsed) <= LONGEST]
    if each:
        programs = (answer.program(q, code, _spellings(parsed)) for q, code, parsed in each)
        execution.run(p for p in programs if p)


def require(questions: QuestionSet) -> None:
    """Raise UserError where answers have to be run and cannot be, or would be by another Python than asked about."""
    if not any(q.code for q in questions.questions):
        return
    execution.require()
    about, here = questions.python, platform.python_version()
    if about and about.split(".")[:2] != here.split(".")[:2]:
        raise UserError(
            "answers that are code would be run by another Python than they are about",
            why=f"the questions were made for Python {about}, and this is {here}",
            fix=f"run evalsuite with Python {'.'.join(about.split('.')[:2])}, or make them anew: evalsuite questions",
        )


def meaning(question: Question) -> Hashable:
    """What its answer is to its grader: equal for answers that are the same in other spellings."""
    if question.code:
        return question.grader, question.module, question.code.source, question.code.value
    return question.grader, _READERS[question.grader](question.answer)


def _spellings(parsed: str) -> tuple[str, ...]:
    return normal.readings(parsed)[:3]


def _given(grader: Grader, parsed: str) -> list[Hashable]:
    """What an answer says to a grader. A text is any of its readings. A value is the first that is one at all, so that
    no sign within a literal is changed; and `1,000`, to Python a tuple, is also the number that prose means by it."""
    read, told = _READERS[grader], normal.readings(parsed)
    number = [read(told.number)] if told.number else []
    said = [value for each in told[:3] if (value := read(each)) is not None]
    return [*(said if grader == "exact" else said[:1]), *number]


def _literal(value: str) -> Hashable | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in a model's string is no news of ours
            return _typed(ast.literal_eval(value.strip()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _typed(value: Any) -> Hashable:
    """A key that is equal for equal values of equal types, so that 1, True and 1.0 differ."""
    name = type(value).__name__
    if isinstance(value, list | tuple):
        return (name, *map(_typed, value))
    if isinstance(value, set):
        return (name, frozenset(map(_typed, value)))
    if isinstance(value, dict):
        return (name, frozenset((_typed(k), _typed(v)) for k, v in value.items()))
    return (name, repr(value)) if isinstance(value, float | complex) else (name, value)  # repr: nan equals itself


def _choice(value: str) -> Hashable | None:
    found = _CHOICE.fullmatch(value.strip())
    return found[1].upper() if found else None


def _yesno(value: str) -> Hashable | None:
    word = value.strip().casefold()
    return word if word in {"yes", "no"} else None


def _exact(value: str) -> Hashable | None:
    return " ".join(value.split())


def _signature(value: str) -> Hashable | None:
    return signature.read(value, _literal)


_READERS: dict[Grader, Callable[[str], Hashable | None]] = {
    "exact": _exact,
    "literal": _literal,
    "choice": _choice,
    "yesno": _yesno,
    "signature": _signature,
}
