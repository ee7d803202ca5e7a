"""How much at once and how often, of the server and of each key: exact to the second, and free again in time."""

import asyncio
import hashlib
import os
import socket
import threading
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from door import KEY, OURS, WORD, call, echo, opened
from hypothesis import given
from hypothesis import strategies as st

from serve.doors import COUNTED, Refused
from serve.effort import EffortPolicy
from serve.keys import Held, Keys
from serve.middleware import Door, Settings
from serve.rates import Rates

CHAT = "/v1/chat/completions"


def key(name="a", rate=0, most=0):
    return Held(name, b"", EffortPolicy(), rate, most)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def refused(rates, held):
    """Status, and what is said about when to come again; None when it comes in."""
    try:
        rates.enter(held)
    except Refused as e:
        told = dict(e.headers)
        return e.status, int(told[b"retry-after"]), told
    return None


def test_a_minute_may_be_used_at_once_and_comes_back_evenly():
    clock = Clock()
    rates = Rates(clock=clock)
    seven = key(rate=7)  # one in 8.57 s
    left = [dict(rates.enter(seven).told) for _ in range(7)]
    assert [told[b"x-ratelimit-remaining-requests"] for told in left] == [b"%d" % n for n in (6, 5, 4, 3, 2, 1, 0)]
    assert [left[n][b"x-ratelimit-reset-requests"] for n in (0, 6)] == [b"8.572s", b"1m0s"]
    assert {told[b"x-ratelimit-limit-requests"] for told in left} == {b"7"}
    status, wait, told = refused(rates, seven)
    assert (status, wait) == (429, 9)
    assert (told[b"x-ratelimit-remaining-requests"], told[b"x-ratelimit-reset-requests"]) == (b"0", b"1m0s")
    clock.now += 8.5
    assert refused(rates, seven)[:2] == (429, 1)
    clock.now += 0.08
    assert refused(rates, seven) is None
    assert refused(rates, seven)[:2] == (429, 9)
    assert refused(rates, key("b", rate=7)) is None  # another's


@given(
    rate=st.integers(1, 40),
    start=st.floats(0, 1e7),
    steps=st.lists(st.floats(0, 90), max_size=20),
)
def test_never_more_than_the_rate_in_any_minute_and_a_wait_is_long_enough_and_no_longer(rate, start, steps):
    """No window of a minute holds more than twice the rate: one that was saved up, one that came back."""
    clock = Clock()
    clock.now = start
    rates, mine, taken = Rates(clock=clock), key(rate=rate), []
    for step in steps:
        clock.now += step
        for _ in range(rate):
            wait = refused(rates, mine)
            if wait:
                break
            taken.append(clock.now)
        if wait:
            clock.now += wait[1] - 1
            assert wait[1] == 1 or refused(rates, mine)[1] == 1
            clock.now += 1
            assert refused(rates, mine) is None
            taken.append(clock.now)
    assert all(sum(t <= u < t + 60 for u in taken) <= 2 * rate for t in taken)
    spent = taken[-1] - taken[0] if taken else 0
    assert len(taken) <= rate + spent * rate / 60 + 1e-3


def test_places_are_counted_by_key_and_in_all_and_a_refusal_uses_nothing():
    rates = Rates(most=3, clock=Clock())
    one, two = key(rate=4, most=2), key("b")
    slots = [rates.enter(one), rates.enter(one)]
    assert refused(rates, one)[:2] == (429, 1)
    slots.append(rates.enter(two))
    assert refused(rates, two)[:2] == (503, 1)
    for slot in slots:
        slot.leave()
        slot.leave()  # once is all that counts
    assert not rates._under_way
    assert dict(rates.enter(one).told)[b"x-ratelimit-remaining-requests"] == b"1"


def lines(name, secret, **more):
    text = "".join(f"{field} = {value}\n" for field, value in more.items())
    return f'[[key]]\nname = "{name}"\nsha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"\n{text}'


def put(path, text):
    aside = path.with_suffix(".new")
    aside.write_text(text)
    os.utime(aside, (1, 1))
    aside.replace(path)


def keyed(path, text, clock=None, engine=echo, most=0):
    put(path, text)
    door = Door(engine, Settings(keys=str(path), max_concurrent=most), "", WORD)
    door.doors.ready = True
    door.rates = Rates(most, clock or Clock())
    return door


