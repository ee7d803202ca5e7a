"""Fields that the engine takes with 200 and does not act on, or breaks at: refused by name, and nothing else is."""

import pytest
from door import call, opened
from hypothesis import given
from hypothesis import strategies as st

from serve.fields import IGNORED, NOT_MESSAGES, FieldError, check

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
SAID = {"role": "user", "content": "x"}


def refused(api, body):
    """The field that a body is refused for; "" when it is taken."""
    try:
        check(body, api)
    except FieldError as error:
        said = error
    else:
        return ""
    assert said.param.split(".")[0] in body
    assert said.param in str(said)
    return said.param


@pytest.mark.parametrize("field", [*IGNORED, *NOT_MESSAGES])
def test_a_field_that_would_do_nothing_is_refused_by_name(field):
    for api in PATHS:
        taken = field in NOT_MESSAGES and api == "messages"
        for value in ({"type": "enabled"}, {}, [], "x", False):
            assert refused(api, {field: value}) == ("" if taken else field)
        assert refused(api, {field: None}) == ""
    answer = call("POST", PATHS["chat"], json={field: {}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert answer.headers["x-reasoning-effort"] == "medium"


@pytest.mark.parametrize("api", PATHS)
def test_template_arguments_do_nothing_but_for_the_effort(api):
    body = {"chat_template_kwargs": {"reasoning_effort": "low", "enable_thinking": None}}
    assert call("POST", PATHS[api], json=body).status_code == 200
    for name in ("model_identity", "enable_thinking", "x"):
        body = {"chat_template_kwargs": {"reasoning_effort": "low", name: False}}
        answer = call("POST", PATHS[api], json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, f"chat_template_kwargs.{name}")


@pytest.mark.parametrize("value", [0, 1, True, False, [], "x"])
@pytest.mark.parametrize("path", [*PATHS.values(), "/v1/completions"])
def test_structured_outputs_are_an_object(path, value):
    answer = call("POST", path, door=opened(raw_completions=True), json={"structured_outputs": value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "structured_outputs")
    for fine in (None, {"json": {"type": "object"}}):
        taken = call("POST", path, door=opened(raw_completions=True), json={"structured_outputs": fine})
        assert taken.status_code == 200


@pytest.mark.parametrize("api", PATHS)
def test_a_conversation_without_a_turn_is_refused(api):
    field = "input" if api == "responses" else "messages"
    assert refused(api, {field: []}) == field
    assert refused(api, {field: [SAID]}) == ""


TEXTS = ["x", [], [{"type": "text", "text": "x"}], [{"type": "input_text", "text": ""}, {"text": "x"}]]
LEFT_OUT = [
    {"type": "image_url", "image_url": {"url": "data:,"}},
    {"type": "input_image", "image_url": "data:,"},
    {"type": "file", "file": {"file_id": "x"}},
    {"type": "input_file", "file_id": "x", "text": "x"},
    {"type": "input_audio", "input_audio": {}},
    {"type": "refusal", "refusal": "x"},
    {"type": ["text"], "text": "x"},
    {"type": "text", "text": None},
    {"type": "text"},
    "x",
    None,
]


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("role", ["user", "system", "assistant", "tool"])
def test_a_part_that_is_no_text_is_refused_where_it_stands(api, role):
    field = "input" if api == "responses" else "messages"
    for content in TEXTS:
        assert refused(api, {field: [SAID, {"role": role, "content": content, "tool_call_id": "x"}]}) in {
            "",
            "messages.1.tool_call_id",
        }
    for part in LEFT_OUT:
        turns = [SAID, {"role": role, "content": [{"type": "text", "text": "x"}, part]}]
        assert refused(api, {field: turns}) == f"{field}.1.content.1", part
    other = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}]}
    assert refused("responses", {"input": [other]}) == ""


USED = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}


def result(id, content="dry"):
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": content}]}


