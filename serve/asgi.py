"""ASGI, as the layers in front of the engine speak it: its types, a body read whole and given on, a short answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


SILENT, WHOLE = 30.0, 60.0  # seconds that a body may come without a byte, and in all
BUSY = 0.1  # seconds that a time-out comes late when this process was at something else
SLOWEST = 16_384  # bytes that make a second more: a large body over a slow line may take longer


class TooLarge(Exception):
    """A body over the limit."""


class TooSlow(Exception):
    """A body that does not come."""


async def read(scope: Message, receive: Receive, limit: int) -> bytes | None:
    """The whole body; None when the client went away. Raises TooLarge over `limit` bytes, and TooSlow."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > limit:
        raise TooLarge
    parts, size, more = list[bytes](), 0, True
    clock = asyncio.get_running_loop().time
    began = clock()
    busy = False
    while more:
        asked = clock()
        seconds = min(SILENT, began + WHOLE + size / SLOWEST - asked)
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError:
            late = clock() - asked - seconds
            if busy or late < BUSY:
                raise TooSlow from None
            busy, began = True, began + late  # what arrived while this process did something else was not read
            continue
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge
        more = message.get("more_body", False)
    return b"".join(parts)


def with_body(scope: Message, receive: Receive, body: bytes) -> tuple[Message, Receive]:
    """The request, with another body."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    kept = [(n, v) for n, v in scope["headers"] if n not in (b"content-length", b"transfer-encoding")]
    return {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}, again


def compact(**values: str) -> bytes:
    """JSON without spaces."""
    return json.dumps(values, separators=(",", ":")).encode()


async def answer(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """A whole answer of JSON."""
    sized = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*sized, *headers]})
    await send({"type": "http.response.body", "body": body})
