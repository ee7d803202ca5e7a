"""Python source in, what it printed out, run where it can do little harm. `level()` says how little.

"namespaces" and "bubblewrap": namespaces for users, mounts, processes, network, IPC and host name; nobody, without a
capability; the interpreter, the standard library and the system's libraries to read, one small folder in memory to
write, and nothing else of this machine. "none": another process group, limits and an empty environment; a program
still reads what the user can, writes where the user can (root becomes nobody if it can), reaches the network and may
leave a process behind: good for checks of our own, not for code from a stranger or a model.

At every level: a fresh interpreter, limits on processor time, memory, file size, open files and processes. Memory is
of one process; a limit on all together would take a cgroup, which is not ours to make. Knows nothing about questions.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from evalsuite.namespaces import NOBODY, TMP

Level = Literal["namespaces", "bubblewrap", "none"]
SHUT_IN: tuple[Level, ...] = ("namespaces", "bubblewrap")  # the stronger first
MIB = 2**20
SECONDS_TO_DIE = 10.0

# Runs in the child: limits cannot be set safely between fork and exec of a threaded parent.
_BOOT = """
import json, os, resource, sys
limits, nobody = json.loads(sys.argv[1])
if os.getuid() == 0 and sys.platform == "linux":
    import ctypes, pathlib
    libc = ctypes.CDLL(None, use_errno=True)
    # Of root's powers keep reading alone (CAP_DAC_READ_SEARCH, 2): the interpreter may lie under /root. Where a
    # container lacks even that and others may not read the interpreter, root is better than no modules.
    # Nor has every user namespace a nobody.
    reads = libc.prctl(23, 2) == 1  # PR_CAPBSET_READ
    try:
        os.chown(".", nobody, nobody)
    except OSError:
        nobody = 0
    if nobody and (reads or all(p.stat().st_mode & 1 for p in pathlib.Path(os.__file__).resolve().parents)):
        os.setgroups([])
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
        os.setresgid(nobody, nobody, nobody)
        os.setresuid(nobody, nobody, nobody)
        keep = 4 if reads else 0
        if libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(keep, keep)):
            raise OSError(ctypes.get_errno(), "capset")
for name, most in limits.items():
    which = getattr(resource, "RLIMIT_" + name)
    ceiling = resource.getrlimit(which)[1]
    most = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
    resource.setrlimit(which, (most, most))
