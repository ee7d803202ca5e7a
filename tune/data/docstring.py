"""Docstrings and pydoc's topics -> blocks: paragraphs, code (sessions, literal and indented blocks), field lists.

In: plain text, reST more or less, and the headings above it. Out: blocks. What is indented is code when a `::`
announces it, when it is a session or a grammar, or when Python can parse it; else it is prose. Lists and tables drawn
with signs stay prose, line by line. Runs nothing. Knows nothing about where text comes from.
"""

import ast
import inspect
import re
import warnings
from collections.abc import Iterator

from tune.data.block import Block, Code, Fields, Prose

PROMPT = ">>> "

_BLANK = re.compile(r"\n(?:[ \t]*\n)+")
_FIELD = re.compile(r":([^:\n`]+):(?:[ \t]+|$)(.*)")
_UNDERLINED = re.compile(r"(?m)^(\S.*)\n([*=~^\"-])\2{2,}$")
_LEVELS = '*=-~^"'  # outermost first, as CPython's documentation underlines its headings


def read(text: str, headings: tuple[str, ...]) -> Iterator[Block]:
    """The blocks of a docstring, all under `headings`. Its common indentation is no part of it."""
    return _blocks(inspect.cleandoc(text), headings)


def read_topic(text: str, name: str) -> tuple[Block, ...]:
    """The blocks of a text with underlined headings; `name` heads what no heading stands above."""
    out: list[Block] = []
    path: list[tuple[int, str]] = []
    # Text, then for each heading its title, its sign, and the text under it.
    first, *rest = _UNDERLINED.split(text.strip("\n"))
    if first.strip():
        path.append((0, name))
        out += _blocks(first, (name,))
    for title, sign, under in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        level = _LEVELS.index(sign) + bool(path and path[0][0] == 0)
        path = [step for step in path if step[0] < level] + [(level, title.strip())]
        out += _blocks(under, tuple(heading for _, heading in path))
    return tuple(out)


def _blocks(text: str, headings: tuple[str, ...]) -> Iterator[Block]:
    above = ""
    literal = False
    code: list[str] = []  # paragraphs of one code block; a session's paragraphs each stand alone

    def gathered() -> Iterator[Block]:
        if code:
            yield Code(headings=headings, language=_language(code[0]), text=inspect.cleandoc("\n" + "\n\n".join(code)))
            code.clear()

    for paragraph in _BLANK.split(text.expandtabs()):
        if not paragraph.strip():
            continue
        lines = paragraph.strip("\n").split("\n")
        indented = all(line.startswith(" ") for line in lines)
        literal = indented and (literal or above.endswith("::"))
        above = lines[-1].rstrip()
        start = next((i for i, line in enumerate(lines) if line.lstrip().startswith(PROMPT)), None)
        if start is None and indented and (literal or _reads_as_code(lines)):
            code.append("\n".join(lines))
            continue
        yield from gathered()
        said = inspect.cleandoc("\n" + "\n".join(lines[:start]))
        if start is None and (pairs := _fields(said.split("\n"))):
            yield Fields(headings=headings, pairs=pairs)
        elif said:
            yield Prose(headings=headings, text=said)
        if start is not None:
            session = inspect.cleandoc("\n" + "\n".join(lines[start:]))
            yield Code(headings=headings, language="python", text=session)
    yield from gathered()


def _fields(lines: list[str]) -> tuple[tuple[str, str], ...]:
    """(name, text) of `:name: text` lines, continued by indented ones; empty when other lines are among them."""
    pairs: list[tuple[str, str]] = []
    for line in lines:
        if found := _FIELD.match(line):
            pairs.append((found[1].strip(), found[2].strip()))
        elif pairs and line.startswith(" "):
            name, text = pairs[-1]
            pairs[-1] = (name, f"{text} {line.strip()}".strip())
        else:
            return ()
    return tuple(pairs)


def _reads_as_code(lines: list[str]) -> bool:
    """Whether it is a grammar, or Python that does more than name things, as a sentence of one word would."""
    text = inspect.cleandoc("\n" + "\n".join(lines))
    return "::=" in text or is_python(text)


def is_python(text: str) -> bool:
    """Whether Python can parse it, and it does more than name things."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    plain = (ast.Name, ast.Attribute, ast.Constant, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.Starred)
    return any(not (isinstance(step, ast.Expr) and isinstance(step.value, plain)) for step in body)


def _language(code: str) -> str:
    return "python" if is_python(inspect.cleandoc("\n" + code)) else ""
