import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.effort import EffortPolicy
from serve.middleware import APIS, SETTINGS, Door, Refused, Settings, rewrite

KEY = "sk-right"
ROOT = Path(__file__).parent.parent


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


def call(method, path, *, door=None, key=KEY, **options):
    door = door or Door(echo, Settings(digest="d1g"), KEY)

    async def ask():
        transport = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", verify=False) as client:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return await client.request(method, path, **{"headers": headers, **options})

    return asyncio.run(ask())


@pytest.mark.parametrize("path", [*APIS, "/invocations", "/tokenize", "/metrics", "/v1/models", "/no-such"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"authorization": "Bearer "},
        {"x-api-key": KEY},
    ],
)
def test_every_path_wants_the_key(path, headers):
    answer = call("POST", path, headers=headers, json={})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


def test_two_keys_in_one_request_are_refused():
    headers = [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer other")]
    assert call("GET", "/v1/models", headers=headers).status_code == 401


@pytest.mark.parametrize(("path", "engine_path"), [("/health", "/health"), ("/ping", "/ping"), ("/readyz", "/health")])
def test_health_needs_no_key(path, engine_path):
    answer = call("GET", path, key="")
    assert (answer.status_code, answer.headers["x-path"]) == (200, engine_path)


def test_alive_is_answered_without_the_engine():
    answer = call("GET", "/livez", key="")
    assert answer.json() == {"status": "alive"}
    assert "x-path" not in answer.headers


CLOSED = ["/invocations", "/tokenize", "/v1/messages", "/inference/v1/generate", "/scale_elastic_ep", "/docs"]
CLOSED += ["/v1/chat/completions/", "//v1/chat/completions", "/v1/chat/completions/batch"]


@pytest.mark.parametrize("path", CLOSED)
def test_paths_that_pass_by_the_policy_are_closed(path):
    answer = call("POST", path, json={"messages": []})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_sagemaker_opens_invocations_under_the_same_policy():
    door = Door(echo, Settings(sagemaker=True, policy=EffortPolicy(default="low", maximum="low")), KEY)
    chat = call("POST", "/invocations", door=door, json={"messages": [], "reasoning_effort": "high"})
    assert chat.json() == {"messages": [], "reasoning_effort": "low"}
    assert chat.headers["x-reasoning-effort"] == "low"
    assert call("POST", "/invocations", door=door, json={"prompt": "x"}).json() == {"prompt": "x"}


def test_effort_and_digest_come_back_as_headers():
    answer = call("POST", "/v1/responses", json={"input": "x"})
    assert answer.json() == {"input": "x", "reasoning": {"effort": "medium"}}
    assert (answer.headers["x-reasoning-effort"], answer.headers["x-model-digest"]) == ("medium", "d1g")


def test_a_bad_effort_is_an_openai_error():
    answer = call("POST", "/v1/chat/completions", json={"reasoning_effort": "hgih"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "reasoning_effort"
    assert "low, medium, high" in error["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000])
def test_what_is_no_json_object_is_refused(content):
    assert call("POST", "/v1/chat/completions", content=content).status_code == 400


def test_a_repeated_key_reaches_the_engine_once():
    raw = b'{"reasoning_effort":"low","reasoning_effort":"high","model":"m"}'
    door = Door(echo, Settings(policy=EffortPolicy(default="low", maximum="low")), KEY)
    assert call("POST", "/v1/chat/completions", door=door, content=raw).text.count("reasoning_effort") == 1


def test_size_limit_by_declaration_and_by_count():
    door = Door(echo, Settings(max_body=100), KEY)

    async def pieces():
        for _ in range(11):
            yield b"x" * 10

    assert call("POST", "/v1/completions", door=door, content=b"x" * 100).status_code == 200
    assert call("POST", "/v1/completions", door=door, content=b"x" * 101).status_code == 413
    assert call("POST", "/v1/completions", door=door, content=pieces()).status_code == 413


def test_a_raw_completion_and_a_cancel_keep_their_bodies():
    assert call("POST", "/v1/completions", content=b'{ "prompt": 1.0 }').content == b'{ "prompt": 1.0 }'
    assert call("POST", "/v1/responses/resp_1/cancel").content == b""


def test_draining_turns_new_requests_away_and_stays_alive():
    door = Door(echo, Settings(), KEY)
    door.draining = True
    refused = call("POST", "/v1/chat/completions", door=door, json={})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert call("GET", "/readyz", door=door, key="").status_code == 503
    assert call("GET", "/livez", door=door, key="").status_code == 200


def test_a_named_but_empty_key_is_no_open_door(monkeypatch):
    monkeypatch.setenv(SETTINGS, Settings(key_env="NO_SUCH_KEY").model_dump_json())
    with pytest.raises(RuntimeError, match="NO_SUCH_KEY is empty"):
        Door(echo)
    monkeypatch.setenv("NO_SUCH_KEY", KEY)
    assert call("GET", "/v1/models", door=Door(echo), key="x").status_code == 401
    assert call("GET", "/v1/models", door=Door(echo)).status_code == 200


PATHS = st.sampled_from([*APIS, "/invocations", "/v1/completions", "/v1/responses/x/cancel"])
OBJECTS = st.dictionaries(
    st.sampled_from(["reasoning_effort", "reasoning", "chat_template_kwargs", "previous_response_id", "messages", "x"]),
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    ),
)


@settings(max_examples=150, deadline=None)
@given(PATHS, st.binary() | OBJECTS.map(lambda o: json.dumps(o).encode()))
def test_any_bytes_are_refused_or_come_through_whole(path, body):
    try:
        out, effort = rewrite(Settings(sagemaker=True), path, body)
    except Refused as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.status == 400
        json.loads(refused.body())
        return
    if path not in APIS and path != "/invocations":
        assert (out, effort) == (body, None)
        return
    before, after = json.loads(body), json.loads(out)
    changed = {"reasoning_effort", "reasoning", "chat_template_kwargs"}
    assert {k: repr(v) for k, v in before.items() if k not in changed} == {
        k: repr(v) for k, v in after.items() if k not in changed
    }


ENGINE = """
import asyncio, sys
import uvicorn
from serve.middleware import Door, Settings

async def slow(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for n in range(int(sys.argv[1]) if scope["method"] == "POST" else 0):
        await send({"type": "http.response.body", "body": b"%d " % n, "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b"end"})

door = Door(slow, Settings(drain=int(sys.argv[2])))
config = uvicorn.Config(door, port=0, lifespan="on", timeout_graceful_shutdown=1, log_level="info")
uvicorn.Server(config).run()
"""


@pytest.mark.parametrize(("pieces", "drain", "whole"), [(60, 30, True), (100_000, 1, False)])
def test_sigterm_lets_a_stream_end_within_the_drain_and_not_beyond(pieces, drain, whole):
    command = [sys.executable, "-c", ENGINE, str(pieces), str(drain)]
    engine = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    url = next(found[0] for line in engine.stderr if (found := re.search(r"http://[\d.:]+", line)))
    with httpx.Client(base_url=url, verify=False, trust_env=False) as client:
        with client.stream("POST", "/v1/chat/completions", json={}) as answer:
            text = answer.iter_text()
            got = next(text)
            engine.send_signal(signal.SIGTERM)
            while client.get("/readyz").status_code == 200:
                pass  # until the signal has arrived
            assert client.post("/v1/chat/completions", json={}).status_code == 503
            try:
                got += "".join(text)
            except httpx.RemoteProtocolError:
                assert not whole
        assert got.endswith("end") == whole
    engine.communicate(timeout=60)
    assert engine.returncode is not None
