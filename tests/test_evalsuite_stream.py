"""One stream read by two: what asking hears and what the load test measures is one reply."""

import asyncio
import json
from typing import Any

import pytest
from arms import canned, question_set

from evalsuite.asking import reply
from evalsuite.asking.stream import Stream
from evalsuite.replies.answers import Reply
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import Server
from evalsuite.speed.client import Raw
from evalsuite.speed.metrics import Sample, sample

HEAD = b"HTTP/1.1 200 OK\r\n"


def events(*chunks: object) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def says(delta: object, finish: object = None, **more: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def end(**usage: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [], "usage": usage}


async def asked(url: str) -> Reply:
    from openai import AsyncOpenAI

    sampling = Sampling(max_tokens=64, temperature=0, seed=0)
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        question, server = question_set(1).questions[0], Server(url=url, model="m")
        return await reply.reply(client, server, question, "base", "low", sampling, 0)


def loaded(body: bytes) -> Sample:
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
    return sample(Raw(0.0, 0.0, ((1.0, head + body),), ""))


HI, BYE = says({"content": "a"}), says({"content": "b"}, "stop")
EIGHT = end(completion_tokens=8, completion_tokens_details={"reasoning_tokens": 0})


@pytest.mark.parametrize(
    ("body", "heard"),
    [
        # Where both agreed.
        (events(HI, BYE), (None, None, 2, 0, "")),
        (events(says({"reasoning_content": "hm"}), BYE), (None, None, 2, 1, "")),
        (events(HI, BYE, end(completion_tokens=7)), (7, None, 7, 0, "")),
        (events(says({"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}), BYE), (None, None, 2, 1, "")),
        (events(says({"reasoning_details": []}), HI, BYE), (None, None, 2, 0, "")),
        (events(says({"reasoning_details": "hm"}), BYE), "not a chat completion"),
        (events(says({"reasoning_details": [7]}), BYE), "not a chat completion"),
        # A reply that does not say why it ended, or that it was broken off, is none.
        (events(HI), "without a finish reason"),
        (events(HI, says({}, "abort")), "ended with abort"),
        (events(HI, says({}, "error")), "ended with error"),
        # What is no text is no token.
        (events(HI, says({"content": 7}, "stop")), "not a chat completion"),
        (events(HI, says({"content": ["b"]}, "stop")), "not a chat completion"),
        (events(HI, says({"reasoning": {"a": 1}}), BYE), "not a chat completion"),
        (events(says({"content": 0}, "stop")), "not a chat completion"),
        # A chunk has choices, and a choice a delta.
        (events(HI, BYE, {"model": "m", "choices": None}), "not a chat completion"),
        (events(HI, BYE, {"model": "m", "usage": {"completion_tokens": 2}}), "not a chat completion"),
        (events(HI, says(None, "stop")), "not a chat completion"),
        (events(HI, says({}, 5), BYE), "not a chat completion"),
        # What usage tells is counts, all of it.
        (events(HI, BYE, end(completion_tokens=2, prompt_tokens=-1)), "not a chat completion"),
        (events(HI, BYE, end(completion_tokens=2, completion_tokens_details="x")), "not a chat completion"),
        (events(HI, BYE, end(completion_tokens=2.5)), "not a chat completion"),
        # 0 where some came is no count: the chunks are counted, or the text.
        (events(HI, BYE, end(completion_tokens=0)), (None, None, 2, 0, "")),
        (events(says({"reasoning": "hm"}), BYE, EIGHT), (8, None, 8, 4, "")),
        (events(HI, BYE, EIGHT), (8, 0, 8, 0, "")),
        # An error is one, whatever stands beside it and comes after.
        (events(HI, says({"content": "x"}, error={"message": "no"}), BYE), "error"),
        # Nothing is read after the end.
        (events(HI, BYE) + events("no chunk"), (None, None, 2, 0, "")),
    ],
)  # fmt: skip
def test_asking_and_load_test_read_a_stream_alike(
    body: bytes, heard: tuple[int | None, int | None, int, int, str] | str
) -> None:
    with canned(body) as url:
        said = asyncio.run(asked(url))
    found = loaded(body)
    if isinstance(heard, str):
        assert said.error
        assert found.error
        told = {"error": ("the stream broke off", "error in a 200"), "not a chat completion": (heard, "protocol")}
        words = told.get(heard, (heard, heard))
        assert words[0] in said.error
        assert words[1] in found.error
    else:
        counts = (said.completion_tokens, said.reasoning_tokens, found.output_tokens, found.reasoning_tokens)
        assert (*counts, said.error or found.error) == heard
        assert said.finish_reason == found.finish_reason == "stop"


def test_a_chunk_with_thought_and_answer_is_one_moment() -> None:
    body = events(says({"reasoning": "hm", "content": "a"}), BYE)
    found = loaded(body)
    assert (found.output_tokens, found.reasoning_tokens, found.itl_s) == (2, 1, (0.0,))
    stream = Stream()
    for time, chunk in ((1.0, says({"reasoning": "hm", "content": "a"})), (2.0, BYE)):
        stream.add(time, chunk)
    said = stream.said()
    assert (said.moments, said.thoughts, said.answers) == ((1.0, 2.0), (1.0,), (1.0, 2.0))
    assert (said.text, said.reasoning, said.unfinished) == ("ab", "hm", "")


def test_both_spellings_of_reasoning_in_one_chunk_are_one_thought() -> None:
    stream = Stream()
    stream.add(1.0, says({"reasoning": "hm", "reasoning_content": "hm"}, "stop"))
    assert (stream.said().reasoning, stream.said().moments) == ("hm", (1.0,))


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ([{"type": "reasoning.text", "text": "hm"}], "hm"),
        ([{"type": "reasoning.summary", "summary": "h"}, {"type": "reasoning.text", "text": "m"}], "hm"),
        ([{"type": "reasoning.encrypted", "data": "Zm9v"}], ""),
    ],
)
def test_reasoning_in_details_is_the_first_token(details: list[dict[str, str]], text: str) -> None:
    stream = Stream()
    chunks = ({"role": "assistant", "content": "", "reasoning_details": []}, {"reasoning_details": details})
    for time, chunk in enumerate(map(says, chunks)):
        stream.add(time, chunk)
    stream.add(9.0, BYE)
    said = stream.said()
    assert (said.moments, said.thoughts, said.answers, said.reasoning) == ((1.0, 9.0), (1.0,), (9.0,), text)


def test_reasoning_told_twice_is_one_thought() -> None:
    stream = Stream()
    stream.add(1.0, says({"reasoning": "hm", "reasoning_details": [{"text": "hm"}]}, "stop"))
    assert (stream.said().reasoning, stream.said().thoughts) == ("hm", (1.0,))
