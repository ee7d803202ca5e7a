"""A free-text answer and the points of its question in, which of them are found out. Pure.

An answer is data: it is cut before it is searched, and its code is parsed and never run.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence

from evalsuite.questions import Point

LONGEST = 20_000  # characters of an answer that are looked at
_FENCED = re.compile(r"(?ms)^[ \t]*```[ \t]*(?:python3?|py|pycon)?[ \t]*$\n(.*?)(?:^[ \t]*```|\Z)", re.I)
_PROMPT = re.compile(r"(?m)^(?:>>>|\.\.\.) ?")
_EMPHASIS = re.compile(r"(?<![\w)\]])\*{1,3}(?=\w)|(?<=[\w).,:;!?])\*{1,3}(?![\w(\[])")  # and no product or power
_MARKS = str.maketrans({"`": None, "’": "'", "‑": "-", "\N{NO-BREAK SPACE}": " "})


def found(text: str, points: Sequence[Point]) -> tuple[bool, ...]:
    """Of each point whether the answer tells it; of a false claim, whether the answer makes it."""
    text = text[:LONGEST]
    said, code = _plain(text), set(_nodes(text))
    return tuple(
        any(re.search(pattern, said, re.IGNORECASE) for pattern in point.any) or not code.isdisjoint(point.code)
        for point in points
    )


def phrase(text: str) -> str:
    """The pattern that finds this text as it stands, whole words, spaces and marks as they come; "" for none."""
    said = re.escape(_plain(text))
    return rf"(?<!\w){said}(?!\w)" if said else ""


def words(text: str) -> int:
    """How long an answer is, code too."""
    return len(text.split())


def _plain(text: str) -> str:
    return " ".join(_EMPHASIS.sub("", text.translate(_MARKS)).split())


def _nodes(text: str) -> Iterator[str]:
    """Names of the ast nodes in every code block that Python can parse: of a session what stands behind its prompts."""
    for block in _FENCED.findall(text):
        lines = block.splitlines()
        if any(line.lstrip().startswith(">>>") for line in lines):
            lines = [line.lstrip() for line in lines if line.lstrip().startswith((">>>", "..."))]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(_PROMPT.sub("", textwrap.dedent("\n".join(lines))))
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        yield from (type(node).__name__ for node in ast.walk(tree))
