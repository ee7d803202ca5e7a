"""Send requests at their deadlines and keep what comes back, with the time of every arrival. Parses nothing.

In: a Target, request bodies, due times (open loop) or a concurrency (closed loop). Out: one Raw a request. One thread;
a connection a request, opened before the deadline. Knows HTTP framing just enough to see the end of a response. No
proxies. Times are seconds on the event loop's clock.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from evalsuite.asking.endpoint import Address
from tune.errors import UserError

LEAD_S = 1.0  # a connection is opened this long before its request is due
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Target(BaseModel):
    """An OpenAI-compatible endpoint: base URL ending in /v1, the model id, and the key, which is never written out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address
    model: str
    key: SecretStr = SecretStr("")


class Raw(NamedTuple):
    """One request as it went. `due` is None in a closed loop; `failure` says why there is no whole response."""

    due: float | None
    sent: float | None
    pieces: tuple[tuple[float, bytes], ...]
    failure: str


class Run(NamedTuple):
    """All requests of one run, in order; `cpu_s` is CPU time of this thread, `wall_s` the time it all took."""

    raws: tuple[Raw, ...]
    wall_s: float
    cpu_s: float


class _Exchange(asyncio.Protocol):
    """Stamps what arrives; done when the last chunk or the end of the connection was seen."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self.pieces: list[tuple[float, bytes]] = []
        self.done: asyncio.Future[None] = loop.create_future()
        self.tail = b""

    def data_received(self, data: bytes) -> None:
        self.pieces.append((self.clock(), data))
        self.tail = (self.tail + data[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
        if self.tail == _LAST_CHUNK and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def request(target: Target, body: Mapping[str, Any]) -> bytes:
    """The bytes of one streamed chat completion; `body` holds messages and whatever else the endpoint takes."""
    parts = urlsplit(target.url)
    data = json.dumps(
        {"model": target.model, "stream": True, "stream_options": {"include_usage": True}, **body}
    ).encode()
    key = target.key.get_secret_value()
    lines = [
        f"POST {parts.path}/chat/completions HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *([f"Authorization: Bearer {key}"] if key else []),
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
        return list(await asyncio.gather(*jobs))

    return _timed(all_of_them, [request(target, body) for body in bodies], LEAD_S)


def closed_loop(target: Target, bodies: Sequence[Mapping[str, Any]], concurrency: int, timeout_s: float) -> Run:
    """Keep `concurrency` requests in flight until all are sent. Slow replies slow the load: for small demos."""

    async def all_of_them(packets: list[bytes]) -> list[Raw]:
        raws: list[Raw] = [Raw(None, None, (), "never sent")] * len(packets)
        waiting = iter(enumerate(packets))

        async def worker() -> None:
            for index, packet in waiting:
                raws[index] = await _one(target, packet, None, timeout_s)

        await asyncio.gather(*(worker() for _ in range(concurrency)))
        return raws

    return _timed(all_of_them, [request(target, body) for body in bodies], 0.0)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _timed(work: Callable[[list[bytes]], Coroutine[Any, Any, list[Raw]]], packets: list[bytes], lead_s: float) -> Run:
    wall, cpu = time.perf_counter(), time.thread_time()
    raws = asyncio.run(work(packets))
    return Run(tuple(raws), time.perf_counter() - wall - lead_s, time.thread_time() - cpu)


async def _one(target: Target, packet: bytes, due: float | None, timeout_s: float) -> Raw:
    """One request: connect ahead, wait for the deadline, send, collect until the end or the time-out."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(target.url)
    host, secure = parts.hostname or "", _tls() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    if due is not None:
        await asyncio.sleep(due - LEAD_S - loop.time())
    end = (loop.time() if due is None else due) + timeout_s
    try:
        async with asyncio.timeout_at(end):
            transport, exchange = await loop.create_connection(_Exchange, host, port, ssl=secure)
    except OSError as e:  # a time-out is one too
        return Raw(due, None, (), f"connect: {e.strerror or type(e).__name__}")
    try:
        if due is not None:
            await asyncio.sleep(due - loop.time())
        sent = loop.time()
        transport.write(packet)
        async with asyncio.timeout_at(end):
            await exchange.done
        failure = ""
    except TimeoutError:
        failure = "timeout"
    finally:
        transport.abort()
    return Raw(due, sent, tuple(exchange.pieces), failure)
