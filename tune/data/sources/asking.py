"""What every way of fetching shares: an answer, why there is none, what a run may ask and has asked, and trying again.

In: a function that asks once. Out: its answer, or a FetchError that says why in one line. Knows neither httpx nor
Bright Data nor what a page says.
"""

import asyncio
import math
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

ATTEMPTS = 4
PATIENCE = 120.0  # seconds: a server that asks for a longer pause fails the page

Wait = Callable[[float], Awaitable[object]]


class FetchError(Exception):
    """Why a URL gave no page, in one line. `status` is HTTP's, 0 where there is none."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class Trouble(FetchError):
    """What may pass: 429, 5xx, a time-out, a broken connection. `asked` is what Retry-After says."""

    def __init__(self, reason: str, status: int = 0, asked: str = "") -> None:
        super().__init__(reason, status)
        self.asked = asked


class Answer(NamedTuple):
    """A body that came whole. `at` is the address that gave it, after redirects; `kind` the bare media type."""

    at: str
    kind: str
    charset: str
    data: bytes


Got = Callable[[str, Answer | FetchError], None]


class Ask(Protocol):
    """Ask for each URL; `got` is told of each as it arrives. A body of more than `most` bytes is a FetchError."""

    def __call__(self, urls: Iterable[str], got: Got, *, most: int) -> None: ...


@dataclass
class Ledger:
    """What one run asked of the network, and may ask: at most `budget` requests (0: no limit), with `delay` seconds
    between the beginnings of two."""

    budget: int = 0
    delay: float = 0.0
    requests: int = 0
    received: int = 0  # bytes of bodies
    by_brightdata: bool = False
    billed: int = 0  # requests to Bright Data that were successful: it bills no others
    found: str = ""  # how a site's pages were found
    allowed: Callable[[str], bool] = lambda _: True  # whether a page may be read, as far as its site says
    clock: Callable[[], float] = time.monotonic
    _latest: float = -math.inf  # when the last request began, or is to begin

    @property
    def spent(self) -> str:
        """Why nothing more may be asked, or ""."""
        return f"the budget of {self.budget} requests is spent" if 0 < self.budget <= self.requests else ""

    async def take(self, wait: Wait) -> None:
        """Count one request and wait for its turn. Raises FetchError when the budget has none left."""
        if self.spent:
            raise FetchError(f"not asked: {self.spent}")
        self.requests += 1
        now = self.clock()
        self._latest = max(now, self._latest + self.delay)
        if self._latest > now:
            await wait(self._latest - now)


async def insist(
    once: Callable[[], Awaitable[Answer]], ledger: Ledger, rest: Callable[[Trouble, float], Awaitable[object]]
) -> Answer:
    """The answer of `once`, which is tried again after trouble: four times in all, within the budget.

    `rest` is told the trouble and the seconds to wait: what Retry-After asks, or else 1, 2, 4 and a little. Raises
    FetchError.
    """
    for attempt in range(ATTEMPTS):
        try:
            return await once()
        except Trouble as e:
            trouble = e
        if attempt + 1 < ATTEMPTS:
            await rest(trouble, patience(trouble, attempt, ledger))
    raise FetchError(f"{trouble}, {ATTEMPTS} times", trouble.status)


def patience(trouble: Trouble, attempt: int, ledger: Ledger) -> float:
    """Seconds to wait after attempt `attempt` failed. Raises FetchError when there is no use in waiting."""
    if ledger.spent:
        raise FetchError(f"{trouble}, and {ledger.spent}", trouble.status)
    seconds = pause(attempt, trouble.asked)
    if seconds > PATIENCE:
        raise FetchError(f"{trouble}, and the server asks to wait {seconds:.0f} s", trouble.status)
    return seconds


def pause(attempt: int, asked: str = "") -> float:
    """Seconds to wait after attempt `attempt`: what Retry-After asks (seconds or a date), else 2^attempt or so."""
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return float(2**attempt) * (1 + random.random() / 4)


async def together(urls: Iterable[str], one: Callable[[str], Awaitable[None]], most: int) -> None:
    """Call `one` for each URL, at most `most` at a time. What it raises ends all others."""
    gate = asyncio.Semaphore(most)

    async def gated(url: str) -> None:
        async with gate:
            await one(url)

    tasks = [asyncio.create_task(gated(url)) for url in urls]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Body:
    """Collects a body within `most` bytes, uncompressed: a bomb is noticed before it goes off."""

    def __init__(self, headers: Mapping[str, str], most: int) -> None:
        """Raises FetchError when the body says itself that it is too large, or is compressed in a way not asked for."""
        coding = headers.get("content-encoding", "").strip().lower()
        if coding not in {"", "identity", "gzip", "x-gzip"}:
            raise FetchError(f"compressed as {coding[:20]}, which was not asked for")
        self.most, self.data = most, bytearray()
        self._unzip = zlib.decompressobj(wbits=31) if coding.endswith("gzip") else None
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise FetchError(f"more than {most:,} bytes")

    def add(self, part: bytes) -> None:
        """Raises FetchError when there is too much of it, or it is not what it says to be."""
        room = self.most - len(self.data) + 1
        try:
            self.data += self._unzip.decompress(part, room) if self._unzip else part
        except zlib.error as e:
            raise FetchError(f"not gzip, though it says so: {e}") from None
        if len(self.data) > self.most:
            raise FetchError(f"more than {self.most:,} bytes")

    def whole(self) -> bytes:
        """Raises Trouble when it ends in the middle."""
        if self._unzip and not self._unzip.eof and self.data:
            raise Trouble("its gzip ends in the middle")
        return bytes(self.data)


def unzipped(data: bytes, most: int) -> bytes:
    """A .gz file's contents. Raises FetchError as Body does."""
    body = Body({"content-encoding": "gzip"}, most)
    body.add(data)
    return body.whole()


def media(content_type: str) -> str:
    """The bare media type of a Content-Type, which is taken for HTML where there is none."""
    return (content_type or "text/html").partition(";")[0].strip().lower()


def checked(url: str) -> str:
    """The URL itself. Raises FetchError when it is not a plain http or https one."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
        plain = plain and (parts.port is None or parts.port > 0)
    except ValueError:
        plain = False
    if not plain:
        raise FetchError("not an http or https URL without a user name")
    return url
