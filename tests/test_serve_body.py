"""What a body may say: JSON, an effort within the policy, nothing that goes round it, no more text than fits."""

import json

import pytest
from door import OURS, call, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.body import Rules, rewrite
from serve.doors import APIS, COUNTING, RENDERING, Refused
from serve.effort import EffortPolicy
from serve.fields import ROUND


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
    door = opened(policy=EffortPolicy(default="low", maximum="low"))
    assert call("POST", "/v1/chat/completions", door=door, content=raw).text.count("reasoning_effort") == 1


def test_a_raw_completion_is_closed_until_it_is_opened():
    for door, path in ((opened(), "/v1/completions"), (opened(sagemaker=True), "/invocations")):
        refused = call("POST", path, door=door, json={"prompt": "x"})
        assert refused.status_code == 404
        assert "--raw-completions" in refused.json()["error"]["message"]
    body = {"prompt": [1, 2], "temperature": 1.0}
    answer = call("POST", "/v1/completions", door=opened(raw_completions=True), json=body)
    assert answer.json() == body
    assert "x-reasoning-effort" not in answer.headers
    assert call("POST", "/v1/completions", headers=OURS, json=body).json() == body


REPLACES = {
    "kv_transfer_params": {"prompt_token_ids": [1, 2]},
    "previous_input_messages": [{"author": {"role": "assistant"}, "content": "x"}],
    "truncation": "auto",
    "vllm_xargs": {"kv_transfer_params": "x"},
    "ec_transfer_params": {"a": 1},
    "truncate_prompt_tokens": 3,
    "prompt_embeds": "AAAA",
    "chat_template": "{{ x }}",
    "documents": [{"title": "x", "text": "y"}],
    "add_generation_prompt": False,
    "continue_final_message": True,
}


@pytest.mark.parametrize("field", ROUND)
def test_a_field_that_goes_round_the_effort_is_refused_by_name(field):
    assert REPLACES.keys() == ROUND.keys()
    door = opened(sagemaker=True, raw_completions=True)
    for path in (*APIS, "/invocations", "/v1/completions"):
        body = {"messages": None}
        refused = call("POST", path, door=door, json={**body, field: REPLACES[field]})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)
        assert call("POST", path, door=door, json={**body, field: None}).status_code == 200
        assert call("POST", path, door=door, json={**body, field: ROUND[field]}).status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b'{"kv_transfer_params": null, "kv_transfer_params": {"prompt_token_ids": [1]}}',
        b'{"kv_transfer_param\\u0073": {"prompt_token_ids": [1]}}',
        '{"kv_transfer_params": {"a": 1}}'.encode("utf-16"),
        b'[{"kv_transfer_params": {"prompt_token_ids": [1]}}]',
    ],
)
def test_other_spellings_of_such_a_field_are_refused(raw):
    assert call("POST", "/v1/chat/completions", content=raw).status_code == 400


def test_of_a_repeated_field_the_engine_sees_what_the_door_saw():
    raw = b'{"kv_transfer_params": {"prompt_token_ids": [1]}, "kv_transfer_params": null}'
    assert call("POST", "/v1/chat/completions", content=raw).json() == {
        "kv_transfer_params": None,
        "reasoning_effort": "medium",
    }


WEATHER = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Bern", "Ulm"]}}, "required": ["city"]}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
TOOL = {"name": "weather", "description": "The weather <|now|>.", "parameters": WEATHER, "strict": True}
CHAT_TOOLS = {
    "messages": [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "call_1", "content": "dry"},
    ],
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
}
RESPONSE_TOOLS = {
    "input": [{"type": "function_call_output", "call_id": "call_1", "output": "dry"}],
    "tools": [{"type": "function", **TOOL}],
    "tool_choice": {"type": "function", "name": "weather"},
}


@pytest.mark.parametrize(
    ("path", "body", "effort"),
    [
        ("/v1/chat/completions", CHAT_TOOLS, {"reasoning_effort": "low"}),
        ("/v1/responses", RESPONSE_TOOLS, {"reasoning": {"effort": "low"}}),
        ("/invocations", CHAT_TOOLS, {"reasoning_effort": "low"}),
    ],
)
def test_tools_and_their_calls_reach_the_engine_as_they_were_sent(path, body, effort):
    door = opened(sagemaker=True, policy=EffortPolicy(default="low"))
    assert call("POST", path, door=door, json=body).json() == {**body, **effort}


def test_text_that_cannot_be_taken_is_400_with_the_field():
    long = call("POST", "/v1/chat/completions", json={"messages": [{"content": "x " * 200_000}]})
    assert (long.status_code, long.json()["error"]["param"]) == (400, "messages")
    assert long.json()["error"]["code"] == "context_length_exceeded"
    word = call("POST", "/v1/responses", json={"input": "x" * 200_000})
    assert (word.status_code, word.json()["error"]["param"]) == (400, "input")
    assert word.json()["error"]["code"] == "unbroken_text"
    roomy = opened(max_model_len=8192)
    assert call("POST", "/v1/chat/completions", door=roomy, json={"messages": [{"content": "x " * 200_000}]}).is_success


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
        onward, out, *rest = rewrite(Rules(EffortPolicy(), 2048, raw_completions=True), path, body)
    except Refused as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.status == 400
        json.loads(refused.body())
        return
    if path.endswith("/cancel"):
        assert (onward, out, *rest) == (path, body, (), None, "", False, None, None)
        return
    others = {"/invocations": ["/v1/chat/completions", "/v1/completions"], COUNTING: [RENDERING]}
    assert onward in others.get(path, [path])
    before, after = json.loads(body), json.loads(out)
    changed = {"reasoning_effort", "reasoning", "chat_template_kwargs", "output_config"}
    assert {k: repr(v) for k, v in before.items() if k not in changed} == {
        k: repr(v) for k, v in after.items() if k not in changed
    }
