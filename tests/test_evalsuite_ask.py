"""Asking two arms through the openai client, against the stub and its faults."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from evalsuite import answers, ask, check, questions, reply
from evalsuite.answers import Answer
from evalsuite.ask import Endpoint
from evalsuite.questions import Question, QuestionSet
from evalsuite.request import Sampling
from evalsuite.server import Server
from evalsuite.stub import Fault, Model, Script, serving
from tune.errors import UserError

BASE, TUNED = "base@0123456789abcdef", "tuned@fedcba9876543210"
SAMPLING = {"max_tokens": 64, "temperature": 0.0, "seed": 3}


def question_set(count: int = 4, name: str = "q") -> QuestionSet:
    made = [
        ("Width?", "70", "literal"),
        ("Base?", "ValueError", "exact"),
        ("Letter?", "B", "choice"),
        ("So?", "yes", "yesno"),
    ]
    found = [
        Question(
            id=f"{name}{i}", kind="k", module="m", prompt=f"{name}{i} {p}", answer=a, grader=g, developer="End so."  # type: ignore[arg-type]
        )
        for i in range(count) for p, a, g in [made[i % 4]]
    ]  # fmt: skip
    return QuestionSet(name=name, python="3", seed=0, questions=tuple(found))


@contextmanager
def stub(tmp_path: Path, asked: QuestionSet | None, base: Model | None = None, **more: Any) -> Iterator[str]:
    path = tmp_path / "questions.jsonl"
    if asked:
        questions.write(path, asked)
    models = {BASE: base or Model(), TUNED: Model(accuracy=0.0)}
    with serving(Script(models=models, questions=path if asked else None, **more)) as url:
        yield url


def run(url: str, asked: QuestionSet, out: Path, **more: Any) -> list[Answer]:
    arms = {"base": Endpoint(url=url, model="base"), "tuned": Endpoint(url=url, model=TUNED)}
    settings: dict[str, Any] = {"arms": arms, "efforts": ["low", "high"], **SAMPLING, "retries": 1, **more}
    meta = asyncio.run(ask.ask(asked, out=out, **settings))
    return answers.counted(answers.read(out, asked), asked, settings["efforts"], meta)[0]


def log(url: str) -> list[dict[str, Any]]:
    """What was asked, without the check before it."""
    with urllib.request.urlopen(f"{url}/requests") as response:
        found: list[dict[str, Any]] = json.load(response)
        return [x for x in found if x["prompt"] not in check.PROBES]


def test_both_arms_are_asked_side_by_side(tmp_path: Path) -> None:
    asked, out, lines = question_set(8), tmp_path / "run" / "answers.jsonl", list[str]()
    with stub(tmp_path, asked) as url:
        found = run(url, asked, out, concurrency=1, report=lines.append)
        sent = log(url)
    assert len(found) == 32
    assert len({a.key for a in found}) == 32
    assert answers.read(out, asked) == found
    for a in found:
        assert (a.outcome, a.score) == ("answered", 1.0 if a.arm == "base" else 0.0)
        assert a.model == (BASE if a.arm == "base" else TUNED)
        assert (a.reasoning_tokens, len(a.reasoning.split())) == ((4, 4) if a.effort == "low" else (48, 48))
        assert a.completion_tokens > a.reasoning_tokens
        assert a.prompt_tokens > 0
        assert a.first_token_s is not None
        assert a.first_answer_s is not None
        assert a.total_s is not None
        assert 0 < a.first_token_s <= a.first_answer_s <= a.total_s
        assert (a.finish_reason, a.error) == ("stop", "")
    pairs = [(sent[i], sent[i + 1]) for i in range(0, 32, 2)]
    assert all((x["prompt"], x["effort"]) == (y["prompt"], y["effort"]) and x["model"] != y["model"] for x, y in pairs)
    assert {x["model"] for x, _ in pairs} == {BASE, TUNED}, "one arm always went first"
    assert [x["prompt"] for x, _ in pairs] != sorted(x["prompt"] for x, _ in pairs)
    assert {x["max_tokens"] for x in sent} == {64}
    assert lines[-1] == "32 of 32 answers"


@pytest.mark.parametrize(
    ("fault", "outcome", "error", "attempts"),
    [
        (Fault(kind="500"), "error", "HTTP 500", 2),
        (Fault(kind="429", seconds=0.01), "error", "HTTP 429", 2),
        (Fault(kind="401"), "error", "HTTP 401", 1),
        (Fault(kind="hangup"), "error", "the connection failed: peer closed connection", 2),
        (Fault(kind="error_in_200"), "error", "the stream broke off: scripted error", 2),
        (Fault(kind="garbage"), "error", "not a chat completion", 2),
        (Fault(kind="wrong_effort"), "error", "effort did not reach the prompt: asked low, applied medium", 1),
        (Fault(kind="empty"), "empty", "", 1),
        (Fault(kind="truncated"), "truncated", "", 1),
        (Fault(kind="500", times=1), "answered", "", 2),
        (Fault(kind="429", seconds=0.01, times=1), "answered", "", 2),
        (Fault(kind="hangup", times=1), "answered", "", 2),
    ],
    ids=lambda v: f"{v.kind}-{v.times}" if isinstance(v, Fault) else "",
)
def test_what_a_fault_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, outcome: str, error: str, attempts: int
) -> None:
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 0.01)
    asked = question_set(2)
    with stub(tmp_path, asked, Model(faults=(fault.model_copy(update={"prompt": "?"}),))) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", efforts=["low"])
        sent = Counter(x["model"] for x in log(url))
    by_arm = {arm: [a for a in found if a.arm == arm] for arm in ask.ARMS}
    assert sent[BASE] == 2 * attempts
    for a in by_arm["base"]:
        assert a.outcome == outcome
        assert a.score == {"error": None, "answered": 1.0}.get(outcome, 0.0)
        assert error in a.error
        assert bool(a.error) == (outcome == "error")
        assert (a.first_token_s is None) == (outcome == "error")
        assert a.first_answer_s is None or outcome == "answered"
    assert {a.outcome for a in by_arm["tuned"]} == {"answered"}


def test_retry_after_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 1e9)  # capped, but past any patience: only the header helps
    asked = question_set(1)
    with stub(tmp_path, asked, Model(faults=(Fault(kind="429", prompt="?", seconds=0.02, times=1),))) as url:
        assert {a.outcome for a in run(url, asked, tmp_path / "answers.jsonl")} == {"answered"}


def test_text_without_the_answer_line_is_unparsed(tmp_path: Path) -> None:
    asked = question_set(1)
    with stub(tmp_path, None, Model(answer_tokens=5)) as url:
        found = run(url, asked, tmp_path / "answers.jsonl", efforts=["low"])
    assert {(a.outcome, a.score) for a in found} == {("unparsed", 0.0)}
    assert next(a for a in found if a.arm == "base").parsed == "word0 word1 word2 word3 word4"


def test_a_cut_answer_is_truncated_even_when_it_could_be_read(tmp_path: Path) -> None:
    asked = question_set(1)
    with stub(tmp_path, asked) as url:
        cut = run(url, asked, tmp_path / "answers.jsonl", efforts=["low"], max_tokens=10)
    assert {(a.outcome, a.score, a.finish_reason) for a in cut} == {("truncated", 0.0, "length")}


def test_resume_asks_errors_again_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "BACKOFF_SECONDS", 0.01)
    asked, out = question_set(8), tmp_path / "answers.jsonl"
    # The first run's two attempts fail, the second run's does not.
    faults = (Fault(kind="500", prompt="?", share=0.5, times=2),)
    with stub(tmp_path, asked, Model(faults=faults)) as url:
        first = run(url, asked, out)
        failed = {a.key for a in first if a.outcome == "error"}
        assert 0 < len(failed) < len(first)
        with out.open("ab") as f:
            f.write(b'{"question": "torn')
        before = len(log(url))
        second = run(url, asked, out)
        assert len(log(url)) - before == len(failed)
        assert {a.key for a in second} == {a.key for a in first}
        assert len(second) == len(first)
        assert {a.outcome for a in second} == {"answered"}
        kept = [a for a in first if a.outcome != "error"]
        assert second[: len(kept)] == kept


def test_a_line_cut_within_a_character_is_dropped_on_resume(tmp_path: Path) -> None:
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        first = run(url, asked, out)
        whole = answers.line(first[-1].model_copy(update={"text": "é"}))
        with out.open("ab") as f:
            f.write(whole[: whole.index("é".encode()) + 1])
        assert answers.read(out, asked) == first
        assert run(url, asked, out) == first
    out.write_bytes(out.read_bytes() + b"\xff\n")
    with pytest.raises(UserError, match=r"answers.jsonl:5 is not an answer"):
        answers.read(out, asked)


def test_a_reply_without_end_is_an_error_and_not_the_disk_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "REPLY_SECONDS", 0.5)
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked, Model(per_token_s=30)) as url:
        found = run(url, asked, out, efforts=["low"])
        sent = Counter(x["model"] for x in log(url))
    slow = next(a for a in found if a.arm == "base")
    assert (slow.outcome, slow.score, slow.error) == ("error", None, "the reply was not whole after 0.5 s")
    assert sent[BASE] == 1


@pytest.mark.parametrize(
    ("change", "why", "count"),
    [
        ({"asked": question_set(4, "other")}, "to questions or at efforts that are not asked", 16),
        ({"efforts": ["low"]}, "to questions or at efforts that are not asked", 8),
        ({"max_tokens": 65}, "to another request", 16),
        ({"seed": 4}, "to another request", 16),
        ({"temperature": 0.5}, "to another request", 16),
    ],
)
def test_answers_of_another_run_stay_on_file_and_do_not_count(
    tmp_path: Path, change: dict[str, Any], why: str, count: int
) -> None:
    asked, out, lines = question_set(4), tmp_path / "answers.jsonl", list[str]()
    with stub(tmp_path, asked) as url:
        first = run(url, asked, out)
        before, sent = out.read_bytes(), len(log(url))
        more = dict(change)
        run(url, more.pop("asked", asked), out, report=lines.append, **more)
        assert f"{count} answers on file are {why}: they stay there and do not count" in lines
        assert out.read_bytes().startswith(before)
        assert len(log(url)) - sent == (0 if "efforts" in change else 16)
        now = len(log(url))
        assert run(url, asked, out) == first  # and still are those of the first run
        assert len(log(url)) == now


def port_of(url: str) -> int:
    found = urlsplit(url).port
    assert found
    return found


@pytest.mark.parametrize(
    ("first", "second", "again"),
    [
        ({}, {"models": {"plain": Model(voice="other")}}, True),  # another model under the same name
        ({}, {"version": "2"}, True),
        ({}, {"models": {"plain": Model(root="/models/b")}}, True),
        ({}, {}, False),
        ({"digest": "1" * 64}, {"digest": "1" * 64}, False),
        ({"digest": "1" * 64}, {"digest": "2" * 64}, True),
        ({"digest": "1" * 64}, {}, True),
    ],
)
def test_who_answers_is_known_by_more_than_a_name(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], again: bool
) -> None:
    """The same folder, address and names; behind the tuned arm's something else."""
    asked, out, lines = question_set(4), tmp_path / "answers.jsonl", list[str]()
    path = tmp_path / "q.jsonl"
    questions.write(path, asked)
    plain: dict[str, Any] = {"models": {"plain": Model(accuracy=0.0)}, "questions": path}
    with stub(tmp_path, asked) as base:
        port = 0
        for script in (first, second):
            with serving(Script(**(plain | script)), port) as url:
                port, sent = port_of(url), len(log(base))
                arms = {"base": Endpoint(url=base, model=BASE), "tuned": Endpoint(url=url)}
                run(base, asked, out, arms=arms, report=lines.append)
                last = [x["model"] for x in log(url)]
        assert len(log(base)) == sent  # the base arm is who it was
    assert last == ["plain"] * (8 if again else 0)
    assert any("8 answers on file are of another server" in line for line in lines) == again


