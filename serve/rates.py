"""How much at once and how often: the requests under way, of the server and of each key, and each key's rate.

What counts is a request that the engine would answer with the model or its tokenizer, from the moment that it comes in
until its answer is whole, its stream over or its client gone. In: whose it is. Out: a slot, or Refused. Knows no body.
"""

import math
import time
from collections import Counter
from collections.abc import Callable

from serve.asgi import Headers
from serve.doors import Refused
from serve.keys import Held

MINUTE = 60.0  # seconds in which a key's whole allowance comes back; it may be used at once
NEARLY = 1e-6  # seconds that the clock's own rounding may make of a wait
SOON = "1"  # Retry-After where only another request's end makes room: nobody knows when


class Slot:
    """The place of one request. `leave` may be called more than once."""

    def __init__(self, told: Headers = (), free: Callable[[], None] = lambda: None) -> None:
        self.told, self._free = told, free

    def leave(self) -> None:
        """Make room for another."""
        free, self._free = self._free, lambda: None
        free()


class Rates:
    """What is under way and was used. A key is known by its name: one that is exchanged goes on where the old one was.

    `most`: requests under way at once; 0: no limit.
    """

    def __init__(self, most: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._under_way = Counter[str]()
        self._whole_at = dict[str, float]()  # by key: when all of its allowance will be back

    def enter(self, held: Held) -> Slot:
        """A slot for a request of this key. Raises Refused, and then nothing of its rate is used."""
        name, mine = held.name, self._under_way[held.name]
        if held.max_concurrent and mine >= held.max_concurrent:
            words = f"{mine} requests of this key are under way, its limit is {held.max_concurrent}"
            raise _too_many(words, SOON)
        if self._most and self._under_way.total() >= self._most:
            words = f"{self._most} requests are under way, all that this server takes at once"
            raise Refused(503, "overloaded", words, headers=[(b"retry-after", SOON.encode())])
        told = self._take(held) if held.requests_per_minute else ()
        self._under_way[name] += 1
        return Slot(told, lambda: self._leave(name))

    def _leave(self, name: str) -> None:
        self._under_way[name] -= 1
        self._under_way += Counter()  # drops names at zero

    def _take(self, held: Held) -> Headers:
        """One request of a key's minute, and what its client hears of the rest."""
        now, each = self._clock(), MINUTE / held.requests_per_minute
        before = max(self._whole_at.get(held.name, now), now)
        wait = before + each - now - MINUTE
        if wait > NEARLY:
            words = f"{held.requests_per_minute} requests a minute are this key's limit"
            raise _too_many(words, str(math.ceil(wait - NEARLY)), _told(held, before - now))
        self._whole_at[held.name] = before + each
        return _told(held, before + each - now)


def _too_many(words: str, wait: str, told: Headers = ()) -> Refused:
    return Refused(429, "rate_limit_exceeded", words, headers=[(b"retry-after", wait.encode()), *told])


def _told(held: Held, used: float) -> Headers:
    """As OpenAI tells it. `used`: seconds until the whole allowance is back."""
    limit = held.requests_per_minute
    left = math.floor((MINUTE - used + NEARLY) * limit / MINUTE)
    minutes, seconds = divmod(math.ceil((used - NEARLY) * 1000) / 1000, MINUTE)
    reset = f"{int(minutes)}m{seconds:g}s" if minutes else f"{seconds:g}s"
    told = {"limit": str(limit), "remaining": str(left), "reset": reset}
    return [(f"x-ratelimit-{name}-requests".encode(), value.encode()) for name, value in told.items()]
