"""PDF: files made by hand of text at places, and the blocks that are found in them."""

import pytest
from papers import pdf

from tune.data.block import Code, Item, List, Prose, Table
from tune.data.formats.pdf import read

A = ("Guide",)
TITLE = (72, 120, "bold", 24, "Guide")


def lines(x, y, *texts, font="body", size=10, step=12):
    return [(x, y + i * step, font, size, text) for i, text in enumerate(texts)]


def blocks(*pages):
    return list(read(pdf(*pages), "a").blocks)


def prose(text, *headings):
    return Prose(headings=headings or A, text=text)


def test_headings_are_larger_letters_and_paragraphs_lie_apart():
    page = [
        TITLE,
        *lines(72, 160, "First line of it", "and its second."),
        *lines(72, 200, "Another."),
        (72, 230, "bold", 16, "Install it"),
        *lines(72, 260, "How to."),
        (72, 300, "bold", 16, "Use it"),
        *lines(72, 330, "Words."),
    ]
    assert blocks(page) == [
        prose("First line of it and its second."),
        prose("Another."),
        prose("How to.", "Guide", "Install it"),
        prose("Words.", "Guide", "Use it"),
    ]


def test_code_keeps_its_indentation_and_empty_lines_and_is_marked_within_a_line():
    page = [
        TITLE,
        *lines(72, 160, "Words that are read before the code here."),
        *lines(72, 190, "def f(a):", "    if a:", font="code"),
        *lines(72, 226, "    return a  # (x)", font="code"),
        (72, 290, "bold", 16, "Then"),
        (120, 290, "code", 16, "g(2)"),
        (72, 320, "body", 10, "\u2022 with"),
        (110, 320, "code", 10, "h(3)"),
        (72, 260, "body", 10, "Call"),
        (95, 260, "code", 10, "f(1)"),
        (123, 260, "body", 10, "now, and see what it gives."),
    ]
    assert blocks(page)[1:] == [
        Code(headings=A, text="def f(a):\n    if a:\n\n    return a  # (x)"),
        prose("Call `f(1)` now, and see what it gives."),
        List(headings=("Guide", "Then g(2)"), items=(Item(0, "-", "with `h(3)`"),)),
    ]


def test_a_ruled_table_is_one_and_a_frame_around_code_is_none():
    rules = [("rule", 72, y, 272, y) for y in (180, 200, 220)] + [("rule", x, 180, x, 220) for x in (72, 172, 272)]
    cells = [(76, 194, "body", 10, "Name"), (176, 194, "body", 10, "What for"), (76, 214, "body", 10, "a"),
             (176, 214, "body", 10, "first one")]  # fmt: skip
    frame = [("rule", 72, y, 272, y) for y in (250, 265, 280)] + [("rule", x, 250, x, 280) for x in (72, 272)]
    page = [TITLE, *lines(72, 160, "Before."), *rules, *cells, *frame, *lines(80, 262, "x = 1", "y = 2", font="code"),
            *lines(72, 310, "After all that comes this.")]  # fmt: skip
    assert blocks(page) == [
        prose("Before."),
        Table(headings=A, rows=(("Name", "What for"), ("a", "first one"))),
        Code(headings=A, text="x = 1\ny = 2"),
        prose("After all that comes this."),
    ]


def test_lists_are_lists():
    page = [TITLE, *lines(72, 160, "\u2022 one that goes"), *lines(82, 172, "on here"), *lines(72, 190, "2. two"),
            *lines(72, 220, "Words that stand after the list.")]  # fmt: skip
    assert blocks(page) == [
        List(headings=A, items=(Item(0, "-", "one that goes on here"),)),
        List(headings=A, items=(Item(0, "2.", "two"),)),
        prose("Words that stand after the list."),
    ]


def test_a_word_that_a_line_s_end_cuts_is_whole_and_a_hyphen_of_its_own_stays():
    page = [TITLE, *lines(72, 160, "A docu-", "ment is well-", "known, as a well-known one is.")]
    assert blocks(page) == [prose("A document is well-known, as a well-known one is.")]


def test_running_heads_feet_and_page_numbers_go_and_a_paragraph_goes_on_over_the_page():
    def page(number, *texts):
        head = (72, 40, "body", 9, "My book" if number % 2 else f"Chapter {'one' if number < 4 else 'two'}")
        return [head, *lines(72, 300, *texts), *lines(72, 600, "x" * 9), (300, 770, "body", 9, f"Page {number} of 6")]

    made = [
        page(n, f"Text {chr(64 + n)} number and so on, which goes", f"on and on {chr(96 + n)} then.")
        for n in range(1, 7)
    ]
    text = "\n".join(block.text for block in read(pdf(*made), "a").blocks)
    assert "Page" not in text
    assert "My book" not in text
    assert "Chapter" not in text
    assert all(f"Text {letter}" in text for letter in "ABCDEF")


def test_two_columns_are_read_one_after_the_other():
    left = [f"left {i} has words that fill the column well" for i in range(12)]
    right = [f"right {i} has words that fill the column too" for i in range(12)]
    page = [(72, 100, "bold", 24, "Guide"), *lines(60, 160, *left, size=11), *lines(316, 160, *right, size=11)]
    text = " ".join(block.text for block in blocks(page))
    assert text == " ".join(left + right)


def test_dots_of_a_table_of_contents_are_no_text():
    page = [
        TITLE,
        *lines(72, 160, "1 Install . . . . . . . . . 12", "2 Use ............ 13"),
        *lines(72, 200, "Words."),
    ]
    assert blocks(page) == [prose("Words.")]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no pdf", "no PDF, or a broken one"),
        (pdf([TITLE])[:200], "no PDF, or a broken one|no text"),
        (pdf([TITLE], encrypted=True), "encrypted: it needs a password"),
        (pdf([], [], picture=True), "no text: scanned\\? run OCR first"),
        (pdf([]), "no text"),
    ],
)
def test_what_cannot_be_read_is_a_reason_in_one_line(data, why, capfd):
    with pytest.raises(ValueError, match=why) as e:
        read(data, "a")
    assert "\n" not in str(e.value)
    assert capfd.readouterr() == ("", "")


def test_the_library_s_complaints_reach_nobody(caplog):
    page = [("raw", "/P0 g"), (72, 100, "body", 10, "Words.")]
    assert blocks(page)[0].text == "Words."
    assert caplog.records == []


def test_the_title_of_a_file_without_headings_is_its_name():
    assert read(pdf(lines(72, 160, "Words.")), "my-file").title == "my file"