code = sys.stdin.buffer.read()
sys.argv[1:] = []
exec(compile(code, "<sandbox>", "exec"), {"__name__": "__main__"})
"""


class Result(NamedTuple):
    """What became of a program. `returncode` is None when it ran out of time, negative for a signal (at level
    "bubblewrap" 128 and the signal's number)."""

    stdout: str
    stderr: str
    returncode: int | None
    level: Level

    @property
    def ok(self) -> bool:
        return self.returncode == 0


def level() -> Level:
    """How far a program is shut in on this machine: the strongest level at which one has run."""
    return next((at for at in SHUT_IN if not refusal(at)), "none")


def described() -> str:
    """The level as one line; where it is "none", what that leaves open, why it is so, and what to do."""
    if (found := level()) != "none":
        return f"sandbox: {found}"
    fix = "sudo apt-get install bubblewrap" if sys.platform == "linux" else "make the questions on Linux"
    return (
        "warning: sandbox: none: code runs with limits alone, could read this user's files and reach the network"
        f"\n  why: {'; '.join(f'{at}: {refusal(at)}' for at in SHUT_IN)}\n  fix: {fix}"
    )


@cache
def refusal(at: Level) -> str:
    """Why nothing can run at this level on this machine; empty when a program just did."""
    if at != "none" and sys.platform != "linux":
        return "namespaces are Linux's"
    try:
        tried = run("print('in')", seconds=20, memory_mb=512, at=at)
    except OSError as e:
        return str(e)
    return "" if tried.stdout == "in\n" else (tried.stderr.strip().splitlines() or ["no answer"])[-1]


def run(
    code: str,
    *,
    seconds: float,
    memory_mb: int,
    output_mb: int = 16,
    processes: int = 0,
    hash_seed: int = 0,
    at: Level | None = None,
) -> Result:
    """Run Python source with the standard library alone (no site-packages), at `level()` or, if that is said, `at`.

    `seconds` of wall clock and of processor time, `memory_mb` MiB of address space; each file, standard output
    included, at most `output_mb` MiB, and shut in, all that it writes in files together too; `processes` is
    RLIMIT_NPROC: 0 forbids forks and threads. `hash_seed` is PYTHONHASHSEED; that is why the flags are `-s -P -S` and
    not `-I`, which would ignore it. Where a level is refused, the result is a failure, never a run at a weaker one.
    """
    at = at or level()
    limits = {
        "CPU": math.ceil(seconds) + 1,
        "AS": memory_mb * MIB,
        "FSIZE": output_mb * MIB,
        "NPROC": processes,
        "NOFILE": 64,
        "CORE": 0,
    }
    env = {"PYTHONHASHSEED": str(hash_seed), "PYTHONUTF8": "1", "LANG": "C.UTF-8", "TZ": "UTC"}
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as out,  # files, not pipes: RLIMIT_FSIZE bounds what an endless print can fill
        tempfile.TemporaryFile() as err,
    ):
        stdin.write(code.encode("utf-8", "surrogatepass"))
        stdin.seek(0)
        command = _command(at, limits, Path(folder).name)
        child = subprocess.Popen(
            command, stdin=stdin, stdout=out, stderr=err, cwd=folder, env=env, start_new_session=True
        )
        returncode: int | None = None
        try:
            returncode = child.wait(seconds)
        except subprocess.TimeoutExpired:
            if at == "namespaces":  # it ends once all is dead in there
                child.terminate()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(SECONDS_TO_DIE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        err.seek(0)
        said, erred = (stream.read(output_mb * MIB).decode(errors="replace") for stream in (out, err))
        return Result(said, erred, returncode, at)


def _command(at: Level, limits: dict[str, int], folder: str) -> list[str]:
    python = sys.executable if at == "none" else os.path.realpath(sys.executable)
    command = [python, "-s", "-P", "-S", "-c", _BOOT, json.dumps([limits, NOBODY])]
    if at == "namespaces":
        return _in_namespaces(limits["FSIZE"], command)
    return command if at == "none" else _in_bubblewrap(limits["FSIZE"], str(TMP / folder), command)


def _in_namespaces(size: int, command: list[str]) -> list[str]:
    shown, empty = _shown()
    told = json.dumps({"size": size, "binds": shown, "empty": empty, "command": command})
    return [sys.executable, "-s", "-P", "-S", str(files("evalsuite") / "namespaces.py"), told]


def _in_bubblewrap(size: int, scratch: str, command: list[str]) -> list[str]:
    """For kernels that let only some programs make namespaces. Raises OSError where it is missing, or no use."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise FileNotFoundError("bwrap is not installed")
    if os.getuid() == 0:  # it cannot become nobody, and limits on processes do not hold for root
        raise PermissionError("not for root")
    shown, empty = _shown()
    links = {path: str(Path(path).readlink()) for path in shown if Path(path).is_symlink()}
    folder = ["--size", str(size), "--perms", "1777", "--tmpfs"]
    return [
        *(bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
        *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox", "--die-with-parent", "--new-session"),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", *folder, "/dev/shm", *folder, str(TMP)),  # noqa: S108
        *(word for path in shown if path not in links for word in ("--ro-bind", path, path)),
        *(word for path, goal in links.items() for word in ("--symlink", goal, path)),
        *(word for path in empty for word in ("--tmpfs", path, "--remount-ro", path)),
        *("--remount-ro", "/", "--dir", scratch, "--chdir", scratch, "--", *command),
    ]


@cache
def _shown() -> tuple[list[str], list[str]]:
    """What Python needs to see: folders, files and links of this machine; and folders in them to be shown empty."""
    prefix = os.path.realpath(sys.base_prefix)
    wanted = (
        *("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"),
        *(f"{prefix}/lib", f"{prefix}/lib64", os.path.realpath(sys.executable)),
    )
    shown: list[str] = []
    for path in wanted:
        if Path(path).exists() and not any(Path(path).is_relative_to(other) for other in shown):
            shown.append(path)
    stdlib = os.path.realpath(sysconfig.get_path("stdlib"))
    foreign = (f"{stdlib}/site-packages", f"{stdlib}/dist-packages", "/usr/lib/python3/dist-packages")
    return shown, [path for path in foreign if Path(path).is_dir()]
