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
from door import KEY, OURS, WORD, call, echo, opened

from serve.doors import OPENING
from serve.effort import EffortPolicy
from serve.middleware import SECRET, SETTINGS, Door, Settings


@pytest.mark.parametrize("path", ["/health", "/ping"])
def test_health_needs_no_key(path):
    answer = call("GET", path, key="")
    assert (answer.status_code, answer.headers["x-path"]) == (200, path)


@pytest.mark.parametrize(("status", "told"), [(200, "ready"), (503, "unready")])
def test_readiness_is_what_the_engines_health_says_in_words(status, told):
    async def engine(scope, receive, send):
        assert scope["path"] == "/health"
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    answer = call("GET", "/readyz", door=opened(engine=engine), key="")
    assert (answer.status_code, answer.json()) == (status, {"status": told, "state": "ready"})


def test_alive_is_answered_without_the_engine():
    answer = call("GET", "/livez", key="")
    assert answer.json() == {"status": "alive", "state": "ready"}
    assert "x-path" not in answer.headers


def test_sagemaker_opens_invocations_under_the_same_policy():
    door = opened(sagemaker=True, raw_completions=True, policy=EffortPolicy(default="low", maximum="low"))
    chat = call("POST", "/invocations", door=door, json={"messages": None, "reasoning_effort": "high"})
    assert chat.json() == {"messages": None, "reasoning_effort": "low"}
    assert chat.headers["x-reasoning-effort"] == "low"
    assert call("POST", "/invocations", door=door, json={"prompt": "x"}).json() == {"prompt": "x"}


def test_a_count_of_input_tokens_is_that_of_the_prompt_that_would_be_shown():
    """The engine has no such path: it renders the response's prompt."""

    async def renders(scope, receive, send):
        asked = json.loads((await receive())["body"])
        assert (scope["path"], asked["reasoning"]) == ("/v1/responses/render", {"effort": "low"})
        status = 200 if asked["input"] else 400
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b'{"token_ids": [1, 2, 3]}'})

    door = opened(engine=renders, policy={"maximum": "low"})
    answer = call("POST", "/v1/responses/input_tokens", door=door, json={"model": "m", "input": "x"})
    assert answer.json() == {"object": "response.input_tokens", "input_tokens": 3}
    assert answer.headers["x-reasoning-effort"] == "low"
    assert call("POST", "/v1/responses/input_tokens", door=door, json={"model": "m", "input": ""}).status_code == 400
    refused = call("POST", "/v1/responses/input_tokens", door=door, json={"model": "m", "input": []})
    assert refused.json()["error"]["param"] == "input"


def test_effort_and_digest_come_back_as_headers():
    answer = call("POST", "/v1/responses", json={"input": "x"})
    assert answer.json() == {"input": "x", "reasoning": {"effort": "medium"}}
    assert (answer.headers["x-reasoning-effort"], answer.headers["x-model-digest"]) == ("medium", "d1g")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_what_was_asked_and_what_it_got_come_back_together(path):
    door = opened(policy=EffortPolicy(maximum="medium", thinking_tokens={"medium": 64}))
    for asked, applied, budget in (("max", "medium", "64"), ("None", "low", None), (None, "medium", "64")):
        told = call("POST", path, door=door, json={"reasoning_effort": asked}).headers
        assert told.get("x-reasoning-effort-requested") == asked
        assert (told["x-reasoning-effort"], told.get("x-reasoning-budget")) == (applied, budget)
    header = {"authorization": f"Bearer {KEY}", "x-reasoning-effort": "high"}
    told = call("POST", path, door=door, headers=header, json={}).headers
    assert (told["x-reasoning-effort-requested"], told["x-reasoning-effort"]) == ("high", "medium")
    twice = [*header.items(), ("x-reasoning-effort", "low")]
    refused = call("POST", path, door=door, headers=twice, json={})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-reasoning-effort")


def test_a_refusal_tells_the_effort_that_was_asked_where_it_is_known():
    unknown = call("POST", "/v1/chat/completions", json={"reasoning_effort": "hgih"})
    assert unknown.headers["x-reasoning-effort-requested"] == "hgih"
    assert "x-reasoning-effort" not in unknown.headers
    long = {"reasoning_effort": "max", "messages": [{"content": "x" * 200_000}]}
    refused = call("POST", "/v1/chat/completions", json=long)
    told = {"x-reasoning-effort-requested": "max", "x-reasoning-effort": "high"}
    assert refused.status_code == 400
    assert told.items() <= refused.headers.items()
    for word in ("a b", "x\r\nx-model-digest: forged", "é", "x" * 41):
        refused = call("POST", "/v1/chat/completions", json={"reasoning_effort": word})
        assert refused.status_code == 400
        assert "x-reasoning-effort-requested" not in refused.headers
        assert refused.headers["x-model-digest"] == "d1g"


def test_size_limit_by_declaration_and_by_count():
    door = opened(max_body=100)

    async def pieces():
        for _ in range(11):
            yield b"x" * 10

    cancel = "/v1/responses/resp_1/cancel"
    assert call("POST", cancel, door=door, content=b"x" * 100).status_code == 200
    assert call("POST", cancel, door=door, content=b"x" * 101).status_code == 413
    assert call("POST", cancel, door=door, content=pieces()).status_code == 413


def test_a_cancel_keeps_its_body():
    assert call("POST", "/v1/responses/resp_1/cancel").content == b""


