"""What a reference work is asked: what raises, what changed in which version, what an entry means."""

import pytest

from tune.data import html, reference
from tune.data.block import Admonition, Code, Fields, Prose, Section, Table, sections
from tune.data.fact import Fact

F = "shop.open"


def made(*blocks, title: str = F, page: str = "shop") -> list[Fact]:
    return list(reference.facts(page, Section((page, title), tuple(blocks))))


def prose(text: str, title: str = F) -> Prose:
    return Prose(headings=("shop", title), text=text)


def fields(*pairs: tuple[str, str]) -> Fields:
    return Fields(headings=("shop", F), pairs=pairs)


def table(*rows: tuple[str, ...]) -> Table:
    return Table(headings=("shop", F), rows=rows)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Opens it. If it is shut, `DoorError` is raised. Then it waits.", "If it is shut, `DoorError` is raised."),
        ("Raise `shop.DoorError` if there is no door.", "Raise `shop.DoorError` if there is no door."),
        ("`DoorError` is raised if shut (e.g. at night).", "`DoorError` is raised if shut (e.g. at night)."),
        ("Raises DoorError if shut. Raises DoorError at 9.", "Raises DoorError if shut. Raises DoorError at 9."),
    ],
)  # fmt: skip
def test_what_raises_is_told_in_the_pages_own_sentences(text, answer):
    [fact] = made(prose(text))
    assert (fact.kind, fact.check) == ("raises", "grounded")
    assert (fact.question, fact.answer) == ("When does `shop.open` raise `DoorError`?", answer)


@pytest.mark.parametrize(
    "text",
    [
        "`DoorError` is not raised if it is shut.",
        "It no longer raises `DoorError` for a shut door.",
        "You should raise `DoorError` if it is shut.",
        "If the door raises a `DoorError`, it is caught and printed.",
        "Only valid once the call has raised a `DoorError` before.",
        "Otherwise it will raise a `DoorError`.",
        "It raises `DoorError` or `LockError` as it likes.",  # when which?
        "Changed in version 2: raises `DoorError` if it is shut.",
        "A `DoorError` says that it is shut.",
        "It raises `DoorError` in these cases:",
    ],
)
def test_what_is_no_condition_of_an_exception_is_not_asked(text):
    assert [f for f in made(prose(text)) if f.kind == "raises"] == []


def test_only_what_has_a_full_name_raises():
    text = "If it is shut, `DoorError` is raised."
    assert made(prose(text, "Doors and windows"), title="Doors and windows") == []


def test_a_field_list_says_what_raises_and_goes_before_sentences():
    told = fields(
        ("Parameters", "door -- the one to open"), ("Raises", "DoorError -- If it is shut.\nKeyError -- None.")
    )
    facts = [f for f in made(prose("At night `DoorError` is raised."), told) if f.kind == "raises"]
    assert [(f.question, f.answer) for f in facts] == [
        ("Which exceptions does `shop.open` raise, and when?", "DoorError -- If it is shut.\nKeyError -- None.")
    ]
    assert facts[0].claim == "It raises `DoorError` and `KeyError`."
    assert [f.answer for f in made(fields(("Raises DoorError", "If it is shut.")))] == ["DoorError: If it is shut."]
    assert [f for f in made(fields(("Raises", "DoorError in these cases:"))) if f.kind == "raises"] == []


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("New in version 3.2.", "In which version was `shop.open` added?", "ANSWER: 3.2"),
        ("Added in version 8.0", "In which version was `shop.open` added?", "ANSWER: 8.0"),
        ("Deprecated since version 3.12, will be removed in version 3.14.",
         "Since which version is `shop.open` deprecated?", "ANSWER: 3.12"),
        ("Changed in version 3.8: The *door* may be None.",
         "What does the documentation of `shop.open` say was changed in version 3.8?", "The *door* may be None."),
        ("New in version 2.1: The *lock* itself.", "What did version 2.1 add to `shop.open`?", "The *lock* itself."),
        ("Deprecated since version 3.12, removed in 3.14: Use `enter` for it.",
         "What does the documentation of `shop.open` say was deprecated in version 3.12?", "Use `enter` for it."),
    ],
)  # fmt: skip
def test_versions(text, question, answer):
    [fact] = made(prose(text))
    assert (fact.kind, fact.question, fact.answer) == ("version", question, answer)


def test_what_one_version_changed_is_one_answer():
    texts = ["Changed in version 3.8: The door may be None.", "Changed in version 3.8: It is faster now."]
    [fact] = made(*map(prose, texts))
    assert fact.answer == "The door may be None.\n\nIt is faster now."
    twice = [prose(f"Changed in version 3.8: The door may be None{end}") for end in (", see below.", ".")]
    assert [f.answer for f in made(*twice)] == ["The door may be None, see below."]
    assert [f.answer for f in made(prose("Deprecated since version 2: This argument is deprecated."))] == ["ANSWER: 2"]
    assert made(prose("New in version 2."), prose("New in version 3.")) == []  # which of them?
    assert made(prose("Changed in version 3.8.")) == []
    assert made(prose("The version 3 is new.")) == []


