"""What is changed in answers, and that nothing else is: any text, cut anywhere."""

import asyncio
import itertools
import json

import pytest
from door import KEY, WORD, call
from hypothesis import given
from hypothesis import strategies as st

from serve.answer import Changes, changed
from serve.effort import EffortPolicy
from serve.middleware import Door, Settings

BOTH = Changes(("m", "m:low"), reasoning_content=True)
# Text that looks like what is looked for, and values that end in backslashes.
HOSTILE = st.sampled_from(
    ['"reasoning":"x"', '{"model":"m"}', "\\", '\\"', 'a\n\ndata: {"model":"m"}', "é\u2028😀", ""]
)
TEXT = st.lists(HOSTILE | st.text(max_size=8), max_size=4).map("".join)
DELTA = st.fixed_dictionaries(
    {}, optional={"reasoning": TEXT | st.none(), "content": TEXT | st.none(), "role": st.just("assistant")}
)


def chunk(delta, kind="delta", model="m"):
    return {"id": "x", "model": model, "choices": [{"index": 0, kind: delta, "finish_reason": None}], "usage": None}


def wanted(whole, kind):
    """The same with both changes, made on values instead of bytes; fields in the places where they are put."""
    delta = whole["choices"][0][kind]
    both = {}
    for field, value in delta.items():
        both |= {field: value, "reasoning_content": value} if field == "reasoning" else {field: value}
    return {**chunk(both, kind, "m:low")}


def dumped(value, spaces):
    return json.dumps(value, separators=None if spaces else (",", ":"), ensure_ascii=spaces).encode(errors="replace")


def through(changes, kind, pieces):
    """What comes out, as messages, of pieces that an engine sends."""
    out = []

    async def send(message):
        out.append(message)

    async def run():
        on = changed(send, changes)
        size = str(sum(map(len, pieces))).encode()
        length = [] if kind == b"text/event-stream" else [(b"content-length", size)]
        await on({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), *length]})
        for piece in pieces:
            await on({"type": "http.response.body", "body": piece, "more_body": True})
        await on({"type": "http.response.body", "body": b"", "more_body": False})

    asyncio.run(run())
    assert [message["type"] for message in out[:1]] == ["http.response.start"]
    assert not out[-1].get("more_body")
    return out[0], b"".join(message["body"] for message in out[1:])


def cut(data, places):
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


PLACES = st.lists(st.integers(0, 10**6), max_size=12)
LINE_ENDS = st.sampled_from(["\n\n", "\r\n\r\n"])


@given(
    st.lists(DELTA, max_size=5), PLACES, LINE_ENDS, st.booleans(), st.sampled_from(["data: [DONE]", ": note", "data"])
)
def test_a_stream_cut_anywhere_has_both_changes_and_no_other(deltas, places, end, spaces, last):
    def stream(events):
        return b"".join(b"data: " + dumped(e, spaces) + end.encode() for e in events) + last.encode()

    chunks = [chunk(delta) for delta in deltas]
    start, body = through(BOTH, b"text/event-stream", cut(stream(chunks), places))
    assert body == stream([wanted(c, "delta") for c in chunks])
    assert (b"content-length", b"0") not in start["headers"]
    assert through(Changes(), b"text/event-stream", cut(stream(chunks), places))[1] == stream(chunks)


@given(DELTA, PLACES, st.booleans())
def test_an_answer_in_one_piece_has_both_changes_and_its_length(message, places, spaces):
    whole = chunk(message, "message")
    start, body = through(BOTH, b"application/json", cut(dumped(whole, spaces), places))
    assert body == dumped(wanted(whole, "message"), spaces)
    assert dict(start["headers"])[b"content-length"] == str(len(body)).encode()


def test_each_line_of_a_stream_goes_out_when_it_is_whole():
    """A token is not kept back until the next one comes."""
    out = []

    async def send(message):
        out.append(message.get("body"))

    async def run():
        on = changed(send, BOTH)
        await on({"type": "http.response.start", "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]})
        for piece in (b'data: {"reaso', b'ning":"a"}\n', b"\n", b"data: x\n\nda"):
            await on({"type": "http.response.body", "body": piece, "more_body": True})
        return out

    assert asyncio.run(run())[1:] == [b'data: {"reasoning":"a","reasoning_content":"a"}\n', b"\n", b"data: x\n\n"]


def test_what_is_neither_json_nor_a_stream_is_left_alone():
    body = b'{"model":"m","reasoning":"x"}'
    assert through(BOTH, b"text/plain", [body])[1] == body


def talking(answer, kind=b"application/json"):
    async def engine(scope, receive, send):
        asked = json.loads((await receive())["body"])
        body = json.dumps(answer | {"saw": asked}).encode()
        headers = [(b"content-type", kind)]
        if kind == b"application/json":
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return engine


@pytest.mark.parametrize("name", ["m", "m@0", "m:low", "m@0:high"])
def test_the_answer_has_the_name_that_was_asked_for(name):
    settings = Settings(names=("m", "m@0"), policy=EffortPolicy(maximum="medium"))
    door = Door(talking({"model": "m"}), settings, KEY, WORD)
    door.doors.ready = True
    answer = call("POST", "/v1/chat/completions", door=door, json={"model": name})
    assert answer.json()["model"] == (name if ":" in name else "m")
    assert answer.headers["content-length"] == str(len(answer.content))
    asked = {"m:low": "low", "m@0:high": "high"}.get(name)
    assert answer.headers.get("x-reasoning-effort-requested") == asked
    assert answer.headers["x-reasoning-effort"] == ("low" if asked == "low" else "medium")


@pytest.mark.parametrize(
    ("server", "header", "there"),
    [(False, None, False), (False, "true", True), (False, "1", False), (True, None, True)],
)
@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
def test_reasoning_content_is_there_when_server_or_client_want_it(server, header, there, kind):
    door = Door(talking({"reasoning": "x"}, kind), Settings(reasoning_content=server), KEY, WORD)
    door.doors.ready = True
    headers = {"authorization": f"Bearer {KEY}"} | ({"x-reasoning-content": header} if header else {})
    answer = call("POST", "/v1/chat/completions", door=door, headers=headers, json={})
    assert ("reasoning_content" in answer.text) == there
