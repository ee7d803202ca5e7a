"""The live line of a comparison: answers in, one line of text out, now and then. Reads no clock and prints nothing."""

from collections import deque

from tune import terminal

SHOWN = 20  # lines a run in a log: one each 5 %
RECENT = 100  # answers that the rate is taken over: a few rounds of all that are in flight


class Meter:
    """Follows the answers to `total` requests. `live`: every answer is worth a line (it is rewritten in place)."""

    def __init__(self, total: int, *, live: bool = False) -> None:
        self.total = total
        self.done = self.failed = 0
        self._every = 1 if live else max(1, total // SHOWN)
        self._recent: deque[float] = deque(maxlen=RECENT + 1)

    def add(self, seconds: float, *, failed: bool) -> str | None:
        """The line to show after an answer that came at `seconds` of any clock that only goes forward, or None."""
        self.done += 1
        self.failed += failed
        self._recent.append(seconds)
        return self.line() if self.done % self._every == 0 or self.done == self.total else None

    def line(self) -> str:
        """Bar, answers, failures if any, answers a second over the recent ones, and how long the rest takes at that."""
        parts = [f"{self.done} of {self.total} answers", *([f"{self.failed} failed"] if self.failed else [])]
        seconds, answers = self._recent[-1] - self._recent[0], len(self._recent) - 1
        if seconds > 0:
            left = (self.total - self.done) * seconds / answers
            parts.append(f"{answers / seconds:.3g}/s")
            parts += [f"{terminal.duration(left)} left"] if self.done < self.total else []
        return terminal.barred(self.done, self.total, parts)
