"""Which model a request means where adapters lie beside the base: a name in, the engine's name and the digest out.

Until an adapter is listed here it is nobody's but the supervisor's, whatever the engine holds. Also what `/v1/models`
says: vLLM knows an adapter by one name, and tells no digest. Pure; knows no sockets.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from serve.asgi import Message, Send


class Listed(BaseModel):
    """A model that clients may ask for: by `name`, or by `engine`, which is what the engine calls it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    engine: str = Field(min_length=1)
    digest: str = Field(min_length=1)


class Meant(NamedTuple):
    """What the engine is asked for, and the digest of that."""

    engine: str
    digest: str


class Routes:
    """The base under its names, and the adapters that are listed at the moment."""

    def __init__(self, names: Sequence[str], digest: str) -> None:
        self._base, self._digest = tuple(names), digest
        self.adapters: tuple[Listed, ...] = ()

    def put(self, body: bytes) -> None:
        """List these adapters and no others. Raises ValueError."""
        told = json.loads(body)
        self.adapters = tuple(Listed.model_validate(each) for each in told["adapters"])

    @property
    def names(self) -> tuple[str, ...]:
        """What a client may ask for, first what the engine calls the base."""
        return (*self._base, *(name for a in self.adapters for name in (a.name, a.engine)))

    def meant(self, name: str) -> Meant | None:
        """What a name means; None for a name that nobody has here."""
        if name in self._base:
            return Meant(self._base[0], self._digest)
        found = next((a for a in self.adapters if name in (a.name, a.engine)), None)
        return Meant(found.engine, found.digest) if found else None

    def models(self, body: bytes) -> bytes:
        """The engine's list of models as clients see it: each by both names and with its digest. What is no such list
        stays as it is."""
        try:
            told = json.loads(body)
            cards = {card["id"]: card for card in told["data"]}
        except (ValueError, KeyError, TypeError):
            return body
        length = next((cards[n].get("max_model_len") for n in self._base if n in cards), None)
        shown: list[dict[str, Any]] = [{**cards[n], "digest": self._digest} for n in self._base if n in cards]
        for a in self.adapters:
            if card := cards.get(a.engine):
                same = {"parent": self._base[0], "max_model_len": length, "digest": a.digest}
                shown += [{**card, **same, "id": name} for name in (a.name, a.engine)]
        return json.dumps({**told, "data": shown}, separators=(",", ":")).encode()


def rewritten(send: Send, change: Callable[[bytes], bytes]) -> Send:
    """A `send` that changes a whole answer of status 200 once its last piece is there."""
    start: Message = {}
    kept = b""

    async def through(message: Message) -> None:
        nonlocal start, kept
        if message["type"] == "http.response.start" and message["status"] == 200:
            start = message
        elif message["type"] == "http.response.body" and start:
            kept += message.get("body", b"")
            if not message.get("more_body", False):
                body = change(kept)
                headers = [(n, v) for n, v in start.get("headers", []) if n.lower() != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
                await send({**message, "body": body})
        else:
            await send(message)

    return through
