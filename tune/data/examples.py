"""Page -> question and answer examples, by rule and without a model; each says how its answer was checked.

In: pages. Out: examples with a short analysis whose length follows the effort. A question's answer is the page's
own words (grounded), a fact parsed from a signature in the page (inspected), or what Python printed (executed).
Knows nothing about tokens, files or the split.
"""

import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from tune.data import doctests, open_book, sessions, signatures
from tune.data.block import Section, fenced, sections
from tune.data.page import Page, words
from tune.data.passage import documented, signature_of
from tune.harmony import Effort, Message
from tune.recipe import Kind

Check = Literal["executed", "grounded", "inspected", "given"]  # given: somebody's row, taken as it is
RowKind = Kind | Literal["imported", "general"]  # the last two are not made from pages

LEAD = 1200  # characters: an answer from a section is its first paragraphs up to this
ONE_LINE = 80  # characters: a printed value up to this is a short answer
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
    """Examples in the order of their pages, and what became of the pages' interactive examples."""

    examples: list[Example]
    doctests: Counter[str]  # see doctests.verified


class _Fact(NamedTuple):
    """A question with its answer, and what the analysis may say: a claim, and the line of the page behind it."""

    kind: Kind
    check: Check
    question: str
    answer: str
    claim: str
    line: str
    value: str = ""  # of a short answer
    given: bool = False  # the passage stands in the question


def make(pages: Sequence[Page], efforts: Sequence[Effort], answer_rule: str) -> Made:
    """Examples of every page. `answer_rule` is the developer message of questions with a short answer.

    Efforts take turns within a page and kind, from a start that the page's id gives, so that they come out even
    and do not change when another page is added. Deterministic for a given Python.
    """
    mentioned = _mentioned(pages)
    examples: list[Example] = []
    counts: Counter[str] = Counter()
    for page in pages:
        turns: Counter[str] = Counter()
        for heading, fact in _facts(page, mentioned, counts):
            turn = turns[fact.kind]
            turns[fact.kind] += 1
            effort = efforts[(zlib.crc32(page.id.encode()) + turn) % len(efforts)]
            messages = [Message(role="user", content=fact.question)]
            if fact.value:
                messages.insert(0, Message(role="developer", content=answer_rule))
            thinking = _thinking(fact, effort, page.title, heading)
            messages.append(Message(role="assistant", content=fact.answer, thinking=thinking))
            examples.append(
                Example(
                    id=f"{page.id}#{fact.kind}-{turn}",
                    page=page.id,
                    module=page.module,
                    kind=fact.kind,
                    messages=tuple(messages),
                    effort=effort,
                    provenance=f"{page.source}, {page.url or page.id}, {heading}, {page.licence}",
                    check=fact.check,
                )
            )
    return Made(examples, counts)


def _thinking(fact: _Fact, effort: Effort, title: str, heading: str) -> str:
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
    return f"{where} The line that matters is:\n{fact.line}\n{fact.claim} {conclusion}"


def _mentioned(pages: Sequence[Page]) -> dict[str, set[str]]:
    """Every word on the pages of each module that documents objects of its own."""
    texts: dict[str, list[str]] = {}
    for page in pages:
        texts.setdefault(page.module, []).append(page.text)
    own = {p.module for p in pages if any(h.startswith(f"{p.module}.") for b in p.blocks for h in b.headings)}
    return {m: words(said) for m, said in texts.items() if m in own}


def _facts(page: Page, mentioned: Mapping[str, set[str]], counts: Counter[str]) -> Iterator[tuple[str, _Fact]]:
    parts = sections(page.blocks)
    for i, section in enumerate(parts):
        if all(section.headings != earlier.headings for earlier in parts[:i]):  # text that goes on is not asked twice
            yield from ((section.title, fact) for fact in _section(page, section))
        if found := documented(section):
            yield from ((section.title, fact) for fact in _signature(section, found))
            if section.title == f"{page.module}.{section.title.rpartition('.')[2]}":
                yield from ((section.title, fact) for fact in _module(page, section, mentioned))
    for section, steps in sessions.verified(page, parts, counts):
        yield from ((section.title, _session(step)) for step in steps or [] if len(step.shown) <= CONTEXT)
    yield from ((one.heading, _open(one)) for one in open_book.asked(page, form="train"))


def _open(one: open_book.Asked) -> _Fact:
    short = _short(one.claim, one.answer, "")  # the line stands in the prompt
    return _Fact(one.kind, one.check, open_book.prompt(one, "train"), *short, given=True)


