"""One reply, whatever the server sends."""

import asyncio

import pytest
from arms import canned, question_set

from evalsuite import answers, reply
from evalsuite.answers import Answer
from evalsuite.request import Sampling
from evalsuite.server import Server


def _events(*chunks: str) -> bytes:
    return "".join(f"data: {c}\n\n" for c in (*chunks, "[DONE]")).encode()


def _chunk(delta: str, finish: str = "null") -> str:
    return f'{{"id":"1","object":"x","model":"m","created":0,"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}'  # fmt: skip  # noqa: E501


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
    ],
)
def test_streams_that_no_good_server_sends(body: bytes, outcome: str, error: str) -> None:
    async def one(url: str) -> Answer:
        from openai import AsyncOpenAI

        sampling = Sampling(max_tokens=64, temperature=0, seed=0)
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            question, server = question_set(1).questions[0], Server(url=url, model="m")
            return answers.graded(question, await reply.reply(client, server, question, "base", "low", sampling, 0))

    with canned(body) as url:
        found = asyncio.run(one(url))
    assert (found.outcome, found.score) == (outcome, {"error": None, "answered": 1.0, "empty": 0.0}[outcome])
    assert error in found.error
    assert (found.reasoning == "so") == (b"reasoning_content" in body)
    assert Answer.model_validate_json(found.model_dump_json()) == found
