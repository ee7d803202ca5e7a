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
    folder: Path,
    source: str = "folder",
    report: Callable[[str], None] = lambda _: None,
    room: Path | None = None,
) -> Iterator[Page | Failure]:
    """A page or a failure for each document under `folder`, in the order of their names. `source` begins their ids.

    Documents of other formats are reported by number and suffix. `room` is where pages wait for the last one. Raises
    UserError when the folder is missing or holds no document that is read.
    """
    found = _listed(folder, report)
    stated = _licence(folder / found.licence) if found.licence else licence.UNKNOWN
    known: set[str] = set()  # modules that documents name themselves
    beside: dict[str, str] = {}  # what a page may belong to that names none, by its id

    def drafts() -> Iterator[Page | Failure]:
        for name in found.pages:
            id = f"{source}:{shown(name)}"
            try:
                document = read(folder / name, folder)
                above, _, stem = listing.stem(name).rpartition("/")
                made = Page(
                    id=id,
                    title=document.title,
                    module=document.module or shown(above.replace("/", ".")) or "top",
                    blocks=document.blocks,
                    source=source,
                    licence=stated if document.licence == licence.UNKNOWN else document.licence,
                )
            except (OSError, ValueError) as e:
                yield Failure(id=id, reason=_line(e))
                continue
            if document.module:
                known.add(document.module)
            else:
                beside[id] = stem.partition("-")[0]  # asyncio-dev.html documents no object, yet belongs to asyncio
            yield made

    for one in repeats.without(drafts(), room, report):
        own = beside.get(one.id)
        yield one.model_copy(update={"module": own}) if isinstance(one, Page) and own in known else one


def _listed(folder: Path, report: Callable[[str], None]) -> listing.Listing:
    """What lies in the folder. Raises UserError when nothing there is read; what else there is, is reported."""
    if not folder.is_dir():
        what, fix = f"collect.folder: there is no folder {folder}", "build the documentation, or edit recipe.toml"
        raise UserError(what, fix=fix)
    found = listing.files(folder)
    left = [f"{count} {suffix}" for suffix, count in sorted(found.unread.items(), key=lambda kind: (-kind[1], kind[0]))]
    if not found.pages:
        raise UserError(
            f"collect.folder: {folder} holds no HTML, Markdown, reStructuredText, PDF or DOCX pages",
            why=f"not read: {', '.join(left)}" if left else "",
            fix="point it at documents of these formats, such as Sphinx's html output",
        )
    if left:
        report(f"not read: {', '.join(left)}")
    if found.links:
        report(f"not followed: {found.links} link{'s' if found.links > 1 else ''} to documents outside the folder")
    return found


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