def _section(page: Page, section: Section) -> Iterator[_Fact]:
    blocks = section.blocks
    if len(blocks) > 1 and signature_of(section):
        blocks = blocks[1:]  # the signature is a question of its own
    lead, prose = list[str](), ""
    for said, kind in ((block.render(), block.kind) for block in blocks):
        if lead and sum(map(len, lead)) + len(said) > LEAD:
            break
        lead.append(said)
        prose = prose or (said if kind not in {"code", "table"} else "")
    if not prose or section.title.startswith("Names in "):
        return
    where = "" if section.title == page.title or section.title.startswith(page.module) else f" on {page.title}"
    yield _Fact(
        "section",
        "grounded",
        f"What does the documentation{where} say about {_name(section.title)}?",
        "\n\n".join(lead),
        f"In short: {_sentence(prose)}",
        prose.split("\n")[0].strip(),
    )


def _signature(section: Section, found: signatures.Signature) -> Iterator[_Fact]:
    name, line = f"`{section.title}`", found.text
    taken = _listed([p.name for p in found.parameters])
    if found.parameters:
        question = f"What is the signature of {name}?"
        yield _Fact("signature", "inspected", question, fenced(line, "python"), f"It takes {taken}.", line)
    for p in [p for p in found.parameters if p.literal][:2]:
        claim = f"The parameter `{p.name}` of {name} is `{p.default}` unless it is given."
        question = f"What is the default value of the parameter `{p.name}` of {name}?"
        yield _Fact("default", "inspected", question, *_short(claim, p.default, line))
    by_keyword = [p for p in found.parameters if p.kind == "keyword"][:1]
    otherwise = [p for p in found.parameters if p.kind in {"position", "either"}][:1]
    for p in by_keyword + (otherwise if by_keyword else []):
        value = "yes" if p.kind == "keyword" else "no"
        claim = f"`{p.name}` stands {'behind' if value == 'yes' else 'before'} the `*` of {name}."
        question = f"Must the argument `{p.name}` of {name} be passed by keyword? Answer yes or no."
        yield _Fact("keyword-only", "inspected", question, *_short(claim, value, line))
    if len(found.parameters) > 1:
        k = zlib.crc32(section.title.encode()) % len(found.parameters)
        claim = f"{name} takes {taken} in this order."
        question = f"What is the name of the {_ordinal(k + 1)} parameter of {name}{found.skipped}?"
        yield _Fact("parameter", "inspected", question, *_short(claim, found.parameters[k].name, line))


def _module(page: Page, section: Section, mentioned: Mapping[str, set[str]]) -> Iterator[_Fact]:
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
    yield _Fact("module", "inspected", question, *_short(claim, letter, f"{section.title}: {_sentence(said)}"))


def _short(claim: str, value: str, line: str) -> tuple[str, str, str, str]:
    """The answer, claim, line and value of a fact with a short answer. The claim is for the analysis alone: a small
    model that has said it there and begins it again goes on as it did there, and ends before the answer line."""
    return f"ANSWER: {value}", claim, line, value


def _session(step: doctests.Step) -> _Fact:
    printed, last = step.printed, step.source.split("\n")[0]
    question = "What does the last statement print?\n\n" + fenced("\n".join(step.shown), "python")
    if "\n" not in printed and len(printed) <= ONE_LINE:
        claim = f"`{last}` prints `{printed}`."
        return _Fact("doctest", "executed", question, *_short(claim, printed, f">>> {last}"))
    lines = printed.split("\n")
    claim = f"`{last}` prints {len(lines)} line{'s' * (len(lines) > 1)}, the first is `{lines[0]}`."
    return _Fact("doctest", "executed", question, fenced(printed), claim, f">>> {last}")


def _name(title: str) -> str:
    return f"`{title}`" if re.fullmatch(r"[\w.]+", title) and ("." in title or title.islower()) else title


def _sentence(text: str) -> str:
    """The first sentence, on one line, at most 200 characters."""
    flat = re.sub(r"\s+", " ", text).strip()
    cut = re.match(r".{10,198}?[.!?](?= |$)", flat)
    return cut[0] if cut else flat[:197] + ("..." if len(flat) > 197 else "")


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names] or ["no arguments"]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)


def _ordinal(k: int) -> str:
    return f"{k}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(k if k < 20 else k % 10, 'th') }"
