"""A section -> what a reference work is asked: what raises, what changed in which version, what an entry means.

In: a section, the title of its page. Out: facts in the page's own words (grounded), of any documentation: a field list
is read as Sphinx, docstrings and lists of terms give it. Knows nothing about signatures or prompts.
"""

import re
from collections.abc import Iterator

from tune.data import open_rows
from tune.data.block import Fields, Section, Table
from tune.data.fact import Fact, named, sentence, short

LONGEST = 1200  # characters of an answer
TERM = 60  # characters of what is asked about
ROWS = 12  # of one table, spread evenly: a table of characters would be most of a dataset
WORDS = 3  # an answer has at least so many

_ERROR = re.compile(r"\b(?:\w+\.)*([A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit|Iteration)|StopAsyncIteration)\b")
_RAISED = re.compile(r"\b(?:raise[sd]?|raising)\b", re.IGNORECASE)
_UNLESS = re.compile(  # it is not raised, or something else is said of what was raised
    r"\b(?:not|never|no longer|without|instead|rather|was|were|should|used to|ha(?:s|ve|d) raised)\b|n['\u2019]t\b"
    r"|\b(?:if|when|whenever|once|after|until)\b[^,.]*\brais|^Otherwise",
    re.IGNORECASE,
)
_SENTENCES = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+")
_COLUMN = re.compile(r"[^.`]{1,40}")  # a head that is a sentence or code is a row of a table without one
_CHANGE = re.compile(
    r"(?P<how>New|Added|Changed|Deprecated|Removed) (?:in|since) (?:version )?(?P<version>\d[\w.]*\w|\d)"
    r"(?P<more>,[^:.]*(?:\d\.\d[^:.]*)*)?(?:: ?|\.? |\.?$)(?P<text>.*)",
    re.DOTALL,
)
_META = {"parameters", "parameter", "arguments", "args", "keyword arguments", "other parameters"}
_RETURNS = {"returns", "return"}
_RAISES = {"raises", "raise", "throws", "exceptions"}
_NO_TERM = {"return type", "rtype", "yields", "type", "see also", "notes", "examples", "references"}


def facts(page: str, section: Section) -> Iterator[Fact]:
    """`page`: its title."""
    about = named(section.title) + ("" if _alone(section.title) or section.title == page else f", on {page}")
    yield from _raised(about, section)
    yield from _changed(about, section)
    for above, block in zip((None, *section.blocks), section.blocks, strict=False):
        elsewhere = above is not None and above.kind == "prose" and above.text.lower().rstrip(":") == "see also"
        if block.kind == "fields" and not elsewhere:
            yield from _entries(about, block)
        elif block.kind == "table":
            yield from _rows(about, block)


def _alone(title: str) -> bool:
    """Whether it says by itself what it is of: a full name."""
    return re.fullmatch(r"\w+(?:\.\w+)+", title) is not None


def _raised(about: str, section: Section) -> Iterator[Fact]:
    """What is raised and when: from the field list, else from sentences that say so of one exception."""
    told = [
        (name, text)
        for block in section.blocks
        if block.kind == "fields"
        for name, text in block.pairs
        if name.lower().partition(" ")[0] in _RAISES
    ]
    if text := "\n".join(f"{name.partition(' ')[2]}: {said}".removeprefix(": ") for name, said in told).strip():
        errors = list(dict.fromkeys(_ERROR.findall(text)))
        if errors and len(text) <= LONGEST and not text.endswith(":"):
            claim = f"It raises {' and '.join(f'`{error}`' for error in errors)}."
            line = text.split("\n")[0]
            yield Fact("raises", "grounded", f"Which exceptions does {about} raise, and when?", text, claim, line)
        return
    said: dict[str, list[str]] = {}
    prose = [block.text for block in section.blocks if block.kind == "prose"] if _alone(section.title) else []
    for text in (text for text in prose if not _CHANGE.match(text)):
        for one in _SENTENCES.split(text):
            errors = list(dict.fromkeys(_ERROR.findall(one)))
            if len(errors) == 1 and _RAISED.search(one) and not _UNLESS.search(one) and one.rstrip()[-1:] in ".!":
                said.setdefault(errors[0], []).append(" ".join(one.split()))
    for error, sentences in said.items():
        answer = " ".join(sentences)
        if len(answer) <= LONGEST and len(answer.split()) > WORDS + 1:
            yield Fact("raises", "grounded", f"When does {about} raise `{error}`?", answer, sentences[0], sentences[0])


def _changed(about: str, section: Section) -> Iterator[Fact]:
    """What a version changed, and since when there is, or no longer should be, what the section is about."""
    changes: dict[tuple[str, str], list[str]] = {}
    for block in section.blocks:
        if block.kind in {"prose", "admonition"} and (found := _CHANGE.match(block.render())):
            changes.setdefault((found["how"], found["version"]), []).append(found["text"].strip())
    since = {how: [version for other, version in changes if other == how] for how, _ in changes}
    for (how, version), texts in changes.items():
        text, line = "\n\n".join(t for t in texts if t), f"{how} in version {version}"
        if how in {"New", "Added"}:
            question = f"What did version {version} add to {about}?"
        else:
            question = f"What does the documentation of {about} say was {how.lower()} in version {version}?"
        if len(text.split()) >= WORDS and len(text) <= LONGEST:
            yield Fact("version", "grounded", question, text, f"{line}: {sentence(text)}", f"{line}: {sentence(text)}")
        elif not text and how != "Changed" and len(since[how]) == 1:
            asked = "new" if how in {"New", "Added"} else how.lower()
            question = f"{'In' if asked == 'new' else 'Since'} which version is {about} {asked}?"
            yield Fact("version", "grounded", question, *short(f"It is {asked} since {version}.", version, line))


def _entries(about: str, block: Fields) -> Iterator[Fact]:
    """What a term, an option or a parameter means, and what is returned."""
    names = [name for name, _ in block.pairs]
    for name, text in block.pairs:
        low = name.lower()
        if low in _META:
            rows = [(row.name, row.text) for row in open_rows.signed(text.split("\n"))]
            asked = [(f"What does the documentation of {about} say about the parameter `{n}`?", n, t) for n, t in rows]
        elif low in _RETURNS:
            asked = [(f"What does {about} return?", "returned", text)]
        elif low.partition(" ")[0] in _RAISES or low in _NO_TERM or names.count(name) > 1:
            continue
        else:
            term = name.partition(" : ")[0].strip("` ")  # numpy's docstrings have a type behind it
            known = "`" not in term and "://" not in term and not term.startswith("PEP ")
            asked = [(f"What does `{term}` mean? ({about})", term, text)] if known else []
        for question, term, meaning in asked:
            fits = len(meaning.split()) >= WORDS and len(meaning) <= LONGEST and not meaning.endswith(":")
            if fits and len(term) <= TERM:
                said = sentence(meaning)
                yield Fact("entry", "grounded", question, meaning, f"`{term}`: {said}", f"{term}: {said}")


def _rows(about: str, table: Table) -> Iterator[Fact]:
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
            question = f"What does the table say about `{name}`? ({about})"
            claim = f"Under {cells[0][0]} it has {sentence(cells[0][1])}"
            yield Fact("entry", "grounded", question, answer, claim, f"{name} | {sentence(cells[0][1])}")


def _fits(row: tuple[str, ...], firsts: list[str]) -> bool:
    name = row[0].strip("` ")
    return 0 < len(name) <= TERM and "\n" not in row[0] and "`" not in name and firsts.count(row[0]) == 1
