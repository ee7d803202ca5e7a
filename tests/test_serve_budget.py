"""A budget of reasoning tokens reaches the engine from every API, and never from one request to another."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from door import KEY, WORD, call, echo, opened

from serve.budget import AGAIN, REASONING, TOKENS, hold
from serve.effort import EffortPolicy
from serve.middleware import Door, Settings
from tune.harmony import CONTROL

POLICY = EffortPolicy(thinking_tokens={"low": 5, "medium": 20})


class Engine:
    """An engine client that says what it was told to sample with."""

    async def generate(self, prompt, sampling_params, request_id):
        yield prompt, sampling_params.thinking_token_budget, sampling_params.bad_words, request_id


def params(own=None, bad=None):
    return SimpleNamespace(thinking_token_budget=own, bad_words=bad)


@pytest.mark.parametrize(
    ("tokens", "own", "held"),
    [(None, None, None), (None, 7, 7), (5, None, 5), (5, 7, 5), (5, 5, 5), (5, 2, 2)],
)
def test_a_request_s_own_budget_may_only_be_lower(tokens, own, held):
    engine = Engine()
    hold(engine)

    async def ask():
        TOKENS.set(tokens)
        given = params(own, ["x"])
        told = [item async for item in engine.generate("p", sampling_params=given, request_id="r")]
        assert told == [item async for item in engine.generate("p", params(own, ["x"]), "r")]
        return told

    again = ["x", AGAIN] if held else ["x"]
    assert asyncio.run(ask()) == [("p", held, again, "r")]


async def app(scope, receive, send):
    """Answers, from a task of its own as the engine's routes do, with the budget and the forbidden words."""
    if scope["type"] == "lifespan":
        return
    body = json.loads((await receive())["body"])

    async def generate():
        await asyncio.sleep(0)
        given = params(body.get("thinking_token_budget"))
        (told,) = [item async for item in scope["app"].state.engine_client.generate("p", given, "r")]
        return told[1:3]

    told = json.dumps(await asyncio.create_task(generate())).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": told})


def served(policy=POLICY):
    """The door in front of that app, and a way to start it as the engine's server does."""
    state = SimpleNamespace(engine_client=Engine())
    door = Door(app, Settings(policy=policy), KEY, WORD)
    door.doors.ready = True

    async def whole(scope, receive, send):
        await door({**scope, "app": SimpleNamespace(state=state)}, receive, send)

    return whole


def test_every_api_has_the_budget_of_its_effort_and_no_request_that_of_another():
    whole = served()

    async def ask():
        await whole({"type": "lifespan"}, None, None)
        transport = httpx.ASGITransport(app=whole)
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://e", headers=headers, verify=False) as http:
            wanted = [
                ("/v1/chat/completions", {"reasoning_effort": "low"}, 5),
                ("/v1/chat/completions", {"reasoning_effort": "low", "thinking_token_budget": 3}, 3),
                ("/v1/chat/completions", {"reasoning_effort": "low", "thinking_token_budget": 30}, 5),
                ("/v1/chat/completions", {}, 20),
                ("/v1/chat/completions", {"reasoning_effort": "high"}, None),
                ("/v1/responses", {"reasoning": {"effort": "none"}}, 5),
                ("/v1/responses", {"reasoning": {"effort": "high"}}, None),
                ("/v1/responses", {"previous_response_id": "resp_1"}, 5),
            ] * 5
            answers = await asyncio.gather(*(http.post(path, json=body) for path, body, _ in wanted))
        for answer, (path, body, tokens) in zip(answers, wanted, strict=True):
            own = body.get("thinking_token_budget")
            assert answer.json() == [tokens, [AGAIN] if tokens else None], (path, body)
            limit = POLICY.thinking_tokens.get(answer.headers.get("x-reasoning-effort"), 5 if not own else None)
            if answer.headers.get("x-reasoning-effort") != "high":
                assert answer.headers["x-reasoning-budget"] == str(limit)

    asyncio.run(ask())


def test_a_budget_that_could_not_hold_ends_the_start(capsys):
    server = uvicorn.Server(uvicorn.Config(Door(echo, Settings(policy=POLICY), KEY, WORD), port=0))  # as vLLM makes it
    with pytest.raises(SystemExit):
        server.run()
    assert "would not hold" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "field"),
    [({"thinking_token_budget": 0}, "thinking_token_budget"), ({"use_beam_search": True}, "use_beam_search")],
)
def test_what_would_go_round_a_budget_is_refused(body, field):
    answer = call("POST", "/v1/chat/completions", door=opened(policy=POLICY), json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert answer.headers["x-reasoning-effort"] == "medium"
    assert call("POST", "/v1/chat/completions", door=opened(), json={"use_beam_search": True}).status_code == 200


def test_the_words_that_mark_a_thought_are_the_vocabulary_s_own():
    names = set(CONTROL)
    for text in (*REASONING.values(), AGAIN):
        assert all(f"<|{part.split('|>')[0]}|>" in names for part in text.split("<|")[1:]), text


# vLLM's own count of reasoning, fed with tokens one by one: where does it force what?
PROGRAM = """
import json, sys
from types import SimpleNamespace
import torch
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.thinking_budget_state import ThinkingBudgetStateHolder
from serve.budget import REASONING
from tune.harmony import encoding

def ids(text):
    return encoding().encode(text, allowed_special="all")

def forced(prompt, script, budget):
    start, end = ids(REASONING["reasoning_start_str"]), ids(REASONING["reasoning_end_str"])
    told = SimpleNamespace(reasoning_start_token_ids=start, reasoning_end_token_ids=end)
    state, out = ThinkingBudgetStateHolder(told, 1, 0, torch.device("cpu"), False), []
    asked = SimpleNamespace(thinking_token_budget=budget)
    state.sync_batch(BatchUpdate(batch_size=1, removed=[], added=[(0, asked, ids(prompt), out)], moved=[]))
    for token in ids(script):
        state.update_state([out], None, None)
        logits = state.apply_to_logits(torch.zeros(1, 201088), False, None)
        if float(logits.max()) > 0 and (best := int(logits.argmax())) != token:
            return [len(out) - len(start), encoding().decode([best])]
        out.append(token)
    return None

print(json.dumps([forced(*case) for case in json.loads(sys.argv[1])]))
"""
ASKED = "<|start|>user<|message|>x<|end|><|start|>assistant"
THOUGHT = "<|channel|>analysis<|message|>" + "think " * 30
CALLED = "<|end|><|start|>assistant<|channel|>commentary to=functions.f<|message|>"
CASES = [(ASKED, THOUGHT, budget, [budget, "<|end|>"]) for budget in (1, 2, 20)]
CASES += [
    (ASKED, THOUGHT + "<|end|>", 30, [30, "<|end|>"]),  # the last space is a thirty-first token
    (ASKED, f"<|channel|>analysis<|message|>a b c{CALLED}" + "1, " * 40, 10, None),  # arguments are no thoughts
    (f"{ASKED}{THOUGHT}{CALLED}{{}}<|call|><|start|>functions.f<|message|>1{ASKED}", THOUGHT, 5, [5, "<|end|>"]),
]


def test_the_engine_ends_a_thought_at_its_budget_and_nothing_else():
    """A turn after a tool's starts anew, and the arguments of a call are never cut."""
    asked = json.dumps([case[:3] for case in CASES])
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "VLLM_LOGGING_LEVEL": "ERROR"}
    out = subprocess.run([sys.executable, "-c", PROGRAM, asked], capture_output=True, text=True, env=env, check=False)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout.splitlines()[-1]) == [case[3] for case in CASES]
