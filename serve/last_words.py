"""An engine's last words to one error: the end of its log and its exit code in, what is wrong and what to do out."""

import os
import re
import signal
from pathlib import Path

from tune.errors import UserError

INSTALL_CPU = "pip install --no-deps -r requirements/cpu.txt, where the kit lies"
INSTALL = f"with a GPU pip install vllm==0.32.0, without one {INSTALL_CPU}"
PORT_IN_USE = ("the port is in use", "serve run FOLDER --port 0 takes a free one")

# What the engine's last words mean: pattern, what is wrong, what to do.
CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"Address already in use", *PORT_IN_USE),
    (
        r"out of memory|Cannot allocate memory|MemoryError|No available memory for the cache|KV cache is needed|"
        r"Free memory on device|Available memory on node",
        "there is not enough memory",
        "a smaller [serve] max_model_len (serve run: or --max-model-len), or a larger machine; serve preflight counts",
    ),
    (
        r"weights were not initialized|KeyError: '.*(weight|bias|proj|sinks)",
        "the checkpoint's weights do not fit the architecture",
        "tune check FOLDER says which, and what makes it again",
    ),
    (
        r"SafetensorError|HeaderTooLarge|MetadataIncompleteBuffer",
        "a weight file is damaged",
        "tune check FOLDER says which",
    ),
    (
        r"No MXFP4 MoE backend|No Mxfp4 MoE backend|no.*MoE backend supports",
        "this machine has no kernel for these expert weights",
        "tune export --format merged, or serve on a GPU",
    ),
    (
        r"error: (unrecognized arguments|argument|ambiguous option)",
        "the engine does not know one of its flags",
        "look at what follows -- on your command line",
    ),
    (
        r"serve\.launcher: vLLM|ModuleNotFoundError|ImportError",
        "the engine's installation is not whole",
        INSTALL,
    ),
    (r"should hold the API key", "the API key is empty", "export the variable that --api-key-env names"),
)


def explain(tail: str, code: int | None, log: Path | None) -> UserError:
    """One error for a failed engine, from the end of its log and its exit code (negative: the signal).

    `log` None: its output went where ours goes.
    """
    where = str(log or "above")
    errors = [line for line in tail.splitlines() if re.search(r"\w*(Error|Exception)\b|error:|serve\.launcher:", line)]
    for pattern, what, fix in CAUSES:
        if match := re.search(pattern, tail):
            line = next((e for e in reversed(errors) if match.group(0) in e), errors[-1] if errors else match.group(0))
            return UserError(f"the engine failed: {what}", why=f"{_words(line)}\n       all of it: {where}", fix=fix)
    if code is not None and -code == signal.SIGKILL:
        why = f"killed by the system, as when memory runs out\n       log: {where}"
        return UserError("the engine was killed", why=why, fix="serve preflight FOLDER counts the memory")
    what = f"the engine stopped with exit code {code}" if code is not None else "the engine did not become ready"
    return UserError(what, why=_words(errors[-1]) if errors else "its log names no error", fix=where_to_read(log))


def where_to_read(log: Path | None) -> str:
    """The fix of last resort."""
    return f"read {log}" if log else "read the engine's output above"


def _words(line: str) -> str:
    """A log line without its process, level, date and source."""
    return re.sub(r"^\(.*?\) ?(ERROR .*?\] ?)?", "", line).strip()[:300]


def tail_of(path: Path | None, size: int = 65_536) -> str:
    """The end of a log; nothing without one."""
    if path is None:
        return ""
    with path.open("rb") as f:
        f.seek(0, os.SEEK_END)
        f.seek(max(0, f.tell() - size))
        return f.read().decode("utf-8", errors="replace")
