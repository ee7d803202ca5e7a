"""A folder of built Sphinx HTML as a page source.

In: the folder. Out: a page for each HTML file but Sphinx's own listings, grouped by the module that it documents or
belongs to. Knows nothing about what is in a page, nor about the network.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tune.data import html
from tune.data.page import Failure, Page
from tune.errors import UserError

# Sphinx's own listings: no documentation of their own.
_LISTINGS = re.compile(r"(^|/)(genindex.*|search|py-modindex|modindex|contents|download)\.html$")


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
    documents: dict[str, html.Document] = {}
    for name in names:
        try:
            documents[name] = html.read((folder / name).read_bytes())
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
            blocks=document.blocks,
            source="sphinx",
            licence=document.licence,
        )
