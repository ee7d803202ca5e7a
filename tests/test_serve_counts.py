"""What becomes of requests: counted by effort and key, a line in the log, an alarm for an answer off the format."""

import asyncio
import hashlib
import json
import logging
import re
from types import SimpleNamespace

import httpx
import openai
import pytest
from answers import PATHS, STREAMED, WHOLE, chat
from door import KEY, OURS, WORD, call, opened
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from serve.counts import LOG, Counts, counts, to_log
from serve.effort import EffortPolicy
from serve.format_alarm import listening
from serve.heard import Heard
from serve.middleware import Door, Settings
from serve.record import Record

APIS = sorted(WHOLE)
JSON, STREAM = b"application/json", b"text/event-stream; charset=utf-8"
SECRET = "a word of a prompt"
BAD = {"empty": {}, "unanswered": {"thought": ["hm"]}, "markers": {"said": ["<|chan", "nel|>final<|message|>four"]}}
KINDS = sorted(BAD)


def says(pieces, kind=STREAM, status=200, usage=None, headers=()):
    """An engine that answers with these pieces, and leaves a count where vLLM does."""

    async def engine(scope, receive, send):
        await receive()
        start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *headers]}
        await send(start)
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if usage:
            details = SimpleNamespace(reasoning_tokens=usage[0])
            told = SimpleNamespace(completion_tokens=sum(usage), completion_tokens_details=details)
            scope["state"]["request_metadata"] = SimpleNamespace(final_usage_info=told)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return engine


def answers(api, streamed=False, **case):
    if streamed:
        return says(STREAMED[api](**case))
    joined = {field: "".join(part) if isinstance(part, list) else part for field, part in case.items()}
    return says([json.dumps(WHOLE[api](**joined)).encode()], JSON)


@pytest.fixture
def counted():
    """What a door has counted so far: a function from a way to make one."""
    registry = CollectorRegistry()
    counts = Counts(registry)

    def door(engine, **settings):
        made = opened(engine=engine, **settings)
        made.counts = counts
        return made

    def told():
        lines = generate_latest(registry).decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line[0] != "#" and "_created{" not in line]
        return {name.removeprefix("gptoss_"): float(value) for name, value in pairs if float(value)}

    return SimpleNamespace(door=door, told=told)


def labels(effort="low", key="env", **more):
    told = {"effort": effort, "key": key, **more}
    return "{" + ",".join(f'{name}="{value}"' for name, value in told.items()) + "}"


def ask(door, api="chat", key=KEY, headers=None, **body):
    given = {"authorization": f"Bearer {key}", "x-reasoning-effort": "low", **(headers or {})}
    return call("POST", PATHS[api], door=door, headers=given, json={**body, "x": SECRET})


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", ["chat", "messages"])
def test_tokens_are_the_count_that_the_engine_leaves_behind(counted, api, streamed):
    """A stream without include_usage does not tell it, and a message tells no reasoning tokens apart."""
    pieces = STREAMED[api](thought=["hm"], said=["4"]) if streamed else [json.dumps(WHOLE[api]("hm", "4")).encode()]
    door = counted.door(says(pieces, STREAM if streamed else JSON, usage=(30, 12)))
    assert ask(door, api).status_code == 200
    told = counted.told()
    assert (told[f"reasoning_tokens_total{labels()}"], told[f"answer_tokens_total{labels()}"]) == (30, 12)


@pytest.mark.parametrize("streamed", [False, True])
def test_tokens_of_a_response_are_those_that_it_tells(counted, streamed):
    assert ask(counted.door(answers("responses", streamed, thought=["hm"], said=["4"])), "responses").status_code == 200
    told = counted.told()
    assert (told[f"reasoning_tokens_total{labels()}"], told[f"answer_tokens_total{labels()}"]) == (4, 5)


def test_tokens_that_nobody_counted_add_nothing(counted, caplog):
    with caplog.at_level(logging.INFO, LOG.name):
        ask(counted.door(answers("chat", streamed=True, said=["4"])))
    assert [name for name in counted.told() if "tokens" in name] == []
    assert "reasoning=- answer=-" in caplog.text


def test_requests_are_counted_by_effort_key_and_status(counted, tmp_path):
    digest = hashlib.sha256(b"sk-batch").hexdigest()
    (tmp_path / "keys.toml").write_text(f'[[key]]\nname = "batch"\nsha256 = "{digest}"\nmax_effort = "low"\n')
    door = counted.door(answers("chat", said=["4"]), keys=str(tmp_path / "keys.toml"))
    ask(door, reasoning_effort="high", headers={"x-reasoning-effort": "high"})
    ask(door, key="sk-batch", headers={"x-reasoning-effort": "high"})
    ask(door, key="sk-wrong")
    ask(door, reasoning_effort="ultra", headers={"x-reasoning-effort": "ultra"})
    door.doors.draining = True
    ask(door)
    told = {name: value for name, value in counted.told().items() if name.startswith("requests")}
    assert told == {
        f"requests_total{labels('high', 'env', status='2xx')}": 1,
        f"requests_total{labels('low', 'batch', status='2xx')}": 1,  # what was applied, not what was asked
        f"requests_total{labels('', '', status='4xx')}": 1,
        f"requests_total{labels('', 'env', status='4xx')}": 1,
        f"requests_total{labels('', '', status='5xx')}": 1,
    }


