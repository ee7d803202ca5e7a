"""Replies of every shape against the graders."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.questions import Grader, Question
from evalsuite.replies import normal
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
        ("my ANSWER: 70", None),
        ("the answer: 70", None),
        ("ANSWERS: 70", None),
        ("**Answer:** 70", "70"),
        ("**Answer**: 70.", "70"),
        ("__Answer:__ __init__", "__init__"),
        ("ANSWER:__init__", "__init__"),
        ("answer: 70", "70"),
        ("- ANSWER: 70", "70"),
        ("* **ANSWER:** 70", "70"),
        ("### ANSWER: 70", "70"),
        ("ANSWER : 70", "70"),
        ("\u200bANSWER:\u200b 70\u200b", "70"),
        ("ANSWER: `70.`", "70"),
        ("ANSWER: **`70.`**.", "70"),
        ("ANSWER: -1", "-1"),
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
        ("literal", "1000", "1,000", True),
        ("literal", "-1234567.5", "\u22121,234,567.5", True),
        ("literal", "1000", r"1{,}000", True),
        ("literal", "(1, 234)", "1,234", True),
        ("literal", "100", "1,00", False),
        ("literal", "1000", "1,000,0", False),
        ("literal", "12", "1,2", False),
        ("literal", "(1, 2)", "1,2", True),
        ("literal", "1000", "(1,000)", False),
        ("literal", "0", "0,000", False),
        ("literal", "1", "1.", False),
        ("literal", "70", r"\boxed{70}", True),
        ("literal", "70", r"$\boxed{\text{70}}$", True),
        ("literal", "70", "$$70$$", True),
        ("literal", "70", r"\(70\)", True),
        ("literal", "70", r"\boxed{70} or \boxed{71}", False),
        ("literal", "-1", "\u22121", True),
        ("literal", "1", "\u22121", False),
        ("literal", "'a'", "‘a’", True),
        ("literal", '"don\'t"', "“don’t”", True),
        ("literal", "['a', 'b']", "[“a”,\u00a0“b”]", True),
        ("literal", "'-'", "'\u2212'", False),
        ("literal", "'-'", "$'\u2212'$", False),
        ("literal", "'\u2212'", "$'\u2212'$", True),
        ("literal", "'ab'", "'a\u200bb'", False),
        ("literal", "70", "7\u200b0", True),
        ("literal", "1", "__import__('os').getpid()", False),
        ("exact", "a  b", " a b ", True),
        ("exact", "ValueError", "valueerror", False),
        ("exact", "read-until", "read\u2011until", True),
        ("exact", "read_until", r"read\_until", True),
        ("exact", "read_until", "read-until", False),
        ("exact", "a’b", "a’b", True),
        ("exact", "$x$", "$x$", True),
        ("exact", "x", "$x$", True),
        ("exact", "x", r"\texttt{x}", True),
        ("exact", "__init__", "__init__", True),
        ("exact", "-1", "1", False),
        ("choice", "B", r"\boxed{B}", True),
        ("choice", "B", r"$\text{(b)}$", True),
        ("choice", "B", r"\boxed{C}", False),
        ("yesno", "yes", r"\text{Yes.}", True),
        ("yesno", "no", "$yes$", False),
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
        "$" * 2000,
        "`." * 1000,
        "`." * 500 + " " * 1000,
        "\\" * 1999 + "_",
        "\\text{" * 330,
        "1" + ",000" * 499,
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


# What a model may put around an answer, one in another, and before its answer line.
AROUND = (
    "{}",
    "`{}`",
    "**{}**",
    "*{}*",
    "${}$",
    "$${}$$",
    r"\boxed{{{}}}",
    r"\text{{{}}}",
    r"\({}\)",
    "\u200b{}",
    " {} ",
    "{}.",
)
BEFORE = ("ANSWER: ", "**ANSWER:** ", "- ANSWER: ", "**Answer:** ", "Answer : ", "> ### answer:\u00a0")
TRUTHS = LITERALS.map(lambda value: ("literal", repr(value))) | st.sampled_from(
    [("exact", "read-until"), ("exact", "__init__"), ("exact", "ast.NodeVisitor"), ("choice", "B"), ("yesno", "no")]
)


def dressed(answer: str, around: list[str], before: str) -> str:
    for each in around:
        answer = each.format(answer)
    return f"so\n{before}{answer}"


@settings(max_examples=300, deadline=None)
@given(TRUTHS, TRUTHS, st.lists(st.sampled_from(AROUND), max_size=3), st.sampled_from(BEFORE))
def test_what_stands_around_an_answer_does_not_change_its_grade(truth, other, around, before) -> None:
    """Right stays right, and no value becomes another: neither signs within a string nor types are touched."""
    (grader, answer), (_, told) = truth, other
    asked = question(answer, grader)
    around = [each for i, each in enumerate(around) if each != "{}." or "{}." not in around[:i]]
    assert grade(asked, parse(dressed(answer, around, before))) == 1.0
    assert grade(asked, parse(dressed(told, around, before))) == grade(asked, told)


@settings(max_examples=300, deadline=None)
@given(LITERALS, LITERALS, st.sampled_from(AROUND))
def test_two_literals_are_never_one(truth, other, around) -> None:
    same = repr(truth) == repr(other) or (truth == other and _shape(truth, other))
    assert grade(question(repr(truth), "literal"), parse(dressed(repr(other), [around], "ANSWER: "))) == float(same)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("$`*.\\{}_text boxed1,0\u2212’“\u200b\u00a0", max_size=40))
def test_what_is_plain_stays_as_it_is(text: str) -> None:
    bare, plain = normal.undressed(text), normal.readings(text).plain
    assert normal.undressed(bare) == bare
    assert normal.readings(plain)[:3] == (plain, plain, plain)


def test_signs_that_python_has_a_word_for_are_no_others() -> None:
    """A dash is no minus, a prime no quote, and a grouped number one only in threes."""
    assert normal.readings("\u20131").plain == "\u20131"
    assert normal.readings("5′").plain == "5′"
    assert normal.readings("1,234,567").number == "1234567"
    assert normal.readings("1,2345").number is None


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
