"""The user's cache folder: what can be made again, at the cost of time."""

import os
from pathlib import Path

PRIVATE = 0o022  # who else may not write what is believed


def home() -> Path | None:
    """Our folder in it, by the XDG rules; None for a user without a home, as in some containers."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(told) if Path(told).is_absolute() else Path.home() / ".cache") / "gptoss-kit"
    except RuntimeError:
        return None


def is_ours(*paths: Path) -> bool:
    """Whether all of them are there, are this user's, and nobody else can write them: what stands there is believed."""
    try:
        told = [path.stat() for path in paths]
    except OSError:
        return False
    return all(s.st_uid == os.geteuid() and not s.st_mode & PRIVATE for s in told)
