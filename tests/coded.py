"""Questions whose answers are code, for tests: one of each grader, and a set of some."""

import platform

import pytest

from evalsuite import sandbox
from evalsuite.questions import Code, Grader, Question, QuestionSet
from evalsuite.sandbox import Level

PYTHON = platform.python_version()
MODULES = ["textwrap", "base64", "heapq", "itertools", "statistics", "json"]


def shut() -> Level:
    if (found := sandbox.level()) not in sandbox.SHUT_IN:
        pytest.skip("no sandbox can be had here")
    return found


def asked(grader: Grader, source: str, value: str, answer: str) -> Question:
    code = Code(about="b64encode", source=source, value=value)
    return Question(id="q", kind="code", module="base64", prompt="p", answer=answer, grader=grader, code=code)


CALL = asked("call", "____.decode()", "'b3g='", "base64.b64encode(b'ox')")
PLAIN = asked("call", "____", "b'b3g='", "base64.b64encode(b'ox')")
FIX = asked("fix", "base64.b64encode(b'\\xfb', names=b'.-')", "b'.w=='", "base64.b64encode(b'\\xfb', altchars=b'.-')")
FIX2 = asked(
    "fix",
    "base64.b64decode(s='.w==', altchars=b'.-', check=True)",
    "b'\\xfb'",
    "base64.b64decode(s='.w==', altchars=b'.-', validate=True)",
)
DOCTEST = asked("doctest", "base64.b64encode(b'ox')", "b'b3g='", ">>> base64.b64encode(b'ox')\nb'b3g='")
SIGNATURE = Question(id="s", kind="k", module="m", prompt="p", answer="f(a, b=1, *, c='x', d=None)", grader="signature")


def frozen(*each: Question, python: str = PYTHON) -> QuestionSet:
    return QuestionSet(name="n", python=python, questions=each)
