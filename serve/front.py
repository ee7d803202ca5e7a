"""The server's port, open from first to last: the sockets that the engine inherits, and who answers without one.

The supervisor holds the listening socket, so a connection is never refused: while no engine accepts, a small responder
says so (`/livez` 200, all else 503 with Retry-After). A second socket, on loopback, reaches the engine alone. Knows no
models and no keys.
"""

import asyncio
import errno
import json
import os
import socket
import ssl
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from serve.last_words import PORT_IN_USE
from serve.states import State
from tune.errors import UserError, reason

SOCKETS = "GPTOSS_KIT_SOCKETS"  # environment variable: the two inherited descriptors, everybody's and the supervisor's
BACKLOG = 2048  # uvicorn's
AT_ONCE = 128  # connections that the responder holds: the oldest goes, so that descriptors are left for an engine
HEAD = 65_536  # bytes of a request's head, here and at the engine
PATIENT = 5.0  # seconds for a head to arrive, and for a client to read its answer
SCARCE = 0.2  # seconds until accepting is tried again when no descriptor was left
LAST = 0.5  # seconds that clients being answered get when the server ends
LATER = "5"  # seconds, as Retry-After


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError when there can be none."""
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as e:
        taken, fix = PORT_IN_USE if e.errno == errno.EADDRINUSE else ("", "")
        what = f"port {port} of {host} cannot be listened at{taken and f': {taken}'}"
        raise UserError(what, why=e.strerror or reason(e), fix=fix) from None


def reach(host: str, port: int, scheme: str = "http") -> str:
    """Where this machine reaches a server that listens on `host`."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{near}]:{port}" if ":" in near else f"{scheme}://{near}:{port}"


def inherited() -> tuple[socket.socket, socket.socket]:
    """In the engine's process: the socket for everybody, and the supervisor's own."""
    public, private = (socket.socket(fileno=int(number)) for number in os.environ[SOCKETS].split(","))
    for each in (public, private):
        each.set_inheritable(False)
    return public, private


class Front:
    """The port of one server. `state` is what the responder tells; it answers from `answer` on, until `leave`.

    `tls`: what clients are shown; None: plain HTTP.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.public = listen(host, port)
        self.public.setblocking(False)
        self.state: str = State.STARTING
        self._loop = asyncio.new_event_loop()
        self._answers = False
        self._replies = dict[asyncio.Task[None], None]()
        self._thread = threading.Thread(target=self._loop.run_forever, name="front", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Front":
        self.answer()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._on_loop(self._told())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.public.close()

    def answer(self) -> None:
        """Answer whoever connects from now on."""
        self._on_loop(self._turn(True))

    def leave(self) -> None:
        """Leave new connections to the engine, which accepts them at the same socket. None is lost between the two."""
        self._on_loop(self._turn(False))

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _turn(self, on: bool) -> None:
        self._answers = on
        self._loop.remove_reader(self.public)
        if on:
            self._loop.add_reader(self.public, self._accept)

    def _accept(self) -> None:
        """Take one connection. asyncio's own server takes many at a turn, and drops at its end those not yet begun."""
        client = None
        with suppress(BlockingIOError, InterruptedError, ConnectionAbortedError):  # the engine took it, or it went
            try:
                client, _ = self.public.accept()
            except OSError as e:
                if e.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self._loop.remove_reader(self.public)  # it waits until a descriptor is left
                self._loop.call_later(SCARCE, self._again)
        if client:
            if len(self._replies) >= AT_ONCE:
                oldest = next(iter(self._replies))  # it has said nothing or does not hang up
                del self._replies[oldest]  # by the time that it has ended there may be many more
                oldest.cancel()
            reply = self._loop.create_task(self._reply(client, self.state))
            self._replies[reply] = None
            reply.add_done_callback(lambda ended: self._replies.pop(ended, None))

    def _again(self) -> None:
        if self._answers:
            self._loop.add_reader(self.public, self._accept)

    async def _reply(self, client: socket.socket, state: str) -> None:
        """Tell one client the state of when it came: by the time that it asks, an engine may serve all others."""
        with suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError, TimeoutError):
            try:
                client.setblocking(False)
                reader, writer = await self._open(client)
            except BaseException:
                client.close()
                raise
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENT)
                path = head.split(b" ", 2)[1].partition(b"?")[0].decode(errors="replace")
                writer.write(_response(state, path))
                if writer.can_write_eof():  # over TLS nobody can: the length is told
                    writer.write_eof()
                # Closed with a body unread, a connection is reset, and the answer may be lost on the way.
                async with asyncio.timeout(PATIENT):
                    while await reader.read(HEAD):
                        pass
            finally:
                writer.close()

    async def _open(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection's two ends, once its client has agreed on TLS where it has to."""
        reader = asyncio.StreamReader(HEAD, self._loop)
        transport, protocol = await self._loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader, loop=self._loop),
            client,
            ssl=self._tls,
            ssl_handshake_timeout=PATIENT if self._tls else None,
            ssl_shutdown_timeout=LAST if self._tls else None,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _told(self) -> None:
        """Wait for who is being answered, for a moment."""
        if self._replies:
            await asyncio.wait(self._replies, timeout=LAST)
        for reply in list(self._replies):
            reply.cancel()


def _response(state: str, path: str) -> bytes:
    if path == "/livez":
        status, more, body = "200 OK", "", {"status": "alive", "state": state}
    else:
        message = f"no engine serves at the moment: the server is {state}"
        error = {"message": message, "type": "server_error", "param": None, "code": "not_ready"}
        status, more = "503 Service Unavailable", f"retry-after: {LATER}\r\n"
        body = {"error": error, "state": state}  # type: ignore[dict-item]
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n{more}"
    return f"{head}connection: close\r\n\r\n".encode() + text
