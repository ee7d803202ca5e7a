"""Page -> open-book questions: the passage that holds the answer stands in the prompt, so a reader needs no memory.

In: pages of any source. Out: facts with a short answer that can be checked, each in two forms that share no wording:
"train" for examples to learn from, in many wordings, "ask" for questions, in one. Deterministic for a page. Knows
nothing about models, tokens or files; code of pages that have a url is never run.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from tune.data import open_kinds, open_rows, open_sections, passage, sessions, wordings
from tune.data.block import fenced, sections
from tune.data.open_kinds import Check, Fact, Grader
from tune.data.page import Page
from tune.section import Open

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
        learned = wordings.learned(fact.questions, f"{fact.heading} {fact.claim}")
        question = learned if form == "train" else fact.questions[-1]
        yield Asked(
            fact.kind, page.id, page.module, fact.heading, fact.passage, question,
            fact.answer, fact.grader, fact.claim, fact.line, fact.check, fact.guess,
        )  # fmt: skip


def prompt(one: Asked, form: Form) -> str:
    """The user's message: passage and question, laid out in one of the ways to learn from, or in the one to ask."""

    def of(choices: Sequence[str]) -> str:
        return wordings.learned(choices, f"{one.question} {one.passage}") if form == "train" else choices[-1]

    may_be_silent = one.kind in {"open-default", "open-value", "open-silent"}
    words = {
        "fenced": fenced(one.passage),
        "quoted": "\n".join(f"> {line}".rstrip() for line in one.passage.split("\n")),
        "question": f"{one.question}\n{of(wordings.RULES)}" if may_be_silent else one.question,
    }
    return of(wordings.filled(wordings.LAYOUTS, **words))


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
