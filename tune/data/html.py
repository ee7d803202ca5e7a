"""One HTML file -> title, blocks, documented module and licence. The reader of every HTML source.

In: bytes, and the charset that came with them. Out: a Document, without navigation. What cannot be read is a ValueError
that says why in one line: undecodable bytes, a redirect, no text. Knows nothing about the network or folders.
"""

import codecs
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tune.data.block import Block, render
from tune.data.elements import blocks
from tune.data.inline import classes, plain, squeezed

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

LARGEST = 4_000_000  # characters of HTML: beyond this it is an index or a dump, not a page
DAMAGES = 3  # words with U+FFFD in them that a page about characters may show
NO_TEXT = "no text"
REDIRECT = "a redirect to"  # how the reason begins when a page is nothing else
STUB = 200  # characters: a page that moves on by script and says no more is a redirect

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Browsers read these as their supersets, and so do those who declare them.
_WIDER = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
_META = re.compile(rb"<meta\b[^>]*?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_REFRESH = re.compile(r"\s*(\d+)[\s.\d]*[;,]\s*(?:url\s*=\s*)?[\"']?([^\"']+)", re.IGNORECASE)
_MOVES = re.compile(r"\blocation(?:\.href)?\s*=[^=]|\blocation\.(?:replace|assign)\s*\(")
_DROPPED = ", ".join(
    [
        "script, style, noscript, template, nav, footer, svg, button, input, select, textarea, form label, iframe",
        ".headerlink, .related, .sphinxsidebar, .toctree-wrapper, .linenos, .viewcode-link",
        "div.contents.topic, nav.contents, .navheader, .navfooter, .id_link, .header-anchor",
        ".prev-next-area, .related-pages, .rst-footer-buttons",  # themes of Sphinx: to the pages before and after
        "[role=navigation], [role=search], [role=banner], [role=contentinfo]",
    ]
)
_MAIN = ("[role=main]", "main", "article", "div.body", "body")
_DAMAGE = re.compile(r"[^\W\d_]\ufffd+|\ufffd+[^\W\d_]")  # beside a letter
_STEP = r"(?:Previous|Prev|Next|Up|Home|Contents|Index)(?:: ?[^|\n]{1,120})?"
_BESIDE = re.compile(rf"{_STEP}(?: ?[|\u2022\u00b7\u00ab\u00bb] ?{_STEP})+", re.IGNORECASE)
_LICENSED = re.compile(r"licensed under (?:the )?([^.\n]{3,80}?)(?:\.|\s{2,}|$)", re.IGNORECASE)


class Document(NamedTuple):
    """What one HTML file says. `module` is the Python module that it documents, or empty."""

    title: str
    blocks: tuple[Block, ...]
    module: str
    licence: str


def read(data: bytes, charset: str = "") -> Document:
    """The document in `data`, decoded as `decode` does. Raises ValueError when there is none."""
    return parse(decode(data, charset))


def decode(data: bytes, charset: str = "") -> str:
    """Text of HTML bytes. `charset` is the Content-Type header's; else a byte order mark's, a <meta>'s, or UTF-8.

    Raises ValueError when nobody knows that charset, or the bytes are not in it.
    """
    marked = next((name for bom, name in _BOMS if data.startswith(bom)), "")
    meta = _META.search(data[:4096])
    name = charset.strip("\"' ").lower() or marked or (meta[1].decode().lower() if meta else "utf-8")
    try:
        name = codecs.lookup(name).name
        if name.startswith("utf-16") and not (charset or marked):
            name = "utf-8"  # a <meta> that could be read is not in UTF-16
        text = data.decode(name := _WIDER.get(name, name))
    except LookupError:
        raise ValueError(f"the charset {name!r} that it declares is not known") from None
    except UnicodeError as e:
        raise ValueError(f"its bytes are not {name}: {e}") from None
    return text.removeprefix("\ufeff")


def parse(html: str, named: str = "") -> Document:
    """The document in decoded HTML. Raises ValueError when there is none: a redirect, damaged or no text.

    `named` is the title of a document that has no <h1>, where something other than HTML says it.
    """
    from selectolax.lexbor import LexborHTMLParser

    if len(html) > LARGEST:
        raise ValueError(f"more than {LARGEST:,} characters of HTML")
    tree = LexborHTMLParser(html)
    target = _redirect(tree)
    licence = _licence(tree)
    main = next((node for selector in _MAIN if (node := tree.css_first(selector))), None)
    if main is None:
        raise ValueError("no body")
    module = _module(main)
    _drop(main)
    head = tree.css_first("title")
    if named:
        title = next((text for heading in main.css("h1") if (text := plain(heading))), squeezed(named))
    else:
        title = _title(main, squeezed(head.text()) if head else "")
    try:
        found = blocks(main, [(1, title)])  # what stands above the first heading, or has none
    except RecursionError:
        raise ValueError("nested too deeply") from None
    said = tuple(block for block in found if _says(block))
    if target and sum(len(block.render()) for block in said) < STUB:
        raise ValueError(f"{REDIRECT} {target}, not a page")
    if not said:
        raise ValueError(NO_TEXT)
    if len(_DAMAGE.findall(render(block for block in said if block.kind != "code"))) > DAMAGES:
        raise ValueError("holds U+FFFD inside its words: it was decoded wrongly before it came here")
    return Document(title, said, module, licence)


def _redirect(tree: "LexborHTMLParser") -> str:
    """Where the page sends its reader at once, by <meta> or by script; empty when it does not."""
    for meta in tree.css("meta[http-equiv]"):
        refresh = _REFRESH.match(meta.attributes.get("content") or "")
        if (meta.attributes["http-equiv"] or "").strip().lower() == "refresh" and refresh and int(refresh[1]) <= 10:
            return refresh[2].strip()
    scripts = [script.text() for script in tree.css("script")]
    return "another page" if any(len(text) < STUB and _MOVES.search(text) for text in scripts) else ""


def _drop(main: "LexborNode") -> None:
    """Take out what is no content.

    A <header> stays where the page's own first heading is nowhere else, or where it heads a part of the content. A
    link to a heading stays where it holds the heading.
    """
    headings = main.css("h1")
    outside = main.tag == "body" or any(not _within(heading, main, "header") for heading in headings)
    found = main.css(_DROPPED + (", header" if outside else ""))
    dropped = [
        node for node in found if node.mem_id != main.mem_id and not _heads(node, main)
    ]  # main finds itself, too
    for node in dropped:
        node.decompose()


def _heads(node: "LexborNode", main: "LexborNode") -> bool:
    if node.tag == "header":
        inside = main.tag != "body" or _within(node, main, "section")
        return inside and node.css_first("h2, h3, h4, h5, h6") is not None
    return "header-anchor" in classes(node) and any(c.isalnum() for c in node.text())


def _within(node: "LexborNode", main: "LexborNode", tag: str) -> bool:
    above = node.parent
    while above is not None and above.mem_id != main.mem_id:
        if above.tag == tag:
            return True
        above = above.parent
    return False


def _title(main: "LexborNode", head: str) -> str:
    """The page's title. A first heading that is the site's name is taken out; what stands under it stays.

    `head` is the <title>: it begins with the page's own heading, or else with the site's, so a heading that it begins
    with comes first. Another first heading that is nothing but a link to elsewhere, before one more, names the site.
    """
    first = [heading for heading in main.css("h1") if plain(heading)]
    if first[1:] and _elsewhere(first[0]) and not _begins(head, plain(first[0])):
        first.pop(0).decompose()
    own = [plain(heading) for heading in first]
    lower = [plain(heading) for heading in main.css("h2")]
    named = next((title for title in own + lower if _begins(head, title)), "")
    return named or next(iter(own), "") or head or next(iter(lower), "") or "untitled"


def _begins(head: str, title: str) -> bool:
    rest = head.removeprefix(title)
    return bool(title) and rest != head and not rest[:1].isalnum()


def _elsewhere(heading: "LexborNode") -> bool:
    link = heading.css_first("a[href]")
    return (
        link is not None and not (link.attributes.get("href") or "").startswith("#") and plain(link) == plain(heading)
    )


def _says(block: Block) -> bool:
    """Whether there is more in it than dots and dashes, which are ornament, or the way to the pages beside it."""
    if block.kind != "prose":
        return True
    return any(c.isalnum() or c == "`" for c in block.text) and not _BESIDE.fullmatch(block.text)


def _module(main: "LexborNode") -> str:
    """The first `id="module-x.y"` that names x.y as code, else the prefix that most functions and classes share."""
    for marked in main.css('[id^="module-"]'):
        name = str(marked.attributes["id"]).removeprefix("module-")
        # A heading "Module objects" makes the same id: only a module's own heading shows the name as code.
        if "target" in classes(marked) or any(
            squeezed(c.text()) == name for c in marked.css("h1 code, h2 code, h3 code")
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
    said = _LICENSED.search(squeezed(footer.text())) if footer else None
    return said[1].strip() if said else "unknown"
