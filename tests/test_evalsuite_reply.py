"""One reply, whatever the server sends."""

import asyncio
import json
from pathlib import Path

import pytest
from arms import canned, question_set
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.asking import reply
from evalsuite.replies import answers
from evalsuite.replies.answers import Answer
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import Server
from evalsuite.speed.client import Raw
from evalsuite.speed.metrics import Sample, sample


def _events(*chunks: str) -> bytes:
    return "".join(f"data: {c}\n\n" for c in (*chunks, "[DONE]")).encode()


def _chunk(delta: str, finish: str = "null") -> str:
    return f'{{"id":"1","object":"x","model":"m","created":0,"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}'  # fmt: skip  # noqa: E501


def _said(more: str) -> bytes:
    """A right answer, and a last chunk with something besides."""
    return _events(_chunk('{"content":"ANSWER: 70"}', '"stop"'), f'{{"id":"1","choices":[],{more}}}')


async def one(url: str) -> Answer:
    from openai import AsyncOpenAI

    sampling = Sampling(max_tokens=64, temperature=0, seed=0)
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        question, server = question_set(1).questions[0], Server(url=url, model="m")
        return answers.graded(question, await reply.reply(client, server, question, "base", "low", sampling, 0))


def measured(body: bytes) -> Sample:
    """What a load test makes of the same stream."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    return sample(Raw(0.0, 0.0, ((1.0, head + body),), ""))


@pytest.mark.parametrize(
    ("body", "outcome", "error"),
    [
        (_events(_chunk('{"content":"ANSWER: 70"}')), "error", "without a finish reason"),
        (_events(_chunk('{"content":"ANSWER: 70"}', '"abort"')), "error", "ended with abort"),
        (_events('{"choices":null}'), "error", "not a chat completion"),
        (_events("[1, 2]"), "error", "not a chat completion"),
        (_events(_chunk('{"content":["ANSWER: 70"]}', '"stop"')), "error", "not a chat completion"),
        (b"<html>a proxy's page</html>", "error", "without a finish reason"),
        (b"", "error", "without a finish reason"),
        (_events(_chunk('{"content":"\\ud800\\nANSWER: 70"}', '"stop"')), "answered", ""),
        (_events(_chunk('{"reasoning_content":"so"}'), _chunk('{"content":"ANSWER: 70"}', '"stop"')), "answered", ""),
        (_events(_chunk('{"content":"\\n "}', '"stop"')), "empty", ""),
        (_events(_chunk('{"content":"ANSWER: 70"}', '"end_turn"')), "error", "the unknown finish reason end_turn"),
        (_events(_chunk('{"content":"ANSWER: 70"}', '"content_filter"')), "refused", ""),
        (_events(_chunk('{"refusal":"I cannot"}', '"stop"')), "refused", ""),
        (_events(_chunk('{"content":"ANSWER: 70"}'), _chunk('{"refusal":"no"}', '"stop"')), "refused", ""),
        (_events(_chunk('{"tool_calls":[{"index":0,"function":{"name":"f"}}]}', '"stop"')), "off-format", ""),
        (_events(_chunk('{"tool_calls":[{"index":0}]}', '"tool_calls"')), "off-format", ""),
        (_events(_chunk("{}", '"tool_calls"')), "off-format", ""),
        (_events(_chunk('{"content":"ANSWER: 70"}', '"tool_calls"')), "answered", ""),
        (_events(_chunk('{"content":"ANSWER: 70"}', '"length"')), "truncated", ""),
        (_events(_chunk('{"reasoning":"so"}', '"length"')), "truncated-reasoning", ""),
        (_events(_chunk('{"refusal":7}', '"stop"')), "error", "not a chat completion"),
        (_events('{"choices":' + "[" * 100_000), "error", "not a chat completion"),
        (_events(_chunk('{"content":' + "[" * 100_000 + "]" * 100_000 + "}")), "error", "not a chat completion"),
        (_said('"usage":{"prompt_tokens":Infinity}'), "error", "'inf' is no count of tokens"),
        (_said('"usage":{"prompt_tokens":1e400}'), "error", "'inf' is no count of tokens"),
        (_said('"usage":{"completion_tokens":NaN}'), "error", "'nan' is no count of tokens"),
        (_said('"usage":{"completion_tokens":-1}'), "error", "'-1' is no count of tokens"),
        (_said('"usage":{"completion_tokens":"12"}'), "error", "'12' is no count of tokens"),
        (_said(f'"usage":{{"completion_tokens":1{"0" * 400}}}'), "error", "is no count of tokens"),
        (_said(f'"usage":{{"completion_tokens":1{"0" * 9000}}}'), "error", "not a chat completion"),
        (_said('"usage":{"completion_tokens_details":{"reasoning_tokens":Infinity}}'), "error", "no count of tokens"),
        (_said('"usage":"12"'), "error", "its usage is no object"),
        (_said('"usage":[1]'), "error", "its usage is no object"),
        (_said('"usage":{"completion_tokens":12.0,"prompt_tokens":null}'), "answered", ""),
        (_said('"model":"other"'), "error", "another model replied: other, not m"),
        (_said('"model":["m"]'), "error", "not a chat completion"),
        (_said('"model":null'), "answered", ""),
        (_said('"model":""'), "answered", ""),
        (_events(_chunk('{"content":"ANSWER: 70"}', '{"a":1}')), "error", "not a chat completion"),
        (_events(_chunk('{"content":"ANSWER: 70"}', "5")), "error", "not a chat completion"),
        (_events(_chunk('{"content":70}', '"stop"')), "error", "not a chat completion"),
        (b"data: \xff\xfe\n\ndata: [DONE]\n\n", "error", "not a chat completion"),
    ],
)
def test_streams_that_no_good_server_sends(tmp_path: Path, body: bytes, outcome: str, error: str) -> None:
    with canned(body) as url:
        found = asyncio.run(one(url))
    assert (found.outcome, found.score) == (outcome, {"error": None, "answered": 1.0}.get(outcome, 0.0))
    assert error in found.error
    assert (found.reasoning == "so") == (b'"reasoning' in body and b"tokens" not in body)
    assert Answer.model_validate_json(found.model_dump_json()) == found
    path = tmp_path / "answers.jsonl"
    path.write_bytes(answers.line(found))
    assert answers.read(path, question_set(1)) == [found]


FIELDS = (
    *("id", "model", "choices", "index", "delta", "content", "reasoning", "finish_reason", "usage", "error", "event"),
    *("prompt_tokens", "completion_tokens", "completion_tokens_details", "reasoning_tokens", "created"),
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["m", "stop", "length", "ANSWER: 70", 10**400, float("inf")]),
)  # fmt: skip
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)
DELTA = st.fixed_dictionaries({}, optional={"content": JSON, "reasoning": JSON})
CHOICE = st.fixed_dictionaries({}, optional={"delta": DELTA | JSON, "finish_reason": JSON})
CHOICES = st.lists(CHOICE, max_size=2) | JSON
CHUNK = st.fixed_dictionaries({}, optional={"choices": CHOICES, "usage": JSON, "model": JSON})
PIECE = (CHUNK | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=12)


def test_whatever_is_streamed_becomes_an_answer_or_an_error(tmp_path: Path) -> None:
    """Bytes and JSON of every shape, through a real connection and the client's own parser."""
    body = [b""]

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.lists(PIECE, min_size=1, max_size=3))
    def streamed(pieces: list[bytes]) -> None:
        body[0] = b"".join(b"data: " + piece + b"\n\n" for piece in pieces)
        found = asyncio.run(one(url))
        assert (found.outcome in {"error", "timeout"}) == bool(found.error) == (found.score is None)
        if not found.error.startswith(answers.MODEL_MISMATCH):  # a load test looks at no name
            load = measured(body[0])
            assert bool(found.error) == bool(load.error) or load.error.startswith("empty"), load.error
        path = tmp_path / "answers.jsonl"
        path.write_bytes(answers.line(found))
        assert answers.read(path, question_set(1)) == [found]

    with canned(body) as url:
        streamed()


@pytest.mark.parametrize(
    "said", ['"model":"x\\u001b[2J\\ud800","choices":[]', '"error":{"message":"no\\u001b[2J\\u009b"}']
)
def test_a_servers_words_move_no_cursor(said: str) -> None:
    with canned(_events(f'{{"id":"1",{said}}}')) as url:
        found = asyncio.run(one(url))
    assert found.outcome == "error"
    assert found.error.isprintable()
    assert "[2J" in found.error
