import asyncio
import json
import re
import subprocess
import sys
from typing import get_args

import httpx
import openai
import pytest
from click.testing import CliRunner

from evalsuite import questions
from evalsuite.questions import Question, QuestionSet
from evalsuite.stub.script import Kind
from evalsuite.stub.server import Fault, Model, Script, main, serving

HELLO = [{"role": "user", "content": "hello there"}]


def ask(url, model="m", messages=HELLO, **more):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.chat.completions.with_raw_response.create(model=model, messages=messages, **more)


def test_openai_client_sees_reasoning_answer_usage_and_applied_effort():
    with serving(Script(models={"m": Model(), "other": Model()})) as url:
        sizes = []
        for effort in ("low", "medium", "high"):
            raw = ask(url, reasoning_effort=effort)
            reply = raw.parse()
            assert raw.headers["x-reasoning-effort"] == effort
            assert reply.choices[0].finish_reason == "stop"
            assert reply.choices[0].message.content.startswith("word0 ")
            assert len(reply.choices[0].message.reasoning.split()) == (
                reply.usage.completion_tokens_details.reasoning_tokens
            )
            sizes.append(reply.usage.completion_tokens)
        assert sizes == sorted(set(sizes))
        with openai.OpenAI(base_url=url, api_key="k") as client:
            assert [m.id for m in client.models.list()] == ["m", "other"]


def test_stream_of_the_async_client_carries_the_same_reply():
    async def stream(url):
        async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:
            opened = await client.chat.completions.create(
                model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            return [chunk async for chunk in opened]

    with serving(Script(models={"m": Model()})) as url:
        chunks, whole = asyncio.run(stream(url)), ask(url).parse()
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    assert "".join(d.content or "" for d in deltas) == whole.choices[0].message.content
    assert "".join(getattr(d, "reasoning", None) or "" for d in deltas) == whole.choices[0].message.reasoning
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_accuracy_is_scripted_and_the_same_each_time(tmp_path):
    asked = tuple(
        Question(id=str(i), kind="k", module="m", prompt=f"Question {i}?", answer=str(i), grader="literal")
        for i in range(120)
    )
    questions.write(tmp_path / "q.jsonl", QuestionSet(name="n", python="3.11", questions=asked))
    models = {"weak@1": Model(accuracy={"low": 0.2, "medium": 0.4, "high": 0.6}, seed="s"), "strong@2": Model(
        accuracy=0.7, seed="s"), "never": Model(accuracy=0)}  # fmt: skip

    def right(client, model):
        found = set()
        for q in asked:
            body = {"model": model, "messages": [{"role": "user", "content": q.prompt}], "reasoning_effort": "low"}
            text = client.post("chat/completions", json=body).json()["choices"][0]["message"]["content"]
            if re.search(r"^ANSWER: (.*)$", text, re.M)[1] == q.answer:
                found.add(q.id)
        return found

    with (
        serving(Script(models=models, questions=tmp_path / "q.jsonl")) as url,
        httpx.Client(base_url=url) as client,
    ):
        weak, strong = right(client, "weak@1"), right(client, "strong@2")
        assert right(client, "weak@1") == weak
        assert right(client, "never") == set()
    assert 10 <= len(weak) <= 40  # 24 expected, sd 4.4
    assert 66 <= len(strong) <= 102  # 84 expected, sd 5
    assert weak < strong  # the same seed nests them


@pytest.mark.parametrize(
    ("kind", "error"),
    [("500", openai.InternalServerError), ("429", openai.RateLimitError), ("401", openai.AuthenticationError)],
)
def test_status_faults(kind, error):
    script = Script(models={"m": Model(faults=(Fault(kind=kind, seconds=7),))})
    with serving(script) as url, pytest.raises(error) as e:
        ask(url)
    assert e.value.response.headers.get("retry-after") == ("7" if kind == "429" else None)


def test_reply_faults():
    def broken(kind):
        return Model(faults=(Fault(kind=kind),))

    kinds = ["empty", "truncated", "wrong_effort", "error_in_200", "hangup", "garbage"]
    with serving(Script(models={k: broken(k) for k in kinds})) as url:
        empty = ask(url, "empty").parse().choices[0]
        assert (empty.message.content, empty.finish_reason) == (None, "stop")
        cut = ask(url, "truncated").parse().choices[0]
        assert (cut.message.content, cut.finish_reason) == (None, "length")
        assert ask(url, "wrong_effort", reasoning_effort="high").headers["x-reasoning-effort"] == "low"
        assert ask(url, "error_in_200").parse().choices is None
        with pytest.raises(openai.APIConnectionError):
            ask(url, "hangup")
        with pytest.raises(ValueError, match=r"decode|JSON|truncated"):
            ask(url, "garbage").parse()
        with httpx.Client(base_url=url) as client:
            body = {"messages": HELLO, "stream": True}
            assert b"scripted error" in client.post("chat/completions", json={"model": "error_in_200", **body}).content
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("chat/completions", json={"model": "hangup", **body})


def test_fault_that_passes_is_survived_by_a_retry():
    script = Script(models={"m": Model(faults=(Fault(kind="429", times=1, seconds=0),))})
    with serving(script) as url:
        with openai.OpenAI(base_url=url, api_key="k", max_retries=1) as client:
            client.chat.completions.create(model="m", messages=HELLO)
        assert [seen["fault"] for seen in httpx.get(f"{url}/requests").json()] == ["429", None]


def test_wrong_model_effort_and_key_are_refused():
    with serving(Script(models={"m": Model()}, api_key="k")) as url:
        with pytest.raises(openai.NotFoundError, match="`nope` does not exist"):
            ask(url, "nope")
        with pytest.raises(openai.BadRequestError, match="low, medium, high"):
            ask(url, reasoning_effort="extreme")
        assert httpx.get(f"{url}/models").status_code == 401
        assert httpx.get(url.removesuffix("/v1") + "/health").status_code == 200


def test_token_limit_cuts_and_ignore_eos_fills():
    with serving(Script(models={"m": Model()})) as url:
        cut = ask(url, max_completion_tokens=10, reasoning_effort="medium").parse()
        assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (None, "length")
        full = ask(url, max_tokens=50, reasoning_effort="low", extra_body={"ignore_eos": True}).parse()
        assert (full.usage.completion_tokens, full.choices[0].finish_reason) == (50, "length")


def test_command_line_prints_its_url_and_refuses_a_fault_it_does_not_know():
    command = [sys.executable, "-m", "evalsuite.stub"]
    with subprocess.Popen([*command, "--model", "a@b=0.5"], stdout=subprocess.PIPE, text=True) as stub:
        try:
            url = stub.stdout.readline().strip()
            assert [m["id"] for m in httpx.get(f"{url}/models").json()["data"]] == ["a@b"]
        finally:
            stub.terminate()
    wrong = subprocess.run([*command, "--fault", "bla"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "hangup" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    script = subprocess.run([*command, "--script", "-"], input=json.dumps({"x": 1}), capture_output=True, text=True)
    assert script.returncode == 2


@pytest.mark.parametrize(
    "given", [["--model", "a=2"], ["--model", "a=nan"], ["--model", "a=-0.1"], ["--fault", "slow:3"]]
)
def test_a_share_that_is_none_is_refused(given):
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite.stub", *given], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "this script cannot be played" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_fault():
    shown = CliRunner().invoke(main, ["--help"]).output
    assert all(kind in re.split(r"[\s,.:]+", shown) for kind in get_args(Kind))
