"""Page -> question and answer examples, by rule and without a model; each says how its answer was checked.

In: pages. Out: examples with a short analysis whose length follows the effort. A question's answer is the page's
own words (grounded), a fact parsed from a signature in the page (inspected), or what Python printed (executed).
Knows nothing about tokens, files or the split.
"""

import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from tune.data import doctests, open_book, reference, sessions, signatures
from tune.data.block import Block, Section, fenced, sections
from tune.data.fact import Check, Fact, about, named, sentence, short, tells
from tune.data.page import Page, words
from tune.data.passage import documented, signature_of
from tune.harmony import Effort, Message
from tune.recipe import Kind

RowKind = Kind | Literal["imported", "general"]  # the last two are not made from pages

LEAD = 1200  # characters: an answer from a section is its first paragraphs up to this
ONE_LINE = 80  # characters: a printed value up to this is a short answer
CHOICES = 200  # modules that a question may name as wrong ones: with more, each would be looked through for each object
CONTEXT = 16  # lines of session shown before the one that is asked about
# The first word says the effort: a model that has to part two efforts further in follows the text before it instead.
# They are the words that the nano model begins with (tune/nano/conversations.py), so that tuning keeps what it knows.
BY_TEXT: dict[Effort, str] = {
    "medium": "Let me go by the text that is given here.",
    "high": (
        "Carefully now: I go by the text that is given here, and not by what I remember. I read it to its end before I "
        "say what it says."
    ),
}


