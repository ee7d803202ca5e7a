"""Sections -> which heading a sentence stands under (open-section), what a statement prints (open-doctest).

In: the sections of a page, and which statements were verified by running them. Out: facts. Runs nothing.
"""

import doctest
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tune.data import passage, wordings
from tune.data.block import Section
from tune.data.doctests import Step
from tune.data.fact import tells
from tune.data.open_kinds import Check, Fact, Grader, fits, literal
from tune.data.wordings import filled, pick

CHOICES = 3
SAID = 120  # characters: a sentence under a heading, in a choice of headings
QUOTED = 8  # words of it that are asked for
WIDTH = 400  # characters of session in one passage


class _Shown(NamedTuple):
    """A statement of a session: its lines with what is printed, its source when it is one line, its output."""

    lines: str
    source: str
    printed: str


def of_headings(parts: Sequence[Section]) -> Iterator[Fact]:
    """A question for every three neighbouring headings."""
    said: dict[str, str] = {}
    for section in parts:
        text = next((block.text for block in section.blocks if block.kind == "prose"), "")
        sentence = passage.sentences(text, 1, SAID)
        if '"' not in sentence and len(sentence.split()) > 3 and tells(sentence) and fits(section.title):
            said.setdefault(section.title, sentence)
    for start in range(0, len(said), CHOICES):
        group = list(said.items())[start : start + CHOICES]
        shown = "\n\n".join(f"# {title}\n{sentence}" for title, sentence in group)
        if len(group) < CHOICES:
            return
        title, sentence = group[pick(shown, len(group))]
        quote = " ".join(sentence.split()[-QUOTED:]).rstrip(".")
        if shown.count(quote) > 1:
            continue
        titles = [other for other, _ in group]
        random.Random(pick(shown, 2**32)).shuffle(titles)
        listed = "\n".join(f"{letter}. {other}" for letter, other in zip("ABC", titles, strict=True))
        questions = filled(wordings.SECTION, quote=quote, choices=listed)
        letter = "ABC"[titles.index(title)]
        claim = f"It stands under the heading {title}."
        guess = 1 / len(titles)
        yield Fact("open-section", title, shown, questions, letter, "choice", claim, sentence, "grounded", guess)


def of_sessions(section: Section, verified: Sequence[Step] | None) -> Iterator[Fact]:
    """`verified`: the statements that Python ran with the output that the page shows; None where nothing may be run,
    so that a fact is only what stands there."""
    ran = {(step.source, step.printed) for step in verified or []}
    for code in section.code:
        for part in _parts(_statements(code)):
            shown = "\n".join(one.lines for one in part)
            fit = [
                one
                for one in part
                if fits(one.printed)
                and [other.source for other in part].count(one.source) == 1
                and (verified is None or (one.source, one.printed) in ran)
            ]
            guess = 1 / max(1, len({one.printed for one in part if one.printed}))
            start = pick(shown, len(fit) or 1)
            for _, source, printed in (fit[start:] + fit[:start])[: (len(fit) + 1) // 2]:
                questions = filled(wordings.PRINTS, name=source)
                claim = f"`{source}` prints `{printed}`."
                check: Check = "grounded" if verified is None else "executed"
                grader: Grader = "literal" if literal(printed) else "exact"
                line = f">>> {source}"
                yield Fact("open-doctest", section.title, shown, questions, printed, grader, claim, line, check, guess)


def _statements(code: str) -> list[_Shown]:
    if ">>> " not in code:
        return []
    try:
        steps = doctest.DocTestParser().get_examples(code)
    except ValueError:
        return []
    out = []
    for step in steps:
        first, *rest = step.source.rstrip("\n").split("\n")
        lines = [f">>> {first}", *(f"... {line}".rstrip() for line in rest), *step.want.rstrip("\n").split("\n")]
        source = "" if rest or "`" in first or len(first) > SAID else first
        printed = step.want.rstrip("\n") if source and step.exc_msg is None and not step.options else ""
        out.append(_Shown("\n".join(lines).rstrip(), source, printed))
    return out


def _parts(statements: Sequence[_Shown]) -> Iterator[list[_Shown]]:
    """Neighbouring statements, as many as a passage takes."""
    part: list[_Shown] = []
    for one in statements:
        if part and sum(len(other.lines) + 1 for other in part) + len(one.lines) > WIDTH:
            yield part
            part = []
        if len(one.lines) <= WIDTH:
            part.append(one)
    if part:
        yield part
