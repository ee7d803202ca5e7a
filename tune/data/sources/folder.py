"""A folder of documents as a page source: HTML, Markdown, reStructuredText, PDF and DOCX, mixed as they lie.

In: the folder. Out: a page or a failure for each file, grouped by the module that it documents or belongs to. Built
Sphinx HTML is such a folder, without Sphinx's own listings. Knows nothing about what is in a page, nor the network.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tune.data import apart, html, licence
from tune.data.formats import docx, markdown, pdf, rst
from tune.data.formats.included import Place
from tune.data.page import Failure, Page
from tune.data.sources import listing, repeats
from tune.errors import UserError

LARGEST = 4 * html.LARGEST  # bytes: a character takes up to four
LARGEST_PACKED = 64_000_000  # bytes of a PDF or DOCX: most of them pictures
INCLUDING = {".rst", ".md", ".markdown", ".mdx"}
SECONDS = 30.0  # of processor time that any file may take
SECONDS_A_MB = 60.0  # more, for each megabyte of it

_READERS: dict[str, Callable[..., html.Document]] = {
    **dict.fromkeys(listing.HTML, html.read),
    **dict.fromkeys((".md", ".markdown"), markdown.read),
    ".mdx": markdown.read_mdx,
    ".rst": rst.read,
    ".pdf": pdf.read,
    ".docx": docx.read,
}


def pages(
    folder: Path, source: str = "folder", report: Callable[[str], None] = lambda _: None
) -> Iterator[Page | Failure]:
    """A page or a failure for each document under `folder`, in the order of their names. `source` begins their ids.

    Documents of other formats are reported by number and suffix. Raises UserError when the folder is missing or holds
    no document that is read.
    """
    if not folder.is_dir():
        raise UserError(
            f"collect.folder: there is no folder {folder}", fix="build the documentation, or edit recipe.toml"
        )
    found = listing.files(folder)
    left = [f"{count} {suffix}" for suffix, count in sorted(found.unread.items(), key=lambda kind: (-kind[1], kind[0]))]
    if not found.pages:
        why = f"not read: {', '.join(left)}" if left else ""
        raise UserError(
            f"collect.folder: {folder} holds no HTML, Markdown, reStructuredText, PDF or DOCX pages",
            why=why,
            fix="point it at documents of these formats, such as Sphinx's html output",
        )
    if left:
        report(f"not read: {', '.join(left)}")
    if found.links:
        report(f"not followed: {found.links} link{'s' if found.links > 1 else ''} to documents outside the folder")
    stated = _licence(folder / found.licence) if found.licence else licence.UNKNOWN
    documents: dict[str, html.Document] = {}
    for name in found.pages:
        try:
            documents[name] = read(folder / name, folder)
        except (OSError, ValueError) as e:
            yield Failure(id=f"{source}:{shown(name)}", reason=_line(e))
    known = {document.module for document in documents.values()} - {""}
    kept, gone = repeats.without([document.blocks for document in documents.values()])
    if gone:
        report(f"left out: {gone} blocks at the edges of pages that stand on many of them, such as menus")
    for (name, document), blocks in zip(documents.items(), kept, strict=True):
        above, _, stem = listing.stem(name).rpartition("/")
        sibling = stem.partition("-")[0]  # asyncio-dev.html documents no object, yet belongs to asyncio
        module = document.module or (sibling if sibling in known else above.replace("/", ".") or "top")
        yield Page(
            id=f"{source}:{shown(name)}",
            title=document.title,
            module=shown(module),
            blocks=blocks,
            source=source,
            licence=stated if document.licence == licence.UNKNOWN else document.licence,
        )


def read(path: Path, folder: Path | None = None) -> html.Document:
    """The document in one file of a known format, read in a process of its own, within its share of time and memory.

    It may include files that lie in `folder`. Raises OSError, or ValueError that says in one line why not.
    """
    suffix = listing.kind(path.as_posix())
    limit = LARGEST_PACKED if suffix in {".pdf", ".docx"} else LARGEST
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{size:,} bytes, more than {limit:,}")
    data = path.read_bytes()
    seconds = SECONDS + SECONDS_A_MB * len(data) / 1e6
    name = shown(Path(listing.stem(path.as_posix())).name)
    told: tuple[object, ...] = () if suffix in listing.HTML else (name,)
    if suffix in INCLUDING and folder:
        told = (name, Place(folder.resolve(), path.resolve()))
    return apart.call(seconds, apart.MEMORY, _READERS[suffix], data, *told)


def shown(name: str) -> str:
    """A file's name as text that can be written: bytes of it that are not UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _line(e: Exception) -> str:
    reason = (e.strerror or "") if isinstance(e, OSError) else str(e)
    return " ".join(reason.split())[:300].encode("utf-8", "backslashreplace").decode() or type(e).__name__


def _licence(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return licence.spdx(file.read(2 * licence.FIRST).decode("utf-8", "replace"))
    except OSError:
        return licence.UNKNOWN
