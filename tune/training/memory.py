"""A run that fits: the longest batch is rehearsed, and what does not fit is halved, then shortened, each step told."""

import gc
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from tune import artefact
from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Train
from tune.training.machine import need

# In the state folder: what a run fits with; the base's loss on held-out rows; the best look's adapter, with its step.
ROOM, BASE_LOSS, BEST = "room.json", "eval_before.json", "best"

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
    if made.args.gradient_checkpointing:
        made.model.gradient_checkpointing_enable()  # as train() will
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


def told(found: Rehearsal, rows: Rows, settings: Train) -> str:
    """The rehearsal in a line: its time and memory, and the time of all steps and looks at held-out rows at most."""
    used = f", {found.most / 1e9:.1f} GB of the GPU at most" if found.most else ""
    steps = need.steps(len(rows["train"]), settings)
    looking = need.looking(len(rows["eval"]), steps, settings, found.seconds)
    whole = need.eta(found.seconds * settings.accumulate, steps, looking=looking)
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


class Room(NamedTuple):
    """With what a run fits: rows at a time, micro-batches a step, and the tokens of the longest row (0: any)."""

    batch: int
    accumulate: int
    limit: int = 0

    def of(self, rows: Rows) -> dict[str, list[Row]]:
        """The rows that are short enough."""
        return {p: [r for r in found if not self.limit or len(r.input_ids) <= self.limit] for p, found in rows.items()}


def smaller(rows: Rows, room: Room, error: Exception, report: Callable[[str], None], *, at_least: int) -> Room:
    """What to try after a run that did not fit. Rows a step, `at_least`, stay the same.

    Raises UserError when one row is too much, and fewer than a step's are shorter.
    """
    if room.batch > 1:
        batch = next(n for n in range(room.batch // 2, 0, -1) if room.batch % n == 0)
        found = room._replace(batch=batch, accumulate=room.accumulate * room.batch // batch)
        report(f"out of memory: train.batch = {batch} and train.accumulate = {found.accumulate} from here on")
        return found
    before = room.of(rows)
    found = room._replace(limit=max(len(row.input_ids) for row in before["train"]) * 3 // 4)
    kept = found.of(rows)
    if len(kept["train"]) < at_least:
        raise UserError(
            "there is too little memory for one row of this dataset",
            why=str(error).splitlines()[0][:200],
            fix="lower dataset.max_tokens, then: tune dataset; or a GPU with more memory",
        )
    left = " and ".join(
        f"{len(before[part]) - len(kept[part])} of {len(before[part])} {name}"
        for part, name in (("train", "rows"), ("eval", "held-out ones"))
    )
    report(f"out of memory with one row: {left} are over {found.limit} tokens and left out from here on")
    return found


def of_several(error: Exception, settings: Train) -> UserError:
    """The error where one of several processes had no room in the midst of training: the others wait for it."""
    return UserError(
        "a GPU ran out of memory in training",
        why=str(error).splitlines()[0][:200],
        fix=f"set train.batch = {max(1, settings.batch // 2)} and train.accumulate ="
        f" {settings.accumulate * settings.batch // max(1, settings.batch // 2)}, then: tune train",
    )


def remembered(state: Path, room: Room) -> Room:
    """With what an earlier process of this run fitted; `room` where there was none."""
    note = state / ROOM
    return Room(*json.loads(note.read_text())) if note.is_file() else room


def remember(state: Path, room: Room) -> None:
    """Note with what this run trains. What was saved of training on other rows is removed: it begins again."""
    if remembered(state, room).limit != room.limit:
        for path in [*state.glob("checkpoint-*"), *state.glob(f"{BEST}-*")]:
            shutil.rmtree(path, ignore_errors=True)
        (state / BASE_LOSS).unlink(missing_ok=True)
    state.mkdir(parents=True, exist_ok=True)
    artefact.write_text(state / ROOM, json.dumps(room))


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