def test_a_server_that_nothing_identifies_is_asked_again_each_time_and_named(tmp_path: Path) -> None:
    asked, out, lines = question_set(2), tmp_path / "answers.jsonl", list[str]()
    path = tmp_path / "q.jsonl"
    questions.write(path, asked)
    restless = Model(faults=(Fault(kind="restless"),))
    with stub(tmp_path, asked) as base, serving(Script(models={"plain": restless}, questions=path)) as url:
        arms = {"base": Endpoint(url=base, model=BASE), "tuned": Endpoint(url=url)}
        for _ in range(2):
            run(base, asked, out, arms=arms, report=lines.append)
        assert len(log(url)) == 8
        assert len(log(base)) == 4
    said = [line for line in lines if "plain shows no digest and does not repeat itself" in line]
    assert len(said) == 2
    assert "4 requests to base base@0123456789abcdef and tuned plain, 4 on file" in lines


def test_answers_without_their_meta_are_known_by_their_own_lines(tmp_path: Path) -> None:
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        first = run(url, asked, out)
        answers.meta_path(out).unlink()
        sent = len(log(url))
        assert run(url, asked, out) == first
        assert len(log(url)) == sent
    meta = answers.Meta.model_validate_json(answers.meta_path(out).read_bytes())
    assert {arm: s.model for arm, s in meta.servers.items()} == {"base": BASE, "tuned": TUNED}
    assert meta.questions == asked.digest


