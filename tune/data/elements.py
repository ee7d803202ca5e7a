"""HTML elements -> blocks, in the order of the page.

In: a node of a parsed tree, the headings above it. Out: blocks. Headings are plain text; prose keeps the backticks of
inline code. A block that no item, field, cell or admonition can hold (code, a table) stands after it, on its own. Knows
nothing about files, titles or what belongs to the page at all.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune.data.block import Admonition, Block, Code, Fields, Item, List, Prose, Table
from tune.data.inline import classes, is_code, is_inline, language, marked, number, plain, squeezed, verbatim
from tune.data.tables import descended, field_rows, grid

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_HEADING = re.compile("h[1-6]")
_DOCBOOK = {"note", "tip", "warning", "caution", "important"}
_FOOTNOTE = {"footnote", "citation"}  # docutils'
_DOMAINS = {"py": "python", "c": "c", "cpp": "cpp", "js": "javascript"}  # Sphinx's, and their languages
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
    if _FOOTNOTE.intersection(classes(child)) and (label := child.css_first("span.label")):
        return _footnote(child, label, path)
    if {"admonition", "markdown-alert"}.intersection(classes(child)) or _docbook_title(child):
        return _admonition(child, path)
    return blocks(child, list(path) if tag in {"details", "aside"} else path)


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
    """`<dl class="py ...">`, or another Sphinx domain's.

    Under a heading with the object's name stand the signatures as code, then what is said of it.
    """
    out: list[Block] = []
    inside, lines = list(path), list[str]()
    named = classes(node)
    written = next((_DOMAINS[name] for name in named if name in _DOMAINS), "")

    def flush() -> None:
        if lines:
            out.append(Code(headings=_headings(inside), language=written, text="\n".join(lines)))
            lines.clear()

    for child in node.iter():
        if child.tag == "dt" and (signature := squeezed(child.text())):
            if not lines:
                name = _object(child, "py" in named) or squeezed(signature.partition("(")[0]) or signature
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


def _object(dt: "LexborNode", by_id: bool) -> str:
    """What a signature is of: Python's ids are full names, those of other domains are not."""
    if by_id:
        return squeezed(dt.attributes.get("id") or "")
    name = dt.css_first(".sig-name, .descname")
    return plain(name) if name else ""


def _fields(node: "LexborNode", path: Path) -> list[Block]:
    """Terms and definitions. Terms that share a definition are one name."""
    out: list[Block] = []
    pairs: list[tuple[str, str]] = []
    names: list[str] = []

    def flush() -> None:
        if pairs:
            out.append(Fields(headings=_headings(path), pairs=tuple(pairs)))
            pairs.clear()

    for child in descended(node, {"dt", "dd"}):
        if child.tag == "dt":
            for classifier in child.css("span.classifier"):  # docutils' style sheet draws the colon
                classifier.insert_before(" : ")
            names.append(squeezed(marked(child)).rstrip(": "))
            continue
        text, rest = _leading(child, path, "prose", "list")
        name = ", ".join(name for name in names if name)
        if name:
            pairs.append((name, text))
        elif text and pairs:  # one more definition of the same
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]}\n{text}".lstrip())
        elif text:
            out += _prose(text, path)
        names.clear()
        if rest:
            flush()
            out += rest
    if name := ", ".join(name for name in names if name):
        pairs.append((name, ""))
    flush()
    return out


def _footnote(node: "LexborNode", label: "LexborNode", path: Path) -> list[Block]:
    name = plain(label)
    label.decompose()
    text, rest = _leading(node, path, "prose", "list")
    return [Fields(headings=_headings(path), pairs=((name, text),)), *rest] if name and text else rest


def _admonition(node: "LexborNode", path: Path) -> list[Block]:
    title, heading = "", _docbook_title(node)
    for child in node.iter():
        if child.tag == "summary" or heading or any(name.endswith("-title") for name in classes(child)):
            title = plain(child).rstrip(": ")
            child.decompose()
            break
    text, rest = _leading(node, path, "prose", "list")
    if not title or not text:
        return [*_prose(title, path), *_prose(text, path), *rest]
    return [Admonition(headings=_headings(path), title=title, text=text), *rest]


def _docbook_title(node: "LexborNode") -> bool:
    """Whether it begins with a heading that is no section's: DocBook's title, or the kind of note itself."""
    kinds = _DOCBOOK.intersection(classes(node)) if node.tag == "div" else set()
    first = next(node.iter(), None) if kinds else None
    if first is None or not _HEADING.fullmatch(first.tag or ""):
        return False
    return "title" in classes(first) or plain(first).rstrip(": ").lower() in kinds


def _table(node: "LexborNode", path: Path) -> list[Block]:
    """The caption as prose, then the table. One lone cell is layout, not a table."""
    rows = list(descended(node, {"tr"}))
    cells = [[cell for cell in row.iter() if cell.tag in {"td", "th"}] for row in rows]

    def cell(node: "LexborNode") -> str:
        return _lines(blocks(node, _in_cell(path)))

    out = [block for child in node.iter() if child.tag == "caption" for block in blocks(child, _in_cell(path))]
    if len(lone := [cell for row in cells for cell in row]) == 1:
        return [*out, *blocks(lone[0], list(path))]
    if "field-list" in classes(node) and (pairs := field_rows(cells, cell)):
        return [*out, Fields(headings=_headings(path), pairs=tuple(pairs))]
    full = [row for row in grid(cells, cell) if any(row)]
    return [*out, Table(headings=_headings(path), rows=tuple(full))] if full else out


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


def _headings(path: Path) -> tuple[str, ...]:
    return tuple(title for _, title in path)