def test_a_note_may_say_it_too():
    [fact] = made(Admonition(headings=("shop", F), title="Changed in version 1.5", text="It is faster now."))
    assert fact.answer == "It is faster now."


def test_entries_of_lists_of_terms_and_parameters():
    told = fields(
        ("`--verbose`", "Say more of what is done."),
        ("Parameters", "door -- the one that is opened\nlock -- if it is locked then"),
        ("Returns", "whether it was open before"),
        ("Return type", "a bool or None"),
        ("https://shop.example", "A shop of many doors."),
        ("deep : bool, default False", "Look into the door."),
        ("short", "One word"),
        ("open end", "There are these doors:"),
    )
    assert [(f.question, f.answer) for f in made(told)] == [
        ("What does `--verbose` mean? (`shop.open`)", "Say more of what is done."),
        ("What does the documentation of `shop.open` say about the parameter `door`?", "the one that is opened"),
        ("What does the documentation of `shop.open` say about the parameter `lock`?", "if it is locked then"),
        ("What does `shop.open` return?", "whether it was open before"),
        ("What does `deep` mean? (`shop.open`)", "Look into the door."),
    ]
    assert made(fields(("same", "One of the two."), ("same", "The other of them."))) == []
    assert made(prose("See also"), fields(("shop.shut", "The other way round."))) == []


def test_a_field_without_text_is_a_label_of_the_list_below_it():
    """As numpy's style comes out of HTML."""
    parts = {
        "Parameters": ("door : str, optional", "The one that is opened."), "Returns": ("bool", "Whether it was open."),
        "Raises": ("DoorError", "If there is no such door."), "Yields": ("int", "One after the other."),
    }  # fmt: skip
    blocks = [block for label, pair in parts.items() for block in (fields((label, "")), fields(pair))]
    assert [(f.question, f.answer) for f in made(*blocks)] == [
        ("Which exceptions does `shop.open` raise, and when?", "DoorError: If there is no such door."),
        ("What does the documentation of `shop.open` say about the parameter `door`?", "The one that is opened."),
        ("What does `shop.open` return?", "bool: Whether it was open."),
    ]


def test_a_term_in_words_is_a_topic_and_half_a_sentence_none():
    told = fields(
        ("Checking the door", "It is best done by night."), ("--wait SECONDS", "Stay so long at it."),
        ("In other words this warning is there to say that it", "is open."),
    )  # fmt: skip
    assert [f.question for f in made(told)] == [
        'What does the documentation say about "Checking the door"? (`shop.open`)',
        "What does `--wait SECONDS` mean? (`shop.open`)",
    ]


def test_rows_of_a_table_column_by_column():
    told = table(
        ("Action", "Meaning", "Since"), ("`open`", "Opens the door wide", "2"), ("shut", "Shuts the door again", "")
    )
    assert [(f.question, f.answer) for f in made(told)] == [
        ("What does the table say about `open`? (`shop.open`)", "Meaning: Opens the door wide\nSince: 2"),
        ("What does the table say about `shut`? (`shop.open`)", "Meaning: Shuts the door again"),
    ]
    assert made(table(("Action", "A row of no head."), ("open", "Opens the door wide"))) == []
    assert made(table(("A", "B"), ("x", "X"), ("y", "X"))) == []  # crosses alone say nothing
    assert made(table(("A", "B"), ("x", "One of the two"), ("x", "The other of them"))) == []
    many = table(("Code", "Meaning"), *((f"c{i}", f"The code of number {i}") for i in range(500)))
    asked = [f.question for f in made(many)]
    assert (len(asked), asked[0][-18:], "c458" in asked[-1]) == (reference.ROWS, "`c0`? (`shop.open`)"[-18:], True)


def test_a_heading_that_is_no_full_name_is_asked_with_its_page():
    [fact] = made(prose("New in version 2.", "Doors"), title="Doors", page="The shop")
    assert fact.question == 'In which version was "Doors" in "The shop" added?'


def test_real_html_of_sphinx():
    page = html.parse(
        "<html><head><title>shop</title></head><body><div role=main><h1>shop</h1><dl class='py function'>"
        "<dt class='sig' id='shop.open'><span class='sig-name descname'>open</span>(door)</dt><dd><p>Open it.</p>"
        "<div class='versionadded'><p><span class='versionmodified added'>New in version 3.2.</span></p></div>"
        "<dl class='field-list simple'><dt>Raises</dt><dd><p><strong>DoorError</strong> – If it is shut.</p></dd></dl>"
        "</dd></dl></div></body></html>"
    )
    facts = [f for s in sections(page.blocks) for f in reference.facts(page.title, s)]
    assert [(f.kind, f.answer) for f in facts] == [("raises", "DoorError – If it is shut."), ("version", "ANSWER: 3.2")]
    assert made(Code(headings=("shop", F), text="open(door)")) == []
