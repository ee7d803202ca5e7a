"""Replies on standard output as they come: two columns on a wide terminal, else one after another; then a table.

On a wide terminal the last rows are drawn anew while a reply grows, and the whole block is printed once it is done:
what stays is plain lines, whatever the window did meanwhile. Takes and replies in; knows no model.
"""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import click

from tune import screen
from tune.harmony import Effort
from tune.screen import Line
from tune.trying.take import Question, Reply, Take

WIDE = 100  # cells, from which on two columns are read more easily than two texts
PACE = 0.1  # seconds between two drawings
LOOKS = {"dim": {"dim": True}, "bold": {"bold": True}, "good": {"fg": "green"}, "title": {"fg": "cyan", "bold": True}}


class Show(Protocol):
    """What the comparison tells as it goes."""

    def question(self, number: int, total: int, question: Question) -> None: ...
    def effort(self, effort: Effort) -> None: ...
    def begin(self, take: Take) -> None: ...
    def piece(self, text: str, thinking: bool) -> None: ...
    def end(self, take: Take) -> None: ...
    def done(self, takes: Sequence[Take]) -> None: ...


def chosen() -> Show:
    """The display that fits standard output."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return Columns() if terminal and shutil.get_terminal_size().columns >= WIDE else Lines()


def colours() -> bool:
    """Whether standard output is a terminal whose user has nothing against colour (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(line: Line) -> str:
    """A line in its look, or as it is where there are no colours."""
    return click.style(line.text, **LOOKS[line.look]) if line.look and line.text and colours() else line.text  # type: ignore[arg-type]


def figures(take: Take) -> str:
    """One line about a reply: its tokens, its pace, how long its answer was waited for, how it ended."""
    reply = take.reply
    waited = "no answer" if reply.first_answer_s is None else f"first answer token after {reply.first_answer_s:.2f} s"
    return (
        f"{reply.thinking_tokens} tokens of thinking, {reply.answer_tokens} of answer, "
        f"{reply.tokens_per_second:.1f} tokens/s, {waited}, {reply.ended}"
    )


def table(replies: Sequence[Reply]) -> str:
    """All replies, a line each."""
    head = ("question", "effort", "side", "thinking", "answer", "seconds", "tokens/s", "first answer", "end")
    cells = [head] + [
        (
            str(r.question),
            r.effort,
            r.side,
            str(r.thinking_tokens),
            str(r.answer_tokens),
            f"{r.seconds:.2f}",
            f"{r.tokens_per_second:.1f}",
            "none" if r.first_answer_s is None else f"{r.first_answer_s:.2f} s",
            r.ended,
        )
        for r in replies
    ]
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = {1, 2, 8}
    rows = [
        "  ".join(c.ljust(w) if n in left else c.rjust(w) for n, (c, w) in enumerate(zip(row, wide, strict=True)))
        for row in cells
    ]
    return "\n".join(row.rstrip() for row in rows)


class Lines:
    """Each reply as it comes, the base's first: for a narrow terminal, a pipe and a file."""

    def __init__(self, *, err: bool = False) -> None:
        """`err`: to standard error, where standard output is a script's."""
        self._kind: bool | None = None
        self._write = partial(click.echo, err=err)

    def question(self, number: int, total: int, question: Question) -> None:
        for line in _asked(number, total, question):
            self._write(styled(line))

    def effort(self, effort: Effort) -> None:
        self._write("\n" + styled(Line(f"effort {effort}", "title")))

    def begin(self, take: Take) -> None:
        self._kind = None
        self._write(styled(Line(f"{take.side}: {take.model}", "bold")))

    def piece(self, text: str, thinking: bool) -> None:
        if thinking != self._kind:
            start = "" if self._kind is None else "\n"
            self._write(start + styled(Line("thinking: " if thinking else "answer: ", "bold")), nl=False)
            self._kind = thinking
        shown = screen.escaped(text)
        self._write(styled(Line(shown, "dim")) if thinking else shown, nl=False)

    def end(self, take: Take) -> None:
        self._write(("" if self._kind is None else "\n") + styled(Line(f"({figures(take)})", "dim")))

    def done(self, takes: Sequence[Take]) -> None:
        del takes  # all was printed as it came


class Columns:
    """Base left, tuned right."""

    def __init__(self) -> None:
        self._takes: list[Take] = []
        self._drawn, self._last = 0, 0.0

    def question(self, number: int, total: int, question: Question) -> None:
        for line in _asked(number, total, question):
            for text in screen.wrap(line.text, shutil.get_terminal_size().columns - 1):
                click.echo(styled(Line(text, line.look)))

    def effort(self, effort: Effort) -> None:
        self._takes = []
        click.echo("\n" + styled(Line(f"effort {effort}", "title")))

    def begin(self, take: Take) -> None:
        self._takes.append(take)
        self._draw()

    def piece(self, text: str, thinking: bool) -> None:
        del text, thinking  # the takes hold it
        if time.monotonic() - self._last >= PACE:
            self._draw()

    def end(self, take: Take) -> None:
        del take
        self._draw()

    def done(self, takes: Sequence[Take]) -> None:
        rows = _block(takes, ended=True)
        click.echo(self._clear() + "\n".join(rows))

    def _draw(self) -> None:
        rows = _block(self._takes, ended=False)[-max(1, shutil.get_terminal_size().lines - 2) :]
        click.echo(self._clear() + "\n".join(rows))
        self._drawn, self._last = len(rows), time.monotonic()

    def _clear(self) -> str:
        drawn, self._drawn = self._drawn, 0
        return f"\x1b[{drawn}F\x1b[J" if drawn else ""


def _asked(number: int, total: int, question: Question) -> list[Line]:
    source = f", held out, {screen.one_line(question.source, 80)}" if question.source else ""
    lines = [Line(f"\nquestion {number} of {total}{source}", "title")]
    if question.developer:
        lines.append(Line(f"developer: {screen.escaped(question.developer)}", "dim"))
    lines.append(Line(screen.escaped(question.prompt)))
    if question.reference:
        lines.append(Line(f"the data's answer: {screen.escaped(question.reference)}", "good"))
    return lines


def _block(takes: Sequence[Take], *, ended: bool) -> list[str]:
    """Both columns; `ended`: with the figures below each."""
    columns = screen.column(shutil.get_terminal_size().columns)
    sides = [_column(take, columns, ended) for take in takes]
    return screen.beside([sides[0] if sides else [], sides[1] if sides[1:] else []], columns, styled)


def _column(take: Take, columns: int, ended: bool) -> list[Line]:
    parts = [(f"{take.side}: {take.model}", "bold"), (screen.escaped(take.text(True)), "dim")]
    parts.append((screen.escaped(take.text(False)), ""))
    if ended:
        parts.append((f"({figures(take)})", "dim"))
    return [Line(row, look) for text, look in parts if text for row in screen.wrap(text, columns)]
