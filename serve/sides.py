"""Answers at several efforts as rows for a terminal: side by side where there is room, else one below the other.

In: answers, the cells of a row. Out: rows of text. A model's words are escaped, so that nothing in them moves a cursor
or changes a colour; and so is what streams to a terminal.
"""

import sys
from collections.abc import Sequence

import click

from serve.ask import Answer
from tune.screen import Line, beside, column, escaped, keeps_its_place, wrap

NARROWEST = 24  # cells of a column that can be read


def stream(text: str, thinking: bool) -> None:
    """Show a piece as it comes: thinking on stderr, dim. What goes into a file or a pipe is the model's own."""
    terminal = (sys.stderr if thinking else sys.stdout).isatty()
    click.secho(escaped(text) if terminal else text, nl=False, err=thinking, dim=thinking)


def silent(text: str, thinking: bool) -> None:
    """Show nothing yet."""


def rows(answers: Sequence[Answer], total: int) -> list[str]:
    """All answers in a terminal `total` cells wide; 0: no terminal, so no row is broken.

    One below the other where a column would be too narrow, or where a terminal would not keep one straight.
    """
    columns = column(total, len(answers))
    if total and columns >= NARROWEST and all(keeps_its_place(a.reasoning + a.answer) for a in answers):
        return beside([_lines(a, columns) for a in answers], columns, _styled)
    lines = [[*_lines(a, max(total - 1, 2) if total else 0), Line("")] for a in answers]
    return [_styled(line) for side in lines for line in side][:-1]


def _styled(line: Line) -> str:
    looks: dict[str, bool] = {line.look: True} if line.look else {}
    return click.style(line.text, bold=looks.get("bold"), dim=looks.get("dim")) if looks else line.text


def _lines(answer: Answer, columns: int) -> list[Line]:
    parts = [(answer.effort, "bold")]
    parts += [(answer.reasoning, "dim")] if answer.reasoning else []
    parts += [("", ""), (answer.answer, "")] if answer.answer else []
    parts += [("", ""), *((text, "dim") for text in figures(answer))]
    return [
        Line(row, look)
        for text, look in parts
        for row in (wrap(escaped(text), columns) if columns else escaped(text).split("\n"))
    ]


def figures(answer: Answer) -> list[str]:
    """What it took, a line each."""
    cut = " (cut off: --max-tokens)" if answer.ended == "length" else ""
    return [
        f"reasoning {_count(answer.reasoning_tokens)}, answer {_count(answer.answer_tokens)} tokens{cut}",
        f"first token {_seconds(answer.first_token_s)}, answer {_seconds(answer.first_answer_s)}, "
        f"all {_seconds(answer.total_s)}",
    ]


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else f"{tokens:,}"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"