def test_a_changed_or_foreign_line_is_said_and_nothing_is_asked(tmp_path: Path) -> None:
    asked, out = question_set(2), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        first = run(url, asked, out)
        whole, sent = out.read_bytes(), len(log(url))
        lines = whole.splitlines(keepends=True)
        another = answers.line(first[0].model_copy(update={"text": "ANSWER: x"}))
        old = b'{"question":"q0","arm":"base","effort":"low","model":"m","outcome":"answered","score":1.0}\n'
        failed = answers.line(first[0].model_copy(update={"text": "", "finish_reason": "", "error": "HTTP 502"}))
        for content, words in (
            (whole.replace(b"ANSWER: ValueError", b"ANSWER: KeyError__"), "was changed after it was written"),
            (lines[0].replace(b'"effort":"', b'"effort": "') + lines[1], ":1 was changed after"),
            (lines[0][:-2] + b"\n" + lines[1], ":1 is not an answer"),
            (whole + another, ":9 is a second reply to one request"),
            (whole + lines[0], ":9 is a second reply to one request"),
            (old + whole, ":1 is an answer of an earlier version"),
            (b"[1]\n" + whole, ":1 is not an answer"),
            (b"[" * 100_000 + b"\n" + whole, ":1 is not an answer"),
        ):
            assert content != whole
            out.write_bytes(content)
            with pytest.raises(UserError, match=words) as e:
                run(url, asked, out)
            assert e.value.fix
            assert out.read_bytes() == content, "work was lost"
        assert len(log(url)) == sent
        for content in (failed + whole, whole + failed):  # a retry; and no error takes the place of a reply
            out.write_bytes(content)
            assert {a.key: a for a in run(url, asked, out)} == {a.key: a for a in first}
        assert len(log(url)) == sent


