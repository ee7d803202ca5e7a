"""What reaches the pages of `tune collect` from folders of documents: code blocks, tables, and navigation.

    python benchmarks/extraction.py FOLDER [FOLDER ...] [--lost N] [--against HTML | --as docx]

In the raw files are counted: <pre> elements with text, fences and indented code, RST's literal blocks and code
directives; and tables with text in two cells or more. Each counts as kept when its text, without white space, stands
somewhere in its page, and as what it is when it stands in blocks of code, or all its words in tables. HTML is counted
wherever it stands.
With --against, what is counted is not in the files but in the HTML that others built of the same sources: the page of
the same name for a source, all pages for a PDF. With --as docx, pandoc makes a DOCX of each HTML file, which is read.
Repeated are lines of pages that stand on over a fifth of a set's pages, in parts of all letters.
"""

import re
import subprocess
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
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
    as_code: int
    tables: int
    tables_kept: int
    as_tables: int
    letters: int
    repeated: int


def bare(text: str) -> str:
    """Letters and figures alone: what marks, spaces and fences do is not looked at."""
    return "".join(c for c in unicodedata.normalize("NFKC", text) if c.isalnum())


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


Pair = tuple[list[str], list[str]]  # code, tables


def raw(path: Path) -> Pair:
    """(code, tables) of one file, as far as its own format says; PDF and DOCX say nothing."""
    suffix = listing.kind(path.as_posix())
    data = path.read_bytes()
    if suffix in listing.HTML:
        return said(*of_html(data))
    return ([], []) if suffix in {".pdf", ".docx"} else said(*of_text(data.decode("utf-8", "replace"), suffix))


def said(code: list[str], tables: list[str]) -> Pair:
    return [c for c in code if bare(c)], [t for t in tables if bare(t)]


def built(html: Path) -> Callable[[Path], Pair]:
    """What tells (code, tables) of a source or a PDF: the HTML in `html` that others built of it."""
    pages = {listing.stem(name): html / name for name in listing.files(html).pages}

    def of(path: Path) -> Pair:
        name = listing.stem(path.as_posix())
        own = [pages[key] for key in pages if name.endswith(f"_sources/{key}")]
        found = [raw(one) for one in (pages.values() if path.suffix == ".pdf" else own)]
        return [c for code, _ in found for c in code], [t for _, tables in found for t in tables]

    return of


def docx(root: Path, made: Path) -> Callable[[Path], Pair]:
    """Fill `made` with a DOCX of each HTML file in `root`, and tell what is in the HTML of each."""
    for path in (path for name in listing.files(root).pages if (path := root / name).suffix in listing.HTML):
        to = made / f"{path.relative_to(root).as_posix()}.docx"
        to.parent.mkdir(parents=True, exist_ok=True)
        main = re.search(
            r"<(div|main)[^>]*role=.main.*(?=<div[^>]*sphinxsidebar|</main>|<footer)", path.read_text(), re.DOTALL
        )
        body = main[0] if main else path.read_text()
        subprocess.run(["pandoc", "-f", "html", "-o", to], input=body, text=True, check=True, stderr=subprocess.DEVNULL)
    return lambda path: raw(root / path.relative_to(made).with_suffix(""))


def measure(root: Path, lost: int, truth: Callable[[Path], Pair] = raw) -> Count:
    found = {page.id.partition(":")[2]: page for page in source.pages(root, report=print)}
    pages = {name: page for name, page in found.items() if isinstance(page, Page)}
    for failure in [page for page in found.values() if isinstance(page, Failure)][:lost]:
        print(f"  failure: {failure.id}: {failure.reason}")
    total: Counter[str] = Counter()
    for name, page in pages.items():
        text = bare(page.text.replace("<br>", " "))
        typed = {
            "code": bare("".join(block.text for block in page.blocks if block.kind == "code")),
            "tables": bare("".join(block.render() for block in page.blocks if block.kind == "table")),
        }
        for kind, pieces in zip(typed, truth(root / name), strict=True):
            total[kind] += len(pieces)
            for piece in (piece.replace("<br>", " ") for piece in pieces):
                whole = kept(piece, typed[kind], kind)
                there = whole or kept(piece, text, kind)  # fences stand between the two halves of code on two pages
                total[f"as {kind}"] += whole
                total[f"{kind} kept"] += there
                if not whole and (lost := lost - 1) >= 0:
                    print(f"  {'not as' if there else 'lost'} {kind} of {name}: {' '.join(piece.split())[:150]!r}")
    letters, repeated, lines = navigation(list(pages.values()))
    for line, count in lines[: max(0, lost)]:
        print(f"  on {count} of {len(pages)} pages: {line[:100]!r}")
    return Count(len(found), len(pages), total["code"], total["code kept"], total["as code"], total["tables"],
                 total["tables kept"], total["as tables"], letters, repeated)  # fmt: skip


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
@click.option(
    "--against", type=click.Path(exists=True, path_type=Path), help="HTML that was built of the same sources."
)
@click.option("--as", "form", type=click.Choice(["docx"]), help="Make documents of this format of the HTML first.")
def main(folders: tuple[Path, ...], lost: int, against: Path | None, form: str | None) -> None:
    rows = []
    for root in folders:
        with tempfile.TemporaryDirectory() as made:
            if form:
                c = measure(Path(made), lost, docx(root, Path(made)))
            else:
                c = measure(root, lost, built(against) if against else raw)
        rows.append(
            f"| {root.name} | {c.files} | {c.pages} | {c.code} | {share(c.code_kept, c.code)} | "
            f"{share(c.as_code, c.code)} | {c.tables} | {share(c.tables_kept, c.tables)} | "
            f"{share(c.as_tables, c.tables)} | {share(c.repeated, c.letters)} |"
        )
    print("| set | files | pages | code blocks | kept | as code | tables | kept | as tables | repeated lines |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
