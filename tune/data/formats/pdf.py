"""PDF -> Document: its lines as `pdf_lines` finds them, as HTML for the reader of all HTML.

In: a file's bytes. Out: the Document: headings by the size of their letters, code by fonts of one width, lists, tables
that have ruling lines; words that a line's end cut in two are whole again. What repeats at the edges of pages is left
out. What cannot be read is a ValueError: encrypted, broken, or pictures of pages. Knows nothing about folders.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from tune.data.formats import pdf_lines
from tune.data.formats.pdf_lines import Line, Ruled
from tune.data.formats.text import document
from tune.data.html import Document

LEVELS = 4  # sizes of headings that are told apart
_BULLET = re.compile(r"[•‣◦▪●○■\uf0b7–]\s+")
_NUMBER = re.compile(r"(\d{1,3})[.)]\s+")
_DOTS = re.compile(r"(?:\.[ ]?){4,}\s*(?:\d+|[ivxlc]+)\s*$")  # a line of a table of contents
_HYPHEN = re.compile(r"(\w+)-$")


def read(data: bytes, name: str = "") -> Document:
    """The document in a PDF file; `name` is its title when it has no heading. Raises ValueError without text."""
    found, title = pdf_lines.read(data)
    letters = Counter[float]()
    for line in found:
        if isinstance(line, Line) and not line.code:
            letters[line.size] += len(line.text)
    normal = letters.most_common(1)[0][0] if letters else 0.0
    leading = _leading([line for line in found if isinstance(line, Line) and line.size == normal])
    sizes = sorted((size for size in letters if size > normal * 1.12), reverse=True)
    return document("\n".join(_html(found, sizes, leading)), name, title)


def _leading(lines: Sequence[Line]) -> float:
    """How far lines of a paragraph lie apart, in parts of their size: as most of them do."""
    steps = [(b.top - a.top) / a.size for a, b in pairwise(lines) if b.page == a.page]
    common = Counter(round(step, 1) for step in steps if 0.9 < step < 2.5).most_common(1)
    return common[0][0] if common else 1.2


def _html(found: Sequence[Line | Ruled], sizes: Sequence[float], leading: float) -> Iterable[str]:
    words = Counter(word for line in found if isinstance(line, Line) for word in re.findall(r"[\w-]+", line.text))
    at = 0
    while at < len(found):
        line = found[at]
        if isinstance(line, Ruled):
            yield _table(line)
            at += 1
            continue
        kind = _kind(line, sizes)
        end = at + 1
        while end < len(found) and _goes_on(found[end - 1], found[end], kind, sizes, leading):
            end += 1
        lines = [line for line in found[at:end] if isinstance(line, Line)]
        at = end
        if kind == "code":
            yield f"<pre>{escape(_code(lines))}</pre>"
        elif kind == "heading":
            level = min(sizes.index(line.size) + 1, LEVELS)
            yield f"<h{level}>{_ticked(escape(_joined(lines, words)))}</h{level}>"
        elif kind == "item":
            text = _joined(lines, words)
            numbered = _NUMBER.match(text)
            item = _ticked(escape(text[(numbered or _BULLET.match(text) or re.match("", text)).end() :]))  # type: ignore[union-attr]
            yield f'<ol start="{numbered[1]}"><li>{item}</li></ol>' if numbered else f"<ul><li>{item}</li></ul>"
        elif not _DOTS.search(line.text):
            yield f"<p>{_ticked(escape(_joined(lines, words)))}</p>"


def _kind(line: Line, sizes: Sequence[float]) -> str:
    if line.code:
        return "code"
    if line.size in sizes and len(line.text) < 200 and any(c.isalpha() for c in line.text):
        return "heading"
    return "item" if _BULLET.match(line.text) or _NUMBER.match(line.text) else "prose"


def _goes_on(above: Line | Ruled, below: Line | Ruled, kind: str, sizes: Sequence[float], leading: float) -> bool:
    """Whether the line below is part of what the line above is in."""
    if isinstance(above, Ruled) or isinstance(below, Ruled) or _DOTS.search(above.text) or _DOTS.search(below.text):
        return False
    if _kind(below, sizes) != ("prose" if kind == "item" else kind):
        return False
    turned = below.page != above.page or below.top < above.top  # another page or column
    gap = below.top - above.top
    if kind == "code":
        return turned or gap < 4 * above.height
    if kind == "heading":
        return not turned and below.size == above.size and gap < 1.6 * above.height
    if kind == "item" and not turned and below.left < above.left - 1:
        return False
    if turned:
        return above.text[-1:] not in ".:!?" and below.text[:1].islower()
    if kind == "prose" and below.left - above.left > 6 and above.text[-1:] in ".:!?":
        return False  # its first line is set in
    return gap < (leading + 0.2) * above.size and abs(below.size - above.size) < 0.6


def _code(lines: Sequence[Line]) -> str:
    """Code with its indentation, by the width of a letter, and its empty lines."""
    left, out = min(line.left for line in lines), list[str]()
    steps = [b.top - a.top for a, b in pairwise(lines) if b.page == a.page and b.top > a.top]
    step = min(steps, default=0.0)
    for i, line in enumerate(lines):
        gap = line.top - lines[i - 1].top if i and line.page == lines[i - 1].page else 0.0
        if step and gap > 1.5 * step:
            out += [""] * min(round(gap / step) - 1, 3)
        out.append(" " * round((line.left - left) / line.width if line.width else 0) + line.text)
    return "\n".join(out)


def _joined(lines: Sequence[Line], words: Counter[str]) -> str:
    """Lines as one. A hyphen at a line's end goes, unless the document writes the word with it elsewhere."""
    out = ""
    for line in lines:
        cut, rest = _HYPHEN.search(out), re.match(r"\w+", line.marked)
        if cut and rest and rest[0][0].islower():
            kept = words[f"{cut[1]}-{rest[0]}"] and not words[cut[1] + rest[0]]
            out = (out if kept else out[:-1]) + line.marked
        else:
            out = f"{out} {line.marked}".lstrip()
    return out


def _ticked(text: str) -> str:
    return re.sub(f"{pdf_lines.TICK}(.*?){pdf_lines.TICK}", r"<code>\1</code>", text).replace(pdf_lines.TICK, "")


def _table(ruled: Ruled) -> str:
    rows = ("".join(f"<td>{escape(cell).replace(chr(10), ' ')}</td>" for cell in row) for row in ruled.rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
