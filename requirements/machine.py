"""Say before any download whether this machine can hold the set-up: Python, platform, disk."""

import platform
import shutil
import sys

NEEDED_GB = 10
problems = []
if sys.version_info < (3, 11):  # noqa: UP036 - this is what tells an older Python
    problems.append(f"Python {platform.python_version()} is too old: run make PYTHON=python3.11 (or later)")
if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    problems.append(f"{sys.platform} on {platform.machine()}: the locked versions are for Linux on x86-64")
if shutil.disk_usage(".").free < NEEDED_GB * 2**30:
    problems.append(f"less than {NEEDED_GB} GB of disk are free here")
sys.exit("\n".join(["gptoss-kit cannot be set up here:", *problems]) if problems else 0)
