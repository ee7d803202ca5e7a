"""Python source in, what it printed out, run where it can do little harm.

Always: a fresh interpreter with an environment made from nothing, an empty folder to stand in, limits on processor
time, memory, file size and processes, and a session of its own that is killed as a whole. Where the machine allows
it, also namespaces without a network and without a hold on other processes (`level()` says which), and root
becomes nobody, with leave to read. A program can still read what the user can and, at level "limits", reach the
network: good for our own generated checks, not for code from a stranger. Knows nothing about questions.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from typing import Literal, NamedTuple

Level = Literal["namespaces", "limits"]
MIB = 2**20
NOBODY = 65534

# Runs in the child: limits cannot be set safely between fork and exec of a threaded parent.
_BOOT = """
import json, os, resource, sys
cpu, memory, files, processes, nobody = json.loads(sys.argv[1])
if os.getuid() == 0:
    import ctypes, pathlib
    libc = ctypes.CDLL(None, use_errno=True)
    # Of root's powers keep reading alone (CAP_DAC_READ_SEARCH, 2): the interpreter may lie under /root. Where a
    # container lacks even that and others may not read the interpreter, root is better than no modules.
    reads = libc.prctl(23, 2) == 1  # PR_CAPBSET_READ
    if reads or all(p.stat().st_mode & 1 for p in pathlib.Path(os.__file__).resolve().parents):
        os.chown(".", nobody, nobody)
        os.setgroups([])
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
        os.setresgid(nobody, nobody, nobody)
        os.setresuid(nobody, nobody, nobody)
        keep = 4 if reads else 0
        if libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(keep, keep)):
            raise OSError(ctypes.get_errno(), "capset")
for name, most in (("CPU", cpu), ("AS", memory), ("FSIZE", files), ("NPROC", processes), ("CORE", 0)):
    which = getattr(resource, "RLIMIT_" + name)
    ceiling = resource.getrlimit(which)[1]
    most = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
    resource.setrlimit(which, (most, most))
code = sys.stdin.buffer.read()
sys.argv[1:] = []
exec(compile(code, "<sandbox>", "exec"), {"__name__": "__main__"})
"""


class Result(NamedTuple):
    """What became of a program. `returncode` is negative for a signal; None when it ran out of time."""

    stdout: str
    stderr: str
    returncode: int | None
    level: Level

    @property
    def ok(self) -> bool:
        return self.returncode == 0


@cache
def _namespaces() -> tuple[str, ...]:
    """The command that puts what follows into namespaces of its own, empty where the kernel refuses."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    user = () if os.getuid() == 0 else ("--user",)
    command = (unshare, *user, "--net", "--pid", "--ipc", "--fork", "--kill-child", "--")
    try:
        tried = subprocess.run([*command, sys.executable, "-S", "-c", ""], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if tried.returncode == 0 else ()


def level() -> Level:
    """How far a program is shut in on this machine."""
    return "namespaces" if _namespaces() else "limits"


def run(
    code: str, *, seconds: float, memory_mb: int, output_mb: int = 16, processes: int = 0, hash_seed: int = 0
) -> Result:
    """Run Python source with the standard library alone (no site-packages).

    `seconds` of wall clock and of processor time, `memory_mb` MiB of address space; each file, standard output
    included, at most `output_mb` MiB; `processes` is RLIMIT_NPROC: 0 forbids forks and threads.
    `hash_seed` is PYTHONHASHSEED; that is why the flags are `-s -P -S` and not `-I`, which would ignore it.
    """
    limits = [math.ceil(seconds) + 1, memory_mb * MIB, output_mb * MIB, processes, NOBODY]
    command = [*_namespaces(), sys.executable, "-s", "-P", "-S", "-c", _BOOT, json.dumps(limits)]
    env = {"PYTHONHASHSEED": str(hash_seed), "PYTHONUTF8": "1", "LANG": "C.UTF-8", "TZ": "UTC"}
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as out,  # files, not pipes: RLIMIT_FSIZE bounds what an endless print can fill
        tempfile.TemporaryFile() as err,
    ):
        stdin.write(code.encode("utf-8", "surrogatepass"))
        stdin.seek(0)
        child = subprocess.Popen(
            command, stdin=stdin, stdout=out, stderr=err, cwd=folder, env=env, start_new_session=True
        )
        returncode: int | None = None
        try:
            returncode = child.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        err.seek(0)
        return Result(out.read().decode(errors="replace"), err.read().decode(errors="replace"), returncode, level())
