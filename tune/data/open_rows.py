"""Blocks with rows -> facts of kind open-value: what a table, a field list or a list of terms gives for a name.

In: a block. Out: a fact a few rows. Lists that a docstring draws with signs (`name -- text`, aligned columns) are rows
too. Knows nothing about pages, signatures or prompts.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from tune.data import wordings
from tune.data.block import Block, Fields, Table
from tune.data.open_kinds import Fact, absent, fits, one_of, silent
from tune.data.passage import PASSAGE
from tune.data.wordings import filled, pick

_T = TypeVar("_T")

WIDTH = 420  # characters of rows in one passage
ROWS = 8

_MARK = r" *(?:[-*\u2022] )?"
_SIGNED = (  # a row's name and text, by what stands between them
    re.compile(_MARK + r"(\S.{0,38}?) +(?:--|\u2013|\u2014) +(\S.*)"),
    re.compile(_MARK + r"(\S(?: ?\S){0,38}?) {2,}(\S.*)"),
    re.compile(_MARK + r"([\w.*'()\[\]%\\-]{1,40}): +(\S.*)"),
)
_RULER = re.compile(r"[\s=+-]*")
_CUT = re.compile(r"[,;:(]$| (?:a|an|and|as|by|for|if|in|is|of|on|or|than|that|the|to|with)$")  # it goes on

_NO_WORDS = {"nan", "nat", "inf", "none", "null", "true", "false", "e"}


class _Row(NamedTuple):
    """`lines` as the passage shows them; `text` is what they say of `name`, empty when it is no short answer."""

    name: str
    text: str
    lines: str


def facts(heading: str, block: Block, others: Sequence[str]) -> Iterator[Fact]:
    """`others` are names that the page has elsewhere."""
    if block.kind == "table":
        yield from _of_table(heading, block, others)
    elif block.kind == "fields":
        yield from _of_rows(heading, _fields(block), others)
    elif block.kind == "list":
        yield from _of_rows(heading, signed([f"{item.marker} {item.text}" for item in block.items]), others)
    elif block.kind == "prose":
        yield from _of_rows(heading, signed(block.text.split("\n")), others)


def names(block: Block) -> list[str]:
    """What its rows are about."""
    if block.kind == "table":
        return [row[0] for row in block.rows[1:]]
    if block.kind == "fields":
        return [row.name for row in _fields(block)]
    lines = [f"- {i.text}" for i in block.items] if block.kind == "list" else []
    return [row.name for row in signed(block.text.split("\n") if block.kind == "prose" else lines)]


def _fields(block: Fields) -> list[_Row]:
    """A row a pair, or one for each parameter where Sphinx lists them all in one."""
    pairs = [(signed(text.split("\n")), name, text) for name, text in block.pairs]
    return [
        row
        for rows, name, text in pairs
        for row in rows or [_Row(name, " ".join(text.split()), f"{name}: {text}".rstrip())]
    ]


def signed(lines: Sequence[str]) -> list[_Row]:
    """Rows with the sign that most lines have, all in one column; any other line goes on with the row above. Empty for
    mere text."""
    rows: list[_Row] = []
    sign = max(_SIGNED, key=lambda sign: sum(bool(sign.fullmatch(line)) for line in lines))
    found = [None if _RULER.fullmatch(line) else sign.fullmatch(line) for line in lines]
    places = {_places(one, sign is _SIGNED[1]) for one in found if one}
    for line, one in zip(lines, found, strict=True):
        if one and _places(one, sign is _SIGNED[1]) == min(places):
            name, text = re.sub(r" \(.*\)$", "", one[1]), one[2].strip().removesuffix(".")
            rows.append(_Row(name, "" if _CUT.search(text) else text, line.strip()))
        elif _RULER.fullmatch(line):
            rows = rows[1:] if len(rows) == 1 else rows  # that one headed the columns
        elif rows:
            rows[-1] = _Row(rows[-1].name, "", f"{rows[-1].lines}\n{line.rstrip()}")
    mere = any(
        "|" in row.lines or "  " in row.text or row.text[:1] in {"=", "#"} or row.name[-1] in ".,;:!?" for row in rows
    )
    said = [line for line in lines if not _RULER.fullmatch(line)]
    return [] if mere or 2 * len(rows) < len(said) else rows


def _places(found: re.Match[str], columns: bool) -> tuple[int, int]:
    """Where a row's name starts, and its text when that makes a column."""
    return found.start(1), found.start(2) if columns else 0


