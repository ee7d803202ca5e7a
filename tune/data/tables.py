"""An HTML table's rows -> texts in their places: spans filled, the nameless rows of a field list joined.

In: rows of cells, and what reads a cell. Out: tuples of text. Knows nothing about headings or blocks.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tune.data.inline import number

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

CELLS = 200_000  # of one table: beyond this a span is an attack, not a table

Text = Callable[["LexborNode"], str]  # what reads a cell


def descended(node: "LexborNode", tags: set[str]) -> Iterator["LexborNode"]:
    """The nearest nodes of these tags: through groups (div, tbody), not through inner tables and lists."""
    for child in node.iter():
        if child.tag in tags:
            yield child
        elif child.tag in {"div", "thead", "tbody", "tfoot"}:
            yield from descended(child, tags)


def field_rows(cells: Sequence[Sequence["LexborNode"]], text_of: Text) -> list[tuple[str, str]]:
    """Names and texts of docutils before 0.16: a long name spans its row, and its text is in the next, nameless one."""
    pairs: list[tuple[str, str]] = []
    for row in cells:
        first, *others = [text_of(cell) for cell in row] or [""]
        name, text = first.rstrip(": "), "\n".join(filter(None, others))
        if name:
            pairs.append((name, text))
        elif pairs and text:
            name, above = pairs[-1]
            pairs[-1] = (name, f"{above}\n{text}".lstrip())
    return pairs


def grid(cells: Sequence[Sequence["LexborNode"]], text_of: Text) -> list[tuple[str, ...]]:
    """Rows of equal length. A cell fills every place that it spans, as in HTML's own table model; 0 rows are all."""
    lines: list[dict[int, str]] = [{} for _ in cells]
    places = 0
    for y, row in enumerate(cells):
        x = 0
        for cell in row:
            while x in lines[y]:
                x += 1
            text = text_of(cell)
            high, wide = number(cell, "rowspan", 1) or len(cells), max(1, number(cell, "colspan", 1))
            places += (below := max(1, min(high, len(cells) - y))) * wide
            if places > CELLS:
                raise ValueError(f"a table of more than {CELLS:,} cells")
            for line in lines[y : y + below]:
                line.update({x + i: text for i in range(wide) if x + i not in line})
            x += wide
    width = max((max(line, default=-1) + 1 for line in lines), default=0)
    return [tuple(line.get(x, "") for x in range(width)) for line in lines]
