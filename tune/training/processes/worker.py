"""One of several processes that train together: who speaks, and how the first error reaches whoever started them.

In a worker an error becomes a file; in the launcher that file becomes one error with its exit code.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tune.errors import BUG, UserError, unusable
from tune.recipe import Train
from tune.training.machine.need import world


def inside() -> bool:
    """Whether a launcher started this process."""
    return "LOCAL_RANK" in os.environ


def is_main() -> bool:
    """Whether this process is the one that writes and reports; alone, it is."""
    return os.environ.get("RANK", "0") == "0"


def sharded() -> bool:
    """Whether this worker holds a part of each weight (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def require_world(settings: Train, found: int) -> None:
    """Raise UserError unless as many processes train together as the recipe says: `found` is torch.distributed's."""
    if found != world(settings):
        why = f"train.gpus = {settings.gpus} on {max(1, len(settings.hosts))} hosts makes {world(settings)}"
        raise UserError(f"{found} processes train together", why=why, fix="start each host with: tune train")


@contextmanager
def speaking() -> Iterator[None]:
    """Around a worker's training: rank 0 alone is heard, and an error goes to the launcher, which tells one."""
    if not inside():
        yield
        return
    left = Path(os.environ.get("TORCHELASTIC_ERROR_FILE") or os.devnull)
    if not is_main():
        with left.with_name("said.txt").open("w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
    try:
        yield
    except Exception as e:  # noqa: BLE001 it is told by the launcher
        error = unusable(e) if isinstance(e, OSError) else e
        told = [error.what, error.why, error.fix] if isinstance(error, UserError) else []
        about = {"timestamp": str(int(time.time())), "py_callstack": traceback.format_exc(), "at": time.time()}
        left.write_text(json.dumps({"message": {"message": str(e), "extraInfo": {**about, "told": told}}}))
        sys.stdout.flush()
        os._exit(error.exit_code if isinstance(error, UserError) else BUG)  # not waiting for the others' farewell


def failed(failures: Mapping[int, Any], logs: Path) -> int:
    """Tell why training failed, and return the exit code: the first worker's own error, its traceback where that is a
    bug of ours, or the signal that killed it."""

    def about(rank: int) -> dict[str, Any]:
        message = failures[rank].error_file_data.get("message")
        return dict(message["extraInfo"]) if isinstance(message, dict) else {}

    def order(rank: int) -> tuple[int, float]:
        """The user's own errors first, then a kill, then what raised, by the clock: others fail because one left."""
        died, info = failures[rank].exitcode, about(rank)
        kind = 0 if info.get("told") else 1 if died < 0 and died != -signal.SIGTERM else 2 if info else 3
        return kind, info.get("at", failures[rank].timestamp)

    first = min(failures, key=order)
    failure, info = failures[first], about(first)
    code = int(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)
    if info and not info["told"]:
        click.echo(f"worker {first}: {info['py_callstack'].strip()}", err=True)
        return code
    if info:
        what, why, fix = info["told"]
    else:
        how = signal.Signals(-failure.exitcode).name if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        said = "".join(p.read_text() for p in logs.rglob(f"{failure.local_rank}/said.txt")).strip().splitlines()
        what, why = f"worker {first} ended with {how}", " ".join(said[-2:])
        why = why or ("the system kills so when RAM runs out" if how == "SIGKILL" else "")
        fix = "tune train   # resumes; look at dmesg first"
    UserError(what, why=why, fix=fix).show()
    return code
