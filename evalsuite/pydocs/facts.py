"""Module names in, what those modules define out, found in one sandboxed process. Also runs checks there, twice.

Knows how to talk to the sandbox; nothing about questions.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

from evalsuite import sandbox
from tune.errors import UserError

HASH_SEEDS = (1, 2)
CHECK_SECONDS = 1.0
TOTAL_SECONDS = 60.0
MEMORY_MB = 1024


class Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameter(Fact):
    name: str
    keyword_only: bool
    default: bool


class Routine(Fact):
    """A function, method or class that can be called, at a dotted path in its module."""

    path: str
    parameters: tuple[Parameter, ...]


class Class(Fact):
    path: str
    exception: bool
    ancestors: tuple[str, ...]
    members: dict[str, str]  # name -> "a property", "a class method", "a static method" or "an ordinary method"


class Module(Fact):
    """What one module defines. `sessions` are docstring examples: lines to type, the last of which shows something."""

    name: str
    error: str = ""
    routines: tuple[Routine, ...] = ()
    classes: tuple[Class, ...] = ()
    constants: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()


def harvest(modules: Sequence[str]) -> tuple[Module, ...]:
    """Facts of every module, in the order given. Raises UserError naming all that this Python does not have."""
    found = TypeAdapter(tuple[Module, ...]).validate_json(_run(f"facts({list(modules)!r})", HASH_SEEDS[0]))
    missing = [m for m in found if m.error]
    if missing:
        raise UserError(
            f"this Python's standard library has no module {', '.join(m.name for m in missing)}",
            why=missing[0].error,
            fix='edit [evaluate] modules in recipe.toml, or set book = "open" there: it asks of the pages alone',
        )
    return found


def answers(checks: Sequence[str]) -> list[str | None]:
    """Each check's value where two processes agree on it, else None.

    The processes differ in hash seed and working folder: what depends on set order, an address or a path drops out.
    """
    call = f"answers(json.loads({json.dumps(list(checks))!r}), {CHECK_SECONDS})"
    with ThreadPoolExecutor(len(HASH_SEEDS)) as pool:
        runs = list(pool.map(lambda seed: _run(call, seed), HASH_SEEDS))
    first, second = (TypeAdapter(list[str | None]).validate_json(text) for text in runs)
    return [a if a == b else None for a, b in zip(first, second, strict=True)]


def _run(call: str, hash_seed: int) -> str:
    code = f"{_source()}\nemit(lambda: {call})\n"
    result = sandbox.run(code, seconds=TOTAL_SECONDS, memory_mb=MEMORY_MB, processes=0, hash_seed=hash_seed)
    if not result.ok:
        why = result.stderr.strip().splitlines()[-1:] or [f"no answer within {TOTAL_SECONDS:.0f} s"]
        raise UserError("the modules could not be examined", why=why[0], fix="take a module out of [evaluate] modules")
    return result.stdout


@cache
def _source() -> str:
    return files("evalsuite.pydocs").joinpath("harvest.py").read_text(encoding="utf-8")
