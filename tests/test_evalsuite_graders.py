"""Replies of every shape against the graders."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.questions import Grader, Question
from evalsuite.replies.graders import grade, lenient, parse


def question(answer: str, grader: Grader) -> Question:
    return Question(id="q", kind="k", module="m", prompt="p", answer=answer, grader=grader)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("so\nANSWER: 70", "70"),
        ("ANSWER: 1\nno, wait\nANSWER: 2", "2"),
        ("**ANSWER: `70`**.", "70"),
        ("**ANSWER:** B.", "B"),
        ("`ANSWER: b'a.'`", "b'a.'"),
        ("> ANSWER: x\n\nI hope this helps!", "x"),
        ("ANSWER: ...", "..."),
        ("ANSWER: '*'", "'*'"),
        ("ANSWER: 70\r\n", "70"),
        ("ANSWER: 1\nANSWER:\n", "1"),
        ("The answer is 70.", None),
        ("answer: 70", None),
        ("my ANSWER: 70", None),
        ("ANSWER:", None),
        ("", None),
    ],
)
def test_parse(text: str, parsed: str | None) -> None:
    assert parse(text) == parsed


def test_lenient_reads_what_parse_refuses() -> None:
    assert lenient("Well.\nThe answer is `70`.\n\n") == "70"
    assert lenient(" \n") == ""
    assert len(lenient("x" * 10_000_000)) == 200


@pytest.mark.parametrize(
    ("grader", "truth", "given", "right"),
    [
        ("literal", "1", "True", False),
        ("literal", "1", "1.0", False),
        ("literal", "True", "1", False),
        ("literal", "1.0", "1.00", True),
        ("literal", "0.0", "-0.0", False),
        ("literal", "{1, 2, 3}", "{3, 2, 1}", True),
        ("literal", "{1}", "{True}", False),
        ("literal", "{'a': 1, 'b': [2]}", "{'b': [2], 'a': 1}", True),
        ("literal", "{'a': 1}", "{'a': True}", False),
        ("literal", "[1, 2]", "(1, 2)", False),
        ("literal", "[1, 2]", "[2, 1]", False),
        ("literal", "'ab'", '"ab"', True),
        ("literal", "'ab'", "b'ab'", False),
        ("literal", "None", "none", False),
        ("literal", "'a'", "a", False),
        ("literal", "1", "__import__('os').getpid()", False),
        ("exact", "a  b", " a b ", True),
        ("exact", "ValueError", "valueerror", False),
        ("choice", "B", "(b)", True),
        ("choice", "B", "B) a property", True),
        ("choice", "B", "B or C", False),
        ("choice", "B", "Bad", False),
        ("yesno", "yes", "Yes", True),
        ("yesno", "yes", "no", False),
        ("yesno", "yes", "yes and no", False),
    ],
)
def test_grade(grader: Grader, truth: str, given: str, right: bool) -> None:
    assert grade(question(truth, grader), given) == float(right)


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 900 + "]" * 900,
        "[" * 150 + "]" * 150,
        "-" * 1999 + "1",
        "~" * 1999 + "1",
        "9" * 1999,
        "9" * 10_000_000,
        "1+" * 900 + "1j",
        "{[]}",
        "{{}: 1}",
        "'\\d'",
        "'\0'",
        "\ud800",
        "1if 1else 2",
    ],
)
def test_hostile_answers_are_wrong_and_harmless(hostile: str) -> None:
    assert grade(question("1", "literal"), hostile) == 0.0


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    | st.tuples(inner, inner),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(LITERALS, LITERALS)
def test_a_literal_is_right_exactly_when_value_and_types_agree(truth: object, other: object) -> None:
    asked = question(repr(truth), "literal")
    assert grade(asked, parse(f"so\nANSWER: {truth!r}")) == 1.0
    assert grade(asked, repr(other)) == float(repr(truth) == repr(other) or (truth == other and _shape(truth, other)))


def _shape(a: object, b: object) -> bool:
    """Equal in type at every place, for values that are equal."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return all(_shape(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return all(_shape(x, y) for x, y in zip(a, b, strict=True))
    return not isinstance(a, float) or repr(a) == repr(b)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["exact", "literal", "choice", "yesno"]))
def test_any_text_parses_and_grades_without_error(text: str, grader: Grader) -> None:
    for reply in (text, f"ANSWER: {text}"):
        parsed = parse(reply)
        assert parsed is None or (parsed and parsed.strip() == parsed)
        assert grade(question("B", grader), parsed) in {0.0, 1.0}
        lenient(reply)
