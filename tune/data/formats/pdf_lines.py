"""A PDF's letters -> its lines in reading order, and its ruled tables, without what repeats at the edges of pages.

In: a file's bytes, through pdfplumber. Out: lines with their place, size and whether they are code; the title of the
metadata. What cannot be read is a ValueError that says why. Knows nothing about headings, paragraphs or HTML.
"""

import io
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

PAGES = 5_000
CHARACTERS = 4_000_000
TICK = "\ue000"  # of a private area: stands around code within a line
_MONO = re.compile(
    r"mono|courier|consol|typewriter|menlo|monaco|inconsolata|source-?code|letter ?gothic|nimbusmonl|fira ?code|hack-|"
    r"[-+]code|tt\d*(?:-|$)",  # TeX's: cmtt10, lmtt, t1xtt-Slant
    re.IGNORECASE,
)
_EDGE = 0.12  # of a page's height: where what repeats is no text
_SPACE = 0.12  # of a letter's size: a gap from which on it is a space, in justified lines too
_SAME = 3  # pages that begin or end with the same words, whatever their numbers are


class Line(NamedTuple):
    """One line of one column. Lengths are in points, `top` from the page's top; `marked` has TICK around code."""

    page: int
    top: float
    left: float
    right: float
    size: float
    height: float
    width: float
    code: bool
    text: str
    marked: str


class Ruled(NamedTuple):
    """A table between ruling lines."""

    page: int
    top: float
    rows: tuple[tuple[str, ...], ...]


def read(data: bytes) -> tuple[list[Line | Ruled], str]:
    """Lines and tables in reading order, and the title that the metadata states."""
    import pdfplumber
    from pdfminer.pdfdocument import PDFPasswordIncorrect
    from pdfplumber.utils.exceptions import PdfminerException

    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)  # it complains of every odd font
    try:
        pdf = pdfplumber.open(io.BytesIO(data))
    except PdfminerException as e:
        if isinstance(e.__cause__ or (e.args[0] if e.args else None), PDFPasswordIncorrect):
            raise ValueError("encrypted: it needs a password") from None
        raise ValueError(f"no PDF, or a broken one: {_cause(e)}") from None
    with pdf:
        if len(pdf.pages) > PAGES:
            raise ValueError(f"more than {PAGES:,} pages")
        pages, heights, letters, pictures = [], [], 0, 0
        for number, page in enumerate(pdf.pages):
            pages.append(list(_page(page, number)))
            heights.append(float(page.height))
            letters += sum(len(line.text) for line in pages[-1] if isinstance(line, Line))
            pictures += bool(page.images)
            page.close()
            if letters > CHARACTERS:
                raise ValueError(f"more than {CHARACTERS:,} characters")
        said = (pdf.metadata or {}).get("Title")
    lines = [line for page in _without_edges(pages, heights) for line in page]
    text = "".join(line.text for line in lines if isinstance(line, Line))
    if not any(c.isalnum() for c in text):
        raise ValueError("no text: scanned? run OCR first" if pictures else "no text")
    if len(re.findall(r"\(cid:\d+\)", text)) * 20 > len(text):
        raise ValueError("its fonts do not say which letters they show: run OCR first")
    return lines, said.strip() if isinstance(said, str) and " " in said.strip() else ""


def _cause(e: Exception) -> str:
    inner = e.args[0] if e.args and isinstance(e.args[0], Exception) else e
    return f"{type(inner).__name__}: {inner}".rstrip(": ")


def _page(page: Any, number: int) -> Iterator[Line | Ruled]:
    """A page's columns one after the other, tables where they begin."""
    tables = [table for table in page.find_tables() if _is_table(table)]
    boxes = [table.bbox for table in tables]
    ruled = [Ruled(number, box[1], _rows(table)) for table, box in zip(tables, boxes, strict=True)]
    page = page.filter(lambda o: o["object_type"] != "char" or (o.get("upright", True) and not _inside(o, boxes)))
    words = page.extract_words(extra_attrs=["fontname", "size"], x_tolerance_ratio=_SPACE, use_text_flow=False)
    rows = _rows_of(words)
    for part in _columns(rows, float(page.width)):
        lines = [line for row in part if (line := _line(row, number))]
        while lines or (ruled and part is None):
            if ruled and ruled[0].top < lines[0].top:
                yield ruled.pop(0)
            else:
                yield lines.pop(0)
    yield from ruled


def _is_table(table: Any) -> bool:
    """Whether it has cells beside and below each other; a frame around code has one."""
    return len(table.rows) > 1 and max(sum(1 for cell in row.cells if cell) for row in table.rows) > 1


def _rows(table: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple((cell or "").strip() for cell in row) for row in table.extract(x_tolerance_ratio=_SPACE))


def _inside(o: dict[str, Any], boxes: Sequence[Any]) -> bool:
    x, y = (o["x0"] + o["x1"]) / 2, (o["top"] + o["bottom"]) / 2
    return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)