def test_a_picture_in_a_message_is_refused_in_a_tool_s_result_too():
    picture = {"type": "image", "source": {"type": "url", "url": "x"}}
    assert refused("messages", {"messages": [{"role": "user", "content": [picture]}]}) == "messages.0.content.0"
    turns = [{"role": "assistant", "content": [USED]}, result("t1", [{"type": "text", "text": "x"}, picture])]
    assert refused("messages", {"messages": turns}) == "messages.1.content.0.content.1"
    kept = [{"type": "thinking", "thinking": "x", "signature": ""}, {"type": "redacted_thinking", "data": "x"}, USED]
    assert refused("messages", {"messages": [SAID, {"role": "assistant", "content": kept}, result("t1")]}) == ""


def called(*ids):
    return {"role": "assistant", "content": None, "tool_calls": [{"id": id, "function": {"name": "f"}} for id in ids]}


@pytest.mark.parametrize(
    ("turns", "param"),
    [
        ([called("a", "b"), {"role": "tool", "tool_call_id": "b", "content": "x"}], ""),
        ([called("a"), {"role": "tool", "tool_call_id": "b", "content": "x"}], "messages.1.tool_call_id"),
        ([called("a"), {"role": "tool", "content": "x"}], "messages.1.tool_call_id"),
        ([{"role": "tool", "tool_call_id": "a", "content": "x"}, called("a")], "messages.0.tool_call_id"),
        ([{"role": "tool", "tool_call_id": None, "content": "x"}], "messages.0.tool_call_id"),
    ],
)
def test_a_result_needs_the_call_before_it(turns, param):
    """Without it the engine shows the model a result of `functions.`, a tool without a name."""
    assert refused("chat", {"messages": turns}) == param


def test_a_result_in_a_message_needs_the_call_before_it():
    use = {"role": "assistant", "content": [USED]}
    assert refused("messages", {"messages": [SAID, use, result("t1")]}) == ""
    assert refused("messages", {"messages": [SAID, use, result("t2")]}) == "messages.2.content.0.tool_use_id"
    assert refused("messages", {"messages": [result("t1"), use]}) == "messages.0.content.0.tool_use_id"


def test_a_tool_s_result_in_a_response_reaches_the_engine_as_one_text():
    """The engine hands a list to a library that takes none; openai-agents and MCP give a tool's texts in one."""
    text, picture = {"type": "input_text", "text": "dry"}, {"type": "input_image", "image_url": "data:,"}
    for output, seen in (("ok", "ok"), ([text], "dry"), ([text, {**text, "text": ", warm"}], "dry, warm")):
        turn = {"type": "function_call_output", "call_id": "c", "output": output}
        answer = call("POST", "/v1/responses", door=opened(), json={"input": [SAID, turn]})
        assert answer.json()["input"] == [SAID, {**turn, "output": seen}]
    for output in ([], [text, picture], [{**text, "text": None}], [{"text": "x"}], ["x"]):
        turn = {"type": "function_call_output", "call_id": "c", "output": output}
        answer = call("POST", "/v1/responses", door=opened(), json={"input": [turn]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input.0.output")


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_that_a_response_does_not_know_is_refused(field):
    answer = call("POST", "/v1/responses", door=opened(), json={"input": "x", field: 9})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert "max_output_tokens" in answer.text


def test_a_conversation_that_the_engine_does_not_keep_is_refused():
    """It answers with 200, and without what was said before."""
    assert refused("responses", {"input": "x", "conversation": "conv_1"}) == "conversation"
    assert refused("responses", {"input": "x", "conversation": {"id": "conv_1"}}) == "conversation"
    assert refused("responses", {"input": "x", "conversation": None}) == ""


def test_a_response_in_the_background_is_refused():
    assert refused("responses", {"background": True}) == "background"
    assert refused("responses", {"background": False}) == ""


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from(["text", "tool", "tool_use", "tool_result", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "tool_calls", "id", "tool_call_id", "tool_use_id", "function"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from([*PATHS, None]), st.dictionaries(st.sampled_from(["messages", "input", *IGNORED]), ANY))
def test_any_body_is_taken_or_refused_by_the_name_of_a_field(api, body):
    assert refused(api, body).split(".")[0] in {"", *body}
