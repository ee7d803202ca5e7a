"""A section with a signature -> what a reader of the passage can be asked: parameter, default, keyword-only, silence.

In: a section and its signature. Out: facts, each in several wordings. Knows nothing about prompts or pages.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from tune.data import passage, wordings
from tune.data.block import Section
from tune.data.signatures import Parameter, Signature
from tune.data.wordings import filled, pick
from tune.section import Open

Check = Literal["executed", "grounded", "inspected"]
Grader = Literal["exact", "literal", "choice", "yesno"]

SHORT = 60  # characters of an answer at most
NAMES = 200  # of a page, among which one that a passage does not hold is looked for
ORDINALS = ("first", "second", "third", "fourth")


class Fact(NamedTuple):
    """What a passage says, in several wordings. `line` is the passage's, empty when it says nothing. `guess` is the
    chance of one who knows what such an answer looks like, and picks blindly among what the prompt shows of it."""

    kind: Open
    heading: str
    passage: str
    questions: tuple[str, ...]  # the last to be asked, the others to learn from
    answer: str
    grader: Grader
    claim: str
    line: str
    check: Check = "inspected"
    guess: float = 0.0


def of_signature(section: Section, found: Signature, others: Sequence[str]) -> Iterator[Fact]:
    """`others`: parameters that other signatures of the page have."""
    shown = passage.of_signature(section, found)
    if not shown:
        return
    yield from _parameter(section.title, found, shown)
    guess = one_of([p.default for p in found.parameters if p.default])
    told = list(_default(section.title, found, shown, guess))
    yield from told
    missing = absent(others, shown)
    if missing and pick(f"{section.title} silent", 2 if told else 8) == 0:
        yield silent(section.title, shown, wordings.DEFAULT, missing[pick(section.title, len(missing))], guess)


def by_keyword(signatures: Sequence[tuple[Section, Signature]]) -> Iterator[Fact]:
    """As many that must be passed by keyword as that need not, in turns: constant replies gain nothing."""
    yes, no, starless = list[Fact](), list[Fact](), list[Fact]()
    for section, found in signatures:
        if shown := passage.of_signature(section, found):
            only = [p for p in found.parameters if p.kind == "keyword"]
            free = [p for p in found.parameters if p.kind in {"position", "either"}]
            yes += [_keyword(section.title, found, shown, p.name, "behind") for p in _chosen(section.title, only, 2)]
            if not only and "*" in found.text:
                continue
            place = "before" if only else ""
            (no if only else starless).extend(
                _keyword(section.title, found, shown, p.name, place)
                for p in _chosen(section.title, free, 2 if only else 1)
            )
    for one, other in zip(yes, no + starless, strict=False):
        yield from (one, other) if pick(one.heading + one.claim, 2) else (other, one)


def _parameter(heading: str, found: Signature, shown: str) -> Iterator[Fact]:
    near = [k for k, p in enumerate(found.parameters[: len(ORDINALS)]) if p.kind != "collector"]
    if len(found.parameters) < 2 or not near:
        return
    k = near[pick(heading, len(near))]
    name, place = found.parameters[k].name, ORDINALS[k]
    questions = filled(wordings.PARAMETER, place=place, number=str(k + 1), less=found.skipped)
    # Counted, not named at once: what comes next is always next to what was said, which a small model can follow.
    counted = ", ".join(f"{n} `{p.name}`" for n, p in zip(ORDINALS, found.parameters[: k + 1], strict=False))
    claim = f"The {place} parameter, counted: {counted}."
    yield Fact("open-parameter", heading, shown, questions, name, "exact", claim, found.text, guess=1 / len(near))


def _default(heading: str, found: Signature, shown: str, guess: float) -> Iterator[Fact]:
    fit = [p for p in found.parameters if p.literal and fits(p.default) and p.default in found.text]
    # `None` is what most parameters have: whoever always said it would be right too often.
    none = pick(f"{heading} none", 3) == 0
    for p in _chosen(heading, [p for p in fit if p.default != "None"] or (fit if none else []), 2):
        quote = f"{p.name}={p.default}"
        # First as it stands there, for to quote is easier than to tell; then alone, as it is to be answered.
        where = f"The signature has `{quote}`: " if quote in found.text else f"The default of `{p.name}` is "
        claim = f"{where}`{p.default}`."
        questions = filled(wordings.DEFAULT, name=p.name)
        yield Fact("open-default", heading, shown, questions, p.default, "literal", claim, found.text, guess=guess)


def _keyword(heading: str, found: Signature, shown: str, name: str, place: str) -> Fact:
    claim = f"`{name}` stands {place} the `*`." if place else "The signature has no `*`."
    questions = filled(wordings.KEYWORD, name=name)
    answer = "yes" if place == "behind" else "no"
    return Fact("open-keyword", heading, shown, questions, answer, "yesno", claim, found.text, guess=0.5)


def silent(heading: str, shown: str, asks: Sequence[str], name: str, guess: float) -> Fact:
    """A question of another kind about a name that the passage does not hold."""
    claim = f"The passage does not name `{name}`."
    questions = filled(asks, name=name)
    return Fact("open-silent", heading, shown, questions, wordings.SILENT, "exact", claim, "", "grounded", guess)


def one_of(values: Sequence[str]) -> float:
    """The chance of a blind pick among what the passage shows, or that it says nothing: the prompt offers that too."""
    return 1 / (1 + len(set(values)))


def absent(names: Sequence[str], shown: str) -> list[str]:
    """The names that a passage does not hold, not even inside a word."""
    return [name for name in names[:NAMES] if name.casefold() not in shown.casefold()]


def _chosen(heading: str, found: Sequence[Parameter], most: int) -> list[Parameter]:
    return [found[(pick(heading, len(found)) + i) % len(found)] for i in range(min(most, len(found)))]


def fits(answer: str) -> bool:
    """Whether it is one short line that stays the same when Markdown around it and a period after it are taken off."""
    plain = answer.isprintable() and answer == answer.strip(" *`")
    return plain and 0 < len(answer) <= SHORT and (not answer.endswith(".") or answer.endswith(".."))


def literal(value: str) -> bool:
    """Whether it is a value that Python can read."""
    return Parameter("", "either", value).literal
