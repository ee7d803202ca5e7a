"""Module names in, what those modules define out, found in a sandboxed process. Also runs checks there, three times.

Knows how to talk to the sandbox; nothing about questions.
"""

import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from evalsuite import sandbox
from tune.errors import UserError

# Hash seed, TZ and LC_ALL. A locale that the machine lacks changes nothing.
SURROUNDINGS = ((1, "UTC", "C.UTF-8"), (2, "Pacific/Kiritimati", "de_DE.UTF-8"), (3, "America/St_Johns", "tr_TR.UTF-8"))
CHECK_SECONDS = 1.0
TOTAL_SECONDS = 60.0
MEMORY_MB = 1024
UNSTABLE, SILENT = "unstable", "no value"
SHARED = ("lasting", "documentation", "checks", "running")  # what harvest.py imports of ours


class Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    unfit: str = ""  # why it is not asked


class Parameter(Fact):
    name: str
    keyword_only: bool
    positional_only: bool
    default: bool
    default_unfit: str = ""


class Routine(Fact):
    """A function, method or class that can be called, at a dotted path in its module."""

    path: str
    parameters: tuple[Parameter, ...]
    variadic: bool  # it takes * or ** too, which are not among its parameters
    order_unfit: str = ""


class Class(Fact):
    path: str
    exception: bool
    ancestors: tuple[str, ...]
    members: dict[str, str]  # properties and methods of its own -> unfit


class Session(Fact):
    """A docstring example: lines to type, the last of which shows something. `path` "" is the module's docstring."""

    path: str
    lines: str


class Expression(Fact):
    """Lines of our own, the last of which shows something, or raises an exception of the class that is named."""

    source: str
    about: str
    shown: str
    raises: str


class Module(Fact):
    """What one module defines. `error`: why nothing is said of it."""

    name: str
    error: str = ""
    routines: tuple[Routine, ...] = ()
    classes: tuple[Class, ...] = ()
    constants: dict[str, str] = {}  # name -> unfit, and so for exports
    exports: dict[str, str] = {}
    sessions: tuple[Session, ...] = ()
    expressions: tuple[Expression, ...] = ()


class Truth(NamedTuple):
    """What a check gives; `value` None for nothing, and then `why`: it is unstable, or has no value."""

    value: str | None
    why: str = ""


def harvest(modules: Sequence[str]) -> tuple[Module, ...]:
    """Facts of every module, in the order given, with `error` where it cannot be imported or examined.

    Raises UserError naming all that are not in this Python's standard library.
    """
    if unknown := [name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names]:
        raise UserError(
            f"this Python's standard library has no module {', '.join(unknown)}",
            why="closed-book questions are made of nothing else",
            fix='edit [evaluate] modules in recipe.toml, or set book = "open" there: it asks of the pages alone',
        )
    return tuple(
        Module.model_validate_json(line) if line else Module(name=name, error="it ends the process that examines it")
        for name, line in zip(modules, _run(_facts, modules, SURROUNDINGS[0]), strict=True)
    )


def answers(checks: Sequence[str]) -> list[Truth]:
    """Each check's value where three processes agree on it.

    They differ in hash seed, time zone, locale and working folder: what depends on one of these, on set order or an
    address, is unstable.
    """
    with ThreadPoolExecutor(len(SURROUNDINGS)) as pool:
        runs = list(pool.map(lambda where: _run(_answers, checks, where), SURROUNDINGS))
    return [_agreed([json.loads(line) if line else None for line in lines]) for lines in zip(*runs, strict=True)]


def _agreed(values: list[str | None]) -> Truth:
    if len(set(values)) > 1:
        return Truth(None, UNSTABLE)
    return Truth(values[0], "" if values[0] is not None else SILENT)


def _facts(names: str) -> str:
    return f"facts({names}, json.loads({json.dumps(_expressions())!r}))"


def _answers(checks: str) -> str:
    return f"answers({checks}, {CHECK_SECONDS})"


def _run(call: Callable[[str], str], items: Sequence[str], where: tuple[int, str, str]) -> list[str | None]:
    """The line of JSON that each item gives; None for one that ends the process, after which the next go on."""
    lines: list[str | None] = []
    while len(lines) < len(items):
        hash_seed, *zone_and_language = where
        left = f"json.loads({json.dumps(list(items[len(lines) :]))!r})"
        code = f"{_surround(*zone_and_language)}{_source()}\nemit({call(left)})\n"
        done = sandbox.run(code, seconds=TOTAL_SECONDS, memory_mb=MEMORY_MB, processes=0, hash_seed=hash_seed)
        ready, *found = done.stdout.split("\n")[:-1] or [""]
        if not ready:
            why = done.stderr.strip().splitlines()[-1:] or [f"no sign of life within {TOTAL_SECONDS:.0f} s"]
            raise UserError("no module can be examined on this machine", why=why[0], fix='set book = "open"')
        lines += found
        slow = done.returncode is None and found  # the time was used up by those before: it gets its own
        if len(lines) < len(items) and not slow:
            lines.append(None)
    return lines


def _surround(zone: str, language: str) -> str:
    """Source that moves the process to another time zone and locale; for good, as the environment would."""
    return (
        "import locale, os, time\n"
        f"os.environ.update(TZ={zone!r}, LC_ALL={language!r})\n"
        "time.tzset()\n"
        "try:\n    locale.setlocale(locale.LC_ALL, '')\nexcept locale.Error:\n    pass\n"
    )


@cache
def _expressions() -> dict[str, list[str]]:
    """Module -> lines of expressions.toml."""
    table = tomllib.loads(files("evalsuite.pydocs").joinpath("expressions.toml").read_text(encoding="utf-8"))
    return {module: lines.splitlines() for module, lines in table.items()}


@cache
def _source() -> str:
    """harvest.py's source, behind code that puts in place the modules it imports."""
    here = files("evalsuite.pydocs")
    sources = {name: here.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in ("harvest", *SHARED)}
    placed = (f"placed({name!r}, {sources[name]!r})\n" for name in SHARED)
    return f"{_PLACE}{''.join(placed)}{sources['harvest']}"


_PLACE = """
import sys, types
for name in ("evalsuite", "evalsuite.pydocs"):
    sys.modules[name] = types.ModuleType(name)
def placed(name, source):
    made = sys.modules[f"evalsuite.pydocs.{name}"] = types.ModuleType(name)
    setattr(sys.modules["evalsuite.pydocs"], name, made)
    exec(compile(source, f"<{name}>", "exec"), vars(made))
"""
