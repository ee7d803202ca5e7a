"""Clients that mean harm or know no better: malformed, slow, endless, idle in thousands. All are answered or let go."""

import asyncio
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import uvicorn
from door import KEY, WORD, answered, echo, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve import listening
from serve.doors import COUNTED, OPENING, SERVED
from serve.front import HEAD
from serve.middleware import Door, Settings

CHAT = "/v1/chat/completions"
NAMES = ["authorization", "x-api-key", "content-length", "content-type", "transfer-encoding", "x-reasoning-effort"]
NAMES += ["x-reasoning-content", "x-serve-secret", "origin", "access-control-request-method", "connection", "expect"]
VALUES = [f"Bearer {KEY}", "Bearer ", "Basic x", WORD, "0", "-1", "1e9", "9" * 30, "chunked", "high", "true", ""]
FIELDS = ["model", "messages", "role", "content", "reasoning_effort", "reasoning", "effort", "max_tokens", "prompt"]
FIELDS += ["input", "tools", "stream", "stop", "n", "thinking", "output_config", "chat_template_kwargs", "user", "type"]
FIELDS += ["structured_outputs", "thinking_token_budget", "previous_response_id", "include_reasoning", "text", "budget"]
WORDS = ["", "user", "assistant", "low", "max", "text", "m:low", "<|start|>", "\ud800", "\0", "x" * 3000]

keys = st.sampled_from(FIELDS) | st.text(max_size=6)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=20)
values = st.recursive(leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(keys, v, max_size=4), max_leaves=12)
odd_json = st.dictionaries(keys, values, max_size=8).map(lambda v: json.dumps(v).encode())
deep = st.integers(1, 5000).map(lambda n: b'{"messages":' + b"[" * n)
bodies = odd_json | values.map(lambda v: json.dumps(v).encode()) | st.binary(max_size=300) | deep
cut = st.tuples(bodies, st.integers(0, 40)).map(lambda both: both[0][: len(both[0]) - both[1]])
paths = st.sampled_from([*sorted(SERVED), OPENING, "/v1/responses/r/cancel"]) | st.text(max_size=30).map("/".__add__)
methods = st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "HEAD", "PUT", "X"])
headers = st.lists(
    st.tuples(
        st.sampled_from(NAMES).map(str.encode) | st.binary(min_size=1, max_size=10).map(bytes.lower),
        st.sampled_from(VALUES).map(str.encode) | st.binary(max_size=40),
    ),
    max_size=5,
)
right = [(b"authorization", f"Bearer {KEY}".encode())]