def _of_rows(heading: str, rows: Sequence[_Row], others: Sequence[str]) -> Iterator[Fact]:
    for part in _parts(rows):
        shown = "\n".join(row.lines for row in part)
        fit = [row for row in part if fits(row.text) and _once(row.name, [r.name for r in part]) and row.text in shown]
        guess = one_of([row.text for row in part if row.text])
        for row in _chosen(heading, fit):
            claim = f"The passage says of `{row.name}`: {row.text}."
            line = next((line for line in row.lines.split("\n") if row.text in line), "")
            questions = filled(wordings.VALUE, name=row.name)
            if line:
                yield Fact("open-value", heading, shown, questions, row.text, "exact", claim, line, "grounded", guess)
        yield from _silent(heading, shown, others, guess if fit else None)


def _of_table(heading: str, table: Table, others: Sequence[str]) -> Iterator[Fact]:
    head, *body = table.rows
    if not any(_said(row[0]) or sum(map(_said, row[1:])) * 2 > len(row) - 1 for row in body):
        return  # somebody's data, which an example prints: numbers in numbered rows
    above, *lines = table.render().split("\n")
    rows = [_Row(row[0], "", line) for row, line in zip(body, lines, strict=True)]
    cells = dict(zip((row.lines for row in rows), body, strict=True))
    for part in _parts(rows) if len(above) < PASSAGE - WIDTH else []:
        shown = "\n".join([above, *(row.lines for row in part)])
        found = [
            (row, head[k], cells[row.lines][k])
            for row in part
            for k in range(1, len(head))
            if _once(row.name, [r.name for r in part]) and fits(cells[row.lines][k]) and fits(head[k])
        ]
        found = [one for one in found if one[2] in one[0].lines and head.count(one[1]) == 1 and fits(one[0].name)]
        for row, column, cell in _chosen(heading, found):
            claim = f"`{row.name}` has {cell} under {column}."
            questions = filled(wordings.CELL, name=row.name, column=column)
            guess = one_of([of_it for _, its, of_it in found if its == column])
            yield Fact("open-value", heading, shown, questions, cell, "exact", claim, row.lines, "grounded", guess)
        yield from _silent(heading, shown, others, one_of([cell for *_, cell in found]) if found else None)


def _said(cell: str) -> bool:
    """Whether it has a word in it."""
    return any(word.casefold() not in _NO_WORDS for word in re.findall(r"[^\W\d_]+", cell))


def _silent(heading: str, shown: str, others: Sequence[str], guess: float | None) -> Iterator[Fact]:
    """`guess`: None where nothing was asked of the passage."""
    missing = [name for name in absent(others, shown) if fits(name)]
    if guess is not None and missing and pick(f"{heading}{shown}", 2) == 0:
        yield silent(heading, shown, wordings.VALUE, missing[pick(shown, len(missing))], guess)


def _parts(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Neighbouring rows, two at least, as many as a passage takes."""
    part: list[_Row] = []
    for row in rows:
        if part and (len(part) == ROWS or sum(len(r.lines) + 1 for r in part) + len(row.lines) > WIDTH):
            if len(part) > 1:
                yield part
            part = []
        if len(row.lines) <= WIDTH:
            part.append(row)
    if len(part) > 1:
        yield part


def _chosen(heading: str, found: Sequence[_T]) -> list[_T]:
    """One of every two, at least one."""
    most = (len(found) + 1) // 2
    return [found[(pick(heading, len(found)) + i * len(found) // most) % len(found)] for i in range(most)]


def _once(name: str, all_names: Sequence[str]) -> bool:
    return all_names.count(name) == 1
