"""How fast one arm is asked, and when it is given up: as its server asks, never more at a time than the user allows.

Additive increase, multiplicative decrease (Chiu and Jain, 1989): a server that is asked too much halves how many
requests may be in flight, and a window of successes adds one. Knows no request, no question and no file.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

TOLD_AFTER, TOLD_EVERY = 10.0, 60.0  # seconds of nothing but refusals before that is said, and is said again
PATIENCE_SECONDS = 600.0  # that one request is made to wait in all
DEAD_AFTER = 10  # failures in a row, at least: more where more are in flight, since one outage fails them all


class Clock:
    """Seconds of a clock that only goes forward."""

    def now(self) -> float:
        return time.monotonic()

    async def until(self, moment: float) -> None:
        await asyncio.sleep(moment - self.now())


class Pace:
    """Of one arm. `limit`: requests that may be in flight now, 1 to `most`; `failures`: since the last success. `tell`
    hears what the server says when for a while it only turns requests away.

    `not_yet`: statuses by which its platform turns one away; `patience`: seconds that one request is made to wait in
    all, PATIENCE_SECONDS if None; `away`: how often which status did so.
    """

    def __init__(
        self,
        most: int,
        tell: Callable[[str], None] = lambda _: None,
        not_yet: Collection[int] = (),
        patience: float | None = None,
    ) -> None:
        self.most = self.limit = max(1, most)
        self.not_yet, self.away = not_yet, Counter[int]()
        self.patience = PATIENCE_SECONDS if patience is None else patience
        self.failures = 0
        self._tell, self._silent, self._tell_at = tell, False, 0.0
        self._in_flight = self._won = self._halved = 0
        self._clock, self._resume, self._freed = Clock(), 0.0, asyncio.Event()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[int]:
        """Held while a request is in flight; begins when one more may be, and no earlier than the server asked for.
        Gives what `wait` has to be told of a request that was sent in it."""
        while (early := self._clock.now() < self._resume) or self._in_flight >= self.limit:
            await (self._clock.until(self._resume) if early else self._freed.wait())
        self._in_flight += 1
        try:
            yield self._halved
        finally:
            self._in_flight -= 1
            self.free()

    def free(self) -> None:
        """Let all that wait look again."""
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()

    def wait(self, seconds: float, turn: int, why: str = "") -> None:
        """The server asks for it. Requests that were in flight together are one reason to slow down, not several."""
        now = self._clock.now()
        self._resume = max(self._resume, now + seconds)
        if not self._silent:
            self._silent, self._tell_at = True, now + TOLD_AFTER
        elif now >= self._tell_at:
            self._tell_at = now + TOLD_EVERY
            self._tell(why)
        if turn == self._halved:
            self.limit, self._won, self._halved = max(1, self.limit // 2), 0, self._halved + 1

    def succeeded(self) -> None:
        self.failures, self._won, self._silent = 0, self._won + 1, False
        if self._won >= self.limit and self.limit < self.most:
            self.limit, self._won = self.limit + 1, 0
            self.free()

    @property
    def dead(self) -> bool:
        """It only fails: asking on would make nothing but errors."""
        return self.failures >= max(DEAD_AFTER, 2 * self.most)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait, 0 or more (RFC 9110, 10.2.3: seconds, or a date, which is held against
    the server's own); None if it does not say, or says something else."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    if (then := _date(value)) is None:
        return None
    now = _date(headers.get("date", ""))
    return max(0.0, then - (time.time() if now is None else now))


def _date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
