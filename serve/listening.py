"""How the engine's HTTP server holds a connection: over TLS where it has a certificate, and a head has bounds.

uvicorn waits for a request's head however long it takes and takes any number of bytes for one; a body's bounds are the
door's. Imported by the engine's process alone, which has uvicorn. Knows no routes.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.front import HEAD
from serve.tls import Certificate, Pair

HEAD_SECONDS = 10.0  # for a head to arrive
REST_SECONDS = 60.0  # for what is left of a body when the answer is out already
TURN = 0.1  # seconds more, in which what arrived while this process was busy is read


def options(pair: Pair | None) -> dict[str, Any]:
    """What uvicorn is configured with."""
    more = {"ssl_context_factory": lambda *_: Certificate(pair).context} if pair else {}
    return {"http": Patient, **more}


class Patient(HttpToolsProtocol):
    """uvicorn's connection, with an end to waiting for a head and to its length."""

    _late: asyncio.TimerHandle | None = None
    _heading = True  # whether the next bytes belong to a head, or to nothing yet
    _size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._waited()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering or self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        self._size += len(data)
        if self._late is None:
            self._wait()
        if self._heading and self._size > HEAD:
            self._refuse(431, "head_too_large", f"the head of a request may have {HEAD} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._heading, self._size = True, 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._heading = False
        self._waited()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "invalid_http", msg)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        seconds = HEAD_SECONDS if self._heading else REST_SECONDS
        self._late = self.loop.call_later(seconds, self._look_once_more)

    def _waited(self) -> None:
        if self._late:
            self._late.cancel()
        self._late = None

    def _look_once_more(self) -> None:
        self._late = self.loop.call_later(TURN, self._give_up)

    def _give_up(self) -> None:
        if self._heading and self._size:
            self._refuse(408, "request_timeout", f"the head of a request must come within {HEAD_SECONDS:g} s")
        self._waited()
        self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer without any route, and hang up. Not into the middle of another answer."""
        if not self._answering and not self.transport.is_closing():
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
            text = json.dumps({"error": error}).encode()
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            head = f"{line}content-length: {len(text)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode() + text)
        self._waited()
        self.transport.close()
