"""A reply to its answer line, and an answer to what it may be read as without its typography. Pure, text to text.

The same for both arms: it knows no arm, no question and no truth. It takes off what surrounds an answer (Markdown,
LaTeX, what cannot be seen, one period) and writes typographic signs as Python does. What an answer says is left as it
is: which reading counts is the grader's (replies/graders.py).
"""

import re
from textwrap import dedent
from typing import NamedTuple

LONGEST = 2_000  # characters of an answer that are looked at; truths are far shorter

_UNSEEN = "\u200b-\u200f\u2060\ufeff"  # zero-width spaces, joiners, marks
_LINE = re.compile(rf"(?i)[\s>#*+•`_{_UNSEEN}-]*ANSWER[\s*`_{_UNSEEN}]*:(?:[*_`]+(?=\s))?(.*)")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*[\w+-]*\s*")
_EDGES = "*`\u200b\u200c\u200d\u200e\u200f\u2060\ufeff" + "".join(filter(str.isspace, map(chr, range(0x3001))))
_TEX = re.compile(
    r"(?s)\$\$(.+)\$\$|\$(.+)\$|\\\((.+)\\\)|\\\[(.+)\\\]"
    r"|\\(?:boxed|fbox|text|texttt|textbf|textit|mathrm|mathtt|mathbf|operatorname)\s*\{(.+)\}"
)
_SIGNS = {
    **dict.fromkeys(map(ord, "\u2010\u2011\u2212"), "-"),  # hyphen, hyphen that does not break, minus
    **dict.fromkeys(map(ord, "‘’‚‛"), "'"),
    **dict.fromkeys(map(ord, "“”„‟"), '"'),
}
_NOT_THERE = re.compile(f"[{_UNSEEN}]")
_ESCAPED = re.compile(r"\\([_*#$%&{}])")  # as Markdown and LaTeX ask for
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:,|\{,\}|\\,)\d{3})+(?:\.\d+)?", re.ASCII)


class Readings(NamedTuple):
    """What an answer may be read as, from what was written to the plainest. Each may equal the one before it."""

    written: str
    bare: str  # without decoration around it
    plain: str  # and with the signs that Python writes
    number: str | None  # "1000" of "1,000": thousands apart by commas, as prose has them


def answer(text: str) -> str | None:
    """The value of the last line `ANSWER: <value>`, cut to LONGEST + 1 characters, without Markdown; None without one.

    The word in any case, as a heading or in a list too; nothing else may stand before it.
    """
    for line in reversed(text.splitlines()):
        if (found := _LINE.fullmatch(line)) and (value := undressed(found[1][: LONGEST + 1])):
            return value
    return None


def fenced(text: str) -> str | None:
    """What the last closed code fence holds, cut to LONGEST + 1 characters; None without one that holds anything."""
    fence, held, found = "", list[str](), None
    for line in text.splitlines():
        mark = _FENCE.fullmatch(line)
        if fence and line.strip() == fence:
            found, fence = "\n".join(held), ""
        elif fence:
            held.append(line)
        elif mark:
            fence, held = mark[1], []
    return dedent(found)[: LONGEST + 1] if found and found.strip() else None


def undressed(value: str) -> str:
    """Without Markdown's emphasis and code font around it, what cannot be seen there, and the period of a sentence."""
    while (after := _sentence(value.strip(_EDGES))) != value:
        value = after
    return value


def readings(value: str) -> Readings:
    bare = _bare(value)
    plain = _plain(bare)
    grouped = _GROUPED.fullmatch(plain) or _GROUPED.fullmatch(bare)
    return Readings(value, bare, plain, re.sub(r"[^\d.+-]", "", grouped[0]) if grouped else None)


def _bare(value: str) -> str:
    """Without LaTeX around it either."""
    while found := _TEX.fullmatch(value := undressed(value)):
        value = next(filter(None, found.groups()))
    return value


def _plain(value: str) -> str:
    while (after := _bare(_signs(value))) != value:
        value = after
    return value


def _signs(value: str) -> str:
    return " ".join(_ESCAPED.sub(r"\1", _NOT_THERE.sub("", value.translate(_SIGNS))).split())


def _sentence(value: str) -> str:
    return value[:-1] if value.endswith(".") and not value.endswith("..") else value
