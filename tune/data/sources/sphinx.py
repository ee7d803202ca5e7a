"""A folder of built Sphinx HTML as a page source, and the one HTML-to-text function of every HTML source.

In: HTML. Out: pages whose text keeps headings, code blocks and `<dl class="py function">` signatures, without
navigation. Knows nothing about the network.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tune.data.page import Failure, Page, fenced, plain
from tune.errors import UserError

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

LARGEST = 4_000_000  # characters of HTML: beyond this it is an index or a dump, not a page
# Sphinx's own listings: no documentation of their own.
_LISTINGS = re.compile(r"(^|/)(genindex.*|search|py-modindex|modindex|contents|download)\.html$")

_DROPPED = ", ".join(
    [
        "script, style, noscript, template, nav, header, footer, form, svg, button, iframe, .headerlink, .related",
        ".sphinxsidebar, .toctree-wrapper, div.contents, .linenos, .viewcode-link, .clearer",
        "[role=navigation], [role=search]",
    ]
)
_MAIN = ("[role=main]", "main", "article", "div.body", "body")
_INLINE = re.compile(
    "a|abbr|b|bdi|bdo|big|br|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|q|s|samp|small|span|strong|sub|"
    "sup|time|tt|u|var|wbr"
)
_HEADING = re.compile("h[1-6]")
_LICENSED = re.compile(r"licensed under (?:the )?([^.\n]{3,80}?)(?:\.|\s{2,}|$)", re.IGNORECASE)


class Document(NamedTuple):
    """What one HTML file says. `module` is the Python module that it documents, or empty."""

    title: str
    text: str
    module: str
    licence: str


def pages(folder: Path) -> Iterator[Page | Failure]:
    """A page for each HTML file under `folder`, in the order of their names, indexes left out.

    Raises UserError when the folder is missing or holds no HTML.
    """
    if not folder.is_dir():
        raise UserError(
            f"collect.folder: there is no folder {folder}", fix="build the documentation, or edit recipe.toml"
        )
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.html") if p.is_file())
    names = [n for n in names if not n.startswith(("_static/", "_sources/", "_modules/")) and not _LISTINGS.search(n)]
    if not names:
        raise UserError(f"collect.folder: {folder} holds no HTML pages", fix="point it at Sphinx's html output")
    documents: dict[str, Document] = {}
    for name in names:
        try:
            documents[name] = read_html((folder / name).read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError) as e:
            yield Failure(id=f"sphinx:{name}", reason=str(e) or type(e).__name__)
    known = {document.module for document in documents.values()} - {""}
    for name, document in documents.items():
        above, _, stem = name.removesuffix(".html").rpartition("/")
        sibling = stem.partition("-")[0]  # asyncio-dev.html documents no object, yet belongs to asyncio
        yield Page(
            id=f"sphinx:{name}",
            title=document.title,
            module=document.module or (sibling if sibling in known else above.replace("/", ".") or "top"),
            text=document.text,
            source="sphinx",
            licence=document.licence,
        )


def read_html(html: str) -> Document:
    """Title, Markdown-like text, documented module and licence. Raises ValueError when there is no text to read."""
    from selectolax.lexbor import LexborHTMLParser

    if len(html) > LARGEST:
        raise ValueError(f"more than {LARGEST:,} characters of HTML")
    tree = LexborHTMLParser(html)
    licence = _licence(tree)
    head = tree.css_first("title")
    title = _squeeze(head.text()) if head else ""
    main = next((node for selector in _MAIN if (node := tree.css_first(selector))), None)
    if main is None:
        raise ValueError("no body")
    module = _module(main)
    for node in main.css(_DROPPED):
        node.decompose()
    out: list[str] = []
    try:
        _walk(main, out, 1)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    text = "\n\n".join(out)
    if not any(c.isalnum() for c in text):
        raise ValueError("no text")
    heading = next((line[2:] for line in out if line.startswith("# ")), "")
    title = heading or title or "untitled"
    if not heading:
        text = f"# {title}\n\n{text}"
    return Document(title, text, module, licence)


def _module(main: "LexborNode") -> str:
    """The first `id="module-x.y"` that names x.y as code, else the prefix that most functions and classes share."""
    for marked in main.css('[id^="module-"]'):
        name = str(marked.attributes["id"]).removeprefix("module-")
        # A heading "Module objects" makes the same id: only a module's own heading shows the name as code.
        if "target" in _classes(marked) or any(
            _squeeze(c.text()) == name for c in marked.css("h1 code, h2 code, h3 code")
        ):
            return name
    prefixes = Counter(
        prefix.text(strip=True).rstrip(".")
        for kind in ("function", "class", "exception", "data")
        for prefix in main.css(f"dl.py.{kind} > dt > .descclassname")
    )
    prefixes.pop("@", None)  # a decorator's sign is marked up as a prefix too
    return min(prefixes, key=lambda p: (-prefixes[p], p)) if prefixes else ""


def _licence(tree: "LexborHTMLParser") -> str:
    footer = tree.css_first("footer, div.footer")
    said = _LICENSED.search(_squeeze(footer.text())) if footer else None
    return said[1].strip() if said else "unknown"


def _walk(node: "LexborNode", out: list[str], level: int) -> int:
    """Append the blocks of `node`; loose inline content between blocks is a paragraph. Gives back the heading level."""
    loose: list[str] = []

    def flush() -> None:
        said = _squeeze("".join(loose))
        loose.clear()
        if said:
            out.append(plain(said))

    for child in node.iter(include_text=True):
        tag = child.tag or ""
        if tag == "-text" or _INLINE.fullmatch(tag):
            loose.append("\n" if tag == "br" else child.text())
            continue
        flush()
        if _HEADING.fullmatch(tag):
            level = int(tag[1])
            out.append(f"{'#' * level} {_squeeze(child.text())}")
        elif tag == "pre":
            out.append(fenced(child.text().strip("\n"), _language(child)))
        elif tag == "p":
            said = _squeeze(child.text())
            if "admonition-title" in _classes(child):
                said += ":"
            if said:
                out.append(plain(said))
        elif tag in {"ul", "ol"}:
            _items(child, out, level)
        elif tag == "table":
            out.extend(_rows(child))
        elif tag == "dl" and any(c.tag == "dt" and "sig" in _classes(c).split() for c in child.iter()):
            _signatures(child, out, min(level + 1, 6))
        elif tag == "dt":
            out.append(plain(_squeeze(child.text()) + ":"))
        elif not tag.startswith(("-", "!")):
            level = _walk(child, out, level)
    flush()
    return level


def _signatures(node: "LexborNode", out: list[str], level: int) -> None:
    """`<dl class="py ...">`: a heading with the full name, the signatures as code, then what is said of it."""
    names, lines = [], []
    for child in node.iter():
        if child.tag == "dt":
            signature = _squeeze(child.text())
            lines.append(signature)
            names.append(child.attributes.get("id") or signature.partition("(")[0])
        elif child.tag == "dd":
            if lines:
                out.append(f"{'#' * level} {_squeeze(names[0])}")
                out.append(fenced("\n".join(lines), "python"))
                names, lines = [], []
            _walk(child, out, level)
    if lines:
        out.append(f"{'#' * level} {_squeeze(names[0])}")
        out.append(fenced("\n".join(lines), "python"))


def _items(node: "LexborNode", out: list[str], level: int) -> None:
    """One block for the list: each item behind `- `, what follows in it indented. Code in items keeps its own block."""
    lines: list[str] = []
    for item in node.iter():
        blocks: list[str] = []
        _walk(item, blocks, level)
        for i, block in enumerate(blocks):
            if block.startswith("```"):
                if lines:
                    out.append("\n".join(lines))
                out.append(block)
                lines = []
            else:
                lines.append(("- " if i == 0 else "  ") + block.replace("\n", "\n  "))
    if lines:
        out.append("\n".join(lines))


def _rows(table: "LexborNode") -> list[str]:
    """The table as one block, a row a line."""
    rows = [[_squeeze(cell.text()) for cell in row.css("th, td")] for row in table.css("tr")]
    block = "\n".join(f"| {' | '.join(row)} |" for row in rows if any(row))
    return [block] if block else []


def _language(pre: "LexborNode") -> str:
    """python when Sphinx says so, or does not say and the code is a session; else what it says."""
    node, code = pre, pre.text()
    for _ in range(3):
        found = re.search(r"(?:highlight|language)-([a-z0-9]+)", _classes(node))
        if found and found[1] not in {"default", "none"}:
            return "python" if found[1].startswith("py") else found[1]
        if found or node.parent is None:
            break
        node = node.parent
    return "python" if code.lstrip().startswith(">>> ") or (found and found[1] == "default") else ""


def _classes(node: "LexborNode") -> str:
    return node.attributes.get("class") or ""


def _squeeze(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
