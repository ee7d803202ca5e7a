"""Parts of a dataset made on this machine: in this process, or in several.

In: a folder with a plan, the numbers of parts. Out: those parts, lines of progress. Knows nothing of what is in one.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tune.data import parts
from tune.errors import UserError

PROGRESS = 20  # lines of progress, at most

Report = Callable[[str], None]


def run(folder: Path, digest: str, numbers: Sequence[int], report: Report, workers: int = 1) -> None:
    """Make the parts, `workers` at a time. What one raises is raised here when those that are being made are finished.

    Raises UserError when a process dies: what is finished is kept.
    """
    done, pages, told = 0, 0, max(1, len(numbers) // PROGRESS)
    for more in _here(folder, digest, numbers) if workers == 1 else _beside(folder, digest, numbers, workers):
        done, pages = done + 1, pages + more
        if done % told == 0 or done == len(numbers):
            report(f"dataset: {pages:,} pages are examples, {done:,} of {len(numbers):,} parts")


def _here(folder: Path, digest: str, numbers: Sequence[int]) -> Iterator[int]:
    return (parts.make(folder, digest, number) for number in numbers)


def _beside(folder: Path, digest: str, numbers: Sequence[int], workers: int) -> Iterator[int]:
    """Fresh processes: a fork of one that has threads may hang."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(numbers) or 1), context, initializer=_watch)
    try:
        for one in as_completed([pool.submit(parts.make, folder, digest, number) for number in numbers]):
            yield one.result()
    except BrokenProcessPool:
        raise UserError(
            f"one of {workers} processes that make the dataset died",
            why="something ended it: the system does so when memory runs out",
            fix="tune dataset, with fewer --workers: what is finished is kept",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _watch() -> None:
    """End with the process that started this one, however it ended: nothing else would tell. Ctrl-C is for that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)
