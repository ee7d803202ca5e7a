"""Send requests at their deadlines and keep what comes back, with the time of every arrival. Parses nothing.

In: a Target, request bodies, due times (open loop) or a concurrency (closed loop). Out: one Raw a request. One thread;
a connection a request, opened before the deadline; in a closed loop one a stream, opened before the first request is
sent and kept. A ticker beside the requests records how late the event loop woke up. No proxies. Times are seconds on
the event loop's clock.
"""

import asyncio
import gc
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from evalsuite.asking.endpoint import Address
from evalsuite.speed.connection import Connection, connected
from tune.errors import UserError

LEAD_S = 1.0  # a connection is opened this long before its request is due
TICK_S = 0.002  # a delay of the event loop of this length cannot be missed


class Target(BaseModel):
    """An OpenAI-compatible endpoint: base URL ending in /v1, the model id, and key and other headers, which are never
    written out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address
    model: str
    key: SecretStr = SecretStr("")
    headers: tuple[tuple[str, SecretStr], ...] = ()
    usage: bool = True  # False: it refuses stream_options


class Raw(NamedTuple):
    """One request as it went. `due` is None in a closed loop; `failure` says why there is no whole response."""

    due: float | None
    sent: float | None
    pieces: tuple[tuple[float, bytes], ...]
    failure: str


class Tick(NamedTuple):
    """When the event loop was to wake up, and when it did."""

    due: float
    woke: float


class Run(NamedTuple):
    """All requests of one run, in order; `cpu_s` is CPU time of this thread, `wall_s` the time it all took.

    `ticks` go on until the last request has ended.
    """

    raws: tuple[Raw, ...]
    wall_s: float
    cpu_s: float
    ticks: tuple[Tick, ...] = ()


class _Gate:
    """Opens when `count` have come, or LEAD_S after it was made; then lets one through at a time.

    Between two of them the event loop reads what has arrived: hundreds of requests sent in one go would be as long
    without looking.
    """

    def __init__(self, count: int) -> None:
        self.left, self.opened, self.turn = count, asyncio.Event(), asyncio.Lock()
        asyncio.get_running_loop().call_later(LEAD_S, self.opened.set)

    async def wait(self) -> None:
        self.left -= 1
        if self.left <= 0:
            self.opened.set()
        await self.opened.wait()
        async with self.turn:
            await asyncio.sleep(0)


def request(target: Target, body: Mapping[str, Any], *, close: bool = False) -> bytes:
    """The bytes of one streamed chat completion; `body` holds messages and whatever else the endpoint takes."""
    parts = urlsplit(target.url)
    usage = {"stream_options": {"include_usage": True}} if target.usage else {}
    data = json.dumps({"model": target.model, "stream": True, **usage, **body}).encode()
    key = target.key.get_secret_value()
    lines = [
        f"POST {parts.path}/chat/completions HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        f"Content-Length: {len(data)}",
        *["Connection: close"] * close,
        *([f"Authorization: Bearer {key}"] if key else []),
        *(f"{name}: {value.get_secret_value()}" for name, value in target.headers),
    ]
    if any("\r" in line or "\n" in line for line in lines):
        raise UserError("the key holds a line break", fix="export the key without its trailing newline")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def open_loop(target: Target, bodies: Sequence[Mapping[str, Any]], offsets: Sequence[float], timeout_s: float) -> Run:
    """Send body i at start + offsets[i], come what may. `timeout_s` counts from the deadline."""

    async def all_of_them(packets: list[bytes]) -> list[Raw]:
        start = asyncio.get_running_loop().time() + LEAD_S
        dues = [start + offset for offset in offsets]
        jobs = [_one(target, packet, due, timeout_s) for packet, due in zip(packets, dues, strict=True)]
        return [raw for raw, _ in await asyncio.gather(*jobs)]

    return _timed(all_of_them, [request(target, body, close=True) for body in bodies], LEAD_S)


def closed_loop(target: Target, bodies: Sequence[Mapping[str, Any]], concurrency: int, timeout_s: float) -> Run:
    """Keep `concurrency` requests in flight until all are sent. Slow replies slow the load: for small demos.

    The first of them leave together, connected: to connect takes the client longer than an answer may take to come.
    """

    async def all_of_them(packets: list[bytes]) -> list[Raw]:
        raws: list[Raw] = [Raw(None, None, (), "never sent")] * len(packets)
        waiting = iter(enumerate(packets))
        workers = min(concurrency, len(packets))
        gate = _Gate(workers)

        async def worker() -> None:
            kept: Connection | None = None
            for index, packet in waiting:
                raws[index], kept = await _one(target, packet, None, timeout_s, gate, kept)
            if kept:
                kept.transport.abort()

        await asyncio.gather(*(worker() for _ in range(workers)))
        return raws

    return _timed(all_of_them, [request(target, body) for body in bodies], 0.0)


def _timed(work: Callable[[list[bytes]], Coroutine[Any, Any, list[Raw]]], packets: list[bytes], lead_s: float) -> Run:
    ticks: list[Tick] = []

    async def watched() -> list[Raw]:
        ticker = asyncio.create_task(_tick(ticks))
        try:
            return await work(packets)
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)

    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle would be time that the endpoint seems to take
    try:
        wall, cpu = time.perf_counter(), time.thread_time()
        raws = asyncio.run(watched())
        return Run(tuple(raws), time.perf_counter() - wall - lead_s, time.thread_time() - cpu, tuple(ticks))
    finally:
        if collecting:
            gc.enable()


async def _tick(ticks: list[Tick]) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + TICK_S
        try:
            await asyncio.sleep(TICK_S)
        finally:  # the last one, which is cut short, says how late it was already
            ticks.append(Tick(due, max(due, clock())))


async def _one(
    target: Target, packet: bytes, due: float | None, timeout_s: float, gate: _Gate | None = None,
    kept: Connection | None = None,
) -> tuple[Raw, Connection | None]:  # fmt: skip
    """One request: connect ahead, wait for the deadline or the gate, send, collect until the end or the time-out.

    Beside it the connection, where it may be `kept` for the next. One that was kept, and that the server has closed
    meanwhile without a word, is replaced.
    """
    loop = asyncio.get_running_loop()
    if due is not None:
        await asyncio.sleep(due - LEAD_S - loop.time())
    end = (loop.time() if due is None else due) + timeout_s
    connection = kept if kept and kept.again else await connected(target.url, end)
    if gate:
        await gate.wait()
    if isinstance(connection, str):
        return Raw(due, None, (), connection), None
    failure = ""
    try:
        if due is not None:
            await asyncio.sleep(due - loop.time())
        sent = connection.send(packet)
        async with asyncio.timeout_at(end if due is not None else sent + timeout_s):
            await connection.done
    except TimeoutError:
        failure = "timeout"
    finally:
        again = connection.again and due is None
        if not again:  # whether or not the server lets it go
            connection.transport.abort()
    if connection is kept and not connection.pieces and not failure:
        return await _one(target, packet, due, timeout_s)
    return Raw(due, sent, tuple(connection.pieces), failure), connection if again else None
