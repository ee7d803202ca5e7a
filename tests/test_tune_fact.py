"""How a question names what it is about, and which answers say something."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.data import fact


@pytest.mark.parametrize(
    ("headings", "page", "said"),
    [
        (("Quick start", "Remote repositories"), "Quick start", '"Remote repositories" in "Quick start"'),
        (("Quick start",), "Quick start", '"Quick start"'),
        (("FAQ", "Security", "Is it safe?"), "FAQ", '"Is it safe?" in "Security" of "FAQ"'),
        (("Files", "Writing", "fs.writeSync(fd, text)"), "Files", '`fs.writeSync(fd, text)` in "Files"'),
        (("Files", "Notes", "On Windows"), "Files", '"On Windows" in "Files"'),  # the part in between names nothing
        (("API", "shop.door.open"), "API", "`shop.door.open`"),
        (("Options", "--dry-run, -n"), "Options", '`--dry-run, -n` in "Options"'),
        (("Errors", "ERR_TOO_LATE"), "Errors", '`ERR_TOO_LATE` in "Errors"'),
        (("Width",), "The shelf", '"Width" in "The shelf"'),  # a title that no heading says
        (("1.4.2",), "Changes", '"1.4.2" in "Changes"'),
        (("SYNOPSIS", "DESCRIPTION"), "SYNOPSIS", ""),
        (("SYNOPSIS", "The lock"), "SYNOPSIS", '"The lock"'),
        (("A sentence as a heading.",), "A sentence as a heading.", '"A sentence as a heading"'),
    ],
)
def test_a_section_is_named_by_what_tells_it_apart(headings, page, said):
    assert fact.about(headings, page) == said


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("Opens the door.", True),
        ("Released: Sat Apr 11 2009", False),
        ("October 5, 2009", False),
        ("Released on 5 October 2009", False),
        ("- Returns: {boolean}", False),
        ("- Extends: {tls.Server}\n\nSee `http.Server` for more information.", False),
        ("See the user guide. For more, see also the cookbook.", False),
        ("For contributors, please see https://example.org/graphs", False),
        ("The documentation for this class has moved to `Store`.", False),
        ("It is no global. See `module`.", True),
        ("Seen from above it is a door.", True),
        ("\u5b83\u6253\u5f00\u95e8\u3002", True),  # "it opens the door", in Han, without a space
        ("", False),
    ],
)
def test_an_answer_says_something_itself(text, tells):
    assert fact.tells(text) is tells


def test_a_sentence_does_not_end_in_an_abbreviation():
    assert fact.sentence("A sign, e.g. a comma. Or none.") == "A sign, e.g. a comma."


@given(st.text(), st.text(min_size=1))
def test_no_text_is_too_strange(text, title):
    assert isinstance(fact.tells(text), bool)
    assert len(fact.sentence(text)) <= 200
    assert title.rstrip(".:").replace('"', "'") in fact.named(title).replace('"', "'")
