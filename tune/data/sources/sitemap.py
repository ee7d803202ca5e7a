"""A sitemap's XML -> the addresses in it (sitemaps.org, protocol 0.9). A stranger's file: no entities, flat memory.

In: bytes. Out: each <loc> to a callback, one for pages and one for further sitemaps. Read by the standard library's
expat in small pieces, and ended at the first DTD: entities, which could expand without end or name files, need one.
"""

import xml.parsers.expat
from collections.abc import Callable

from tune.data.sources.address import LONGEST

LARGEST = 52_428_800  # bytes, unzipped: the protocol's own limit
_PIECE = 1 << 16


def read(data: bytes, page: Callable[[str], object], further: Callable[[str], object]) -> None:
    """Call `page` or `further` with each address, in order. Raises ValueError, in one line, when it is no sitemap."""
    parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    path: list[str] = []
    text: list[str] = []
    root = ""

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal root
        path.append(name.rpartition(" ")[2])
        root = root or path[0]
        if root not in {"urlset", "sitemapindex"}:
            raise ValueError(f"its root is <{root[:40]}>, not <urlset> or <sitemapindex>")
        if len(path) > 20:
            raise ValueError("nested too deeply")
        text.clear()

    def end(_: str) -> None:
        # <image:loc> and the like lie deeper: an address of the map is the third element down.
        loc = "".join(text).strip()
        if path == ["urlset", "url", "loc"] and len(loc) <= LONGEST:
            page(loc)
        elif path == ["sitemapindex", "sitemap", "loc"] and len(loc) <= LONGEST:
            further(loc)
        path.pop()
        text.clear()

    def words(part: str) -> None:
        if path[-1] == "loc" and sum(map(len, text)) <= LONGEST:
            text.append(part)

    def doctype(*_: object) -> None:
        raise ValueError("it has a DTD, which no sitemap needs")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = words, doctype
    try:
        for begin in range(0, len(data), _PIECE):
            parser.Parse(data[begin : begin + _PIECE], False)
        parser.Parse(b"", True)
    except xml.parsers.expat.ExpatError as e:
        raise ValueError(f"broken XML: {e}") from None