def test_nothing_on_file_is_a_judgement(tmp_path: Path) -> None:
    """The same replies are worth what the truth says, and the truth may change."""
    asked, out = question_set(2), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url:
        run(url, asked, out)
    fields = set(json.loads(out.read_bytes().splitlines()[0]))
    assert not fields & {"score", "outcome", "parsed"}
    other = asked.model_copy(
        update={"questions": tuple(q.model_copy(update={"answer": "'no'"}) for q in asked.questions)}
    )
    assert {a.score for a in answers.read(out, asked) if a.arm == "base"} == {1}
    assert {a.score for a in answers.read(out, other) if a.arm == "base"} == {0}


def test_two_runs_do_not_share_a_file(tmp_path: Path) -> None:
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    with stub(tmp_path, asked) as url, out.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is writing"):
            run(url, asked, out)


def test_a_disk_that_takes_no_more_is_said(tmp_path: Path) -> None:
    asked, out = question_set(2), tmp_path / "answers.jsonl"
    code = """
import asyncio, resource, signal, sys
from pathlib import Path
from evalsuite import ask, questions
from tune.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
url, asked, out, limit = sys.argv[1:]
arms = {arm: ask.Endpoint(url=url, model=arm) for arm in ask.ARMS}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    asyncio.run(ask.ask(questions.read(Path(asked)), arms, ["low"], Path(out), max_tokens=64, temperature=0, seed=0))
except UserError as e:
    sys.exit(str(e))
"""
    with stub(tmp_path, asked) as url:
        for limit in (10, 1600):  # no room for the first file; room for it, some answers and a part of one
            arguments = [sys.executable, "-c", code, url, str(tmp_path / "questions.jsonl"), str(out), str(limit)]
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            assert "answers.jsonl cannot be written" in done.stderr
            assert "Traceback" not in done.stderr
            assert "make room" in done.stderr
    assert 0 < len(answers.read(out, asked)) < 4
    assert out.read_bytes().endswith(b"\n")


