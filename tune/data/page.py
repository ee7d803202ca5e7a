"""A page of documentation: what every source yields and every later stage reads.

In: typed blocks of any origin. Out: `Page`, and pages.jsonl. Knows nothing about where pages come from.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tune import artefact
from tune.data import signatures
from tune.data.block import Block, render, sections
from tune.errors import UserError

PAGES = "pages"  # the stage that collects them, and its folder
VERSION = 2  # schema version of a line in pages.jsonl; 1 had text in place of blocks

_DOTTED = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)(?:\(.*\))?")  # one word alone is as often plain English

Named = Annotated[str, StringConstraints(min_length=1)]


class Page(BaseModel):
    """One page. `module` is the grouping key: questions are held out by it. `licence` is "unknown" when not stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    id: Named
    title: Named
    module: Named
    blocks: Annotated[tuple[Block, ...], Field(min_length=1)]
    source: Named
    licence: Named
    url: str = ""

    @property
    def text(self) -> str:
        """The blocks as Markdown, for whoever wants words: structure is in the blocks alone."""
        return render(self.blocks)

    def held_out(self, modules: Iterable[str]) -> "HeldOut | None":
        """Why this page is none to train on: what it documents is, or lies in, one of `modules`. None when it is free.

        Its grouping key tells (reason "module"), and so do its headings and the signatures under them, which name
        objects in full (reason "objects"): an API reference groups its pages by folder.
        """
        modules = list(modules)  # asked more than once
        if module := _first(modules, [self.module]):
            return HeldOut(module, "module")
        module = _first(modules, self._objects())
        return HeldOut(module, "objects") if module else None

    def _objects(self) -> Iterator[str]:
        """Full names of what the page documents, as far as its headings and their signatures say."""
        for section in sections(self.blocks):
            first, name = section.blocks[0], section.title.rpartition(".")[2]
            signature = signatures.parse(first.text) if first.kind == "code" else None
            own = [signature.name] if signature and signature.name.rpartition(".")[2] == name else []
            yield from (told[1] for said in (*section.headings, *own) if (told := _DOTTED.fullmatch(said)))


class HeldOut(NamedTuple):
    """The module that holds a page out, and what of the page shows it."""

    module: str
    reason: Literal["module", "objects"]


class Failure(BaseModel):
    """A page that could not be had: which, and why in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Named
    reason: Named


@contextmanager
def writer(path: Path) -> Iterator[Callable[[Page | Failure], None]]:
    """What writes one JSON line a row, each as it comes. The file is there when all of them are."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:

        def put(row: Page | Failure) -> None:
            file.write(row.model_dump_json() + "\n")

        yield put
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write(path: Path, rows: Iterable[Page | Failure]) -> None:
    """One JSON line a row."""
    with writer(path) as put:
        for row in rows:
            put(row)


class Pages:
    """The pages of a file, one in memory at a time, however often they are gone through. Raises as `read` does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Page]:
        with self._path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _page(self._path, number, line)


def read(path: Path) -> list[Page]:
    """Raises UserError naming the first line that is not a page, or the schema version when it is another one."""
    return list(Pages(path))


def _page(path: Path, number: int, line: str) -> Page:
    try:
        return Page.model_validate_json(line)
    except ValidationError as e:
        if (version := _version(line)) != VERSION:
            why = f"its pages have schema version {version}, and this version reads {VERSION}"
            raise UserError(f"{path} was made by another version", why=why, fix="tune collect") from None
        why = f"{'.'.join(map(str, e.errors()[0]['loc'])) or 'line'}: {e.errors()[0]['msg']}"
        raise UserError(f"{path}:{number} is not a page", why=why, fix="tune collect") from None


def _first(modules: Iterable[str], names: Iterable[str]) -> str:
    """The first of `modules` that one of the names is, or lies in, or ""."""
    found = list(names)
    return next((m for m in modules if any(n == m or n.startswith(m + ".") for n in found)), "")


def words(texts: Sequence[str]) -> set[str]:
    """Every identifier-like word in the texts."""
    return {word for text in texts for word in re.findall(r"\w+", text)}


def _version(line: str) -> object:
    """The schema version that a line names; 1 when it has text and names none; ours when it is no page at all."""
    try:
        row = json.loads(line)
    except ValueError:
        return VERSION
    return row.get("schema_version", 1 if "text" in row else VERSION) if isinstance(row, dict) else VERSION


def require_pages(path: Path, made: Mapping[str, Any], folder: Path) -> None:
    """Raise UserError when the question set in `path` was made from other pages than those that lie in `folder`.

    Without finished pages there, as where only endpoints are asked, there is nothing to hold it against.
    """
    asked = made.get(PAGES)
    if not isinstance(asked, dict) or not (folder / f"{PAGES}.json").is_file():
        return
    now = artefact.read(folder, PAGES, remake="tune collect").files
    if other := sorted(file for file, digest in asked.items() if now.get(file) != digest):
        raise UserError(
            f"{path} was made from other pages than those in {folder}",
            why=f"{', '.join(other)} differs: it was collected again since",
            fix=f"evalsuite questions --out {path}, then tune dataset",
        )
