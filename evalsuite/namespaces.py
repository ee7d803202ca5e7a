"""Runs around a sandboxed program, as a script: makes namespaces and a small root, starts the program there as nobody.

Three processes: this one, which stays outside, has the user ids mapped and passes the result on; the first of the new
process namespace, which builds the root and reaps; the program. When the second ends, the kernel ends all that the
program has left behind. Any refusal is an exception, before the program starts. Knows nothing about Python code.
"""

import ctypes
import json
import os
import platform
import secrets
import signal
import sys
from contextlib import suppress
from pathlib import Path

NOBODY = 65534
TMP = Path("/tmp")  # noqa: S108  in the new root
DEVICES = ("null", "zero", "full", "random", "urandom")
FAILED = 125
# linux/sched.h, mount.h, prctl.h
USER, MOUNT, PID, NET, IPC, UTS = 0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000
READ_ONLY, NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE = 1, 2, 4, 8, 0x1000, 0x4000, 0x40000
DEATH_SIGNAL, DUMPABLE, DROP_BOUND, NO_NEW_PRIVILEGES, AMBIENT, CLEAR_ALL = 1, 4, 24, 38, 47, 4
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR, HERE, RECURSIVE, DETACH = 442, -100, 0x8000, 2  # the same number on every architecture

libc = ctypes.CDLL(None, use_errno=True)


def main(size: int, binds: list[str], empty: list[str], command: list[str]) -> int:
    """Run `command` shut in, standing in a folder of its own; its exit code, negative for a signal.

    It sees `binds`, files and folders, read-only, `empty` folders among them emptied, and /tmp of `size` bytes.
    """
    _own_ids(USER | MOUNT | PID | NET | IPC | UTS)
    _call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    told, tell = os.pipe()
    first = os.fork()
    if first == 0:
        new = Path.cwd()
        _build_root(new, size, binds, empty)
        os.write(tell, str(_reap(TMP / new.name, command)).encode())
        os._exit(0)
    os.close(tell)
    # The caller's way to end it: unlike a kill of the group, this waits until every process in there is gone.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
    said = os.read(told, 16)
    os.waitpid(first, 0)
    return int(said) if said else FAILED


def _call(name: str, *args: object) -> None:
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _own_ids(flags: int) -> None:
    """New namespaces. Of the user ids, root keeps itself, to read an interpreter under /root, and can become nobody;
    for everybody else there is only nobody. The map has to be written from outside."""
    user, group, me = os.getuid(), os.getgid(), os.getpid()
    both = user == 0 and _has_nobody()
    ready, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go)
        if os.read(ready, 1):
            if not both:
                Path(f"/proc/{me}/setgroups").write_text("deny")
            for file, own in (("uid_map", user), ("gid_map", group)):
                ids = f"{own} {own} 1\n{NOBODY} {NOBODY} 1" if both else f"{NOBODY} {own} 1"
                Path(f"/proc/{me}/{file}").write_text(ids)
        os._exit(0)
    _call("unshare", flags)
    os.write(go, b"x")
    if os.waitpid(helper, 0)[1]:
        raise OSError("the user ids cannot be mapped")


def _has_nobody() -> bool:
    """False in a user namespace with fewer users."""
    ids = [[int(n) for n in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= NOBODY < first + count for first, _, count in ids)


def _mount(what: Path | str, where: Path, kind: str | None, flags: int, options: str = "") -> None:
    kind_ = kind and kind.encode()
    _call("mount", os.fsencode(what), os.fsencode(where), kind_, ctypes.c_ulong(flags), options.encode())


def _access(path: Path, allow: int, forbid: int, how: int) -> None:
    """mount_setattr: unlike a remount, it reaches the mounts below and keeps the flags that must not be lifted."""
    attributes = (ctypes.c_uint64 * 4)(forbid, allow, 0, 0)
    _call("syscall", ctypes.c_long(MOUNT_SETATTR), HERE, os.fsencode(path), how, attributes, ctypes.c_size_t(32))


def _build_root(new: Path, size: int, binds: list[str], empty: list[str]) -> None:
    """Make `new`, an empty folder, the root of all that this process sees."""
    pivot = PIVOT_ROOT[platform.machine()]
    _mount("none", Path("/"), None, REC | PRIVATE)
    _mount("tmpfs", new, "tmpfs", NOSUID | NODEV, "mode=755,size=1m")
    for name in ("proc", "dev", "tmp"):
        (new / name).mkdir()
    _mount("tmpfs", new / "tmp", "tmpfs", NOSUID | NODEV, f"mode=1777,size={size},nr_inodes=4096")
    for path in (*map(Path, binds), *(Path("/dev", name) for name in DEVICES)):
        _show(path, _in(new, path))
    for name in empty:
        _mount("tmpfs", _in(new, Path(name)), "tmpfs", NOSUID | NODEV, "mode=555,size=4k")
    (new / "dev/fd").symlink_to("/proc/self/fd")
    (new / "dev/shm").symlink_to("/tmp")  # noqa: S108
    _access(new, 0, READ_ONLY | NOSUID, RECURSIVE)
    _access(new / "tmp", READ_ONLY, 0, 0)
    with suppress(PermissionError):  # some containers forbid it; then /proc stays empty, which shows no more
        _mount("proc", new / "proc", "proc", NOSUID | NODEV | NOEXEC)
    os.chdir(new)
    _call("syscall", ctypes.c_long(pivot), b".", b".")
    _call("umount2", b".", DETACH)
    with suppress(OSError):  # user namespaces inside this one would give the program powers over its own mounts
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    _call("sethostname", b"sandbox", ctypes.c_size_t(7))


def _in(new: Path, path: Path) -> Path:
    return new / path.relative_to("/")


def _show(path: Path, where: Path) -> None:
    where.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        where.symlink_to(path.readlink())
        return
    if path.is_dir():
        where.mkdir(parents=True, exist_ok=True)
    else:
        where.touch()
    _mount(path, where, None, BIND | REC)


def _reap(scratch: Path, command: list[str]) -> int:
    """Start `command` without any power, and bury what dies until it does."""
    with suppress(OSError):  # numbers and folders differ from run to run, as outside: nothing may count on them
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(secrets.randbelow(30_000) + 2))
    _give_up_powers()
    scratch.mkdir(mode=0o700)
    os.chdir(scratch)
    _call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a handler, the first process cannot be killed from inside
    program = os.fork()
    if program == 0:
        os.setsid()
        os.execv(command[0], command)  # noqa: S606
    while True:
        pid, status = os.wait()
        if pid == program:
            return os.waitstatus_to_exitcode(status)


def _give_up_powers() -> None:
    for capability in range(64):
        if libc.prctl(DROP_BOUND, capability, 0, 0, 0):
            break  # the kernel knows no more
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    _call("prctl", AMBIENT, CLEAR_ALL, 0, 0, 0)
    _call("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call("prctl", DUMPABLE, 0, 0, 0, 0)


if __name__ == "__main__":
    code = main(**json.loads(sys.argv[1]))
    if code < 0:
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))
