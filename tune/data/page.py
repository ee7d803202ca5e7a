"""A page of documentation: what every source yields and every later stage reads.

In: typed blocks of any origin. Out: `Page`, and pages.jsonl. Knows nothing about where pages come from.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tune.artefact import write_text
from tune.data.block import Block, render
from tune.errors import UserError

VERSION = 2  # schema version of a line in pages.jsonl; 1 had text in place of blocks

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

    def held_out_by(self, modules: Iterable[str]) -> str | None:
        """The first of `modules` that this page's module is, or lies in; None when it is free to train on."""
        return next((m for m in modules if self.module == m or self.module.startswith(m + ".")), None)


class Failure(BaseModel):
    """A page that could not be had: which, and why in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Named
    reason: Named


def write(path: Path, rows: Iterable[Page | Failure]) -> None:
    """One JSON line a row."""
    write_text(path, "".join(row.model_dump_json() + "\n" for row in rows))


def read(path: Path) -> list[Page]:
    """Raises UserError naming the first line that is not a page, or the schema version when it is another one."""
    out: list[Page] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            out.append(Page.model_validate_json(line))
        except ValidationError as e:
            if (version := _version(line)) != VERSION:
                why = f"its pages have schema version {version}, and this version reads {VERSION}"
                raise UserError(f"{path} was made by another version", why=why, fix="tune collect") from None
            why = f"{'.'.join(map(str, e.errors()[0]['loc'])) or 'line'}: {e.errors()[0]['msg']}"
            raise UserError(f"{path}:{number} is not a page", why=why, fix="tune collect") from None
    return out


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
