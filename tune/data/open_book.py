"""Page -> open-book questions: the passage that holds the answer stands in the prompt, so a reader needs no memory.

In: pages of any source. Out: facts with a short answer that can be checked, each in two forms that share no wording:
"train" for examples to learn from, "ask" for questions. Deterministic for a page. Knows nothing about models, tokens
or files; code of pages that have a url is never run.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from tune.data import open_kinds, open_rows, open_sections, passage, sessions
from tune.data.block import fenced, sections
from tune.data.open_kinds import Check, Fact, Grader
from tune.data.page import Page
from tune.recipe import Open

Form = Literal["train", "ask"]


class Asked(NamedTuple):
    """A question about `passage`, worded for one form. `answer` is one line of at most 60 characters; `claim` says it
    in a sentence; `line` is the passage's line that shows it, empty for open-silent; `guess` is a blind one's chance.
    """

    kind: Open
    page: str
    module: str
    heading: str
    passage: str
    question: str
    answer: str
    grader: Grader
    claim: str
    line: str
    check: Check
    guess: float


def asked(page: Page, *, form: Form) -> Iterator[Asked]:
    """What a page can be asked. Both forms give the same facts in the same order."""
    for fact in _facts(page):
        question = fact.questions[form == "ask"]
        yield Asked(
            fact.kind, page.id, page.module, fact.heading, fact.passage, question,
            fact.answer, fact.grader, fact.claim, fact.line, fact.check, fact.guess,
        )  # fmt: skip


def prompt(one: Asked, form: Form) -> str:
    """The user's message: the passage and then the question, or the question and then the passage, quoted."""
    may_be_silent = one.kind in {"open-default", "open-value", "open-silent"}
    if form == "train":
        rule = f"\nIf the passage does not say, answer {open_kinds.SILENT}." if may_be_silent else ""
        return f"Passage:\n{fenced(one.passage)}\n\n{one.question}{rule}"
    rule = f"\nWhere the text gives no answer, reply: {open_kinds.SILENT}." if may_be_silent else ""
    quoted = "\n".join(f"> {line}".rstrip() for line in one.passage.split("\n"))
    return f"{one.question}{rule}\n\nGo by this text:\n\n{quoted}"


def why_none(pages: Sequence[Page]) -> str:
    """Why these pages gave no fact, and what would make some."""
    return (
        f"{len(pages)} pages, and none has a signature under the heading that names it, a table or field list with "
        "short values, three headings with text, or a session with its output; collect an API reference or a guide "
        "that has"
    )


def _facts(page: Page) -> Iterator[Fact]:
    parts = sections(page.blocks)
    found = [(section, signature) for section in parts if (signature := passage.documented(section))]
    names = list(dict.fromkeys(p.name for _, signature in found for p in signature.parameters))
    for section, signature in found:
        yield from open_kinds.of_signature(section, signature, names)
    yield from open_kinds.by_keyword(found)
    yield from open_sections.of_headings(parts)
    terms = list(dict.fromkeys(name for block in page.blocks for name in open_rows.names(block)))
    for section in parts:
        for block in section.blocks:
            yield from open_rows.facts(section.title, block, [*terms, *names])
    for section, steps in sessions.verified(page, parts, Counter()):
        yield from open_sections.of_sessions(section, steps)
