"""HTML elements -> blocks, in the order of the page.

In: a node of a parsed tree, the headings above it. Out: blocks. Headings are plain text; prose keeps the backticks of
inline code. A block that no item, field, cell or admonition can hold (code, a table) stands after it, on its own. Knows
nothing about files, titles or what belongs to the page at all.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tune.data.block import Admonition, Block, Code, Fields, Item, List, Prose, Table
from tune.data.inline import classes, is_code, is_inline, language, marked, number, plain, squeezed, verbatim

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

CELLS = 200_000  # of one table: beyond this a span is an attack, not a table

_HEADING = re.compile("h[1-6]")
_CELL = -1  # the level of a path's first step inside a table's cell, where a heading is a line

Path = list[tuple[int, str]]  # level and text of each heading above


def blocks(node: "LexborNode", path: Path) -> list[Block]:
    """The blocks under `node`. `path` is changed: it ends with the headings above what comes after the node."""
    out: list[Block] = []
    loose: list[str] = []  # inline content between blocks: a paragraph

    def flush() -> None:
        out.extend(_prose(squeezed("".join(loose)), path))
        loose.clear()

    def walk(parent: "LexborNode") -> None:
        for child in parent.iter(include_text=True):
            tag = child.tag or ""
            if tag in {"-text", "br"} or is_code(child):
                loose.append(marked(child))
            elif is_inline(tag):
                space = " " if tag == "label" else ""
                loose.append(space)
                walk(child)
                loose.append(space)
            elif not tag.startswith(("-", "!")):
                flush()
                out.extend(_block(child, tag, path))

    walk(node)
    flush()
    return out


def _block(child: "LexborNode", tag: str, path: Path) -> list[Block]:
    named = classes(child)
    if _HEADING.fullmatch(tag):
        title = plain(child)
        if path[0][0] == _CELL:
            return _prose(title, path)
        if title:
            path[:] = [step for step in path if step[0] < int(tag[1])] + [(int(tag[1]), title)]
        return []
    if tag == "p":
        return _prose(squeezed(marked(child)), path)
    if tag == "pre":
        return _code(child, path)
    if tag in {"ul", "ol"}:
        return _list(child, path)
    if tag == "table":
        return _table(child, path)
    if tag == "dl":
        signed = any(c.tag == "dt" and "sig" in classes(c) for c in child.iter())
        return _signatures(child, path) if signed else _fields(child, path)
    if "admonition" in named or "markdown-alert" in named:
        return _admonition(child, path)
    return blocks(child, path)


def _prose(text: str, path: Path) -> list[Block]:
    return [Prose(headings=_headings(path), text=text)] if text else []


def _code(pre: "LexborNode", path: Path) -> list[Block]:
    text = verbatim(pre)
    return [Code(headings=_headings(path), language=language(pre, text), text=text)] if text.strip() else []


def _list(node: "LexborNode", path: Path) -> list[Block]:
    out: list[Block] = []
    items: list[Item] = []

    def flush() -> None:
        if items:
            out.append(List(headings=_headings(path), items=tuple(items)))
            items.clear()

    count = number(node, "start", 1)
    for child in node.iter():
        if child.tag == "li":
            count = number(child, "value", count)
            text, rest = _leading(child, path, "prose")
            if text or not rest or rest[0].headings == _headings(path):
                items.append(Item(0, f"{count}." if node.tag == "ol" else "-", text))
            count += 1
        else:  # a list within a list, though no item holds it
            rest = _block(child, child.tag or "", list(path))
        if rest and isinstance(inner := rest[0], List) and inner.headings == _headings(path):
            items += [Item(depth + 1, marker, text) for depth, marker, text in inner.items]
            rest = rest[1:]
        if rest:
            flush()
            out += rest
    flush()
    return out


def _signatures(node: "LexborNode", path: Path) -> list[Block]:
    """`<dl class="py ...">`: under a heading with the full name, the signatures as code, then what is said of it."""
    out: list[Block] = []
    inside, lines = list(path), list[str]()

    def flush() -> None:
        if lines:
            out.append(Code(headings=_headings(inside), language="python", text="\n".join(lines)))
            lines.clear()

    for child in node.iter():
        if child.tag == "dt" and (signature := squeezed(child.text())):
            if not lines:
                name = squeezed(child.attributes.get("id") or signature.partition("(")[0]) or signature
                inside = [
                    *((min(level, 0), title) for level, title in path),
                    (0, name),
                ]  # no heading in there ends the object
            lines.append(signature)
        elif child.tag == "dd":
            flush()
            out += blocks(child, list(inside))
    flush()
    return out


def _fields(node: "LexborNode", path: Path) -> list[Block]:
    """Terms and definitions. Terms that share a definition are one name."""
    out: list[Block] = []
    pairs: list[tuple[str, str]] = []
    names: list[str] = []

    def flush() -> None:
        if pairs:
            out.append(Fields(headings=_headings(path), pairs=tuple(pairs)))
            pairs.clear()

    for child in _descended(node, {"dt", "dd"}):
        if child.tag == "dt":
            names.append(squeezed(marked(child)).rstrip(": "))
            continue
        text, rest = _leading(child, path, "prose", "list")
        name = ", ".join(name for name in names if name)
        if name:
            pairs.append((name, text))
        elif text:
            flush()
            out += _prose(text, path)
        names.clear()
        if rest:
            flush()
            out += rest
    if name := ", ".join(name for name in names if name):
        pairs.append((name, ""))
    flush()
    return out


def _admonition(node: "LexborNode", path: Path) -> list[Block]:
    title = ""
    for child in node.iter():
        if child.tag == "summary" or any(name.endswith("-title") for name in classes(child)):
            title = plain(child).rstrip(": ")
            child.decompose()
            break
    text, rest = _leading(node, path, "prose", "list")
    if not title or not text:
        return [*_prose(title, path), *_prose(text, path), *rest]
    return [Admonition(headings=_headings(path), title=title, text=text), *rest]


def _table(node: "LexborNode", path: Path) -> list[Block]:
    """The caption as prose, then the table. One lone cell is layout, not a table."""
    rows = list(_descended(node, {"tr"}))
    cells = [[cell for cell in row.iter() if cell.tag in {"td", "th"}] for row in rows]
    out = [block for child in node.iter() if child.tag == "caption" for block in blocks(child, _in_cell(path))]
    if len(lone := [cell for row in cells for cell in row]) == 1:
        return [*out, *blocks(lone[0], list(path))]
    if "field-list" in classes(node) and (pairs := _field_rows(cells, path)):
        return [*out, Fields(headings=_headings(path), pairs=tuple(pairs))]
    grid = [row for row in _grid(cells, path) if any(row)]
    return [*out, Table(headings=_headings(path), rows=tuple(grid))] if grid else out


def _field_rows(cells: Sequence[Sequence["LexborNode"]], path: Path) -> list[tuple[str, str]]:
    """Names and texts of docutils before 0.16: a long name spans its row, and its text is in the next, nameless one."""
    pairs: list[tuple[str, str]] = []
    for row in cells:
        first, *others = [_cell(cell, path) for cell in row] or [""]
        name, text = first.rstrip(": "), "\n".join(filter(None, others))
        if name:
            pairs.append((name, text))
        elif pairs and text:
            name, above = pairs[-1]
            pairs[-1] = (name, f"{above}\n{text}".lstrip())
    return pairs


def _grid(cells: Sequence[Sequence["LexborNode"]], path: Path) -> list[tuple[str, ...]]:
    """Rows of equal length. A cell fills every place that it spans, as in HTML's own table model; 0 rows are all."""
    grid: list[dict[int, str]] = [{} for _ in cells]
    places = 0
    for y, row in enumerate(cells):
        x = 0
        for cell in row:
            while x in grid[y]:
                x += 1
            text = _cell(cell, path)
            high, wide = number(cell, "rowspan", 1) or len(cells), max(1, number(cell, "colspan", 1))
            places += (below := max(1, min(high, len(cells) - y))) * wide
            if places > CELLS:
                raise ValueError(f"a table of more than {CELLS:,} cells")
            for line in grid[y : y + below]:
                line.update({x + i: text for i in range(wide) if x + i not in line})
            x += wide
    width = max((max(line, default=-1) + 1 for line in grid), default=0)
    return [tuple(line.get(x, "") for x in range(width)) for line in grid]


