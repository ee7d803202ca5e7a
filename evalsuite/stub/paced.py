"""A server that keeps its times: each reply's first token so long after its request came, each further one a gap later.

    python -m evalsuite.stub.paced [--tokens 128] [--first-token-s 0] [--per-token-s 0.01] [--role-first]

Prints its base URL and serves until it is ended. What it sends is made before it is asked, each chunk is one write, and
one thread does it all without a task a stream, so that hundreds of streams do not make it late (evalsuite.stub's server
composes what each answer says, and is). The first token's chunk says when it left, in `written`: seconds on the
monotonic clock, which all processes of a machine share. Any prompt gets the same words; `max_tokens` cuts them.
"""

import json
import selectors
import socket
import time
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, NamedTuple

import click

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MODELS = {"object": "list", "data": [{"id": "stub", "object": "model", "created": 0, "owned_by": "stub"}]}
READ = 2**16  # bytes at once


class Pace(NamedTuple):
    """How many tokens a reply has; seconds to the first and between them; whether the role comes before the first."""

    tokens: int
    first_s: float
    gap_s: float
    role_first: bool


class Reply(NamedTuple):
    """The writes of one reply that are not yet due."""

    connection: socket.socket
    writes: Iterator[bytes]
    gap_s: float


def event(data: bytes) -> bytes:
    data = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk(delta: dict[str, str], finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    head = {"id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 0, "model": "stub"}
    return event(json.dumps({**head, "choices": choices, **more}).encode())


def word(k: int) -> str:
    return f"word{k} "


class Words:
    """The chunks of all replies, made once."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.role = chunk({"role": "assistant", "content": ""})
        self.made = [chunk({"content": word(k)}) for k in range(pace.tokens)]

    def writes(self, tokens: int, usage: bool) -> Iterator[bytes]:
        """One a token, the last with what ends the reply; the first tells when it was taken from here."""
        end = chunk({}, "length" if tokens < self.pace.tokens else "stop")
        if usage:
            told = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
            end += event(json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": told}).encode())
        end += event(b"[DONE]") + b"0\r\n\r\n"
        first = chunk({"content": word(0)}, written=time.monotonic())
        if not self.pace.role_first:
            first = self.role + first
        yield first + end if tokens == 1 else first
        yield from self.made[1 : tokens - 1]
        if tokens > 1:
            yield self.made[tokens - 1] + end


def asked(said: bytes) -> tuple[bytes, dict[str, Any]] | None:
    """The request line and the body of a request that has come whole."""
    head, found, body = said.partition(b"\r\n\r\n")
    if not found:
        return None
    line, *headers = head.split(b"\r\n")
    lengths = [int(header[15:]) for header in headers if header[:15].lower() == b"content-length:"]
    if len(body) < sum(lengths):
        return None
    return line, json.loads(body) if body else {}


def answer(connection: socket.socket, line: bytes, body: dict[str, Any], words: Words) -> Reply | None:
    """Begin a streamed reply; anything else is answered here and now: one whole reply, or the list of models."""
    tokens = min(words.pace.tokens, body.get("max_completion_tokens") or body.get("max_tokens") or words.pace.tokens)
    if body.get("stream"):
        connection.sendall(STREAM + (words.role if words.pace.role_first else b""))
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return Reply(connection, words.writes(tokens, usage), words.pace.gap_s)
    told: dict[str, Any] = MODELS
    if line.startswith(b"POST"):
        message = {"role": "assistant", "content": "".join(map(word, range(tokens)))}
        usage_told = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        told = {"object": "chat.completion", "model": "stub", "choices": choices, "usage": usage_told}
    data = json.dumps(told).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    connection.sendall(head % len(data) + data)
    return None


def serve(listener: socket.socket, words: Words) -> None:
    """For ever. A connection stays open for the next request until its client closes it."""
    due: list[tuple[float, int, Reply]] = []  # a heap; the number keeps replies of one moment apart
    said: dict[socket.socket, bytes] = {}
    count, clock = 0, time.monotonic
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select(max(0.0, due[0][0] - clock()) if due else None):
                connection = key.fileobj
                if connection is listener:
                    came, _ = listener.accept()
                    came.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    ready.register(came, selectors.EVENT_READ)
                    said[came] = b""
                elif isinstance(connection, socket.socket):
                    try:
                        data = connection.recv(READ)
                        said[connection] += data
                        if data and (request := asked(said[connection])):
                            said[connection] = b""
                            if reply := answer(connection, *request, words):
                                heappush(due, (clock() + words.pace.first_s, count := count + 1, reply))
                    except ConnectionError:
                        data = b""
                    if not data:
                        ready.unregister(connection)
                        connection.close()
                        del said[connection]
            while due and due[0][0] <= clock():
                at, number, reply = heappop(due)
                try:
                    if data := next(reply.writes, b""):
                        reply.connection.sendall(data)
                        heappush(due, (at + reply.gap_s, number, reply))
                except OSError:  # its client has left
                    continue


@click.command()
@click.option("--tokens", type=click.IntRange(1), default=128, show_default=True, help="Of a reply.")
@click.option("--first-token-s", type=click.FloatRange(0), default=0.0, show_default=True, help="After its request.")
@click.option("--per-token-s", type=click.FloatRange(0), default=0.01, show_default=True, help="Between tokens.")
@click.option("--role-first", is_flag=True, help="The chunk with the role leaves at once, not with the first token.")
def main(tokens: int, first_token_s: float, per_token_s: float, role_first: bool) -> None:
    """Serve replies at exact times on 127.0.0.1, on a free port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        click.echo(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        serve(listener, Words(Pace(tokens, first_token_s, per_token_s, role_first)))


if __name__ == "__main__":
    main()
