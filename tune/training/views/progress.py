"""The live line of a training run: history entries in, one line of text out, now and then.

Reads no clock and prints nothing: entries carry their seconds, and `tune.terminal.say` shows the line.
"""

from collections import deque
from collections.abc import Mapping
from math import isfinite

from tune import terminal

SHOWN = 25  # lines a run in a log, besides the first and the last
RECENT = 20  # steps that the speed is taken over: long enough to be steady, short enough to follow a change


class Meter:
    """Follows one process's training of `steps` steps. `live`: every step is worth a line (it is rewritten)."""

    def __init__(self, steps: int, *, live: bool = False) -> None:
        self.steps = steps
        self.every = 1 if live else max(1, -(-steps // SHOWN))
        self.recent: deque[Mapping[str, float]] = deque(maxlen=RECENT + 1)
        self.shown: float | None = None
        self.held_out: float | None = None

    def seen(self, entry: Mapping[str, float]) -> str | None:
        """The line to show after this entry of the history, or None. A look at held-out rows shows in the next one."""
        if "loss" not in entry:
            self.held_out = entry.get("eval_loss", self.held_out)
            return None
        if self.recent and not entry.get("seconds", 0) > self.recent[-1].get("seconds", 0):
            self.recent.clear()
        self.recent.append(entry)
        step = entry["step"]
        due = self.shown is None or step // self.every > self.shown // self.every or step >= self.steps
        if not due:
            return None
        self.shown = step
        speed, left = self._pace()
        return line(entry, steps=self.steps, speed=speed, left=left, held_out=self.held_out)

    def _pace(self) -> tuple[float | None, float | None]:
        """Tokens a second over the recent steps, and seconds until the last step at their pace."""
        first, last = self.recent[0], self.recent[-1]
        done = last["step"] - first["step"]
        if done <= 0:
            return None, None
        seconds = last["seconds"] - first["seconds"]
        tokens = last.get("tokens", 0) - first.get("tokens", 0)
        return tokens / seconds, (self.steps - last["step"]) * seconds / done


def line(
    entry: Mapping[str, float],
    *,
    steps: int,
    speed: float | None = None,
    left: float | None = None,
    held_out: float | None = None,
) -> str:
    """One line as `terminal.barred` fits it: bar, step, loss (nats), held-out loss, tokens a second, peak GPU memory
    (GB, 10^9 bytes), time left. What is not known is left out."""
    step, memory = int(entry["step"]), entry.get("memory", 0)
    known = [f"step {step} of {steps}", f"loss {_loss(entry['loss'])}"]
    if held_out is not None:
        known.append(f"held out {_loss(held_out)}")
    if speed is not None and isfinite(speed):
        known.append(f"{speed:,.0f} tokens/s")
    if memory > 0 and isfinite(memory):
        known.append(f"{memory / 1e9:.1f} GB")
    if left is not None and isfinite(left) and step < steps:
        known.append(f"{terminal.duration(left)} left")
    return terminal.barred(step, steps, known)


def _loss(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
