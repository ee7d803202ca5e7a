"""A run that fits: the longest batch is rehearsed, and what does not fit is halved, then shortened, each step told."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Train
from tune.training.machine import need

Rows = Mapping[str, Sequence[Row]]


class Rehearsal(NamedTuple):
    """Seconds of the longest micro-batch, and bytes of the GPU: held between steps, and at most (0 on a CPU)."""

    seconds: float
    held: int
    most: int


def rehearse(made: Any, rows: Sequence[Row], settings: Train) -> Rehearsal:
    """Forward and backward of the longest rows, twice and without a step; the second time is taken.

    Raises torch's OutOfMemoryError, and UserError when the loss is not finite.
    """
    import torch

    longest = sorted(rows, key=lambda row: len(row.input_ids))[-settings.batch :]
    batch = made.data_collator([row.model_dump(include={"input_ids", "labels"}) for row in longest])
    seconds, value = 0.0, 0.0
    for _ in range(2):
        started = time.monotonic()
        value = float(made.training_step(made.model, dict(batch), torch.tensor(len(batch["targets"]))))
        seconds = time.monotonic() - started
    made.model.zero_grad(set_to_none=True)
    if not isfinite(value):
        raise UserError(
            f"the loss of the untrained base is {value}",
            why="it holds NaN or infinity, or its weights are not what its config.json describes",
            fix="tune check, or another copy of the base",
        )
    return Rehearsal(seconds, torch.cuda.memory_allocated() if torch.cuda.is_available() else 0, peak())


def told(found: Rehearsal, rows: Sequence[Row], settings: Train) -> str:
    """The rehearsal in a line: its time and memory, and the time of all steps at most."""
    used = f", {found.most / 1e9:.1f} GB of the GPU at most" if found.most else ""
    whole = need.eta(found.seconds * settings.accumulate, need.steps(len(rows), settings))
    return f"rehearsal: the longest {settings.batch} rows take {found.seconds:.2f} s{used}; at most {whole}"


def roomier(found: Rehearsal, settings: Train, total: int) -> str:
    """Advice where the rows of a whole step fit at once: the same gradients, in fewer and larger launches; else "".

    What grows with the rows is what is held at most less what is held anyway; a tenth and a sixth are left free.
    """
    at_once = found.held + 1.1 * (found.most - found.held) * settings.accumulate
    if settings.accumulate == 1 or not found.most or at_once > total * 5 / 6:
        return ""
    return (
        f"hint: train.batch = {settings.batch * settings.accumulate} and train.accumulate = 1 would fit"
        f" ({at_once / 1e9:.0f} of {total / 1e9:.0f} GB), learn the same and take less time"
    )


def out_of_memory() -> type[Exception]:
    import torch

    found: type[Exception] = torch.OutOfMemoryError
    return found


def smaller(rows: Rows, settings: Train, error: Exception, report: Callable[[str], None]) -> tuple[Rows, Train]:
    """What to try after a run that did not fit. Rows a step stay the same as long as a batch can be divided.

    Raises UserError when one row is too much and there is no shorter one.
    """
    if settings.batch > 1:
        batch = next(n for n in range(settings.batch // 2, 0, -1) if settings.batch % n == 0)
        accumulate = settings.accumulate * settings.batch // batch
        report(f"out of memory: train.batch = {batch} and train.accumulate = {accumulate} from here on")
        return rows, settings.model_copy(update={"batch": batch, "accumulate": accumulate})
    lengths = sorted(len(row.input_ids) for row in rows["train"])
    limit = lengths[-1] * 3 // 4
    kept = {part: [row for row in found if len(row.input_ids) <= limit] for part, found in rows.items()}
    if not kept["train"]:
        raise UserError(
            "the GPU's memory is too small for one row of this dataset",
            why=str(error).splitlines()[0][:200],
            fix="lower dataset.max_tokens, then: tune dataset; or a GPU with more memory",
        )
    left = sum(map(len, rows.values())) - sum(map(len, kept.values()))
    report(f"out of memory with one row: {left} rows over {limit} tokens are left out from here on")
    return kept, settings


def peak() -> int:
    """Bytes of the GPU that were in use at most so far; 0 without one."""
    import torch

    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else 0


def start_over() -> int:
    """Forget the peak so far, and return it."""
    import torch

    seen = peak()
    if seen:
        torch.cuda.reset_peak_memory_stats()
    return seen


def release() -> None:
    """Give back what nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