def test_draining_turns_new_requests_away_and_stays_alive():
    door = opened()
    door.doors.draining = True
    refused = call("POST", "/v1/chat/completions", door=door, json={})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert call("GET", "/v1/models", door=door).status_code == 200
    unready = call("GET", "/readyz", door=door, key="")
    assert (unready.status_code, unready.json()["state"]) == (503, "draining")
    alive = call("GET", "/livez", door=door, key="")
    assert (alive.status_code, alive.json()["state"]) == (200, "draining")
    assert call("POST", "/v1/chat/completions", door=door, json={}, headers=OURS).status_code == 200  # the pulse


CUT = [
    ("event-stream", b'data: {"a": 1}\n\n', 200),  # an error event at its end
    ("none yet", b"", 503),
    ("json", b'{"ha', None),  # no word fits into it
]


@pytest.mark.parametrize(("kind", "sent", "status"), CUT)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_whose_answer_is_not_whole_at_the_end_of_the_drain_is_told(monkeypatch, path, kind, sent, status):
    monkeypatch.setattr(os, "kill", lambda *_: None)  # how the door ends the engine
    messages, begun = [], asyncio.Event()

    async def engine(scope, receive, send):
        if sent:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", kind.encode())]})
            await send({"type": "http.response.body", "body": sent, "more_body": True})
        begun.set()
        await asyncio.sleep(600)

    async def send(message):
        messages.append(message)

    async def receive():
        return {"type": "http.request", "body": b'{"messages": [{"role": "user", "content": "x"}]}', "more_body": False}

    async def ask():
        door = opened(key="", engine=engine, drain=0)
        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        task = asyncio.create_task(door(scope, receive, send))
        await begun.wait()
        door._stop(0)
        await asyncio.gather(task, door.under_way.ending)

    asyncio.run(ask())
    if status is None:
        assert [m.get("body") for m in messages] == [None, sent]
        return
    assert messages[0]["status"] == status
    last = messages[-1]
    assert not last.get("more_body")
    named = b"event: error\n" if path == "/v1/messages" else b""  # by which its clients tell events apart
    told = json.loads(last["body"].removeprefix(named + b"data: "))
    assert told["error"]["code"] == "shutting_down"
    assert told.get("type") == ("error" if named else None)
    assert last["body"].startswith(named + b"data: ") == bool(sent)


def test_an_upload_is_under_way_until_it_is_answered(monkeypatch):
    """A stop leaves it the drain's time, and tells its client when that is over."""
    monkeypatch.setattr(os, "kill", lambda *_: None)  # how the door ends the engine
    messages, begun = [], asyncio.Event()

    async def send(message):
        messages.append(message)

    async def receive():
        begun.set()
        await asyncio.sleep(600)

    async def ask():
        door = opened(key="", engine=None)
        scope = {"type": "http", "method": "POST", "path": "/v1/responses", "headers": []}
        task = asyncio.create_task(door(scope, receive, send))
        await begun.wait()
        assert door.under_way.tasks == {task}
        door._stop(0)
        await asyncio.gather(task, door.under_way.ending)

    asyncio.run(ask())
    assert messages[0]["status"] == 503
    assert json.loads(messages[1]["body"])["error"]["code"] == "shutting_down"


def test_a_client_that_goes_away_is_no_stop():
    """The server cancels its request; nobody is told anything."""

    async def ask():
        door = opened(key="", engine=lambda *_: asyncio.sleep(600))
        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": []}
        task = asyncio.create_task(door(scope, None, None))
        while not door.under_way.tasks:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not door.under_way.tasks

    asyncio.run(ask())


def test_a_named_but_empty_key_is_no_open_door(monkeypatch):
    monkeypatch.setenv(SETTINGS, Settings(key_env="NO_SUCH_KEY").model_dump_json())
    monkeypatch.setenv(SECRET, WORD)
    with pytest.raises(RuntimeError, match="NO_SUCH_KEY is empty"):
        Door(echo)
    monkeypatch.setenv("NO_SUCH_KEY", KEY)
    door = Door(echo)
    assert call("POST", OPENING, door=door, headers=OURS).status_code == 200
    assert call("GET", "/v1/models", door=door, key="x").status_code == 401
    assert call("GET", "/v1/models", door=door).status_code == 200


ROOT = Path(__file__).parent.parent
ENGINE = """
import asyncio, signal, sys
import uvicorn
from serve.middleware import Door, Settings

# A shell gives what it starts in the background an ignored SIGINT, and this would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

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

door = Door(slow, Settings(drain=int(sys.argv[2])), secret="s")
door.doors.ready = True
config = uvicorn.Config(door, port=0, lifespan="on", timeout_graceful_shutdown=1, log_level="info")
uvicorn.Server(config).run()
"""


def test_sigusr1_turns_new_requests_away_and_ends_nothing():
    command = [sys.executable, "-c", ENGINE, "1", "0"]
    engine = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    url = next(found[0] for line in engine.stderr if (found := re.search(r"http://[\d.:]+", line)))
    with httpx.Client(base_url=url, verify=False, trust_env=False) as client:
        assert client.get("/readyz").status_code == 200
        engine.send_signal(signal.SIGUSR1)
        while client.get("/readyz").status_code == 200:
            pass  # until the signal has arrived
        assert client.post("/v1/chat/completions", json={}).status_code == 503
        assert client.get("/livez").status_code == 200
        engine.send_signal(signal.SIGTERM)
    engine.communicate(timeout=60)
    assert engine.returncode == -signal.SIGINT


@pytest.mark.parametrize(("pieces", "drain", "whole"), [(60, 30, True), (1000, 1, False)])
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
