"""A question with its answer, before it is a conversation: what every kind of example is made as.

Knows nothing about pages, efforts or messages.
"""

import calendar
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tune.recipe import Kind

# judged: by another model; given: somebody's row, taken as it is
Check = Literal["executed", "grounded", "inspected", "judged", "given"]

WORDS = 3  # an answer has at least so many
SENTENCES = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+")
# Headings that say which part of a document this is, and of what is for the document's own name to say: those of
# man-pages(7), and what guides call their parts.
ROLES = {
    "name", "synopsis", "description", "exit status", "return value", "notes", "caveats", "bugs", "example", "examples",
    "author", "authors", "copyright", "see also", "introduction", "overview", "summary", "background", "contents",
    "table of contents", "index", "usage",
}  # fmt: skip
_CODE = (
    re.compile(r"[^\W\d]\w*(?:[.:]+\w+)+|[^\W\d]\w*_\w*|_\w+|[^\WA-Z\d][^\WA-Z]*|\w*[^\WA-Z\d][A-Z]\w*"),  # a name
    re.compile(r"(?:new )?[\w.$#:]+\(.*\)"),  # a call
    re.compile(r"--?[A-Za-z?][^.?!]*"),  # an option
)
_PARTS = re.compile(r"\n\s*\n|\n\s*[-*] ")
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # kana and Han: written without spaces
_WORD = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]*[^\W\d_{_ALONE}][^\s{_ALONE}]*")
_DATES = {
    name.casefold()
    for names in (calendar.month_name, calendar.month_abbr, calendar.day_name, calendar.day_abbr)
    for name in names
}
_ELSEWHERE = re.compile(
    r"(?:for\b[^.]*, |also,? )?(?:please,? )?(?:see|refer to|consult|cf\.)\b"
    r"|[^.]*\b(?:has|have|was|were) (?:been )?moved\b",
    re.IGNORECASE,
)


class Fact(NamedTuple):
    """A question with its answer, and what the analysis may say: a claim, and the line of the page behind it."""

    kind: Kind
    check: Check
    question: str
    answer: str
    claim: str
    line: str
    value: str = ""  # of a short answer
    given: bool = False  # the passage stands in the question


def short(claim: str, value: str, line: str) -> tuple[str, str, str, str]:
    """The answer, claim, line and value of a fact with a short answer. The claim is for the analysis alone: a small
    model that has said it there and begins it again goes on as it did there, and ends before the answer line."""
    return f"ANSWER: {value}", claim, line, value


def named(title: str) -> str:
    """A heading in a question: what is code as code, all else in quotation marks, so that no heading is read as a part
    of the sentence around it."""
    inner = title.rstrip(".:").replace('"', "'")
    return f"`{title}`" if _code(title) else f'"{inner}"'


def full(title: str) -> bool:
    """Whether it says by itself what it is of: a dotted name."""
    return re.fullmatch(r"[^\W\d]\w*(?:\.\w+)+", title) is not None


def _code(title: str) -> bool:
    return any(form.fullmatch(title) for form in _CODE) and "`" not in title


def about(headings: Sequence[str], page: str) -> str:
    """What a section is about, in words that stand alone: its heading; unless that is a full name, those of its page
    and of what it lies in too. Empty when none of them names anything, as on a manual page without a name."""
    title = headings[-1]
    if title == page or page.casefold() in ROLES or full(title):
        return "" if title.casefold() in ROLES else named(title)
    above = "" if _code(title) else next(iter(headings[-2:-1]), "")
    if above and above != page and above.casefold() not in ROLES:
        return f"{named(title)} in {named(above)} of {named(page)}"
    return f"{named(title)} in {named(page)}"


def tells(text: str) -> bool:
    """Whether it says something itself: no mere date or type, and more than where else to look."""
    parts = [part for block in _PARTS.split(text) for part in SENTENCES.split(" ".join(block.split()))]
    said = [word for part in parts if not _ELSEWHERE.match(part) for word in _WORD.findall(part)]
    return len([word for word in said if word.strip("(.,;:)").casefold() not in _DATES]) >= WORDS


def sentence(text: str) -> str:
    """The first sentence, on one line, at most 200 characters."""
    flat = re.sub(r"\s+", " ", text).strip()
    cut = re.match(r".{10,198}?[.!?](?<!e\.g\.)(?<!i\.e\.)(?= |$)", flat)
    return cut[0] if cut else flat[:197] + ("..." if len(flat) > 197 else "")
