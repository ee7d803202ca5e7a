"""Answers that are code: what is right in which spellings, of a call, a signature, a doctest and a line made right."""

import inspect

import pytest
from coded import CALL, DOCTEST, FIX, FIX2, SIGNATURE, shut
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.code import inside, signature
from evalsuite.questions import Question
from evalsuite.replies import graders
from evalsuite.replies.graders import grade, parse


@pytest.mark.parametrize(
    ("question", "text", "right"),
    [
        (CALL, "ANSWER: base64.b64encode(b'ox')", True),
        (CALL, "**ANSWER:** `base64.b64encode(bytes([111, 120]))`.", True),
        (CALL, "ANSWER: (base64.b64encode)(s=b\u2018ox\u2019)", True),
        (CALL, "ANSWER: base64.b64encode(bytes(map(lambda c: c, b'ox')))", True),
        (CALL, "ANSWER: base64.b64encode(base64.b64decode('b3g='))", True),
        (CALL, "ANSWER: base64.b64encode(b'oy')", False),
        (CALL, "ANSWER: base64.b64encode('ox')", False),
        (CALL, "ANSWER: 'b3g='", False),
        (CALL, "ANSWER: base64.urlsafe_b64encode(b'ox')", False),
        (CALL, "ANSWER: base64.b64encode(b'') or b'b3g='", False),
        (CALL, "ANSWER: [base64.b64encode, b'b3g='][1]", False),
        (CALL, "ANSWER: b64encode(b'ox')", False),
        (CALL, "ANSWER: base64.b64encode(b'ox') # '", True),
        (CALL, "ANSWER: base64.b64encode(", False),
        (CALL, "ANSWER: base64.b64encode(" + "-" * 1900 + "1)", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', altchars=b'.-')", True),
        (FIX, 'ANSWER: base64.b64encode(b"\\xfb", altchars=b".-")', True),
        (FIX, "ANSWER: base64.b64encode(altchars=b'.-', s=b'\\xfb')", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', b'.-')", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', **{'altchars': b'.-'})", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', altchars=b'-.')", False),
        (FIX2, "ANSWER: base64.b64decode(validate=True, s='.w==', altchars=b'.-')", True),
        (FIX2, "ANSWER: base64.b64decode(s='.w==', altchars=b'.-')", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb', names=b'.-')", False),
        (FIX, "ANSWER: base64.b64encode(b'\\xfb')", False),
        (FIX, "ANSWER: b'.w=='", False),
        (DOCTEST, "So:\n```python\n>>> base64.b64encode(b'ox')\nb'b3g='\n```\nThat is all.", True),
        (DOCTEST, "```\n    >>> import base64\n    >>> base64.b64encode(b\"ox\")\n    b'b3g='\n```", True),
        (DOCTEST, "~~~pycon\n>>> from base64 import b64encode as e\n>>> e(b'ox')\nb'b3g='\n~~~", True),
        (DOCTEST, '```python\ndef f():\n    """\n    >>> base64.b64encode(b"ox")\n    b\'b3g=\'\n    """\n```', True),
        (DOCTEST, "```\n'''So:\n\n>>> base64.b64encode(b'ox')\nb'b3g='\n'''\n```", True),
        (DOCTEST, '```\nclass C:\n    """ >>> base64.b64encode(b"ox")\n    b\'b3g=\'\n    """\n    x = 1\n```', True),
        (DOCTEST, '```\n"""\n>>> base64.b64encode(b"ox")\nb\'b3h=\'\n"""\n```', False),
        (DOCTEST, '```\n"""\n>>> base64.b64encode(b"ox")\nb\'b3g=\'\n"""\ndef f(\n```', False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')\n'b3g='\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')\n...\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')  # doctest: +SKIP\nb'no'\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')  # doctest: +ELLIPSIS\nb'...'\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')  # doctest: +NORMALIZE_WHITESPACE\nb'b3g='\n```", True),
        (DOCTEST, "```\n>>> base64.b64encode('ox')\nTraceback (most recent call last):\nTypeError\n```", False),
        (DOCTEST, "```\n>>> base64.b64encode = lambda x: 1\n>>> base64.b64encode(b'ox')\n1\n```", False),
        (DOCTEST, "```\n>>> import os\n>>> base64.b64encode(b'ox')\nb'b3g='\n```", False),
        (DOCTEST, "```\nbase64.b64encode(b'ox')\n```", False),
        (DOCTEST, "ANSWER: base64.b64encode(b'ox')", None),
        (DOCTEST, "```\n>>> base64.b64encode(b'ox')\nb'b3g='", None),
        (SIGNATURE, "ANSWER: def f(a: int, b: int = 1, *, c: str = \"x\", d=None) -> None:", True),
        (SIGNATURE, "ANSWER: m.f(self, a, b=1, *, d=None, c='x')", True),
        (SIGNATURE, "ANSWER: `(a, b=1, *, c='x', d=None)`", True),
        (SIGNATURE, "ANSWER: f(b=1, a, *, c='x', d=None)", False),
        (SIGNATURE, "ANSWER: f(a, b=True, *, c='x', d=None)", False),
        (SIGNATURE, "ANSWER: f(a, b=1, c='x', d=None)", False),
        (SIGNATURE, "ANSWER: f(a, b=1, *, c='x', d=None, **more)", False),
        (SIGNATURE, "ANSWER: f(a, b=g(), *, c='x', d=None)", False),
        (SIGNATURE, "ANSWER: f(a): pass", False),
        (SIGNATURE, "ANSWER: f", False),
    ],
)  # fmt: skip
def test_right_in_other_spellings_and_nothing_else(question: Question, text: str, right: bool | None) -> None:
    if question.code:
        shut()
    parsed = parse(text, question.grader)
    assert (parsed is None) == (right is None)
    assert grade(question, parsed) == float(bool(right))
    assert bool(graders.ran(question, parsed)) == (right is False and question.code is not None)


