"""The middleware before an engine that answers with what it was asked, and a way to call it."""

import asyncio
from http.client import HTTPResponse

import httpx

from serve.doors import SECRET_HEADER
from serve.middleware import Door, Settings

KEY = "sk-right"
WORD = "the-secret-of-this-start"
OURS = {"authorization": f"Bearer {KEY}", SECRET_HEADER.decode(): WORD}


async def echo(scope, receive, send):
    """An engine that answers with what it was asked."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    length = dict(scope["headers"]).get(b"content-length")
    assert length is None or int(length) == len(body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]})
    await send({"type": "http.response.body", "body": body})


def opened(key=KEY, engine=echo, **changes):
    door = Door(engine, Settings(**changes), key, WORD)
    door.doors.ready = True
    return door


def call(method, path, *, door=None, key=KEY, **options):
    door = door or opened(digest="d1g")

    async def ask():
        transport = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", verify=False) as client:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return await client.request(method, path, **{"headers": headers, **options})

    return asyncio.run(ask())


def answered(client):
    """Status and body of one whole answer on a socket: its head and its body may come apart."""
    answer = HTTPResponse(client)
    answer.begin()
    return answer.status, answer.read()
