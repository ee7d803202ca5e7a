"""The typed parts of a page: prose, code, table, fields, list and admonition, each under the headings above it.

In: what a reader found. Out: frozen blocks, their sections, and their Markdown rendering. Nobody reads structure out
of that rendering again. Knows nothing about HTML, docstrings or pages.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Filled = Annotated[str, StringConstraints(pattern=r"\S")]


class _Block(BaseModel):
    """`headings` is the path from the page's own heading down to the nearest one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    headings: Annotated[tuple[Filled, ...], Field(min_length=1)]


class Prose(_Block):
    """One paragraph. Inline code keeps its backticks; a docstring's lines stay apart."""

    kind: Literal["prose"] = "prose"
    text: Filled

    def render(self) -> str:
        return self.text


class Code(_Block):
    """Code, verbatim. `language` is empty when nobody said it."""

    kind: Literal["code"] = "code"
    language: str = ""
    text: Filled

    def render(self) -> str:
        return fenced(self.text, self.language)


class Table(_Block):
    """Rows of equally many cells, each in its column: one that spans several is in each. A cell may have lines."""

    kind: Literal["table"] = "table"
    rows: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)]

    def render(self) -> str:
        cells = ([cell.replace("|", r"\|").replace("\n", "<br>") for cell in row] for row in self.rows)
        return "\n".join(f"| {' | '.join(row)} |" for row in cells)


class Fields(_Block):
    """(name, text) pairs: a field list, or terms and their definitions. Names have no colon at their end."""

    kind: Literal["fields"] = "fields"
    pairs: Annotated[tuple[tuple[Filled, str], ...], Field(min_length=1)]

    def render(self) -> str:
        return "\n".join(f"{name}:{chr(10) if chr(10) in text else ' '}{text}".rstrip() for name, text in self.pairs)


class Item(NamedTuple):
    """One item of a list: 0 for the outermost list, "-" or its number ("3."), and its paragraphs, a line each."""

    depth: int
    marker: str
    text: str


class List(_Block):
    """Items in order, those of inner lists behind the item that they are in."""

    kind: Literal["list"] = "list"
    items: Annotated[tuple[Item, ...], Field(min_length=1)]

    def render(self) -> str:
        lines = []
        for depth, marker, text in self.items:
            indent = "  " * depth
            lines.append(f"{indent}{marker} {text}".replace("\n", f"\n{indent}{' ' * (len(marker) + 1)}").rstrip())
        return "\n".join(lines)


class Admonition(_Block):
    """A note, a warning: its title without a colon, and its paragraphs, a line each."""

    kind: Literal["admonition"] = "admonition"
    title: Filled
    text: Filled

    def render(self) -> str:
        return f"{self.title}: {self.text}"


Block = Annotated[Prose | Code | Table | Fields | List | Admonition, Field(discriminator="kind")]


class Section(NamedTuple):
    """Neighbouring blocks under one heading."""

    headings: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def title(self) -> str:
        return self.headings[-1]

    @property
    def code(self) -> list[str]:
        return [block.text for block in self.blocks if block.kind == "code"]


def sections(blocks: Iterable[Block]) -> list[Section]:
    """Blocks by the path of headings above them, in order. A heading with nothing under it is no section."""
    return [Section(path, tuple(found)) for path, found in groupby(blocks, lambda block: block.headings)]


def render(blocks: Iterable[Block]) -> str:
    """Markdown: `#` headings, code in fences, blocks apart by blank lines."""
    out: list[str] = []
    above: tuple[str, ...] = ()
    for path, found in sections(blocks):
        # Those that are new, and the last in any case: it stands again above what goes on under it.
        fresh = [level for level in range(len(path)) if path[: level + 1] != above[: level + 1]] or [len(path) - 1]
        out += [f"{'#' * min(level + 1, 6)} {path[level]}" for level in fresh]
        out += [block.render() for block in found]
        above = path
    return "\n\n".join(out)


def fenced(code: str, language: str = "") -> str:
    """Code between fences longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
