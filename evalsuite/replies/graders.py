"""A model's reply to an answer, and an answer to a score. Pure.

A reply is data of any size and shape: it is cut before it is parsed and never run.
"""

import ast
import re
import warnings
from collections.abc import Callable, Hashable
from typing import Any

from evalsuite.questions import Grader, Question
from evalsuite.replies import normal
from evalsuite.replies.normal import LONGEST

VERSION = 2  # raised whenever a reply may be scored otherwise than before

_CHOICE = re.compile(r"\(?([A-Za-z])\)?(?:[).:]\s.*)?")


def parse(text: str) -> str | None:
    """What the last answer line says, without Markdown around it or one period after it; else None."""
    return normal.answer(text)


def lenient(text: str) -> str:
    """What a reply without an answer line seems to say: the end of its last line. Shown, never scored."""
    lines = [line for line in text.splitlines() if line.strip()]
    return normal.undressed(re.split(r"(?i)\banswer(?: is)?:?\s", lines[-1][-LONGEST:])[-1])[-200:] if lines else ""


def grade(question: Question, parsed: str | None) -> float:
    """1.0 when the parsed answer is right by the question's grader, else 0.0; None is wrong."""
    if parsed is None or len(parsed) > LONGEST:
        return 0.0
    read = _READERS[question.grader]
    truth = read(question.answer)
    return float(truth is not None and truth in _given(question.grader, parsed))


def meaning(question: Question) -> Hashable:
    """What its answer is to its grader: equal for answers that are the same in other spellings."""
    return question.grader, _READERS[question.grader](question.answer)


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


_READERS: dict[Grader, Callable[[str], Hashable | None]] = {
    "exact": _exact,
    "literal": _literal,
    "choice": _choice,
    "yesno": _yesno,
}
