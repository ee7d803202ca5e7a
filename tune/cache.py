"""The user's cache folder: what can be made again, at the cost of time."""

import os
from pathlib import Path


def home() -> Path | None:
    """Our folder in it, by the XDG rules; None for a user without a home, as in some containers."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(told) if Path(told).is_absolute() else Path.home() / ".cache") / "gptoss-kit"
    except RuntimeError:
        return None