def test_only_answers_of_the_model_are_counted_and_none_that_the_supervisor_asks_for(counted):
    door = counted.door(answers("chat", said=["4"]))
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/chat/completions/render"),
                         ("POST", "/v1/messages/count_tokens"), ("GET", "/livez")):  # fmt: skip
        call(method, path, door=door, **({"json": {}} if method == "POST" else {}))
    call("POST", "/v1/chat/completions", door=door, headers=OURS, json={})
    assert counted.told() == {}


def test_an_engine_that_breaks_and_a_client_that_leaves_are_counted(counted):
    async def breaks(scope, receive, send):
        raise ValueError

    async def gone(scope, receive, send):
        """What the engine does when nobody is there any more."""

    with pytest.raises(ValueError):  # noqa: PT011 - the server's to answer
        ask(counted.door(breaks))
    with pytest.raises(AssertionError):  # httpx's own: it heard nothing
        ask(counted.door(gone))
    told = counted.told()
    assert told[f"requests_total{labels('', status='5xx')}"] == 1
    assert told[f"requests_total{labels('', status='gone')}"] == 1


def test_seconds_to_the_first_answer_token_are_those_of_a_stream_that_answers(counted):
    ask(counted.door(answers("chat", streamed=True, thought=["hm"], said=["4"])))
    for case in ({"thought": ["hm"]}, {"said": ["<|end|>"]}, {"called": True, "end": "tool_calls"}):
        ask(counted.door(answers("chat", streamed=True, **case)))
    ask(counted.door(answers("chat", said=["4"])))
    told = counted.told()
    assert told[f"first_answer_seconds_count{labels()}"] == 1
    assert told[f"request_seconds_count{labels()}"] == 5


def test_the_clock_of_the_first_answer_stops_at_the_first_piece_of_it():
    now = iter([10.0, 13.5, 99.0])
    record = Record({"headers": []}, lambda: next(now))
    record.answering()
    record.answering()
    assert record.first_answer == 3.5


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_off_the_format_is_counted_and_logged_once_without_its_words(counted, caplog, api, kind, streamed):
    door = counted.door(answers(api, streamed, **BAD[kind]))
    with caplog.at_level(logging.INFO, LOG.name):
        answer = ask(door, api, headers={"x-request-id": "r-1"})
    assert answer.status_code == 200
    assert counted.told()[f"off_format_total{labels(kind=kind)}"] == 1
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning == f"id=r-1 key=env effort=low off_format={kind}"
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert line.startswith("id=r-1 key=env asked=low effort=low status=200 reasoning=")
    for words in ("hm", "four", "final", SECRET, KEY, WORD):
        assert words not in caplog.text


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", APIS)
def test_other_answers_raise_no_alarm_and_pass_as_they_are(counted, api, streamed):
    for strict in (False, True):
        for case in ({"thought": ["hm"], "said": ["four"]}, {"called": True, "end": "tool_calls"},
                     {"thought": ["hm"], "end": "length"}):  # fmt: skip
            answer = ask(counted.door(answers(api, streamed, **case), strict_format=strict), api)
            joined = {f: "".join(part) if isinstance(part, list) else part for f, part in case.items()}
            whole = json.dumps(WHOLE[api](**joined)).encode()
            assert answer.content == (b"".join(STREAMED[api](**case)) if streamed else whole)
            truncated = case.get("end") == "length"
            assert ("x-truncated-in" in answer.headers) == (truncated and not streamed)
    assert counted.told()[f"truncated_in_reasoning_total{labels()}"] == 2
    assert [name for name in counted.told() if "off_format" in name] == []


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_answer_off_the_format_is_502_where_the_format_is_strict(counted, api, kind):
    answer = ask(counted.door(answers(api, **BAD[kind]), strict_format=True), api)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"] in {"server_error", "api_error"}) == (502, "off_format", 1)
    assert kind in error["message"]
    assert answer.headers["x-request-id"] in error["message"]
    assert answer.headers["content-length"] == str(len(answer.content))
    assert counted.told()[f"off_format_total{labels(kind=kind)}"] == 1
    assert counted.told()[f"requests_total{labels(status='5xx')}"] == 1


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_off_the_format_ends_with_an_error_where_the_format_is_strict(counted, api, kind, size):
    """It comes before the event that ends the stream: nobody reads what comes behind. No byte is lost."""
    events = list(STREAMED[api](**BAD[kind]))
    data = b"".join(events)
    door = counted.door(says([data[n : n + size] for n in range(0, len(data), size)]), strict_format=True)
    answer = ask(door, api)
    assert answer.content.endswith(events[-1])
    told = answer.content.removesuffix(events[-1]).removeprefix(b"".join(events[:-1]))
    assert told.startswith(b"event: error\ndata: " if api == "messages" else b"data: ")
    error = json.loads(told.partition(b"data: ")[2])["error"]
    assert error["code"] == "off_format"
    assert kind in error["message"]


