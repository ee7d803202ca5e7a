"""One connection of the load client: a request's bytes out, what comes back stamped as it comes. Parses nothing.

Knows HTTP framing just enough to see the end of a response and whether another request may follow. Seconds on the
event loop's clock.
"""

import asyncio
import ssl
from functools import cache
from urllib.parse import urlsplit

BUFFER = 2**16  # bytes that are read at once
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Connection(asyncio.BufferedProtocol):
    """Sends a request after another, stamps what arrives; `done` when the response's end or the connection's was seen.

    It brings its own buffer: asyncio's plain protocol takes 256 KiB from the system anew for every piece.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time
        self.buffer = memoryview(bytearray(BUFFER))
        self.again = False  # another request may follow
        self._begin()

    def _begin(self) -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.length: int | None = None  # of the whole response in bytes, 0 where its own end tells; None: not known yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"{transport} is no stream")
        self.transport = transport

    def send(self, packet: bytes) -> float:
        """The moment at which it left."""
        if self.again:
            self.again = False
            self._begin()
        sent = self.clock()
        self.transport.write(packet)
        return sent

    def get_buffer(self, _hint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        data = bytes(self.buffer[:size])
        self.pieces.append((self.clock(), data))
        if self.length is None:
            self._read_head()
        if self.length:
            if sum(len(data) for _, data in self.pieces) >= self.length:
                self._end(whole=True)
        elif data.endswith(_LAST_CHUNK) or (size < len(_LAST_CHUNK) and self._last(7).endswith(_LAST_CHUNK)):
            self._end(whole=True)

    def _read_head(self) -> None:
        head, found, _ = self._last().partition(b"\r\n\r\n")
        if found:
            told = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n")[1:])
            length = told.get(b"content-length", b"").strip()
            self.length = len(head) + len(found) + int(length) if length.isdigit() else 0
            self.closes = b"close" in told.get(b"connection", b"") or not head.startswith(b"HTTP/1.1")

    def _last(self, pieces: int = 0) -> bytes:
        return b"".join(data for _, data in self.pieces[-pieces:])

    def connection_lost(self, _exc: Exception | None) -> None:
        self.again = False
        self._end(whole=False)

    def _end(self, whole: bool) -> None:
        if not self.done.done():
            self.again = whole and self.length is not None and not self.closes
            self.done.set_result(None)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def connected(url: str, end: float) -> Connection | str:
    """A connection to `url`'s host, or why there is none at the moment `end`."""
    parts = urlsplit(url)
    secure = _tls() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(end):
            _, made = await loop.create_connection(Connection, parts.hostname or "", port, ssl=secure)
            return made
    except OSError as e:  # a time-out is one too
        return f"connect: {e.strerror or type(e).__name__}"
