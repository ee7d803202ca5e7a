import pytest

from tune.data import docstring
from tune.data.block import Code, Fields, Prose

M = ("m",)


def prose(text, *headings):
    return Prose(headings=headings or M, text=text)


def code(text, language="", headings=M):
    return Code(headings=headings, language=language, text=text)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("One\ntwo.\n  \n    Three:\n      four.", [prose("One\ntwo."), prose("Three:\n  four.")]),
        (
            "Do:\n    >>> f(\n    ...   1)\n    2\n\n>>> 3\n3",
            [prose("Do:"), code(">>> f(\n...   1)\n2", "python"), code(">>> 3\n3", "python")],
        ),
        ("So::\n\n    a b\n\n      c d\n\n    x\n\nEnd.", [prose("So::"), code("a b\n\n  c d\n\nx"), prose("End.")]),
        ("So::\n\n\tx = 1\n\n        y = 2\n\nEnd.", [prose("So::"), code("x = 1\n\ny = 2", "python"), prose("End.")]),
        ("Is:\n\n   if a:\n      go()\n\nEnd.", [prose("Is:"), code("if a:\n   go()", "python"), prose("End.")]),
        ("Is:\n\n   a ::= b | c\n\nEnd.", [prose("Is:"), code("a ::= b | c"), prose("End.")]),
        (
            "Are:\n\n   - one\n\n   * two\n\n   Name\n\nEnd.",
            [prose("Are:"), prose("- one"), prose("* two"), prose("Name"), prose("End.")],
        ),
        (
            "Adds.\n\n:param int a: the\n    first\n:returns: sum\n\n:not: a field\nlist",
            [
                prose("Adds."),
                Fields(headings=M, pairs=(("param int a", "the first"), ("returns", "sum"))),
                prose(":not: a field\nlist"),
            ],
        ),
        ("  \n", []),
    ],
)
def test_blocks(text, blocks):
    assert list(docstring.read(text, M)) == blocks


def test_a_topic_has_the_headings_that_are_underlined():
    text = 'Top\n***\n\nOne.\n\nMid\n===\n\n   >>> 1\n   1\n\nLow\n"""\n\nTwo:\n\n   a = 1\n\nNext\n====\n\nThree.'
    assert docstring.read_topic(text, "t") == (
        prose("One.", "Top"),
        code(">>> 1\n1", "python", ("Top", "Mid")),
        prose("Two:", "Top", "Mid", "Low"),
        code("a = 1", "python", ("Top", "Mid", "Low")),
        prose("Three.", "Top", "Next"),
    )
    # All but the first line of what leads is indented, and yet it is no docstring.
    assert docstring.read_topic("Lead:\n\n   a = 1\n\nTop\n***\n\nOne.", "t") == (
        prose("Lead:", "t"),
        code("a = 1", "python", ("t",)),
        prose("One.", "t", "Top"),
    )
