"""A folder of documents -> which of its files are pages, and what else lies there that looks like one.

In: the folder. Out: names in order, counts of what is not read by its suffix, links that were not followed, the file
with the licence. Knows nothing about what is in a file.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HTML = {".html", ".htm", ".xhtml"}
READ = {*HTML, ".md", ".markdown", ".mdx", ".rst", ".pdf", ".docx"}
# Documents that nothing here reads: they are counted, so that nobody takes a folder for read that is not.
_UNREAD_WORDS = (
    ".adoc .asciidoc .asc .doc .odt .ott .epub .mobi .tex .texi .texinfo .latex .ipynb .org .rtf .txt .textile .wiki "
    ".mediawiki .docbook .dita .chm .ppt .pptx .odp .djvu .ps .pages .qmd .rmd .pod .creole .info .man"
)
UNREAD = set(_UNREAD_WORDS.split())
_LEFT_OUT = {"node_modules", "_static", "_modules", "__pycache__"}
_SOURCES = "_sources"  # where Sphinx keeps what it built a folder from
# Sphinx's own listings: no documentation of their own. Other tools have pages of the names in `_BESIDE`.
_LISTINGS = re.compile(r"(genindex.*|py-modindex|modindex)\.html")
_BESIDE = re.compile(r"(search|contents|download)\.html")
_LICENCE = re.compile(r"(licen[cs]e|copying)(\.(txt|md|rst))?", re.IGNORECASE)


class Listing(NamedTuple):
    """Names are relative to the folder, with "/"; a name that is not UTF-8 has surrogates, as os.fsencode takes it."""

    pages: tuple[str, ...]
    unread: Counter[str]
    links: int
    licence: str


def files(folder: Path) -> Listing:
    """What lies in `folder`. Hidden names are left out, and links to files elsewhere; those to folders too.

    Raises nothing: what cannot be listed is not there, and what cannot be read is for who reads it.
    """
    root = folder.resolve()
    pages, unread, links, licences = [], Counter[str](), 0, []
    for name in _walk(root):
        path = root / name
        suffix = path.suffix.lower()
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            links += suffix in READ
        elif not path.is_file():
            continue
        elif "/" not in name and _LICENCE.fullmatch(name):
            licences.append(name)
        elif _SOURCES in (root.name, *name.split("/")[:-1]):
            if _source_alone(root, name):
                pages.append(name)
        elif suffix in READ:
            if not _is_listing(root, name):
                pages.append(name)
        elif suffix in UNREAD or (suffix in {".gz", ".bz2", ".xz"} and Path(path.stem).suffix.lower() in READ):
            unread["".join(path.suffixes[-2:]).lower() if suffix not in UNREAD else suffix] += 1
    return Listing(tuple(sorted(pages)), unread, links, min(licences, default=""))


def kind(name: str) -> str:
    """The suffix that says how a file is read. Sphinx's sources have ".txt" behind it, or nothing else: ".rst" then."""
    own = Path(_bare(name)).suffix.lower()
    return own if own in READ else ".rst"


def stem(name: str) -> str:
    """The name without the suffixes of its format."""
    bare = _bare(name)
    return str(Path(bare).with_suffix("")) if Path(bare).suffix.lower() in READ else bare


def _bare(name: str) -> str:
    return name.removesuffix(".txt") if _SOURCES in name.split("/") else name


def _walk(root: Path) -> Iterator[str]:
    for above, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not f.startswith("."))
        inside = Path(above).relative_to(root)
        yield from ((inside / name).as_posix() for name in sorted(names) if not name.startswith("."))


def _source_alone(root: Path, name: str) -> bool:
    """Whether it is one of Sphinx's sources, without the HTML that was built of it."""
    if not re.search(r"\.(rst|md|markdown|txt)$", name) or Path(name.removesuffix(".txt")).suffix in {".ipynb", *HTML}:
        return False  # Sphinx keeps a notebook as .ipynb.txt
    before, _, inside = name.rpartition(f"{_SOURCES}/")
    built = root / before / stem(f"{_SOURCES}/{inside}").removeprefix(f"{_SOURCES}/")
    return not (built.with_name(f"{built.name}.html").is_file() or (built / "index.html").is_file())


def _is_listing(root: Path, name: str) -> bool:
    path = root / name
    if _LISTINGS.fullmatch(path.name):
        return True
    return _BESIDE.fullmatch(path.name) is not None and (path.parent / "genindex.html").is_file()
