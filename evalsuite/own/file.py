"""A JSONL or CSV file of a team's own questions -> its rows, each with its line, and what is wrong with the others.

Knows the columns and that a cell is text; what a question has to be is `take`'s. Nothing here raises but for a file
that cannot be read as a whole.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tune.errors import UserError
from tune.terminal import one_line

NEEDED = ("prompt", "answer", "grader")
COLUMNS = (*NEEDED, "kind", "module", "split", "id", "developer", "guess")
POINTS = "points"  # of an object alone: a list


class Row(NamedTuple):
    """One question as it was written: its cells without the empty ones, or the `fault` that it has as a row."""

    line: int  # where it begins, from 1
    cells: dict[str, str]
    fault: str = ""


def rows(path: Path, data: bytes) -> list[Row]:
    """Every row of the file, in order; of a name that ends in .csv as CSV, of .jsonl and .json as one object a line.

    A byte order mark and Windows line ends are taken off. Raises UserError for another name, for bytes that are not
    UTF-8 or hold a NUL, and for a CSV whose first line does not name the columns.
    """
    again = f"edit {path}, then evalsuite questions take {path}"
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".jsonl", ".json"}:
        raise UserError(f"{path} is neither CSV nor JSONL by its name", fix="name it .csv or .jsonl")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise UserError(f"{path} is not UTF-8", why=f"line {line}: {e.reason}", fix="save it as UTF-8") from None
    if (at := text.find("\0")) >= 0:
        why = f"line {text.count(chr(10), 0, at) + 1}: no text has one; the file is cut, binary or UTF-16"
        raise UserError(f"{path} holds a NUL byte", why=why, fix="save it as UTF-8 text")
    found = list(_csv(path, text, again) if suffix == ".csv" else _jsonl(text))
    if not found:
        raise UserError(f"{path} holds no question", fix=again)
    return found


def _jsonl(text: str) -> Iterator[Row]:
    # Not splitlines: a prompt may hold any other line separator that Unicode has.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield _object(number, json.loads(line))
            except (ValueError, RecursionError) as e:
                why = str(e) if isinstance(e, ValueError) else "it is nested too deeply"
                yield Row(number, {}, f"is not JSON: {one_line(why, 80)}")


def _object(number: int, found: Any) -> Row:
    if not isinstance(found, dict):
        return Row(number, {}, "is no JSON object")
    if other := sorted(found.keys() - {*COLUMNS, POINTS}):
        return Row(number, {}, f"has an unknown key {_quoted(other[0])}; there are {', '.join((*COLUMNS, POINTS))}")
    cells = {}
    for name, value in found.items():
        if name == POINTS:
            value = json.dumps(value)
        if name == "guess" and isinstance(value, int | float) and not isinstance(value, bool):
            value = repr(value)
        if value is not None and not isinstance(value, str):
            return Row(number, {}, f"{name} is no text: put it between quotation marks")
        cells[name] = (value or "").replace("\r\n", "\n")
    return _row(number, cells)


def _csv(path: Path, text: str, again: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header, start = list[str](), 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as e:  # an open quotation mark: where the next row would begin, nobody knows
            yield Row(start, {}, f"is not CSV: {e}")
            return
        if not header:
            header = _header(path, cells, again)
        elif len(cells) > len(header):
            yield Row(
                start, {}, f"has {len(cells)} cells, and the header {len(header)}: a comma outside quotation marks"
            )
        elif any(cell.strip() for cell in cells):
            yield _row(start, dict(zip(header, cells, strict=False)))
        start = reader.line_num + 1


def _header(path: Path, cells: list[str], again: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    lacking = [name for name in NEEDED if name not in names]
    other = [name for name in names if name not in COLUMNS]
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if lacking or other or twice:
        why = [f"it lacks {', '.join(lacking)}"] * bool(lacking)
        why += [f"it has an unknown column {_quoted(column)}" for column in other[:1]]
        why += [f"{', '.join(twice)} stands there twice"] * bool(twice)
        raise UserError(
            f"the first line of {path} does not name the columns",
            why="\n       ".join([*why, f"there are {', '.join(COLUMNS)}; the first three are needed"]),
            fix=again,
        )
    return names


def _row(number: int, cells: dict[str, str]) -> Row:
    """Without empty cells; text that no file could hold is a fault."""
    for name, value in cells.items():
        if any("\ud800" <= c <= "\udfff" for c in value):
            return Row(number, {}, f"{name} holds half of a surrogate pair, which is no text")
    return Row(number, {name: value for name, value in cells.items() if value.strip()})


def _quoted(value: str) -> str:
    return f'"{one_line(value, 40)}"'