def test_a_wrong_or_missing_key_is_one_error_before_any_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = question_set(1), tmp_path / "answers.jsonl"
    monkeypatch.setenv("OPENAI_API_KEY", "right-key")  # must not be sent to whoever is asked
    monkeypatch.setenv("RIGHT", "right-key")
    monkeypatch.setenv("WRONG", "wrong-key")

    def arms(key_env: str) -> dict[str, Endpoint]:
        pairs = (("base", BASE), ("tuned", TUNED))
        return {arm: Endpoint(url=url, key_env=key_env, model=model) for arm, model in pairs}

    with stub(tmp_path, asked, api_key="right-key") as url:
        for key_env, message in (("WRONG", r"refuses the key in \$WRONG"), ("", "refuses requests without a key"),
                                 ("UNSET_KEY", "UNSET_KEY is not set")):  # fmt: skip
            with pytest.raises(UserError, match=message) as e:
                run(url, asked, out, arms=arms(key_env))
            assert "wrong-key" not in str(e.value)
        assert not out.exists()
        assert {a.outcome for a in run(url, asked, out, arms=arms("RIGHT"))} == {"answered"}
    assert b"right-key" not in out.read_bytes() + answers.meta_path(out).read_bytes()


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (lambda _: Endpoint(url="http://127.0.0.1:9"), "base endpoint http://127.0.0.1:9/v1 cannot be reached"),
        (lambda url: Endpoint(url=url + "/nowhere"), "does not list its models"),
        (lambda url: Endpoint(url=url, model="gpt-5"), "does not serve gpt-5"),
        (lambda url: Endpoint(url=url), "serves several models"),
    ],
)
def test_an_unusable_endpoint_is_one_error(tmp_path: Path, endpoint: Callable[[str], Endpoint], message: str) -> None:
    with stub(tmp_path, None) as url:
        arms = {"base": endpoint(url), "tuned": Endpoint(url=url, model=TUNED)}
        with pytest.raises(UserError, match=message):
            run(url, question_set(1), tmp_path / "answers.jsonl", arms=arms)
    assert not (tmp_path / "answers.jsonl").exists()


@contextmanager
def canned(body: bytes) -> Iterator[str]:
    """A server that says the same to everything."""

    class Canned(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream" if body.startswith(b"data") else "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Canned) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "body", [b"<html>hi</html>", b"{", b"[]", b'{"data": null}', b'{"data": []}', b'{"data": [{}]}']
)
def test_what_lists_no_models_is_no_endpoint(tmp_path: Path, body: bytes) -> None:
    with canned(body) as url, pytest.raises(UserError, match="not a list of models"):
        run(url, question_set(1), tmp_path / "answers.jsonl")


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


def test_kill_9_loses_at_most_what_is_in_flight(tmp_path: Path) -> None:
    asked, out, flying = question_set(40), tmp_path / "answers.jsonl", 4
    with stub(tmp_path, asked, Model(first_token_s=0.02)) as url:
        code = f"""
import asyncio
from pathlib import Path
from evalsuite import ask, questions
arms = {{"base": ask.Endpoint(url={url!r}, model={BASE!r}), "tuned": ask.Endpoint(url={url!r}, model={TUNED!r})}}
asyncio.run(ask.ask(questions.read(Path({str(tmp_path / "questions.jsonl")!r})), arms, ["low"], Path({str(out)!r}),
    max_tokens=64, temperature=0.0, seed=3, concurrency={flying}, report=lambda line: print(line, flush=True)))
"""
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("20 of 80"):
                break
        os.kill(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
        sent, saved = len(log(url)), answers.read(out, asked)
        assert 20 <= len(saved) < 80
        assert sent - len(saved) <= flying
        found = run(url, asked, out, efforts=["low"])
        assert found[: len(saved)] == saved
        assert len({a.key for a in found}) == len(found) == 80
        assert len(log(url)) - sent == 80 - len(saved)
