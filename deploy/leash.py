"""A program that does not outlive us, however we end: its words in, the words that start it so out.

A process that is killed outright can end nothing itself. The kernel of Linux can be asked to, by PR_SET_PDEATHSIG;
elsewhere the words are as they were. What the program starts is its own to end.
"""

import os
import signal
import sys
from collections.abc import Sequence

# By a program of its own: a function between fork and exec (preexec_fn) may hang where threads are.
CODE = (
    "import ctypes, os, sys; "
    f"ctypes.CDLL(None).prctl(1, {int(signal.SIGTERM)}); "
    "os.getppid() == int(sys.argv[1]) and os.execvp(sys.argv[2], sys.argv[2:])"
)


def leashed(argv: Sequence[str]) -> list[str]:
    """The words for a child of this process, which must be on PATH or named by its path. SIGTERM ends it with us."""
    if sys.platform != "linux":
        return [*argv]
    return [sys.executable, "-I", "-S", "-c", CODE, str(os.getpid()), *argv]