async def particular(scope, receive, send):
    """An engine that takes nothing but what the door says it gets: a JSON object, of the length that is told."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["method"] == "POST" and scope["path"] in COUNTED:
        assert isinstance(json.loads(body), dict)
        assert int(dict(scope["headers"])[b"content-length"]) == len(body)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def served(door, scope, pieces, whole):
    """What the door answers: its status and its whole body. Nothing may be raised. Not `whole`: the client leaves."""
    told, coming = [], list(pieces)

    async def receive():
        if not coming:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": coming.pop(0), "more_body": bool(coming) or not whole}

    async def send(message):
        told.append(message)

    asyncio.run(door(scope, receive, send))
    return (told[0]["status"] if told else None), b"".join(m.get("body", b"") for m in told[1:]), told


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(methods, paths, headers, st.booleans(), bodies | cut, st.booleans(), st.integers(1, 3))
def test_no_request_is_our_own_fault(method, path, more, known, body, whole, pieces):
    """A thousand of them: the door raises nothing, says 500 to nobody, and keeps no place for any."""
    door = opened(engine=particular, max_concurrent=1, max_body=2**16, sagemaker=True, raw_completions=True)
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": more + known * right}
    size = len(body) // pieces + 1
    parts = [body[n : n + size] for n in range(0, len(body), size)] or [b""]
    declared = [(b"content-length", str(len(body)).encode())]
    if b"content-length" not in dict(scope["headers"]):
        scope["headers"] = scope["headers"] + declared
    status, answer, told = served(door, scope, parts, whole)
    assert status is None or 200 <= status < 500
    if status and status >= 400:
        error = json.loads(answer)["error"]
        assert error["message"]
        assert error["code"]
        assert KEY not in answer.decode() + str(told)
    assert not door.rates._under_way


@contextmanager
def listening_at(app, **config):
    """An engine's server as ours is: uvicorn with our connections. Yields its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as public:
        number = public.getsockname()[1]
        how = uvicorn.Config(app, lifespan="off", log_level="warning", **listening.options(None), **config)
        server = uvicorn.Server(how)
        thread = threading.Thread(target=server.run, args=([public],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
        try:
            yield number
        finally:
            server.should_exit = True
            thread.join()


def say(port, *parts):
    """What comes back for these bytes until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        told = b""
        try:
            for part in parts:
                client.sendall(part)
            while more := client.recv(65_536):
                told += more
        except ConnectionError:
            pass
        return told


def request(body=b"{}", path=CHAT, more=b"", method=b"POST", size=None):
    size = len(body) if size is None else size
    head = b"%s %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\ncontent-length: %d\r\n%s\r\n"
    return head % (method, path.encode(), KEY.encode(), size, more) + body


ALIVE = request(b"", "/livez", b"connection: close\r\n", b"GET")
mangled = st.tuples(st.sampled_from([request(), ALIVE]), st.integers(0, 150), st.binary(max_size=8)).map(
    lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + len(t[2]) :]
)
words = st.sampled_from([*NAMES, *VALUES, "\r\n", "\n", ": ", "POST ", CHAT, " HTTP/1.1", "\0", "€"])
wires = mangled | st.binary(max_size=200) | st.lists(words, max_size=12).map(lambda said: "".join(said).encode())


def test_any_bytes_on_the_wire_are_answered_or_let_go(monkeypatch, caplog):
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.02)
    monkeypatch.setattr(listening, "REST_SECONDS", 0.02)
    monkeypatch.setattr(listening, "TURN", 0.0)
    monkeypatch.setattr("serve.asgi.SILENT", 0.02)
    door = opened(max_concurrent=1)
    with caplog.at_level(logging.ERROR), listening_at(door, timeout_keep_alive=0) as port:

        @settings(max_examples=300, deadline=None)
        @given(wires)
        def sent(wire):
            told = say(port, wire)
            assert not told or told.startswith(b"HTTP/1.1 ")
            assert not told.startswith(b"HTTP/1.1 5")

        sent()
        assert say(port, ALIVE).startswith(b"HTTP/1.1 200")
    assert "Exception in ASGI application" not in caplog.text
    assert not door.rates._under_way


class Skips(asyncio.SelectorEventLoop):
    """Its time is the next timer's as soon as nothing else is to be done."""

    now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        nexts = [timer._when for timer in self._scheduled if not timer._cancelled]
        if nexts and not self._ready:
            self.now = max(self.now, min(nexts))
        super()._run_once()


def body_in_time(pieces, pause, **changes):
    """The door's answer to a body of which one piece comes in each pause, forever; and the seconds that it took."""
    loop, told, door = Skips(), [], opened(max_concurrent=1, **changes)

    async def receive():
        piece = next(pieces, None)
        if piece is None:
            await loop.create_future()
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": piece, "more_body": piece != b"}"}

    async def send(message):
        told.append(message)

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": right}
    began = loop.time()
    loop.run_until_complete(door(scope, receive, send))
    took = loop.time() - began
    loop.close()
    assert not door.rates._under_way
    return told[0]["status"], dict(told[0]["headers"]).get(b"connection"), round(took, 1)


def test_a_body_that_does_not_come_is_given_up():
    drops = [*[b" "] * 900, b"}"]
    assert body_in_time(iter([]), 0) == (408, b"close", 30.0)
    assert body_in_time(iter([b"{"]), 29) == (408, b"close", 59.0)
    assert body_in_time(iter(drops), 31) == (408, b"close", 30.0)
    assert body_in_time(iter(drops), 7) == (408, b"close", 60.0)
    assert body_in_time(iter([b"{", b"}"]), 29) == (200, None, 58.0)


def test_a_large_body_over_a_slow_line_is_not():
    large = [b"{", *[b" " * 20_000] * 300, b"}"]
    assert body_in_time(iter(large), 1) == (200, None, 302.0)
    assert body_in_time(iter([b"{", *[b" " * 10_000] * 300, b"}"]), 1)[0] == 408


def test_a_body_that_stops_on_the_wire_gets_its_answer_and_leaves_its_place(monkeypatch):
    monkeypatch.setattr("serve.asgi.SILENT", 0.05)
    door = opened(max_concurrent=1)
    with listening_at(door) as port:
        told = say(port, request(b'{"messages', size=100))
        assert told.startswith(b"HTTP/1.1 408 ")
        assert json.loads(told.rpartition(b"\r\n")[2])["error"]["code"] == "request_timeout"
        assert say(port, request(more=b"connection: close\r\n")).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_came_while_the_process_was_busy_has_come_in_time(monkeypatch):
    monkeypatch.setattr("serve.asgi.SILENT", 1)
    busy = threading.Event()

    async def engine(scope, receive, send):
        if scope["path"] != CHAT:
            busy.set()
            time.sleep(1.5)
        await echo(scope, receive, send)

    with listening_at(opened(engine=engine, raw_completions=True)) as port, ThreadPoolExecutor(1) as pool:
        whole = request(b'{"messages": [{"role": "user", "content": "x"}]}', more=b"connection: close\r\n")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(whole[:-5])
            other = pool.submit(say, port, request(path="/v1/completions", more=b"connection: close\r\n"))
            assert busy.wait(60)
            client.sendall(whole[-5:])
            assert answered(client)[0] == 200
        assert other.result().startswith(b"HTTP/1.1 200 ")


PART = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: "


def test_a_head_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.1)
    with listening_at(opened()) as port:
        assert say(port) == b""  # it never said a word
        told = say(port, PART)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert json.loads(told.rpartition(b"\r\n")[2])["error"]["code"] == "request_timeout"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            for part, status in ((request(), 200), (PART, 408)):  # the second of a connection
                client.sendall(part)
                assert answered(client)[0] == status


