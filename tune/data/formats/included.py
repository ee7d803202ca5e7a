"""What a document includes of other files -> their text, when they lie in the documentation's folder.

In: the folder, the document, the name in its directive, the options that choose lines. Out: text, or None when there is
no such file, it leaves the folder (by `..` or a link), is hidden, or is none of text. Knows nothing about the formats
that include but what their lines look like.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tune.data.formats.text import decode

LARGEST = 1_000_000  # bytes of one file
_NAMED = re.compile(
    r"(?:include::|include\}|^[ \t]+:file:)[ \t]*([^\n]+)|-8<-+[ \t]+[\"']?([^\"'\n]+)|\{!(.+?)!\}", re.MULTILINE
)
_SNIPPET = re.compile(r"^([ \t]*)(?:-+8<-+[ \t]+([\"'])(.+?)\2|\{!(.+?)!\})[ \t]*$", re.MULTILINE)  # MkDocs'
_PART = re.compile(r"(.+?)(?::(\d*)(?::(\d+))?|:([\w-]+))?$")
DEPTH = 8  # snippets in snippets


class Place(NamedTuple):
    """A document's own path, and the folder that it may include files of; both without links in them."""

    root: Path
    file: Path

    def find(self, said: str, *beside: Path) -> Path | None:
        """The file of that name: from the documentation's root on after "/", else from the document's folder.

        `beside` are further folders to look in. Where Sphinx keeps the sources of what it built, names end in ".txt".
        """
        said = said.strip()
        if not said or "\0" in said:
            return None
        places = [self._top()] if said.startswith("/") else [self.file.parent, *beside]
        for folder in places:
            for name in (said.lstrip("/"), f"{said.lstrip('/')}.txt"):
                if found := self._inside(folder / name):
                    return found
        return None

    def above(self) -> list[Path]:
        """The folders that the document lies in, from its own to the root."""
        return [folder for folder in self.file.parents if folder.is_relative_to(self.root)]

    def _top(self) -> Path:
        return next((folder for folder in self.above() if (folder / "conf.py").is_file()), self.root)

    def _inside(self, path: Path) -> Path | None:
        try:
            real = path.resolve()
            inside = real.is_relative_to(self.root) and real.is_file() and real.stat().st_size <= LARGEST
        except (OSError, RuntimeError):  # a name that is too long, links in a circle
            return None
        hidden = inside and any(part.startswith(".") for part in real.relative_to(self.root).parts)
        return real if inside and not hidden else None


def text(path: Path) -> str:
    """A file's text, or nothing when it is none."""
    try:
        return decode(path.read_bytes())
    except (OSError, ValueError):
        return ""


def selected(whole: str, options: Mapping[str, str]) -> str:
    """The lines that options choose, as Sphinx's `literalinclude` and docutils' `include` have them."""
    lines = whole.expandtabs(_number(options.get("tab-width"), 8)).splitlines()
    if name := options.get("pyobject"):
        lines = _defined(whole, name.strip())
    if said := options.get("lines"):
        lines = [lines[i] for i in _chosen(said, len(lines))]
    first, last = _number(options.get("start-line"), 0), _number(options.get("end-line"), len(lines))
    lines = lines[slice(first, last)]
    for option, after in (("start-after", 1), ("start-at", 0)):
        if mark := options.get(option):
            lines = lines[next((i + after for i, line in enumerate(lines) if mark in line), len(lines)) :]
    for option, after in (("end-before", 0), ("end-at", 1)):
        if mark := options.get(option):
            lines = lines[: next((i + after for i, line in enumerate(lines) if mark in line), len(lines))]
    if "dedent" in options:
        width = _number(options["dedent"], -1)
        cut = [line[min(width, len(line) - len(line.lstrip())) :] for line in lines]
        lines = cut if width >= 0 else textwrap.dedent("\n".join(lines)).split("\n")
    return "\n".join([*_own(options, "prepend"), *lines, *_own(options, "append")])


def snippets(markdown: str, place: Place | None, depth: int = 0) -> str:
    """Markdown with what `--8<-- "name"` and `{!name!}` include, set in as deep as they are."""

    def put(found: re.Match[str]) -> str:
        named = _PART.fullmatch((found[3] or found[4]).strip())
        path = place.find(named[1], *place.above()) if place and named else None
        if path is None or named is None or depth == DEPTH:
            return ""
        lines = text(path).splitlines()
        if named[4]:
            lines = _section(lines, named[4])
        elif named[2] is not None:
            lines = lines[max(_number(named[2], 1) - 1, 0) : _number(named[3], len(lines))]
        return textwrap.indent(snippets("\n".join(lines), place, depth + 1), found[1])

    return _SNIPPET.sub(put, markdown)


def names(root: Path, documents: Sequence[str]) -> Iterator[str]:
    """The names of files in `root` that these documents include, and that those include, each once."""
    root = root.resolve()
    found = {root / name for name in documents}
    waiting = [
        path for name in documents if (path := root / name).suffix in {".rst", ".md", ".markdown", ".mdx", ".txt"}
    ]
    while waiting:
        place = Place(root, waiting.pop())
        for said in _NAMED.findall(text(place.file)):
            named = _PART.fullmatch(next(filter(None, said)).strip())
            other = place.find(named[1] if named else "", *place.above())
            if other and other not in found:
                found.add(other)
                waiting.append(other)
                yield other.relative_to(root).as_posix()


def _own(options: Mapping[str, str], name: str) -> list[str]:
    return [options[name]] if options.get(name) else []


def _number(said: str | None, otherwise: int) -> int:
    found = re.fullmatch(r"-?\d{1,9}", (said or "").strip())
    return int(found[0]) if found else otherwise


def _chosen(said: str, count: int) -> list[int]:
    """Sphinx's "1,3,5-10,20-": the places of these lines, from 0, that there are."""
    out: list[int] = []
    for part in said.split(","):
        if one := re.fullmatch(r"\s*(\d{0,9})\s*(-?)\s*(\d{0,9})\s*", part):
            first = int(one[1] or 1)
            last = int(one[3] or count) if one[2] else first
            out += range(max(first, 1) - 1, min(last, count))
    return out


def _defined(whole: str, name: str) -> list[str]:
    """The lines of the function or class of that dotted name, with its decorators."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inside: list[ast.stmt] = ast.parse(whole).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    node: ast.stmt | None = None
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        node = next((step for step in inside if isinstance(step, kinds) and step.name == part), None)
        if not isinstance(node, kinds):
            return []
        inside = node.body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    first = min([node.lineno, *(step.lineno for step in node.decorator_list)])
    return whole.splitlines()[first - 1 : node.end_lineno]


def _section(lines: list[str], name: str) -> list[str]:
    """What stands between the marks `--8<-- [start:name]` and `[end:name]`, without other marks."""
    marks = [i for i, line in enumerate(lines) if re.search(rf"-8<-+\s*\[(?:start|end):{re.escape(name)}\]", line)]
    inside = lines[marks[0] + 1 : marks[1] if marks[1:] else None] if marks else []
    return [line for line in inside if not re.search(r"-8<-+\s*\[(?:start|end):", line)]