def test_the_reason_says_what_a_doctest_was_read_as() -> None:
    shut()
    text = ">>> base64.b64encode(b'ox')\nb'b3g='\n\"\"\""  # the quotes close nothing: no docstring
    assert graders.ran(DOCTEST, text) == "the line gives b'b3g=', and the example says b'b3g='\n\"\"\""
    assert graders.ran(DOCTEST, ">>> base64.b64encode(b'ox')") == "the line gives b'b3g=', and the example says nothing"


NAME = st.sampled_from("abcde")
VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False)
)


@st.composite
def signatures(draw: st.DrawFn) -> inspect.Signature:
    p = inspect.Parameter
    names = draw(st.lists(NAME, unique=True, max_size=5))
    any_kind = st.sampled_from([p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY])
    kinds = sorted(draw(any_kind) for _ in names)
    kept = [p(name, kind) for name, kind in zip(names, kinds, strict=True)]
    least = draw(st.integers(0, 5))
    placed = [
        q if i < least or q.kind is p.KEYWORD_ONLY else q.replace(default=draw(VALUE)) for i, q in enumerate(kept)
    ]
    made = [q.replace(default=draw(VALUE)) if q.kind is p.KEYWORD_ONLY and draw(st.booleans()) else q for q in placed]
    return inspect.Signature(made)


@given(signatures(), signatures())
def test_a_signature_is_equal_to_itself_alone(one: inspect.Signature, other: inspect.Signature) -> None:
    q = SIGNATURE.model_copy(update={"answer": f"f{one}"})
    assert grade(q, f"def g{one}:") == 1.0
    parts = [(x.name, x.kind, repr(x.default)) for x in one.parameters.values()]
    others = [(x.name, x.kind, repr(x.default)) for x in other.parameters.values()]
    placed = [[x for x in each if x[1] != inspect.Parameter.KEYWORD_ONLY] for each in (parts, others)]
    assert grade(q, f"f{other}") == float(sorted(parts) == sorted(others) and placed[0] == placed[1])


@given(st.text(max_size=60))
def test_any_text_is_a_signature_or_none(text: str) -> None:
    for given_text in (text, f"f({text})"):
        found = signature.read(given_text, lambda source: source)
        assert found is None or (isinstance(found, inspect.Signature) and "(" in given_text)
        if (
            found and not {"self", "cls"} & found.parameters.keys()
        ):  # what was read can be written down, and is read again as it was
            bare = found.replace(
                parameters=[p.replace(default=inspect.Parameter.empty) for p in found.parameters.values()]
            )
            assert signature.read(f"f{bare}", lambda source: source) == bare


def test_a_question_has_code_where_it_is_run() -> None:
    for update in ({"code": None}, {"grader": "exact"}):
        with pytest.raises(ValueError, match="has code"):
            Question.model_validate(CALL.model_dump() | update)


def test_a_value_is_told_by_its_type() -> None:
    values = [1, True, 1.0, "1", b"1", (1,), [1], {1}, frozenset({1}), {1: 1}, {1: True}, None, float("nan"), ...]
    assert len({inside.typed(v) for v in values}) == len(values)
    assert inside.typed({2: 1, 1: {3, 20}}) == inside.typed({1: {20, 3}, 2: 1})

    class Same(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    for forged in (Same(1), [Same(1)], {"a": Same(1)}, type):
        with pytest.raises(ValueError, match="it is a"):
            inside.typed(forged)
