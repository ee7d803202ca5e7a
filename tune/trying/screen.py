"""Text of strangers on a terminal: escaped (`tune.terminal`), measured, wrapped, and set in two columns. Pure; writes
nothing."""

import unicodedata
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from tune.terminal import escaped as escaped
from tune.terminal import one_line as one_line

BETWEEN = " │ "  # two columns


class Line(NamedTuple):
    """One row of one column, escaped and no wider than it. `look` is a style of the display: "", "dim", "bold"."""

    text: str
    look: str = ""


def width(text: str) -> int:
    """Cells that escaped text takes in a terminal's row: two for East Asian wide characters, none for marks."""
    return sum(map(_cells, text))


def wrap(text: str, columns: int) -> list[str]:
    """Rows of at most `columns` cells (two or more) of escaped text: broken at spaces, and inside a word that is
    longer than a row. Nothing but the spaces at a break is lost."""
    rows = []
    for paragraph in text.split("\n"):
        row, used = "", 0
        for c in paragraph:
            while row and used + _cells(c) > columns:
                kept = row.rfind(" ") + 1
                if c == " " or not row[:kept].strip():
                    kept = len(row)
                rows.append(row[:kept].rstrip(" "))
                row = row[kept:]
                used = width(row)
                if c == " ":
                    break
            else:
                row, used = row + c, used + _cells(c)
        rows.append(row.rstrip(" "))
    return rows


def column(total: int) -> int:
    """Cells of one of two columns in a terminal `total` wide, whose last cell stays empty."""
    return (total - 1 - len(BETWEEN)) // 2


def beside(left: Sequence[Line], right: Sequence[Line], columns: int, style: Callable[[Line], str]) -> list[str]:
    """Two columns as whole rows; `style` colours a line and leaves its width."""
    out = []
    for one, other in zip_longest(left, right, fillvalue=Line("")):
        space = " " * (columns - width(one.text))
        out.append(f"{style(one)}{space}{BETWEEN}{style(other)}".rstrip(" "))
    return out


def _cells(c: str) -> int:
    if unicodedata.category(c) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1