def _cell(cell: "LexborNode", path: Path) -> str:
    return _lines(blocks(cell, _in_cell(path)))


def _in_cell(path: Path) -> Path:
    return [(_CELL, path[0][1]), *path[1:]]


def _leading(node: "LexborNode", path: Path, *kinds: str) -> tuple[str, list[Block]]:
    """The lines of the first blocks, as long as they are of these kinds and under no heading of the node's own.

    With them the other blocks. A node that holds nothing but a heading says that.
    """
    found = blocks(node, inside := list(path))
    if not found and inside != path:
        return inside[-1][1], []
    own = (i for i, block in enumerate(found) if block.kind not in kinds or block.headings != _headings(path))
    count = next(own, len(found))
    return _lines(found[:count]), found[count:]


def _lines(found: Sequence[Block]) -> str:
    """Blocks as the lines of a cell, an item or a field; code as it is, without a fence."""
    return "\n".join(block.text if block.kind == "code" else block.render() for block in found)


def _descended(node: "LexborNode", tags: set[str]) -> Iterator["LexborNode"]:
    """The nearest nodes of these tags: through groups (div, tbody), not through inner tables and lists."""
    for child in node.iter():
        if child.tag in tags:
            yield child
        elif child.tag in {"div", "thead", "tbody", "tfoot"}:
            yield from _descended(child, tags)


def _headings(path: Path) -> tuple[str, ...]:
    return tuple(title for _, title in path)