def test_a_strict_stream_goes_out_event_by_event():
    out = []

    async def send(message):
        out.append(message.get("body"))

    async def run():
        record = Record({"headers": []})
        record.heard = Heard("chat")
        on = listening(send, record, PATHS["chat"], strict=True)
        await on({"type": "http.response.start", "status": 200, "headers": [(b"content-type", STREAM)]})
        for piece in (b'data: {"a', b'":1}\n', b"\n", b"data: 2\n\nda"):
            await on({"type": "http.response.body", "body": piece, "more_body": True})
        await on({"type": "http.response.body", "body": b"ta", "more_body": False})

    asyncio.run(run())
    assert out[1:] == [b'data: {"a":1}\n\n', b"data: 2\n\n", b"data"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_openai_client_raises_what_a_strict_server_says(counted, api, streamed):
    door = counted.door(answers(api, streamed, thought=["hm"]), strict_format=True)

    async def run():
        transport = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, verify=False) as http:
            client = openai.AsyncOpenAI(base_url="http://engine/v1", api_key=KEY, max_retries=0, http_client=http)
            if api == "chat":
                create, asked = client.chat.completions.create, {"messages": [{"role": "user", "content": "x"}]}
            else:
                create, asked = client.responses.create, {"input": "x"}
            told = await create(model="m", stream=streamed, **asked)
            async for _ in told:
                pass

    with pytest.raises(openai.APIError, match="off the model's format"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("given", "kept"),
    [("r-1:a.b_C", True), ("", False), ("a b", False), ("x" * 129, False), ('"\\', False), (None, False)],
)
def test_a_request_is_called_by_the_id_of_its_client_or_by_one_of_ours_everywhere(counted, caplog, given, kept):
    seen = []

    async def engine(scope, receive, send):
        seen.extend(value for name, value in scope["headers"] if name == b"x-request-id")
        await says([json.dumps(chat(said="4")).encode()], JSON, headers=[(b"X-Request-Id", seen[0])])(
            scope, receive, send
        )

    with caplog.at_level(logging.INFO, LOG.name):
        answer = ask(counted.door(engine), headers={"x-request-id": given} if given is not None else {})
    (told,) = answer.headers.get_list("x-request-id")
    assert seen == [told.encode()]
    assert f"id={told} " in caplog.text
    assert told == given if kept else re.fullmatch(r"[0-9a-f]{32}", told)


def test_two_ids_are_none_and_every_answer_has_one(counted):
    headers = [("authorization", f"Bearer {KEY}"), ("x-request-id", "a"), ("x-request-id", "b")]
    told = call("POST", PATHS["chat"], door=counted.door(answers("chat", said=["4"])), headers=headers, json={})
    assert told.headers["x-request-id"] not in {"a", "b"}
    assert call("GET", "/livez", key="", headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"


def test_raw_completions_are_counted_without_an_effort_and_not_judged(counted):
    door = counted.door(says([b'{"choices":[{"text":"<|end|>","finish_reason":"stop"}]}'], JSON, usage=(0, 3)),
                        raw_completions=True, strict_format=True)  # fmt: skip
    assert call("POST", "/v1/completions", door=door, json={"prompt": "x"}).status_code == 200
    assert counted.told()[f"answer_tokens_total{labels('')}"] == 3


def test_ours_are_where_the_engine_s_are_collected():
    """vLLM 0.32 serves prometheus_client's own registry, unless there are several servers of one engine."""
    ask(opened(engine=answers("chat", said=["4"]), policy=EffortPolicy(maximum="low")))
    assert b"gptoss_requests_total{effort=" in generate_latest(REGISTRY)
    assert counts() is Door(answers("chat"), Settings(), KEY, WORD).counts


def test_lines_reach_the_engine_s_log_though_it_lets_through_warnings_alone(monkeypatch, capsys):
    monkeypatch.setattr(LOG, "handlers", [])
    monkeypatch.setattr(LOG, "level", 0)
    to_log()
    to_log()
    LOG.info("id=1")
    assert len(LOG.handlers) == 1
    assert capsys.readouterr().err.count("id=1") == 1
