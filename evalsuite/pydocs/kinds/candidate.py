"""A question whose answer is not known yet, and what all kinds say it with. Pure: running finds the truths, later."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from evalsuite.pydocs.facts import Module, Parameter, Routine
from evalsuite.questions import Grader

LITERAL = "Answer with a Python literal."
YESNO = "Answer yes or no."
SHOWN = "Answer with exactly what is shown."
CHOICES = 4


class Candidate(NamedTuple):
    """A question whose answer is not known yet.

    `check` is an expression over the functions of checks.py and running.py; its value is the answer, for a choice one
    of `options` word for word. `grader` None: literal where the answer turns out to be one, else exact. `about` is the
    path of the object in its module; `unfit` says why it must not be asked. `twin_of` is the prompt of the question
    that this one is a twin of.
    """

    module: str
    about: str
    prompt: str
    check: str
    grader: Grader | None
    options: tuple[str, ...] = ()
    unfit: str = ""
    twin_of: str = ""


Kind = Callable[[Sequence[Module], random.Random], Iterator[Candidate]]


def routines(modules: Sequence[Module]) -> Iterator[tuple[str, Routine, tuple[Parameter, ...]]]:
    """(module, routine, its parameters) of every routine without private parameters."""
    for module in modules:
        for r in module.routines:
            if not any(p.name.startswith("_") for p in r.parameters):
                yield module.name, r, r.parameters


def without_self(modules: Sequence[Module]) -> dict[tuple[str, str], str]:
    """What a question about the places of a class's or a method's parameters adds."""
    classes = {(m.name, c.path) for m in modules for c in m.classes}
    return {
        (m.name, r.path): ", not counting `self`" if "." in r.path or (m.name, r.path) in classes else ""
        for m in modules
        for r in m.routines
    }


def call(function: str, *arguments: object) -> str:
    return f"{function}({', '.join(map(repr, arguments))})"


def session(module: str, source: str, question: str, told: str, *, star: bool = False) -> str:
    """A prompt about lines of Python, after an import that stands before them."""
    imports = f"`import {module}`{f' and `from {module} import *`' if star else ''}"
    return f"After {imports}, {question}\n\n```python\n{source}\n```\n\n{told}"
