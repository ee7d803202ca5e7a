"""A section -> what a reference work is asked: what raises, what changed in which version, what an entry means.

In: a section, the title of its page. Out: facts in the page's own words (grounded), of any documentation: a field list
is read as Sphinx, docstrings and lists of terms give it. Knows nothing about signatures or prompts.
"""

import re
from collections.abc import Iterator

from tune.data import open_rows
from tune.data.block import Block, Fields, Section, Table
from tune.data.fact import SENTENCES, WORDS, Fact, about, full, named, sentence, short, tells

LONGEST = 1200  # characters of an answer
TERM = 60  # characters of what is asked about
CLAUSE = 8  # words of a term: a longer one is the half of a sentence
ROWS = 12  # of one table, spread evenly: a table of characters would be most of a dataset

_ERROR = re.compile(r"\b(?:\w+\.)*([A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit|Iteration)|StopAsyncIteration)\b")
_RAISED = re.compile(r"\b(?:raise[sd]?|raising)\b", re.IGNORECASE)
_UNLESS = re.compile(  # it is not raised, or something else is said of what was raised
    r"\b(?:not|never|no longer|without|instead|rather|was|were|should|used to|ha(?:s|ve|d) raised)\b|n['\u2019]t\b"
    r"|\b(?:if|when|whenever|once|after|until)\b[^,.]*\brais|^Otherwise",
    re.IGNORECASE,
)
_COLUMN = re.compile(r"[^.`]{1,40}")  # a head that is a sentence or code is a row of a table without one
_CHANGE = re.compile(
    r"(?P<how>New|Added|Changed|Deprecated|Removed) (?:in|since) (?:version )?(?P<version>\d[\w.]*\w|\d)"
    r"(?P<more>,[^:.]*(?:\d\.\d[^:.]*)*)?(?:: ?|\.? |\.?$)(?P<text>.*)",
    re.DOTALL,
)
_AGAIN = re.compile(r"(?:this|the) (?:\S+ ){1,3}(?:is|was|has been) (?:new|added|deprecated|removed)\.?", re.IGNORECASE)
_META = {"parameters", "parameter", "arguments", "args", "keyword arguments", "other parameters"}
_RETURNS = {"returns", "return"}
_RAISES = {"raises", "raise", "throws", "exceptions"}
_NO_TERM = {"return type", "rtype", "yields", "type", "see also", "notes", "examples", "references"}


def facts(page: str, section: Section) -> Iterator[Fact]:
    """`page`: the title above the section."""
    subject = about(section.headings, page)
    if not subject:
        return
    yield from _raised(subject, section)
    yield from _changed(subject, section)
    for label, block in _labelled(section):
        if block.kind == "fields":
            yield from _entries(subject, label, block)
        elif block.kind == "table":
            yield from _rows(subject, block)


def _labelled(section: Section) -> Iterator[tuple[str, Block]]:
    """Each block with the label right above it, in lower case: "see also", or a field without text of its own, as
    numpy's style gives its parts."""
    label = ""
    for block in section.blocks:
        yield label, block
        label = block.text.lower().rstrip(":") if block.kind == "prose" else ""
        if block.kind == "fields" and len(block.pairs) == 1 and not block.pairs[0][1]:
            label = block.pairs[0][0].lower()


def _raised(subject: str, section: Section) -> Iterator[Fact]:
    """What is raised and when: from the field list, else from sentences that say so of one exception."""
    told = [
        (name if label in _RAISES else name.partition(" ")[2], text)
        for label, block in _labelled(section)
        if block.kind == "fields"
        for name, text in block.pairs
        if label in _RAISES or name.lower().partition(" ")[0] in _RAISES
    ]
    if text := "\n".join(f"{name}: {said}".removeprefix(": ") if said else name for name, said in told).strip():
        errors = list(dict.fromkeys(_ERROR.findall(text)))
        if errors and len(text) <= LONGEST and not text.endswith(":") and tells(text):
            claim = f"It raises {' and '.join(f'`{error}`' for error in errors)}."
            line = text.split("\n")[0]
            yield Fact("raises", "grounded", f"Which exceptions does {subject} raise, and when?", text, claim, line)
        return
    said: dict[str, list[str]] = {}
    prose = [block.text for block in section.blocks if block.kind == "prose"] if full(section.title) else []
    for text in (text for text in prose if not _CHANGE.match(text)):
        for one in SENTENCES.split(text):
            errors = list(dict.fromkeys(_ERROR.findall(one)))
            if len(errors) == 1 and _RAISED.search(one) and not _UNLESS.search(one) and one.rstrip()[-1:] in ".!":
                said.setdefault(errors[0], []).append(" ".join(one.split()))
    for error, sentences in said.items():
        answer = " ".join(sentences)
        if len(answer) <= LONGEST and len(answer.split()) > WORDS + 1:
            question = f"When does {subject} raise `{error}`?"
            yield Fact("raises", "grounded", question, answer, sentences[0], sentences[0])


