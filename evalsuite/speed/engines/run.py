"""Run another load tester on the endpoint, take its figures by our formulas: a tool's name and Asked in, Opinion out.

A tool is a program of its own, in a folder of its own that is deleted afterwards. Keys go by environment alone. What
goes wrong with it is a UserError with the end of what it said.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from evalsuite.speed.client import Target
from evalsuite.speed.engines import aiperf, guidellm, vllm
from evalsuite.speed.engines.asked import Asked
from evalsuite.speed.metrics import Figures, Frozen, Sample, figures
from tune.errors import UserError, reason
from tune.terminal import escaped, one_line

LOG, SAID = "output.log", 400  # characters of it that are shown
START_S = 600.0  # for a tool to start and to write its files, beside the load
FOREIGN = {"OPENAI_API_KEY", "PYTHONPATH", aiperf.KEY}  # not handed on: another server's key, and our own packages
OPEN = "{tool}: counted from when the request left, not from when it was due"
DRAWN = "{tool}: it draws arrivals of its own, at the same rate"
VERSION = """
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        print(version(name))
        break
    except PackageNotFoundError:
        pass
"""


class Engine(NamedTuple):
    """A tool, as its file describes it."""

    packages: tuple[str, ...]
    pin: str
    notes: Mapping[str, str]  # column of the table -> where the tool's definition is not ours
    command: Callable[[Path, Path, Path, Target, Asked], list[str]]
    environment: Callable[[str], dict[str, str]]
    read: Callable[[Path], tuple[Sample, ...]]


ENGINES: dict[str, Engine] = {
    m.NAME: Engine(m.PACKAGES, m.PIN, m.NOTES, m.command, m.environment, m.read) for m in (vllm, guidellm, aiperf)
}


class Opinion(Frozen):
    """What a tool found. `cpu_s`: CPU time of its processes, their start included."""

    tool: str
    version: str
    figures: Figures
    cpu_s: float
    notes: dict[str, tuple[str, ...]]  # column of the table -> where the tool's definition is not ours


class Installed(NamedTuple):
    """A tool on this machine: its program, the interpreter beside it, its version."""

    binary: Path
    python: Path
    version: str


def installed(tool: str, binary: Path | None = None) -> Installed:
    """Where the tool is: `binary`, else $EVALSUITE_VLLM and so on, beside our own interpreter, or in PATH.

    Raises UserError, with how to install it, when it is not there.
    """
    engine, variable = ENGINES[tool], f"EVALSUITE_{tool.upper()}"
    named = binary or os.environ.get(variable, "")
    beside = Path(sys.executable).with_name(tool)
    found = named or (beside if beside.exists() else shutil.which(tool))
    folder = f".venv-{tool}"
    fix = (f"python3 -m venv {folder} && {folder}/bin/pip install {engine.pin} && "
           f"export {variable}=$PWD/{folder}/bin/{tool}  # or --engine-bin {folder}/bin/{tool}")  # fmt: skip
    if not found:
        raise UserError(f"{tool} is not installed", why="it is in no folder of PATH", fix=fix)
    program = Path(found).absolute()
    python = program.resolve().with_name("python3")
    for path in (program, python):
        if not os.access(path, os.X_OK) or path.is_dir():
            raise UserError(f"{program} cannot be run", why=f"{path} is no program", fix=fix)
    asked = [str(python), "-c", VERSION, *engine.packages]
    version = subprocess.run(asked, capture_output=True, text=True, env=_environment({}), check=False).stdout.strip()
    if not version:
        raise UserError(f"{program} is no {tool}", why=f"{python} has no such package", fix=fix)
    return Installed(program, python, version)


def opinion(tool: str, found: Installed, target: Target, asked: Asked) -> Opinion:
    """Run the tool once. Raises UserError for a load it cannot offer, a crash, and what cannot be read."""
    if asked.load.trace:
        raise UserError(f"{tool} is given no trace", why="what is compared is a rate or a concurrency",
                        fix="--concurrency 4")  # fmt: skip
    engine, key = ENGINES[tool], target.key.get_secret_value()
    what, fix = f"{tool} {found.version}", f"use the version that was tried: pip install {engine.pin}"
    before = _cpu()
    with TemporaryDirectory(prefix=f"evalsuite-{tool}-") as name:
        folder = Path(name)
        argv = engine.command(folder, found.python, found.binary, target, asked)
        code = _run(argv, folder, _environment(engine.environment(key)), _patience(asked), what)
        said = (folder / LOG).read_text(encoding="utf-8", errors="replace")
        try:
            samples = engine.read(folder)
        except (OSError, ValueError) as e:
            if code or isinstance(e, OSError):
                why = _end(said, key) or f"exit code {code}, and not a word"
                raise UserError(f"{what} measured nothing", why=why, fix=fix) from None
            why = one_line(reason(e))
            raise UserError(f"{what} wrote what cannot be read", why=why, fix=fix) from None
    if len(samples) != len(asked.prompts):
        why = f"of {len(asked.prompts)} requests it wrote {len(samples)}"
        raise UserError(f"{what} did something else", why=why, fix=fix)
    notes: dict[str, tuple[str, ...]] = {column: (note,) for column, note in engine.notes.items()}
    if asked.load.rate is not None:
        notes |= {column: (*notes.get(column, ()), OPEN.format(tool=tool)) for column in ("ttft", "e2e")}
    if asked.load.arrivals == "poisson":
        notes["tokens"] = (DRAWN.format(tool=tool),)
    clean = [s.model_copy(update={"error": one_line(_without(s.error, key), 80)}) for s in samples]
    return Opinion(tool=tool, version=found.version, figures=figures(clean), cpu_s=_cpu() - before, notes=notes)


def _run(argv: list[str], folder: Path, environment: dict[str, str], patience_s: float, what: str) -> int:
    """Its exit code. No process of the tool's group outlives this."""
    with (
        (folder / LOG).open("wb") as log,
        subprocess.Popen(argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                         start_new_session=True) as tool,
    ):  # fmt: skip
        try:
            return tool.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise UserError(f"{what} did not end", why=f"it was waited for {patience_s:,.0f} s",
                            fix="lower --requests or --max-tokens") from None  # fmt: skip
        finally:
            with suppress(ProcessLookupError):
                os.killpg(tool.pid, signal.SIGKILL)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what is not the tool's business; no proxy stands between, as with our own client."""
    kept = {k: v for k, v in os.environ.items() if k not in FOREIGN and not k.startswith("GUIDELLM__")}
    return {**kept, "NO_PROXY": "*", "no_proxy": "*", **own}


def _patience(asked: Asked) -> float:
    """Seconds: every request may take as long as one may."""
    load, count = asked.load, len(asked.prompts)
    offering = count / load.rate if load.rate else (ceil(count / (load.concurrency or 1)) - 1) * load.timeout_s
    return START_S + offering + load.timeout_s


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end(said: str, key: str) -> str:
    return escaped(" ".join(_without(said, key).split())[-SAID:])[-SAID:]


def _without(text: str, key: str) -> str:
    return text.replace(key, "***") if len(key) > 4 else text
