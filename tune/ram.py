"""Free memory of this machine or container, in bytes."""

from pathlib import Path


def free(meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can still be taken: what the system has free, or less when the control group `group` says so.

    The group counts files it has read as used; those not in use any more are given back on demand.
    """
    lines = meminfo.read_text(encoding="utf-8").splitlines()
    machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        limit = (group / "memory.max").read_text(encoding="utf-8").strip()
        used = int((group / "memory.current").read_text(encoding="utf-8"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
        return machine if limit == "max" else min(machine, int(limit) - used + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no control group of version 2
        return machine