def test_a_drip_of_bytes_buys_no_time(monkeypatch):
    """One that sends a byte now and then would keep any time-out between two bytes from ending."""
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.3)
    with (
        listening_at(opened()) as port,
        socket.create_connection(("127.0.0.1", port), timeout=0.01) as client,
    ):
        client.sendall(PART)
        told = b""
        for _ in range(500):
            if told:
                break
            try:
                client.sendall(b"x")
                told = client.recv(4096)
            except TimeoutError:
                continue
        assert told.startswith(b"HTTP/1.1 408 ")


def test_a_head_without_end_is_given_up_by_its_size():
    with listening_at(opened()) as port:
        told = say(port, PART, *[b"x" * 4096] * 40)
        assert told == b"" or told.startswith(b"HTTP/1.1 431 ")  # what was still on its way may have reset it
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(PART + b"x" * (HEAD - len(PART)))
            client.sendall(b"x")
            status, told = answered(client)
        assert status == 431
        assert b"65536 bytes" in told


async def long(scope, receive, send):
    """An engine whose answer takes longer than a head may."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(8):
        await asyncio.sleep(listening.HEAD_SECONDS / 4)
        await send({"type": "http.response.body", "body": b".", "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


def test_a_long_answer_is_not_cut_and_a_connection_is_used_again(monkeypatch):
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.1)
    with listening_at(opened(engine=long)) as port:
        last = request(more=b"connection: close\r\n")
        assert say(port, request(), last).count(b"end") == 2  # the second came while the first was answered
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            for _ in range(3):
                client.sendall(request())
                status, told = answered(client)
                assert (status, told[-3:]) == (200, b"end")


def test_what_is_left_of_a_body_after_its_answer_holds_no_connection(monkeypatch):
    monkeypatch.setattr(listening, "REST_SECONDS", 0.1)
    with listening_at(Door(echo, Settings(), KEY, WORD)) as port:
        told = say(port, request(b"x" * 100, size=200_000), b"x" * 100_000)  # it is not open yet, and reads none
        assert told.startswith(b"HTTP/1.1 503 ")
        assert told.count(b"HTTP/1.1") == 1


def test_no_route_answers_a_malformed_request_and_its_error_has_the_usual_shape():
    with listening_at(opened()) as port:
        told = say(port, b"GET /livez HTTP/9.9\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 400 ")
        assert json.loads(told.rpartition(b"\r\n")[2])["error"]["code"] == "invalid_http"


MANY = 2000


def test_thousands_of_silent_connections_keep_nobody_from_being_answered():
    """None of them has said a word; the engine's server and who answers without one hear the next one all the same."""
    from serve.front import AT_ONCE, Front

    with listening_at(opened()) as port, Front("127.0.0.1", 0) as front, ExitStack() as end:
        front.state = "starting"
        other = front.public.getsockname()[1]
        for _ in range(MANY // 2):
            for number in (port, other):
                end.enter_context(socket.create_connection(("127.0.0.1", number), timeout=60))
            if _ % 250 == 0:
                assert say(port, ALIVE).startswith(b"HTTP/1.1 200 ")
        for number in (port, other):
            assert say(number, ALIVE).startswith(b"HTTP/1.1 200 ")
        assert say(port, request(more=b"connection: close\r\n")).startswith(b"HTTP/1.1 200 ")
        assert len(front._replies) <= AT_ONCE


def test_every_path_that_takes_the_model_is_counted():
    """A new one that the door serves and nothing limits would be a way round."""
    free = {"/health", "/livez", "/readyz", "/ping", "/v1/models", "/metrics", "/load", "/version"}
    assert free == SERVED - COUNTED
