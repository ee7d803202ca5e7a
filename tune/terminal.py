"""How progress is shown: on stderr, rewritten in place on a terminal, a line each in a log. Stdout stays clean.

Text of strangers, what a model says, a page or a question holds, may be anything. `escaped`, nothing of it moves a
cursor, changes a colour or reorders a line: what is not printable is shown as Python would write it.
"""

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

COLUMNS = 79  # a longer line wraps on a usual terminal, and what wraps is not rewritten in place
TAB = "    "


def say(line: str) -> None:
    """Show one line of progress."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[2K{line}", nl=False, err=True)
    else:
        click.echo(line, err=True)


def note(line: str) -> None:
    """Show a line that stays, above any progress."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[2K", nl=False, err=True)
    click.echo(line, err=True)


def tell(line: str) -> None:
    """Print a result on standard output, on a line of its own below any progress."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[2K", nl=False, err=True)
    click.echo(line)


def bar(done: int, total: int, width: int = 24) -> str:
    """A bar of `width` characters, full at `total`."""
    full = width * done // max(total, 1)
    return f"[{'#' * full}{'.' * (width - full)}]"


def barred(done: int, total: int, parts: Sequence[str]) -> str:
    """A bar and what is known, in at most COLUMNS characters. From the third on, parts that find no room are left out;
    the bar takes what room remains."""
    known = [*parts]
    while len(text := ", ".join(known)) > COLUMNS:
        del known[2]
    room = min(24, COLUMNS - len(text) - 3)  # brackets and a space
    return f"{bar(min(done, total), total, room)} {text}" if room >= 4 else text


def duration(seconds: float) -> str:
    """As a reader would say it: `59 s`, `12 min`, `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def escaped(text: str) -> str:
    """The text with line breaks as they are and tabs as spaces; controls, ANSI escapes, marks that reorder text and
    lone surrogates spelled out. Every character is looked at by itself: a stream may be cut anywhere."""
    return "".join(map(_shown, text))


def one_line(text: str, most: int = 300) -> str:
    """The beginning of somebody's words, escaped, for the middle of a sentence."""
    return escaped(" ".join(text.split()))[:most]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' warnings and bars off the terminal: what matters is raised or reported by us."""
    import logging as standard

    standard.getLogger("torch.utils._pytree").setLevel(standard.ERROR)  # torchao's import: of no use to anybody
    from transformers.utils import logging

    shown, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(shown)
        if bars:
            logging.enable_progress_bar()


def _shown(c: str) -> str:
    if c == "\n" or c.isprintable():
        return c
    if c == "\t":
        return TAB
    if unicodedata.category(c) == "Zs":  # a space of another width
        return " "
    return c.encode("unicode_escape").decode()
