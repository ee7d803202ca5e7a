"""Strangers' text on a terminal: escaped (`tune.terminal`), measured, wrapped, set in columns. Pure; writes nothing."""

import unicodedata
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from tune.terminal import escaped as escaped
from tune.terminal import one_line as one_line

BETWEEN = " │ "  # two columns
# Terminals do not agree on the cells of these: joiners and variation selectors of emoji, and their skin tones.
UNSURE = {"\u200d", "\ufe0e", "\ufe0f", *map(chr, range(0x1F3FB, 0x1F400))}


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


def column(total: int, count: int = 2) -> int:
    """Cells of one of `count` columns in a terminal `total` wide, whose last cell stays empty."""
    return (total - 1 - len(BETWEEN) * (count - 1)) // count


def beside(sides: Sequence[Sequence[Line]], columns: int, style: Callable[[Line], str]) -> list[str]:
    """Columns as whole rows; `style` colours a line and leaves its width."""
    out = []
    for row in zip_longest(*sides, fillvalue=Line("")):
        *before, last = row
        cells = [style(line) + " " * (columns - width(line.text)) for line in before]
        out.append(BETWEEN.join([*cells, style(last)]).rstrip(" "))
    return out


def keeps_its_place(text: str) -> bool:
    """Whether terminals draw it where it is put: none that reorders a row would take one with letters from right to
    left apart at a column's edge, and every character's width is agreed upon."""
    return not any(c in UNSURE or unicodedata.bidirectional(c) in {"R", "AL", "AN"} for c in text)


def _cells(c: str) -> int:
    if unicodedata.category(c) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1
