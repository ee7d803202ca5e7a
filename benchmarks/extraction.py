"""What reaches the pages of `tune collect` from folders of documents: code blocks, tables, and navigation.

    python benchmarks/extraction.py FOLDER [FOLDER ...] [--lost N]

In the raw files are counted: <pre> elements with text, fences and indented code, RST's literal blocks and code
directives; and tables with text in two cells or more. Each counts as kept when its text, without white space, stands
somewhere in its page. HTML is counted wherever it stands.
Repeated are lines of pages that stand on over a fifth of a set's pages, in parts of all letters.
"""

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import click

from tune.data.html import decode
from tune.data.page import Failure, Page
from tune.data.sources import folder as source
from tune.data.sources import listing

REPEATED = 0.2  # of a set's pages
_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[^`\n]*\n(.*?)^\1\2[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
_BEGIN = re.compile(
    r"( *(?:[-*+] +|\d+\. +)*)(?! )(\.\. (?:code-block|sourcecode|code|parsed-literal)::|(?!\.\. ).*::$)"
)
_LINK = re.compile(r"\]\([^)]*\)|\]\[[^\]]*\]|\[\^\w+\]|<[^<>]+>")  # what no reader sees
_ROW = re.compile(r"^[ \t]*\|.*\|[ \t]*\n[ \t]*\|[ \t:|-]+\|[ \t]*\n(?:[ \t]*\|.*\n?)*", re.MULTILINE)


class Count(NamedTuple):
    files: int
    pages: int
    code: int
    code_kept: int
    tables: int
    tables_kept: int
    letters: int
    repeated: int


def bare(text: str) -> str:
    """Letters and figures alone: what marks, spaces and fences do is not looked at."""
    return "".join(c for c in text if c.isalnum())


class Pieces(HTMLParser):
    """The texts of <pre> elements and of tables' cells, found by Python's own parser, which the reader does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, str, list[str]]] = []  # tag, classes, cells or lines
        self.code: list[str] = []
        self.tables: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        said = given.get("class") or given.get("summary") or ""  # DocBook's navigation has a summary
        if tag in {"pre", "table"}:
            self.open.append((tag, said, [""]))
        elif tag in {"td", "th"} and self.open and self.open[-1][0] == "table":
            self.open[-1][2].append("")
            if "linenos" in said:
                self.open.append(("linenos", "", [""]))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"} and self.open and self.open[-1][0] == "linenos":
            self.open.pop()
        elif tag in {"pre", "table"} and self.open and self.open[-1][0] == tag:
            _, said, pieces = self.open.pop()
            if tag == "pre" and not any(above == "linenos" for above, _, _ in self.open):
                self.code.append("".join(pieces))
            cells = [cell for cell in pieces[1:] if bare(cell)]
            if tag == "table" and len(cells) > 1 and not re.search("highlighttable|^Navigation", said):
                self.tables.append(" ".join(cells))
            for _, _, outer in self.open:
                outer[-1] += "".join(pieces)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1][2][-1] += data


def of_html(data: bytes) -> tuple[list[str], list[str]]:
    """Texts of the code blocks, and of the tables that say something in two cells or more."""
    pieces = Pieces()
    pieces.feed(decode(data))
    return pieces.code, pieces.tables


def of_text(text: str, suffix: str) -> tuple[list[str], list[str]]:
    if suffix == ".rst":
        return list(literals(text.split("\n"))), []
    return [found[3] for found in _FENCE.finditer(text)], [_LINK.sub("", found[0]) for found in _ROW.finditer(text)]


def literals(lines: list[str]) -> Iterator[str]:
    """RST's literal blocks: what is set in deeper than the text of the line that announces them."""
    at = 0
    while at < len(lines):
        begun = _BEGIN.match(lines[at].rstrip())
        at += 1
        if not begun:
            continue
        while begun[2].startswith("..") and re.match(r" +:[\w-]+:", lines[at] if at < len(lines) else ""):
            at += 1
        start = at
        while at < len(lines) and (not lines[at].strip() or len(lines[at]) - len(lines[at].lstrip()) > len(begun[1])):
            at += 1
        yield "\n".join(lines[start:at])


def raw(path: Path) -> tuple[list[str], list[str]]:
    """(code, tables) of one file, as far as its own format says; PDF and DOCX say nothing."""
    suffix = listing.kind(path.as_posix())
    data = path.read_bytes()
    if suffix in listing.HTML:
        code, tables = of_html(data)
    elif suffix in {".pdf", ".docx"}:
        return [], []
    else:
        code, tables = of_text(data.decode("utf-8", "replace"), suffix)
    return [c for c in code if bare(c)], [t for t in tables if bare(t)]


def measure(root: Path, lost: int) -> Count:
    found = {page.id.partition(":")[2]: page for page in source.pages(root, report=print)}
    pages = {name: page for name, page in found.items() if isinstance(page, Page)}
    for failure in [page for page in found.values() if isinstance(page, Failure)][:lost]:
        print(f"  failure: {failure.id}: {failure.reason}")
    total: Counter[str] = Counter()
    for name, page in pages.items():
        text, (code, tables) = bare(page.text.replace("<br>", " ")), raw(root / name)
        for kind, pieces in (("code", code), ("tables", tables)):
            total[kind] += len(pieces)
            for piece in pieces:
                if kept(piece.replace("<br>", " "), text, kind):
                    total[f"{kind} kept"] += 1
                elif (lost := lost - 1) >= 0:
                    print(f"  lost {kind} of {name}: {' '.join(piece.split())[:150]!r}")
    letters, repeated, lines = navigation(list(pages.values()))
    for line, count in lines[: max(0, lost)]:
        print(f"  on {count} of {len(pages)} pages: {line[:100]!r}")
    return Count(len(found), len(pages), total["code"], total["code kept"], total["tables"], total["tables kept"],
                 letters, repeated)  # fmt: skip


def kept(piece: str, text: str, kind: str) -> bool:
    """Code must stand there whole; of a table every word, since cells in columns may stand in another order."""
    if bare(piece) in text:
        return True
    return kind == "tables" and all(bare(word) in text for word in piece.split())


def navigation(pages: list[Page]) -> tuple[int, int, list[tuple[str, int]]]:
    """Letters of all pages, those in lines that repeat, and the lines with the number of pages."""
    on = Counter(line for page in pages for line in set(_lines(page)))
    often = {line: n for line, n in on.items() if n > max(2, REPEATED * len(pages))}
    letters = sum(len(line) for page in pages for line in _lines(page))
    repeated = sum(len(line) for page in pages for line in _lines(page) if line in often)
    return letters, repeated, sorted(often.items(), key=lambda item: -item[1])


def _lines(page: Page) -> Iterator[str]:
    """Lines of prose; code and the marks of tables and headings repeat for reasons of their own."""
    for block in page.blocks:
        if block.kind != "code":
            yield from (line.strip() for line in block.render().split("\n") if len(bare(line)) > 2)


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


@click.command(help=__doc__)
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--lost", default=0, help="Show so many of what is lost or repeats, a folder.")
def main(folders: tuple[Path, ...], lost: int) -> None:
    rows = []
    for root in folders:
        c = measure(root, lost)
        rows.append(
            f"| {root.name} | {c.files} | {c.pages} | {c.code} | {share(c.code_kept, c.code)} | {c.tables} | "
            f"{share(c.tables_kept, c.tables)} | {share(c.repeated, c.letters)} |"
        )
    print("| set | files | pages | code blocks | kept | tables | kept | repeated lines |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
