"""A flag that a signal handler may set while the main thread waits for it: threading.Event may not.

Its `set` takes the lock that an interrupted `wait` of the same thread holds, and then waits for it for ever.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """Rings once, and stays rung."""

    def __init__(self) -> None:
        self._rung = False
        self._ear, self._mouth = os.pipe()

    def set(self) -> None:
        """Ring. Takes no lock."""
        if not self._rung:
            self._rung = True
            os.write(self._mouth, b"!")

    def is_set(self) -> bool:
        """Whether it has rung."""
        return self._rung

    def wait(self, timeout: float) -> bool:
        """Wait some seconds for it at most. Whether it has rung."""
        if not self._rung:
            select.select([self._ear], [], [], timeout)
        return self._rung

    def close(self) -> None:
        """Give its descriptors back. Nobody may wait any more."""
        ends, self._ear, self._mouth = {self._ear, self._mouth} - {-1}, -1, -1
        for each in ends:
            os.close(each)


class Stop(Bell):
    """Rung by the first signal; `urgent` by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.urgent = Bell()


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """The flag that SIGINT and SIGTERM ring while this lasts."""
    stop = Stop()

    def on_signal(*_: object) -> None:
        (stop.urgent if stop.is_set() else stop).set()

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
        stop.close()
        stop.urgent.close()
