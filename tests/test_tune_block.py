import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tune.data.block import Admonition, Code, Fields, Item, List, Prose, Table, fenced, render, sections

A, B = ("A",), ("A", "B")


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Prose(headings=A, text="One `two`."), "One `two`."),
        (Code(headings=A, language="sh", text="a\n\nb"), "```sh\na\n\nb\n```"),
        (Table(headings=A, rows=(("a | b", "1\n2"), ("", "c"))), "| a \\| b | 1<br>2 |\n|  | c |"),
        (Fields(headings=A, pairs=(("a", "b"), ("c", "d\ne"), ("f", ""))), "a: b\nc:\nd\ne\nf:"),
        (List(headings=A, items=(Item(0, "9.", "a\nb"), Item(1, "-", "c"))), "9. a\n   b\n  - c"),
        (Admonition(headings=A, title="Note", text="Mind."), "Note: Mind."),
    ],
)
def test_a_block_as_markdown(block, text):
    assert block.render() == text


def test_sections_are_neighbours_under_one_path_and_headings_stand_again_where_text_goes_on():
    blocks = [
        Prose(headings=path, text=text) for path, text in ((A, "1"), (B, "2"), (B, "3"), (A, "4"), (("C", "B"), "5"))
    ]
    assert [(s.title, len(s.blocks)) for s in sections(blocks)] == [("A", 1), ("B", 2), ("A", 1), ("B", 1)]
    assert render(blocks).split("\n\n") == ["# A", "1", "## B", "2", "3", "# A", "4", "# C", "## B", "5"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="#`a \n>\r\u2028<|", max_size=60))
def test_a_fence_is_longer_than_any_in_the_code(text):
    first, *_, last = fenced(text, "python").split("\n")
    assert first == last + "python"
    assert last not in text
    assert set(last) == {"`"}


@pytest.mark.parametrize("fields", [{"headings": A, "text": " \n"}, {"headings": (), "text": "a"}])
def test_a_block_needs_a_heading_and_something_to_say(fields):
    with pytest.raises(ValidationError):
        Prose(**fields)
