"""Connections that are kept in a closed loop, against a server that says byte for byte what it is told."""

import asyncio
import gc
import itertools
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.speed.calibrate import paced
from evalsuite.speed.client import Raw, Target, _Gate, closed_loop, open_loop
from evalsuite.speed.metrics import sample

EVENT = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
GOOD = CHUNKED % (b"", len(EVENT), EVENT)
CLOSING = CHUNKED % (b"Connection: close\r\n", len(EVENT), EVENT)
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT)
BUSY = b'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 22\r\n\r\n{"error":{"code":"x"}}'

Answer = Callable[[int, int], tuple[bytes, ...]]  # of the nth connection and its nth request: pieces; none: it hangs up


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[Target, list[int]]]:
    """A server, and how many requests each of its connections has brought. One connection after the other."""
    listener, counts = socket.create_server(("127.0.0.1", 0)), list[int]()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            counts.append(0)
            with connection:
                while connection.recv(2**16):
                    counts[-1] += 1
                    pieces = answer(len(counts), counts[-1])
                    for piece in pieces:
                        connection.sendall(piece)
                    if not pieces:
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Target(url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", model="m"), counts
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_between_two_that_a_gate_lets_through_the_event_loop_looks_around() -> None:
    async def passed() -> str:
        gate, seen = _Gate(20), list[str]()

        async def turns() -> None:
            while True:
                seen.append(".")
                await asyncio.sleep(0)

        async def worker() -> None:
            await gate.wait()
            seen.append("x")

        looking = asyncio.create_task(turns())
        await asyncio.gather(*(worker() for _ in range(20)))
        looking.cancel()
        return "".join(seen)

    seen = asyncio.run(passed())
    assert seen.count("x") == 20
    assert "xx" not in seen


def run(target: Target, count: int, timeout_s: float = 20) -> tuple[Raw, ...]:
    return closed_loop(target, [{"messages": [{"role": "user", "content": "go"}]}] * count, 1, timeout_s).raws


@pytest.mark.parametrize(("data", "connections"), [(GOOD, [4]), (CLOSING, [1] * 4), (OLD, [1] * 4)])
def test_a_stream_of_requests_keeps_its_connection_unless_the_server_says_otherwise(
    data: bytes, connections: list[int]
) -> None:
    with answering(lambda _connection, _request: (data,)) as (target, counts):
        found = [sample(raw) for raw in run(target, 4)]
    assert [(s.error, s.output_tokens) for s in found] == [("", 1)] * 4
    assert counts == connections


def test_a_refusal_ends_with_its_length_and_the_next_request_goes_on() -> None:
    def answer(_connection: int, request: int) -> tuple[bytes, ...]:
        return (BUSY[:30], BUSY[30:]) if request == 1 else (GOOD,)

    with answering(answer) as (target, counts):
        found = [sample(raw) for raw in run(target, 2)]
    assert [s.error for s in found] == ["http 503", ""]
    assert counts == [2]


def test_a_kept_connection_that_the_server_has_closed_without_a_word_is_replaced_and_a_new_one_is_not() -> None:
    with answering(lambda _connection, request: (GOOD,) * (request == 1)) as (target, counts):
        assert [sample(raw).error for raw in run(target, 3)] == ["", "", ""]
    assert counts == [2, 2, 1]

    with answering(lambda _connection, _request: ()) as (target, counts):
        assert all(sample(raw).error for raw in run(target, 2))
    assert counts == [1, 1]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([GOOD, BUSY]), st.lists(st.integers(1, len(GOOD)), max_size=6))
def test_the_end_is_found_however_the_response_is_cut(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    pieces = tuple(data[a:b] for a, b in itertools.pairwise(edges))
    with answering(lambda _connection, _request: pieces) as (target, counts):
        raws = run(target, 3)
    assert [b"".join(part for _, part in raw.pieces) for raw in raws] == [data] * 3
    assert counts == [3]


def test_the_paced_stub_speaks_to_the_openai_client_and_keeps_to_a_token_limit() -> None:
    with paced(tokens=5, gap_s=0) as stub, openai.OpenAI(base_url=stub.url, api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["stub"]
        asked = {"model": "stub", "messages": [{"role": "user", "content": "go"}]}
        whole = client.chat.completions.create(**asked, max_tokens=2)
        assert whole.choices[0].message.content == "word0 word1 "
        for limit, finish in ((5, "stop"), (3, "length"), (1, "length")):
            options = {"stream_options": {"include_usage": True}, "max_completion_tokens": limit}
            *chunks, usage = client.chat.completions.create(**asked, **options, stream=True)
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert said == "".join(f"word{k} " for k in range(limit))
            assert (chunks[-1].choices[0].finish_reason, usage.usage.completion_tokens) == (finish, limit)


def test_an_open_loop_leaves_no_connection_behind_even_where_the_server_lets_none_go() -> None:
    with answering(lambda *_: (GOOD,)) as (target, _), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (raw,) = open_loop(target, [{}], [0.0], 5.0).raws
        gc.collect()
    assert not raw.failure
    assert [str(w.message) for w in told if issubclass(w.category, ResourceWarning)] == []
