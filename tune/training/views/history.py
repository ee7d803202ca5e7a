"""A training history in columns: what was learned at each step, looks at held-out rows, and what is no number.

Pure numpy. An entry is a dict: step, loss (nats a learned token), lr, tokens (input tokens so far), grad_norm, seconds
(since training began in this process) and memory (peak bytes of the GPU so far); a look has step and eval_loss alone.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Entry = Mapping[str, float]
Floats = NDArray[np.float64]

LIMIT = 1e15  # nothing measured here is larger: a loss beyond it has diverged as surely as an infinite one
WATCHED = ("loss", "eval_loss", "grad_norm")  # which of them being no number means that training broke


class Broken(NamedTuple):
    """A value that is no number, as it was written."""

    key: str
    step: int
    value: float


class Look(NamedTuple):
    step: int
    loss: float


class History(NamedTuple):
    """Columns of one length, a row an optimizer step by rising step; NaN stands for what is missing or no number."""

    step: Floats
    loss: Floats
    lr: Floats
    tokens: Floats
    seconds: Floats
    memory: Floats
    looks: tuple[Look, ...]
    broken: tuple[Broken, ...]


def number(value: float | None) -> float:
    """The value; NaN when there is none, or when it is infinite or beyond LIMIT."""
    return float(value) if value is not None and isfinite(value) and abs(value) < LIMIT else float("nan")


def read(history: Sequence[Entry]) -> History:
    """The columns of a history in any order. Of two entries about one step the later one counts: a resumed run
    does some steps again."""
    found = [entry for entry in history if isfinite(number(entry.get("step")))]
    learned = {int(e["step"]): e for e in found if "loss" in e}
    looked = {int(e["step"]): e for e in found if "eval_loss" in e}
    steps = sorted(learned)

    def column(key: str) -> Floats:
        return np.array([number(learned[step].get(key)) for step in steps], dtype=np.float64)

    return History(
        step=np.array(steps, dtype=np.float64),
        loss=column("loss"),
        lr=column("lr"),
        tokens=column("tokens"),
        seconds=column("seconds"),
        memory=column("memory"),
        looks=tuple(
            Look(step, number(looked[step]["eval_loss"]))
            for step in sorted(looked)
            if isfinite(number(looked[step]["eval_loss"]))
        ),
        broken=tuple(
            Broken(key, step, entries[step][key])
            for key in WATCHED
            for entries in (looked if key == "eval_loss" else learned,)
            for step in sorted(entries)
            if key in entries[step] and not isfinite(number(entries[step][key]))
        ),
    )


def spread(losses: Floats) -> float:
    """The standard deviation of a loss about its trend, from the median of the differences of neighbours.

    Neighbours share their trend, and a median does not hear of single jumps. 1.4826 makes the median absolute
    deviation of a normal distribution its standard deviation (Rousseeuw and Croux 1993); a difference has two noises.
    """
    return float(1.4826 * np.median(np.abs(np.diff(losses))) / sqrt(2)) if len(losses) > 1 else 0.0


def smooth(values: Floats, window: int) -> Floats:
    """A running median, then a running mean, both centred; towards the ends the window shrinks on both sides."""
    for middle in (np.median, np.mean):
        last = len(values) - 1
        reach = [min(window // 2, i, last - i) for i in range(last + 1)]
        values = np.array([middle(values[i - r : i + r + 1]) for i, r in enumerate(reach)], dtype=np.float64)
    return values


def rates(history: History, window: int) -> Floats:
    """Tokens a second of training over the last `window` steps at each step; NaN before a process has done two.

    The time of looks at held-out rows does not count: the step after a look is left out. Seconds that do not rise
    belong to another process, and nothing is measured across the gap of a resumed run.
    """
    seconds, tokens = np.diff(history.seconds, prepend=np.nan), np.diff(history.tokens, prepend=np.nan)
    after = np.searchsorted(history.step, [look.step for look in history.looks], side="right")
    seconds[after[after < len(seconds)]] = np.nan
    measured = (seconds > 0) & np.isfinite(tokens)
    found = np.full(len(seconds), np.nan)
    began = 0
    for i in range(len(found)):
        if i and not history.seconds[i] > history.seconds[i - 1]:
            began = i
        part = slice(max(began, i - window + 1), i + 1)
        if (within := measured[part]).any():
            found[i] = tokens[part][within].sum() / seconds[part][within].sum()
    return found