def _changed(subject: str, section: Section) -> Iterator[Fact]:
    """What a version changed, and since when there is, or no longer should be, what the section is about."""
    changes: dict[tuple[str, str], list[str]] = {}
    for block in section.blocks:
        if block.kind in {"prose", "admonition"} and (found := _CHANGE.match(block.render())):
            text = found["text"].strip()
            changes.setdefault((found["how"], found["version"]), []).append("" if _AGAIN.fullmatch(text) else text)
    since = {how: [version for other, version in changes if other == how] for how, _ in changes}
    for (how, version), texts in changes.items():
        told = [t for n, t in enumerate(texts) if t and not any(t.rstrip(".") in other for other in texts[:n])]
        text, line = "\n\n".join(told), f"{how} in version {version}"
        if how in {"New", "Added"}:
            question = f"What did version {version} add to {subject}?"
        else:
            question = f"What does the documentation of {subject} say was {how.lower()} in version {version}?"
        if tells(text) and len(text) <= LONGEST and not text.endswith(":"):
            yield Fact("version", "grounded", question, text, f"{line}: {sentence(text)}", f"{line}: {sentence(text)}")
        elif not text and how != "Changed" and len(since[how]) == 1:
            asked = "new" if how in {"New", "Added"} else how.lower()
            since_when = f"Since which version is {subject} {asked}?"
            question = f"In which version was {subject} added?" if asked == "new" else since_when
            yield Fact("version", "grounded", question, *short(f"It is {asked} since {version}.", version, line))


def _entries(subject: str, label: str, block: Fields) -> Iterator[Fact]:
    """What a term, an option or a parameter means, and what is returned."""
    if label in _RETURNS:
        texts = [f"{name}: {text}" if text else name for name, text in block.pairs]
        block = Fields(headings=block.headings, pairs=((label, "\n".join(texts)),))
    elif label in _RAISES or label in _NO_TERM:
        return
    names = [name for name, _ in block.pairs]
    for name, text in block.pairs:
        low = name.lower()
        if low in _META:
            asked = [(_parameter(subject, row.name), row.name, row.text) for row in open_rows.signed(text.split("\n"))]
        elif low in _RETURNS:
            asked = [(f"What does {subject} return?", "returned", text)]
        elif low.partition(" ")[0] in _RAISES or low in _NO_TERM or names.count(name) > 1:
            continue
        else:
            term = name.partition(" : ")[0].strip("` ")  # numpy's docstrings have a type behind it
            known = "`" not in term and "://" not in term and not term.startswith("PEP ")
            asked = [(_parameter(subject, term) if label in _META else _term(subject, term), term, text)] * known
        for question, term, meaning in asked:
            fits = tells(meaning) and len(meaning) <= LONGEST and not meaning.endswith(":")
            if fits and len(term) <= TERM and len(term.split()) <= CLAUSE:
                said = sentence(meaning)
                yield Fact("entry", "grounded", question, meaning, f"`{term}`: {said}", f"{term}: {said}")


def _parameter(subject: str, name: str) -> str:
    return f"What does the documentation of {subject} say about the parameter `{name}`?"


def _term(subject: str, term: str) -> str:
    if " " in term and named(term)[0] == '"':  # what is said in words is a topic, and means itself
        return f"What does the documentation say about {named(term)}? ({subject})"
    return f"What does `{term}` mean? ({subject})"


def _rows(subject: str, table: Table) -> Iterator[Fact]:
    """What a row says, column by column."""
    head, *body = table.rows
    firsts = [row[0] for row in body]
    columns = len(head) > 1 and len(set(head)) == len(head) and all(map(_COLUMN.fullmatch, head))
    fit = [row for row in body if _fits(row, firsts)] if columns else []
    for row in (fit[i * len(fit) // ROWS] for i in range(ROWS)) if len(fit) > ROWS else fit:
        cells = [(column, cell) for column, cell in zip(head[1:], row[1:], strict=True) if cell.strip()]
        answer = "\n".join(f"{column}: {cell}" for column, cell in cells)
        if len(answer) <= LONGEST and any(len(cell.split()) >= WORDS for _, cell in cells):
            name = row[0].strip("` ")
            question = f"What does the table say about `{name}`? ({subject})"
            claim = f"Under {cells[0][0]} it has {sentence(cells[0][1])}"
            yield Fact("entry", "grounded", question, answer, claim, f"{name} | {sentence(cells[0][1])}")


def _fits(row: tuple[str, ...], firsts: list[str]) -> bool:
    name = row[0].strip("` ")
    return 0 < len(name) <= TERM and "\n" not in row[0] and "`" not in name and firsts.count(row[0]) == 1
