"""What the engine answers, on its way out: the model under the name that was asked for, `reasoning_content` too.

Works on bytes, and leaves every other byte as it is: the two fields are found as text, which JSON allows, since within
a string their quotes would be escaped. (A `model` that a response echoes from its metadata is renamed with it, if it is
this one.) Pieces of a stream may be cut anywhere. Knows ASGI messages, no policy.
"""

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from serve.asgi import Message, Send

STRING = rb'"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"'
REASONING = re.compile(rb'"reasoning":( ?)(' + STRING + rb"|null)")


class Changes(NamedTuple):
    """What is changed. `names`: what the engine calls the model, and what the request did; () to leave it."""

    names: tuple[str, ...] = ()
    reasoning_content: bool = False

    def apply(self, text: bytes) -> bytes:
        """Whole JSON, or whole lines of a stream, with the changes."""
        if self.names:
            engine, asked = self.names
            text = _named(engine).sub(lambda found: found[1] + json.dumps(asked, ensure_ascii=False).encode(), text)
        if self.reasoning_content:
            text = REASONING.sub(rb'\g<0>,\1"reasoning_content":\1\2', text)
        return text


@cache
def _named(name: str) -> re.Pattern[bytes]:
    return re.compile(rb'("model": ?)' + re.escape(json.dumps(name, ensure_ascii=False).encode()))


def changed(send: Send, changes: Changes) -> Send:
    """A `send` that changes the answer. A stream is passed on line by line, JSON as a whole and with its header."""
    if changes == Changes():
        return send
    start: Message = {}
    kept = b""
    streamed = False

    async def through(message: Message) -> None:
        nonlocal start, kept, streamed
        if message["type"] == "http.response.start":
            kind = dict(message.get("headers", [])).get(b"content-type", b"")
            streamed = kind.startswith(b"text/event-stream")
            if kind.startswith(b"application/json"):
                start = message
                return
        elif message["type"] == "http.response.body" and (start or streamed):
            kept += message.get("body", b"")
            more = message.get("more_body", False)
            if streamed:
                whole = kept.rfind(b"\n") + 1 if more else len(kept)
                piece, kept = changes.apply(kept[:whole]), kept[whole:]
                if not piece and more:
                    return
                message = {**message, "body": piece}
            elif more:
                return
            else:
                body = changes.apply(kept)
                await send({**start, "headers": _headers(start.get("headers", []), body)})
                message = {**message, "body": body}
        await send(message)

    return through


def _headers(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> list[tuple[bytes, bytes]]:
    kept = [(n, v) for n, v in headers if n != b"content-length"]
    return [*kept, (b"content-length", str(len(body)).encode())]
