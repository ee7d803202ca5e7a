"""A page of documentation: what every source yields and every later stage reads.

In: text of any origin. Out: `Page`, its sections, and pages.jsonl. Page text is Markdown-like: `#` headings,
code in ``` fences, paragraphs apart by blank lines. Knows nothing about where pages come from.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from tune.artefact import write_text
from tune.errors import UserError

Filled = Annotated[str, StringConstraints(min_length=1)]

_HEADING = re.compile(r"(#{1,6}) +(.*?)\s*$")
_FENCE = re.compile(r"(`{3,})([\w+-]*)\s*$")


class Page(BaseModel):
    """One page. `module` is the grouping key: questions are held out by it. `licence` is "unknown" when not stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Filled
    title: Filled
    module: Filled
    text: Annotated[str, StringConstraints(pattern=r"\S")]
    source: Filled
    licence: Filled
    url: str = ""

    def held_out_by(self, modules: Iterable[str]) -> str | None:
        """The first of `modules` that this page's module is, or lies in; None when it is free to train on."""
        return next((m for m in modules if self.module == m or self.module.startswith(m + ".")), None)


class Failure(BaseModel):
    """A page that could not be had: which, and why in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Filled
    reason: Filled


class Section(NamedTuple):
    """A heading and the text up to the next heading of any level. `level` counts the heading's `#`."""

    title: str
    level: int
    body: str

    @property
    def code(self) -> list[str]:
        """Contents of the fenced code blocks, in order."""
        return [code for code, _ in _blocks(self.body) if code is not None]


def sections(text: str) -> list[Section]:
    """Split page text at its headings; a `#` inside a code fence is code. Text before the first heading is dropped."""
    out: list[Section] = []
    body: list[str] = []
    title, level, fence = "", 0, ""
    for line in text.split("\n"):
        if fence:
            fence = "" if line.rstrip() == fence else fence
        elif opened := _FENCE.match(line):
            fence = opened[1]
        elif heading := _HEADING.match(line):
            if level:
                out.append(Section(title, level, "\n".join(body).strip("\n")))
            title, level, body = heading[2], len(heading[1]), []
            continue
        body.append(line)
    if level:
        out.append(Section(title, level, "\n".join(body).strip("\n")))
    return out


def paragraphs(body: str) -> list[str]:
    """Blocks apart by blank lines; a fenced block, blank lines and all, is one."""
    out: list[str] = []
    for code, text in _blocks(body):
        if code is None:
            out.extend(part.strip("\n") for part in re.split(r"\n[ \t]*\n", text) if part.strip())
        else:
            out.append(fenced(code, text))
    return out


def fenced(code: str, language: str = "") -> str:
    """Code between fences longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def plain(text: str) -> str:
    """Text of which no line reads as a heading or a fence: such a line is indented by four spaces."""
    return "\n".join(
        "    " + line if _HEADING.match(line) or line.startswith("```") else line for line in text.split("\n")
    )


def write(path: Path, rows: Iterable[Page | Failure]) -> None:
    """One JSON line a row."""
    write_text(path, "".join(row.model_dump_json() + "\n" for row in rows))


def read(path: Path) -> list[Page]:
    """Raises UserError naming the first line that is not a page."""
    out: list[Page] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            out.append(Page.model_validate_json(line))
        except ValidationError as e:
            why = f"{'.'.join(map(str, e.errors()[0]['loc'])) or 'line'}: {e.errors()[0]['msg']}"
            raise UserError(f"{path}:{number} is not a page", why=why, fix="tune collect") from None
    return out


def words(texts: Sequence[str]) -> set[str]:
    """Every identifier-like word in the texts."""
    return {word for text in texts for word in re.findall(r"\w+", text)}


def _blocks(body: str) -> Iterator[tuple[str | None, str]]:
    """(code, language) of a fenced block, (None, text) of what is between. An unclosed fence runs to the end."""
    text: list[str] = []
    code: list[str] = []
    fence, language = "", ""
    for line in body.split("\n"):
        if fence and line.rstrip() == fence:
            yield "\n".join(code), language
            fence, code = "", []
        elif fence:
            code.append(line)
        elif opened := _FENCE.match(line):
            yield None, "\n".join(text)
            fence, language, text = opened[1], opened[2], []
        else:
            text.append(line)
    if fence:
        yield "\n".join(code), language
    yield None, "\n".join(text)