@pytest.mark.parametrize("field", ["requests_per_minute", "max_concurrent"])
@pytest.mark.parametrize("value", ["-1", "0.5", '"many"'])
def test_a_limit_that_is_none_is_refused(tmp_path, field, value):
    from serve import keys
    from tune.errors import UserError

    put(tmp_path / "keys.toml", lines("a", "a", **{field: value}))
    with pytest.raises(UserError) as error:
        keys.read(tmp_path / "keys.toml", EffortPolicy())
    assert f"key.1.{field}: " in error.value.why


def test_over_its_rate_a_key_hears_what_openai_says_and_others_go_on(tmp_path):
    door = keyed(tmp_path / "keys.toml", lines("a", "a", requests_per_minute=2) + lines("b", "b"))
    for left in ("1", "0"):
        answer = call("POST", CHAT, door=door, key="a", json={})
        assert (answer.status_code, answer.headers["x-ratelimit-remaining-requests"]) == (200, left)
    answer = call("POST", CHAT, door=door, key="a", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    words = "2 requests a minute are this key's limit"
    assert answer.json()["error"] == {
        "message": words,
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    said = {"limit": "2", "remaining": "0", "reset": "1m0s"}
    assert {f"x-ratelimit-{name}-requests": value for name, value in said.items()}.items() <= answer.headers.items()
    message = call("POST", "/v1/messages", door=door, key="a", json={}).json()
    assert (message["type"], message["error"]["type"]) == ("error", "rate_limit_error")
    other = call("POST", CHAT, door=door, key="b", json={})
    assert other.status_code == 200
    assert not [name for name in other.headers if name.startswith("x-ratelimit")]


PREFLIGHT = {"origin": "https://example.org", "access-control-request-method": "POST"}
FREE = [("GET", "/v1/models"), ("GET", "/health"), ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/metrics")]
FREE += [("POST", "/ping"), ("GET", "/v1/responses/r"), ("POST", "/v1/responses/r/cancel"), ("GET", CHAT)]


def test_what_takes_no_model_counts_for_nothing(tmp_path):
    door = keyed(tmp_path / "keys.toml", lines("a", "a", requests_per_minute=1, max_concurrent=1), most=1)
    for method, path in FREE * 2:
        assert call(method, path, door=door, key="a").status_code == 200
    for _ in range(2):
        assert call("OPTIONS", CHAT, door=door, key="", headers=PREFLIGHT).status_code == 200
        assert call("POST", CHAT, door=door, key="stranger", json={}).status_code == 401
        assert call("POST", CHAT, door=door, headers=OURS, json={}).status_code == 200  # the supervisor's
        assert call("POST", "/no-such", door=door, key="a").status_code == 404
    assert call("POST", CHAT, door=door, key="a", json={}).status_code == 200
    for path in sorted(COUNTED - {"/invocations"}):
        assert call("POST", path, door=door, key="a", json={}).status_code == 429, path


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"reasoning_effort": "ultra"}', b'{"messages": 1, "structured_outputs": 0}', b"x" * 101]
)
def test_a_refused_request_leaves_its_place(body):
    door = opened(max_concurrent=1, max_body=100)
    for _ in range(3):
        assert call("POST", CHAT, door=door, content=body).status_code in {400, 413}
    assert not door.rates._under_way


def test_an_engine_that_raises_leaves_the_place():
    async def broken(*_):
        raise ValueError("the engine's own fault")

    door = opened(engine=broken, max_concurrent=1)
    for _ in range(2):
        with pytest.raises(ValueError, match="own fault"):
            call("POST", CHAT, door=door, json={})
    assert not door.rates._under_way


def test_what_a_key_used_survives_a_new_file_and_an_exchange(tmp_path):
    """Its name is what counts: a new secret under the old name goes on where the old one was."""
    clock, path = Clock(), tmp_path / "keys.toml"
    door = keyed(path, lines("a", "a", requests_per_minute=2), clock)

    def ask(secret):
        answer = call("POST", CHAT, door=door, key=secret, json={})
        return answer.status_code, answer.headers.get("retry-after")

    assert [ask("a") for _ in range(3)] == [(200, None), (200, None), (429, "30")]
    put(path, lines("a", "a", requests_per_minute=2) + lines("b", "b", requests_per_minute=1))
    assert [ask("a"), ask("b"), ask("b")] == [(429, "30"), (200, None), (429, "60")]
    put(path, lines("a", "rotated", requests_per_minute=2))
    assert [ask("a")[0], ask("rotated")] == [401, (429, "30")]
    put(path, lines("b", "b"))
    put(path, lines("a", "a", requests_per_minute=60))  # gone and back, with more: it comes back as fast as it now may
    assert ask("a") == (429, "1")
    clock.now += 1
    assert [ask("a"), ask("a")] == [(200, None), (429, "1")]


def test_an_old_place_counts_for_the_exchanged_key(tmp_path):
    path = tmp_path / "keys.toml"
    put(path, lines("a", "old", max_concurrent=1))
    keys, rates = Keys(path, EffortPolicy()), Rates(clock=Clock())
    slot = rates.enter(keys.find(b"old"))
    put(path, lines("a", "new", max_concurrent=1))
    assert refused(rates, keys.find(b"new"))[:2] == (429, 1)
    slot.leave()
    assert refused(rates, keys.find(b"new")) is None


async def endless(scope, receive, send):
    """An engine as vLLM is one: it streams until its client leaves."""
    gone = asyncio.Event()

    async def watch():
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watching = asyncio.create_task(watch())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    while not gone.is_set():
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        await asyncio.sleep(0.001)
    await watching


@contextmanager
def listening(door):
    server = uvicorn.Server(uvicorn.Config(door, port=0, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_client_that_leaves_in_mid_stream_makes_room(tmp_path, how):
    """Over a real connection. Until it leaves, its stream holds the place."""
    door = keyed(tmp_path / "keys.toml", lines("a", "a", max_concurrent=1) + lines("b", "b"), engine=endless, most=2)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\ncontent-length: 2\r\n\r\n{}"
    with listening(door) as port:

        def status(secret):
            headers = {"authorization": f"Bearer {secret}"}
            with (
                httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False) as http,
                http.stream("POST", CHAT, json={}, headers=headers) as answer,
            ):
                return answer.status_code

        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(head % b"a")
                assert client.recv(15) == b"HTTP/1.1 200 OK"
                assert status("a") == 429
                with socket.create_connection(("127.0.0.1", port), timeout=60) as second:
                    second.sendall(head % b"b")
                    assert second.recv(15) == b"HTTP/1.1 200 OK"
                    assert status("b") == 503
                if how == "resets":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            while door.rates._under_way:
                pass
    assert door.rates._under_way.total() == 0


def test_with_a_single_key_the_server_s_limit_holds(tmp_path):
    door = opened(max_concurrent=1)
    slot = door.rates.enter(Held("", b"", EffortPolicy()))
    full = call("POST", CHAT, door=door, key=KEY, json={})
    assert (full.status_code, full.json()["error"]["code"]) == (503, "overloaded")
    assert (full.headers["retry-after"], full.json()["error"]["type"]) == ("1", "server_error")
    assert call("POST", "/v1/messages", door=door, key=KEY, json={}).json()["error"]["type"] == "overloaded_error"
    assert call("POST", "/v1/responses/r/cancel", door=door, key=KEY).status_code == 200
    assert call("POST", CHAT, door=door, headers=OURS, json={}).status_code == 200  # the pulse, or it would look hung
    slot.leave()
    assert refused(door.rates, Held("", b"", EffortPolicy())) is None


@pytest.mark.parametrize("theirs", [None, b"7"])
def test_what_the_engine_itself_has_no_room_for_comes_with_a_time_too(theirs):
    """Its limits (--max-num-queued-tokens, say) answer 503 without one."""

    async def full(scope, receive, send):
        later = [(b"Retry-After", theirs)] if theirs else []
        await send({"type": "http.response.start", "status": 503, "headers": later})
        await send({"type": "http.response.body", "body": b"{}"})

    answer = call("POST", CHAT, door=opened(engine=full), json={})
    assert (answer.status_code, answer.headers.get_list("retry-after")) == (503, [(theirs or b"1").decode()])
