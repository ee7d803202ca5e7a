"""Strangers' text on a terminal: nothing in it is a command, and no row is wider than its column."""

import re

from hypothesis import given
from hypothesis import strategies as st

from tune.screen import BETWEEN, Line, beside, column, escaped, one_line, width, wrap

ODD = list("\x1b\x9b\r\n\t\u202e\u2066\u200b\ufeff\x00\ud800\xa0 日Ａé\u0301🙂")
WILD = st.lists(st.sampled_from(ODD) | st.characters(), max_size=60).map("".join)


def bare(text: str) -> str:
    return re.sub(r"[ \n]", "", text)


@given(WILD)
def test_nothing_reaches_the_terminal_but_what_can_be_seen(text: str) -> None:
    shown = escaped(text)
    assert all(c == "\n" or c.isprintable() for c in shown)
    shown.encode()  # no lone surrogate
    assert escaped(shown) == shown
    assert all(c.isprintable() for c in one_line(text, 20))


@given(WILD, WILD)
def test_a_stream_may_be_cut_anywhere(first: str, second: str) -> None:
    assert escaped(first + second) == escaped(first) + escaped(second)


def test_what_is_harmless_stays_as_it_is() -> None:
    assert escaped("def f():\n\treturn 'é 日本 🙂'") == "def f():\n    return 'é 日本 🙂'"
    assert escaped("a\xa0b\u202fc") == "a b c"
    assert [width(c) for c in "a é日Ａ🙂\u0301"] == [1, 1, 1, 2, 2, 2, 0]
    assert escaped("\x1b[31mred\x07\r\u202e") == r"\x1b[31mred\x07\r\u202e"


@given(WILD.map(escaped), st.integers(2, 40))
def test_rows_fit_and_no_word_is_lost(text: str, columns: int) -> None:
    rows = wrap(text, columns)
    assert all(width(row) <= columns and "\n" not in row for row in rows)
    assert bare("".join(rows)) == bare(text)
    assert len(rows) >= text.count("\n") + 1


def test_rows_break_at_spaces_and_keep_the_indent_of_code() -> None:
    assert wrap("one two three", 8) == ["one two", "three"]
    assert wrap("one two", 7) == ["one two"]
    assert wrap("    x = 1\n\ny", 20) == ["    x = 1", "", "y"]
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrap("日本語", 4) == ["日本", "語"]


LINES = st.lists(WILD.map(escaped).map(lambda t: Line(wrap(t, 18)[0], "dim")), max_size=6)


@given(LINES, LINES)
def test_two_columns_stand_straight_and_stay_in_the_terminal(left: list[Line], right: list[Line]) -> None:
    total = 40
    assert column(total) == 18
    rows = beside([left, right], column(total), lambda line: line.text)
    assert len(rows) == max(len(left), len(right))
    for n, row in enumerate(rows):
        assert width(row) < total
        if n < len(right) and right[n].text:
            at = len(row) - len(right[n].text)
            assert row.endswith(BETWEEN + right[n].text)
            assert width(row[:at]) == 18 + len(BETWEEN)
