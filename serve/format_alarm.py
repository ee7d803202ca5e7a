"""Listens to an answer on its way out: notes what it said, and in strict mode answers an error for one off the format.

A whole answer is held until it is judged, as it has to be anyway; a stream goes out piece by piece as it comes. In
strict mode, pieces are whole events, and an error event goes before the one that ends the stream. Knows ASGI messages.
"""

import re

from serve import asgi
from serve.asgi import Message, Send
from serve.doors import Refused
from serve.heard import KINDS, Kind
from serve.record import Record

TRUNCATED = (b"x-truncated-in", b"reasoning")
EVENT = re.compile(rb"\r?\n\r?\n")


def listening(send: Send, record: Record, path: str, *, strict: bool) -> Send:
    """A `send` for an answer that `record.heard` is to hear. `path`: whose error object a client of it reads."""
    heard = record.heard
    assert heard is not None
    start: Message = {}
    pieces: list[bytes] = []
    streamed = False
    guard = _Guard(record, path) if strict else None

    async def through(message: Message) -> None:
        nonlocal start, streamed
        if message["type"] == "http.response.start" and message["status"] == 200:
            kind = dict(message.get("headers", [])).get(b"content-type", b"")
            streamed = kind.startswith(b"text/event-stream")
            if kind.startswith(b"application/json"):
                start = message
                return
        elif message["type"] == "http.response.body" and streamed:
            piece, more = message.get("body", b""), message.get("more_body", False)
            if guard:
                piece = guard.pass_on(piece, more)
                if not piece and more:
                    return
                message = {**message, "body": piece}
            else:
                heard.add(piece)
            if heard.answering:
                record.answering()
        elif message["type"] == "http.response.body" and start:
            pieces.append(message.get("body", b""))
            if message.get("more_body", False):
                return
            body = b"".join(pieces)
            heard.whole(body)
            verdict = record.verdict
            if strict and verdict.kind:
                refused = off_format(verdict.kind, record.id)
                await asgi.answer(send, refused.status, refused.body(path))
                return
            await send({**start, "headers": [*start["headers"], *([TRUNCATED] if verdict.truncated else [])]})
            message = {**message, "body": body}
        await send(message)

    return through


def off_format(kind: Kind, id: str) -> Refused:
    """What a client hears of an answer that lost the format."""
    return Refused(502, "off_format", f"the answer is off the model's format ({kind}: {KINDS[kind]}); request {id}")


class _Guard:
    """A stream in whole events, with an error before its end when it is off the format."""

    def __init__(self, record: Record, path: str) -> None:
        self._record, self._path = record, path
        self._held = b""
        self._told = False

    def pass_on(self, piece: bytes, more: bool) -> bytes:
        heard = self._record.heard
        assert heard is not None
        text, out, at = self._held + piece, [], 0
        for found in EVENT.finditer(text):
            event, at = text[at : found.end()], found.end()
            heard.add(event)
            kind = self._record.verdict.kind if heard.over and not self._told else None
            if kind:
                self._told = True
                out.append(off_format(kind, self._record.id).event(self._path))
            out.append(event)
        self._held = text[at:]
        if not more:
            out.append(self._held)
            heard.add(self._held)
        return b"".join(out)