class Example(BaseModel):
    """One conversation to learn. `provenance` names the source and the heading that the answer came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    page: str
    module: str
    kind: RowKind
    messages: tuple[Message, ...]
    effort: Effort
    provenance: str
    check: Check

    @property
    def text(self) -> str:
        """Question and answer, without instructions and analysis."""
        return "\n".join(message.content for message in self.messages if message.role != "developer")

    @property
    def taught(self) -> str:
        """The same with the analysis, which is learned too: it quotes the page."""
        turns = [message for message in self.messages if message.role != "developer"]
        return "\n".join(part for turn in turns for part in (turn.thinking or "", turn.content))


class Made(NamedTuple):
    """Examples in the order of their pages, and what became of the pages' interactive examples, which is known when the
    examples are used up."""

    examples: Iterator[Example]
    doctests: Counter[str]  # see doctests.verified


More = Callable[[Page], Iterable[tuple[str, Fact]]]


def make(pages: Iterable[Page], efforts: Sequence[Effort], answer_rule: str, more: More = lambda _: ()) -> Made:
    """Examples of every page, one page in memory at a time: `pages` are gone through three times.

    `answer_rule` is the developer message of questions with a short answer; `more` gives facts of a page that are not
    made here, each with its heading. Efforts take turns within a page and kind, from a start that the page's id gives,
    so that they come out even and do not change when another page is added. Deterministic for a given Python.
    """
    counts: Counter[str] = Counter()

    def examples() -> Iterator[Example]:
        known = mentioned(pages)
        for page in pages:
            yield from of_page(page, known, efforts, answer_rule, more, counts)

    return Made(examples(), counts)


def of_page(
    page: Page,
    known: Mapping[str, Set[str]],
    efforts: Sequence[Effort],
    answer_rule: str,
    more: More,
    counts: Counter[str],
) -> Iterator[Example]:
    """The examples of one page. `known`: see `mentioned`; `counts` learns what became of its interactive examples."""
    turns: Counter[str] = Counter()
    for heading, fact in chain(_facts(page, known, counts), more(page)):
        turn = turns[fact.kind]
        turns[fact.kind] += 1
        effort = efforts[(zlib.crc32(page.id.encode()) + turn) % len(efforts)]
        messages = [Message(role="user", content=fact.question)]
        if fact.value:
            messages.insert(0, Message(role="developer", content=answer_rule))
        thinking = _thinking(fact, effort, page.title, heading)
        messages.append(Message(role="assistant", content=fact.answer, thinking=thinking))
        yield Example(
            id=f"{page.id}#{fact.kind}-{turn}",
            page=page.id,
            module=page.module,
            kind=fact.kind,
            messages=tuple(messages),
            effort=effort,
            provenance=f"{page.source}, {page.url or page.id}, {heading}, {page.licence}",
            check=fact.check,
        )


def _thinking(fact: Fact, effort: Effort, title: str, heading: str) -> str:
    """low: the claim. medium: where it stands too. high: where in full, the claim, the conclusion, and the line itself
    where the question does not show it.

    With the passage in the question every effort ends with the claim: a small model that says a value twice, or quotes
    a long line, does not find the end. What stands before it is the effort's own from its first word, and the same for
    every kind of question: which kind it is shows in the claim alone, so that one effort's examples teach it to the
    others.
    """
    if effort == "low":
        return fact.claim
    if fact.given:
        return f"{BY_TEXT[effort]} {fact.claim}"
    if effort == "medium":
        return f"Let me recall the documentation of {title}. {fact.claim}"
    under = f", under the heading {heading}" if heading != title else ""
    conclusion = f"So the answer is {fact.value}." if fact.value else "The answer gives that part in its own words."
    where = f"Carefully now: I recall the documentation of {title}{under}."
    line = "" if fact.line == fact.claim else f"The line that matters is:\n{fact.line}\n"
    return f"{where} {line}{fact.claim} {conclusion}"


def mentioned(pages: Iterable[Page]) -> dict[str, set[str]]:
    """Every word on the pages of each module that documents objects of its own; of CHOICES modules at most."""
    own = {p.module for p in pages if any(h.startswith(f"{p.module}.") for b in p.blocks for h in b.headings)}
    chosen = sorted(own, key=lambda module: (zlib.crc32(module.encode()), module))[:CHOICES]
    said: dict[str, set[str]] = {module: set() for module in chosen}
    for page in pages:
        if page.module in said:
            said[page.module] |= words([page.text])
    return said


def _facts(page: Page, mentioned: Mapping[str, Set[str]], counts: Counter[str]) -> Iterator[tuple[str, Fact]]:
    parts = sections(page.blocks)
    tops = {section.headings[0] for section in parts}
    for i, section in enumerate(parts):
        # a title that is the first of several headings of the first level is above its own sections alone
        above = section.headings[0] if page.title in tops else page.title
        if all(section.headings != earlier.headings for earlier in parts[:i]):  # text that goes on is not asked twice
            yield from ((section.title, fact) for fact in _section(above, section))
            yield from ((section.title, fact) for fact in reference.facts(above, section))
        if found := documented(section):
            yield from ((section.title, fact) for fact in _signature(section, found))
            if section.title == f"{page.module}.{section.title.rpartition('.')[2]}":
                yield from ((section.title, fact) for fact in _module(page, section, mentioned))
    for section, steps in sessions.verified(page, parts, counts):
        yield from ((section.title, _session(step)) for step in steps or [] if len(step.shown) <= CONTEXT)
    yield from ((one.heading, _open(one)) for one in open_book.asked(page, form="train"))


def _open(one: open_book.Asked) -> Fact:
    said = short(one.claim, one.answer, "")  # the line stands in the prompt
    return Fact(one.kind, one.check, open_book.prompt(one, "train"), *said, given=True)


def _section(page: str, section: Section) -> Iterator[Fact]:
    blocks = section.blocks
    if len(blocks) > 1 and signature_of(section):
        blocks = blocks[1:]  # the signature is a question of its own
    lead = list[Block]()
    for block in blocks:
        if lead and sum(len(one.render()) for one in [*lead, block]) > LEAD:
            break
        lead.append(block)
    while lead and lead[-1].kind in {"prose", "list", "admonition"} and lead[-1].render().endswith(":"):
        lead.pop()  # what it announces did not come with it
    said = [block for block in lead if block.kind not in {"code", "table"}]
    answer = "\n\n".join(block.render() for block in lead)
    subject = about(section.headings, page)
    if not said or not subject or not tells(answer) or section.title.startswith("Names in "):
        return
    telling = [block for block in said if tells(block.render())] or said
    prose = next((block for block in telling if block.kind == "prose"), telling[0]).render().removeprefix("- ")
    place = subject.removeprefix(f"{named(section.title)} in ")
    if section.title.endswith("?") and section.title != page:  # under such a title comes what leads to the answer
        question = section.title + (f" ({place})" if place != subject else "")
    else:
        question = f"What does the documentation say about {subject}?"
    line = prose.split("\n")[0].strip()
    yield Fact("section", "grounded", question, answer, f"In short: {sentence(prose)}", line)


def _signature(section: Section, found: signatures.Signature) -> Iterator[Fact]:
    name, line = f"`{section.title}`", found.text
    taken = _listed([p.name for p in found.parameters])
    counted = [k for k, p in enumerate(found.parameters) if p.kind != "collector"]
    if counted:  # `*args, **kwargs` alone says nothing
        question = f"What is the signature of {name}?"
        yield Fact("signature", "inspected", question, fenced(line, "python"), f"It takes {taken}.", line)
    for p in [p for p in found.parameters if p.literal][:2]:
        claim = f"The parameter `{p.name}` of {name} is `{p.default}` unless it is given."
        question = f"What is the default value of the parameter `{p.name}` of {name}?"
        yield Fact("default", "inspected", question, *short(claim, p.default, line))
    by_keyword = [p for p in found.parameters if p.kind == "keyword"][:1]
    otherwise = [p for p in found.parameters if p.kind in {"position", "either"}][:1]
    for p in by_keyword + (otherwise if by_keyword else []):
        value = "yes" if p.kind == "keyword" else "no"
        claim = f"`{p.name}` stands {'behind' if value == 'yes' else 'before'} the `*` of {name}."
        question = f"Must the argument `{p.name}` of {name} be passed by keyword? Answer yes or no."
        yield Fact("keyword-only", "inspected", question, *short(claim, value, line))
    if len(found.parameters) > 1 and counted:
        k = counted[zlib.crc32(section.title.encode()) % len(counted)]
        claim = f"{name} takes {taken} in this order."
        question = f"What is the name of the {_ordinal(k + 1)} parameter of {name}{found.skipped}?"
        yield Fact("parameter", "inspected", question, *short(claim, found.parameters[k].name, line))


def _module(page: Page, section: Section, mentioned: Mapping[str, Set[str]]) -> Iterator[Fact]:
    """A choice of four. A module whose pages so much as mention the name is no wrong answer."""
    name = section.title.rpartition(".")[2]
    others = sorted(m for m, known in mentioned.items() if m != page.module and name not in known)
    if len(others) < 3:
        return
    dice = random.Random(section.title)
    choices = [page.module, *dice.sample(others, 3)]
    dice.shuffle(choices)
    letter = "ABCD"[choices.index(page.module)]
    listed = "\n".join(f"{c}. {module}" for c, module in zip("ABCD", choices, strict=True))
    claim = f"`{name}` belongs to `{page.module}`."
    question = f"Which module provides `{name}`?\n{listed}"
    said = " ".join(block.text if block.kind == "code" else block.render() for block in section.blocks)
    yield Fact("module", "inspected", question, *short(claim, letter, f"{section.title}: {sentence(said)}"))


def _session(step: doctests.Step) -> Fact:
    printed, last = step.printed, step.source.split("\n")[0]
    question = "What does the last statement print?\n\n" + fenced("\n".join(step.shown), "python")
    if "\n" not in printed and len(printed) <= ONE_LINE:
        claim = f"`{last}` prints `{printed}`."
        return Fact("doctest", "executed", question, *short(claim, printed, f">>> {last}"))
    lines = printed.split("\n")
    claim = f"`{last}` prints {len(lines)} line{'s' * (len(lines) > 1)}, the first is `{lines[0]}`."
    return Fact("doctest", "executed", question, fenced(printed), claim, f">>> {last}")


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names] or ["no arguments"]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)


def _ordinal(k: int) -> str:
    return f"{k}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(k if k < 20 else k % 10, 'th') }"
