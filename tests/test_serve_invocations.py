"""SageMaker's /invocations through the door to the engine's own routes and request types: one kind of request each."""

import json
import os
import subprocess
import sys

import pytest
from door import KEY, call, opened

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
SYSTEM = "<|start|>system<|message|>Reasoning: high<|end|>"

# The engine's routers, and in place of its model one that says who was asked for what, in two pieces when streamed.
PROGRAM = """
import asyncio, json, sys
import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from vllm.entrypoints.generate.api_router import register_generate_api_routers
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse
from vllm.entrypoints.serve.sagemaker.api_router import attach_router
from serve.middleware import Door, Settings

class Model:
    async def asked(self, request, raw):
        seen.append(type(request).__name__)
        effort = getattr(request, "reasoning_effort", None)
        if not request.stream:
            return ErrorResponse(error=ErrorInfo(message=f"effort {effort}", type="t", code=418))
        return pieces(effort)

    create_chat_completion = create_completion = asked

async def pieces(effort):
    yield f"data: {effort}\\n\\n"
    yield "data: [DONE]\\n\\n"

app, seen = FastAPI(), []
attach_router(app, ("generate",))
register_generate_api_routers(app)
for name in ("chat", "completion"):
    setattr(app.state, f"openai_serving_{name}", Model())
app.state.enable_server_load_tracking = False

async def ask(body, **settings):
    seen.clear()
    door = Door(app, Settings(sagemaker=True, **settings), "", "secret")
    door.doors.ready = True
    transport = httpx.ASGITransport(door, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as http:
        answer = await http.post("/invocations", json=body)
    effort = answer.headers.get("x-reasoning-effort")
    return {"status": answer.status_code, "text": answer.text, "effort": effort, "seen": list(seen)}

print(json.dumps([asyncio.run(ask(body, **settings)) for body, settings in json.loads(sys.argv[1])]))
"""


def engine_told(*asked):
    """What became of each (body, settings)."""
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)],
        env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr[-3000:]
    return json.loads(out.stdout.splitlines()[-1])


def test_no_body_falls_through_to_another_kind_of_request():
    bad = [{"messages": m, "prompt": SYSTEM} for m in ("x", None, 3, {"role": "user"}, [3])]
    bad += [{**CHAT, "prompt": SYSTEM, "temperature": "hot"}, {**CHAT, "prompt": SYSTEM, "n": []}]
    open_to_raw = {"raw_completions": True}
    streamed = {**CHAT, "stream": True, "reasoning_effort": "low"}
    *refused, plain, stream, raw, both = engine_told(
        *[(body, settings) for body in bad for settings in ({}, open_to_raw)],
        (CHAT, {}),
        (streamed, {}),
        ({"model": "m", "prompt": "x"}, open_to_raw),
        ({**CHAT, "prompt": SYSTEM}, open_to_raw),
    )
    assert len(refused) == 2 * len(bad)
    for answer in refused:
        assert (answer["seen"], answer["status"] >= 400) == ([], True), answer
    assert (plain["seen"], plain["effort"], plain["status"]) == (["ChatCompletionRequest"], "medium", 418)
    assert "effort medium" in plain["text"]
    assert (stream["seen"], stream["effort"]) == (["ChatCompletionRequest"], "low")
    assert stream["text"].replace(": keep-alive\n\n", "") == "data: low\n\ndata: [DONE]\n\n"
    assert (raw["seen"], raw["effort"], raw["status"]) == (["CompletionRequest"], None, 418)
    assert both["seen"] in ([], ["ChatCompletionRequest"])


def test_an_invocation_reaches_the_path_of_what_it_holds():
    door = opened(sagemaker=True, raw_completions=True)
    paths = [
        call("POST", "/invocations", door=door, json=body).headers["x-path"]
        for body in (CHAT, {"prompt": "x"}, {"messages": "x", "prompt": "x"}, {"messages": None, "prompt": "x"})
    ]
    chat, raw = "/v1/chat/completions", "/v1/completions"
    assert paths == [chat, raw, chat, chat]


@pytest.mark.parametrize("name", ["X-Amzn-SageMaker-Adapter-Identifier", "x-amzn-sagemaker-adapter-identifier"])
def test_an_adapter_that_is_not_served_is_refused(name):
    """The engine's own route would put its name in place of the body's model, after the door."""
    headers = {"authorization": f"Bearer {KEY}", name: "other"}
    refused = call("POST", "/invocations", door=opened(sagemaker=True), headers=headers, json=CHAT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    attributes = {"authorization": f"Bearer {KEY}", "x-amzn-sagemaker-custom-attributes": "trace"}
    assert call("POST", "/invocations", door=opened(sagemaker=True), headers=attributes, json=CHAT).is_success