def _rows_of(words: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Words by the line that they stand on, whose letters may be of several sizes."""
    out: list[list[dict[str, Any]]] = []
    for word in sorted(words, key=lambda w: (w["bottom"], w["x0"])):
        size = float(word["size"])
        if out and word["bottom"] - out[-1][0]["bottom"] < 0.45 * size:
            out[-1].append(word)
        else:
            out.append([word])
    return [sorted(row, key=lambda w: w["x0"]) for row in out]


def _columns(rows: Sequence[list[dict[str, Any]]], width: float) -> Iterator[list[list[dict[str, Any]]]]:
    """Rows in reading order: left column, right column, from one line across both to the next."""
    gutter = _gutter(rows, width)
    left: list[list[dict[str, Any]]] = []
    right: list[list[dict[str, Any]]] = []
    for row in rows:
        if not gutter or any(w["x0"] < gutter < w["x1"] for w in row) or not _parts(row, gutter):
            yield left
            yield right
            yield [row]
            left, right = [], []
        else:
            one, other = [w for w in row if w["x1"] <= gutter], [w for w in row if w["x0"] >= gutter]
            left += [one] if one else []
            right += [other] if other else []
    yield left
    yield right


def _gutter(rows: Sequence[list[dict[str, Any]]], width: float) -> float:
    """Where two columns part, or 0. Lines of a column nearly fill it: those of a table without rules do not."""
    if len(rows) < 8:
        return 0.0
    for share in (0.5, 0.49, 0.51, 0.48, 0.52, 0.47, 0.53, 0.45, 0.55):
        x = width * share
        apart = [row for row in rows if not any(w["x0"] < x < w["x1"] for w in row)]
        both = [row for row in apart if row[0]["x1"] <= x <= row[-1]["x0"] and _parts(row, x)]
        if len(both) < 0.5 * len(rows) or len(apart) < 0.7 * len(rows):
            continue
        ends = [max(w["x1"] for w in row if w["x1"] <= x) for row in both]
        begins = [min(w["x0"] for w in row if w["x0"] >= x) for row in both]
        start, end = min(row[0]["x0"] for row in both), max(row[-1]["x1"] for row in both)
        filled = (median(ends) - start) / (x - start), (end - median(begins)) / (end - x)
        if min(filled) > 0.75 and _ragged(begins) < 0.3 * width:
            return x
    return 0.0


def _ragged(begins: Sequence[float]) -> float:
    return median(abs(b - median(begins)) for b in begins)


def _parts(row: Sequence[dict[str, Any]], x: float) -> bool:
    """Whether nothing, or a gap wider than between words, is at x."""
    before = [w["x1"] for w in row if w["x1"] <= x]
    after = [w["x0"] for w in row if w["x0"] >= x]
    return not before or not after or min(after) - max(before) > 8


def _line(row: Sequence[dict[str, Any]], number: int) -> Line | None:
    letters = [(len(w["text"]), round(float(w["size"]) * 2) / 2, bool(_MONO.search(w["fontname"]))) for w in row]
    total = sum(n for n, _, _ in letters)
    if not total:
        return None
    sizes = Counter[float]()
    for n, size, _ in letters:
        sizes[size] += n
    mono = sum(n for n, _, is_mono in letters if is_mono)
    width = sum(w["x1"] - w["x0"] for w in row) / total
    code = mono >= 0.8 * total
    text, marked, end = "", "", 0.0
    for word, (_, _, is_mono) in zip(row, letters, strict=True):
        gap = word["x0"] - end
        space = " " * max(1, round(gap / width)) if code and text else " " if text else ""
        joined = space if gap > _SPACE * float(word["size"]) or code else ""
        tick = TICK if is_mono and not code else ""
        text += joined + word["text"]
        marked += f"{joined}{tick}{word['text']}{tick}"
        end = word["x1"]
    marked = re.sub(f"{TICK}( ?){TICK}", r"\1", marked)
    size, top = sizes.most_common(1)[0][0], min(w["top"] for w in row)
    return Line(
        number, top, row[0]["x0"], end, size, max(size * 1.15, 1.0), width, code, text, text if code else marked
    )


def _without_edges(pages: list[list[Line | Ruled]], heights: Sequence[float]) -> list[list[Line | Ruled]]:
    """Pages without running heads, feet and page numbers: at the height where most pages say what others say too."""
    edges: dict[int, list[Line]] = defaultdict(list)
    for page, height in zip(pages, heights, strict=True):
        for line in page:
            if isinstance(line, Line) and not _EDGE * height < line.top < (1 - _EDGE) * height:
                edges[round(line.top / 3)].append(line)
    said = Counter(text for _, text in {(line.page, _numberless(line)) for place in edges.values() for line in place})
    gone: set[int] = set()
    for place in edges.values():
        alike = [line for line in place if said[_numberless(line)] >= _SAME]
        if len({line.page for line in alike}) < _SAME:
            continue
        most = len(alike) >= 0.5 * len(place)  # then the others there are heads too, each of a chapter
        gone |= {id(line) for line in (place if most else alike if len(alike) >= 0.3 * len(pages) else ())}
    return [[line for line in page if id(line) not in gone] for page in pages]


def _numberless(line: Line) -> str:
    return re.sub(r"\d+|\b[ivxlc]+\b", "#", line.text)
