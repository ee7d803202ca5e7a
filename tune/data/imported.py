"""Somebody's conversations as examples: a team's own rows beside those from pages, or general ones.

In: a file of the recipe. Out: examples, each checked by nobody ("given"), and what was refused, as they are read. Knows
nothing of tokens, filters or the split.

A row with an analysis is of the effort that it names (`reasoning_effort`), else medium, which is what a server applies
when nobody says. A row without one is low, whatever it names: so the prompt says that little thinking is meant, and
harmony.render_training learns it from its first word on. That an answer begins with a bare `final` header is never
learned, and at medium and high every answer that is learned has an analysis before it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tune.data import conversations, rowfile
from tune.data.conversations import MALFORMED, Refused
from tune.data.examples import Example
from tune.errors import UserError
from tune.harmony import EFFORTS, Effort

ENOUGH = 1000  # general rows, none of them a conversation, after which no further one is looked at
SHOWN = 5  # line numbers of a reason, in the one line that is said of a file


class Refusal(NamedTuple):
    """A row that became no example."""

    id: str
    reason: str
    detail: str


class Source(NamedTuple):
    """Where rows come from: what they are called in ids and messages, of which kind they are, and the rows."""

    name: str
    kind: Literal["imported", "general"]
    rows: Iterable[tuple[int, object]]


def of_file(folder: Path, path: Path, kind: Literal["imported", "general"]) -> Source:
    """The rows of a file that a recipe in `folder` names."""
    return Source(called(path), kind, rowfile.read(folder / path))


def called(path: Path) -> str:
    """A file's name in ids: as the recipe says, without the folders of a machine."""
    return path.name if path.is_absolute() else path.as_posix()


def read(
    source: Source, efforts: Sequence[Effort], report: Callable[[str], None] = lambda _: None
) -> Iterator[Example | Refusal]:
    """Every row of a source in order, and one line of what was found in the end.

    Raises UserError when over half of the rows are no conversations, or none is there.
    """
    forms, refused, numbers = Counter[str](), Counter[str](), dict[str, list[int]]()
    blank, first = 0, ""
    for number, held in source.rows:
        try:
            if isinstance(held, rowfile.Bad):
                raise Refused(MALFORMED, held.why)
            found = conversations.read(held)
        except Refused as e:
            refused[e.reason] += 1
            if refused[e.reason] <= SHOWN:
                numbers.setdefault(e.reason, []).append(number)
            first = first or (f"line {number}: {e.detail}" if e.reason == MALFORMED else "")
            yield Refusal(_id(source, number), e.reason, f"{source.name}:{number}: {e.detail}")
            if source.kind == "general" and refused[MALFORMED] == ENOUGH and not forms:
                break  # a data set of the Hub may have millions of them
            continue
        forms[found.form] += 1
        blank += found.messages[-1].thinking is None
        yield _example(source, number, found, efforts)
    total = forms.total() + refused.total()
    if 2 * refused[MALFORMED] > total:
        raise UserError(
            f"{source.name} holds few conversations: {refused[MALFORMED]:,} of {total:,} rows are none",
            why=first,
            fix="write messages, conversations, instruction and output, or prompt and completion: see README",
        )
    if not total:
        raise UserError(f"{source.name} holds no rows", fix="edit [dataset] in recipe.toml")
    report(f"dataset: {source.name}: {_told(forms, refused, numbers, blank)}")


def _example(source: Source, number: int, found: conversations.Conversation, efforts: Sequence[Effort]) -> Example:
    name = _id(source, number)
    return Example(
        id=name,
        page=name,
        module=source.name,
        kind=source.kind,
        messages=found.messages,
        effort=effort(found, efforts),
        provenance=f"{source.name}:{number}",
        check="given",
    )


def effort(found: conversations.Conversation, efforts: Sequence[Effort]) -> Effort:
    """The effort of a conversation: see above. One that the recipe leaves out is medium, or its highest."""
    if found.messages[-1].thinking is None:
        return "low"
    if found.effort and found.effort in efforts:
        return found.effort
    return "medium" if "medium" in efforts else max(efforts, key=EFFORTS.index)


def _id(source: Source, number: int) -> str:
    return f"{'rows' if source.kind == 'imported' else source.kind}:{source.name}:{number}"


def _told(forms: Counter[str], refused: Counter[str], numbers: dict[str, list[int]], blank: int) -> str:
    parts = [f"{n:,} rows of {form}" for form, n in forms.most_common()]
    parts += [f"{blank:,} of them without analysis, at effort low"] if blank else []
    for reason, n in refused.most_common():
        lines = ", ".join(map(str, numbers[reason])) + (", …" if n > len(numbers[reason]) else "")
        parts.append(f"{n:,} refused: {reason} (line {lines})")
    return "; ".join(parts)
