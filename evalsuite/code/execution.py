"""Programs in, what each gave out: each in a fresh interpreter in a sandbox of its own, each distinct one once.

Answers are a model's: they run where code is shut in (sandbox.SHUT_IN) or not at all. A program can neither see nor
reach another, which a fork within one sandbox would allow: same user, same folder. What it reports is compared out
here, with what never was in there. A program that got out of the language of answer.py could forge its own report, and
nothing else: of a `call` it knows the value from its question, of the others it would have to know the answer.
"""

import json
import os
import secrets
import signal
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from evalsuite import sandbox
from evalsuite.code import inside
from evalsuite.sandbox import Level
from tune.errors import UserError

SECONDS = 30.0  # of wall clock, for what waits; what computes is ended by its processor time (inside.CPU_SECONDS)
MEMORY_MB = 512
TRIES = 3  # to start one
PROCESSES = 4


class Program(NamedTuple):
    """An expression, to be evaluated after `import module`."""

    module: str
    source: str


class Ran(NamedTuple):
    """What became of it. `typed` is inside.typed of the value, "" for one that is not plain; `shown` what the
    interpreter would show; `error` why there is neither, "" where there is; `late`: the clock ended it."""

    typed: str = ""
    shown: str = ""
    error: str = ""
    late: bool = False


_RAN: dict[Program, Ran] = {}


def require() -> Level:
    """The level that answers run at. Raises UserError where nothing shuts code in."""
    found = sandbox.level()
    if found not in sandbox.SHUT_IN:
        _, why, fix = (*sandbox.described().split("\n"), "", "")[:3]
        raise UserError(
            "answers that are code cannot be run on this machine",
            why="they are a model's, and run only where a sandbox shuts them in; " + why.strip().removeprefix("why: "),
            fix=f"{fix.strip().removeprefix('fix: ')}, or set code = 0 in [evaluate] and run evalsuite questions",
        )
    return found


def run(programs: Iterable[Program]) -> None:
    """Run those that have not been run yet, a few side by side. What the clock ended had processor time left, and may
    have waited for a processor only: it is run once more, alone. Raises UserError as `require`."""
    at = require()
    fresh = [p for p in dict.fromkeys(programs) if p not in _RAN]
    with ThreadPoolExecutor(min(PROCESSES, os.cpu_count() or 1)) as pool:
        first = dict(zip(fresh, pool.map(lambda p: execute(p, at), fresh), strict=True))
    _RAN.update({p: execute(p, at) if found.late else found for p, found in first.items()})


def ran(program: Program) -> Ran:
    run([program])
    return _RAN[program]


def execute(program: Program, at: Level) -> Ran:
    """Run it now. A sandbox that does not start says nothing of the program: it is tried again, and then raises
    UserError."""
    token = secrets.token_hex(16)
    code = f"{_source()}names['main']({token!r}, *{json.dumps(program)})\n"
    for _ in range(TRIES):
        done = sandbox.run(code, seconds=SECONDS, memory_mb=MEMORY_MB, output_mb=1, at=at)
        ready, *said = done.stdout.split("\n")
        if ready == f"{token} ready":
            return _report(said, token, done.returncode)
    why = (done.stderr.strip().splitlines() or ["no sign of life"])[-1]
    raise UserError("a sandbox did not start", why=why, fix="run it again, with less going on beside it")


def _report(lines: list[str], token: str, returncode: int | None) -> Ran:
    """`lines` behind the first one: one report and the end of it, or the program is not believed."""
    if lines == [""]:
        return Ran(error=f"no value: {_end(returncode)}", late=returncode is None)
    mark = f"{token} "
    if len(lines) != 2 or lines[1] or not lines[0].startswith(mark):
        return Ran(error="no value: it wrote into its own report")
    said = json.loads(lines[0].removeprefix(mark))
    return Ran(said.get("typed", ""), said.get("shown", ""), said.get("error", ""))


def _end(returncode: int | None) -> str:
    if returncode is None:
        return f"not done after {SECONDS:.0f} s"
    if returncode in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return f"it used up {inside.CPU_SECONDS} s of the processor"
    return f"it ended with exit code {returncode}"


@cache
def _source() -> str:
    """inside.py's, run with built-ins of its own: what an answer does to those that all share changes no report."""
    source = files("evalsuite.code").joinpath("inside.py").read_text(encoding="utf-8")
    names = "names = {'__name__': 'inside', '__builtins__': dict(vars(builtins))}"
    return f"import builtins\n{names}\nexec(compile({source!r}, '<inside>', 'exec'), names)\n"
