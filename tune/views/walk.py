"""A finished dataset read line by line: each example with the row that was made of it. Flat in memory.

In: work/dataset. Out: examples with side, tokens and place; later, single rows by their place.
What a page of text holds may be anything, so lines are read as JSON and shown, never refused for a character.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic_core import from_json

from tune.errors import UserError, reason
from tune.harmony import IGNORE

FILES = ("examples.jsonl", "train.jsonl", "eval.jsonl")
SIDES = ("train", "eval")


class Turn(NamedTuple):
    """One message as it is shown: who (system, developer, user, analysis or answer) says what."""

    who: str
    text: str


class Told(NamedTuple):
    """An example as it lies in examples.jsonl, by its place there."""

    id: str
    page: str
    kind: str
    effort: str
    check: str
    provenance: str
    turns: tuple[Turn, ...]

    @property
    def texts(self) -> list[str]:
        """Questions, analyses and answers: what of a page may stand in."""
        return [turn.text for turn in self.turns if turn.who != "developer"]


class Walked(NamedTuple):
    """An example, the side of its row and the row's line there, from 0, and its tokens."""

    told: Told
    side: str
    line: int
    tokens: int
    learned: int


class Files(NamedTuple):
    """The dataset's files, held open: a dataset made anew meanwhile is another one, and changes nothing here."""

    folder: Path
    handles: Mapping[str, BinaryIO]

    def lines(self, name: str) -> Iterator[bytes]:
        """From the beginning, each time."""
        self.handles[name].seek(0)
        return iter(self.handles[name])


@contextmanager
def opened(folder: Path) -> Iterator[Files]:
    """Raises UserError when the dataset lacks one of its files."""
    with ExitStack() as stack:
        try:
            handles = {name: stack.enter_context((folder / name).open("rb")) for name in FILES}
        except FileNotFoundError as e:
            raise UserError(f"{folder} lacks {Path(e.filename).name}", fix="tune dataset") from None
        yield Files(folder, handles)


def walk(files: Files) -> Iterator[Walked]:
    """Every example with its row, in order. The stage writes the rows of each side in the order of the examples, so
    each example's row is the next one of either side. Raises UserError where it is not, or a line cannot be read."""
    sides = {side: _rows(files, side) for side in SIDES}
    next_of = {side: next(rows, None) for side, rows in sides.items()}
    path = files.folder / "examples.jsonl"
    for number, line in enumerate(files.lines(path.name), 1):
        told = _read(line, path, number, _told)
        side = next((s for s, row in next_of.items() if row and row[1] == told.id), None)
        row = next_of[side] if side else None
        if side is None or row is None:
            what = f"{files.folder}/examples.jsonl:{number} has no row in train.jsonl or eval.jsonl at its place"
            raise UserError(what, why="the files are not of one making", fix="tune dataset")
        yield Walked(told, side, row[0], row[2], row[3])
        next_of[side] = next(sides[side], None)


def ids(line: bytes) -> tuple[list[int], list[int]]:
    """input_ids and labels of a row."""
    row = json.loads(line)
    return row["input_ids"], row["labels"]


def told(line: bytes) -> Told:
    """One example, of a line that `walk` has passed."""
    return _told(json.loads(line))


def _rows(files: Files, side: str) -> Iterator[tuple[int, str, int, int]]:
    """Line, id, tokens and learned tokens of each row."""
    path = files.folder / f"{side}.jsonl"
    for number, line in enumerate(files.lines(path.name)):
        yield number, *_read(line, path, number + 1, _sizes)


def _sizes(row: Any) -> tuple[str, int, int]:
    return row["id"], len(row["input_ids"]), len(row["labels"]) - row["labels"].count(IGNORE)


def _told(found: Any) -> Told:
    turns: list[Turn] = []
    for message in found["messages"]:
        if message["role"] == "assistant":
            turns += [Turn("analysis", message["thinking"])] if message.get("thinking") is not None else []
            turns.append(Turn("answer", message["content"]))
        else:
            turns.append(Turn(message["role"], message["content"]))
    fields = {name: str(found.get(name, "")) for name in Told._fields if name != "turns"}
    return Told(**fields, turns=tuple(turns))


def _read(line: bytes, path: Path, number: int, how: Any) -> Any:
    try:
        try:
            found = from_json(line)  # five times as fast
        except ValueError:
            found = json.loads(line)  # which takes half a character, too
        return how(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise UserError(f"{path}:{number} cannot be read", why=reason(e), fix="tune dataset") from None
