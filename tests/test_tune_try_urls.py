"""`tune try` against real servers on loopback: one that behaves, and those that do not."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evalsuite.stub.server import Fault, Model, Script, serving
from tune import cli

BASE, TUNED = "base@0123456789abcdef", "tuned@fedcba9876543210"
KEY = "sk-very-secret"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    models = {BASE: Model(voice="old"), TUNED: Model(voice="new"), "broken": Model(faults=(Fault(kind="hangup"),))}
    models |= {kind: Model(faults=(Fault(kind=kind),)) for kind in ("other_model", "garbage", "error_in_200", "500")}  # type: ignore[arg-type]
    with serving(Script(models=models)) as found:
        yield found


@contextmanager
def streaming(body: bytes) -> Iterator[str]:
    """A server that lists one model and says `body` to every question."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer("application/json", b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer("text/event-stream", body)

        def answer(self, kind: str, said: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


def tried(*words: str) -> Result:
    return CliRunner().invoke(cli.main, ["try", *words])


def both(url: str, base: str = BASE, tuned: str = TUNED, *more: str) -> Result:
    return tried("What?", "--base", url, "--tuned", url, "--base-model", base, "--tuned-model", tuned, *more)


def test_two_endpoints_without_a_recipe(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = both(url, BASE, TUNED, "--json")
    assert out.exit_code == 0, out.output
    replies = json.loads(out.stdout)["replies"]
    assert [(r["effort"], r["side"]) for r in replies] == [
        (effort, side) for effort in ("low", "medium", "high") for side in ("base", "tuned")
    ]
    assert [r["thinking_tokens"] for r in replies] == [4, 4, 16, 16, 48, 48]  # as usage tells
    assert [r["tokens"] for r in replies] == [20, 20, 32, 32, 64, 64]
    assert replies[0]["thinking"] == "thought0 thought1 thought2 thought3 "
    assert replies[0]["answer"].startswith("old0 old1 ")
    assert replies[1]["answer"].startswith("new0 new1 ")
    assert {r["ended"] for r in replies} == {"ended"}
    assert all(0 < r["first_answer_s"] <= r["seconds"] for r in replies)


def test_a_reply_that_is_cut(url: str) -> None:
    out = both(url, BASE, TUNED, "--effort", "low", "--max-tokens", "6")
    assert out.exit_code == 0, out.output
    assert [line.split()[-1] for line in out.stdout.rstrip().splitlines()[-2:]] == ["cut", "cut"]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thinking_comes_under_either_name_and_escapes_are_shown(field: str) -> None:
    deltas = [{field: "\u001b[2Jhm"}, {"content": "yes"}]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    lines = [json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 0, "choices": [c]}) for c in choices]
    body = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()
    with streaming(body) as found:
        out = tried("What?", "--base", found, "--tuned", found.replace("127.0.0.1", "localhost"), "--effort", "low")
    assert out.exit_code == 0, out.output
    assert "thinking: \\x1b[2Jhm\nanswer: yes\n" in out.stdout
    assert "\x1b" not in out.stdout


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("other_model", "answers as another model\n  why: it was asked for other_model and answers as fall-back"),
        ("broken", "does not answer\n  why: peer closed connection"),
        ("garbage", "does not speak the OpenAI API"),
        ("error_in_200", "scripted error in a 200"),
        ("500", "answered 500\n  why: "),
        ("missing", "does not serve missing\n  why: it lists base@0123456789abcdef, tuned@"),
    ],
)
def test_a_server_that_misbehaves(url: str, model: str, said: str) -> None:
    out = both(url, BASE, model, "--effort", "low")
    assert out.exit_code == 2, out.output
    assert said in out.stderr
    assert "Traceback" not in out.stderr


def test_a_lowered_effort_is_not_shown_as_the_one_asked_for() -> None:
    with serving(Script(models={"a": Model(faults=(Fault(kind="wrong_effort"),)), "b": Model()})) as url:
        out = both(url, "a", "b", "--effort", "high")
    assert out.exit_code == 2
    assert "asked high, applied low" in out.stderr


def test_the_key_comes_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Script(models={"a": Model(), "b": Model()}, api_key=KEY)) as url:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        assert "answered 401" in both(url, "a", "b").stderr
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        out = both(url, "a", "b", "--effort", "low")
    assert out.exit_code == 0, out.output
    assert KEY not in out.output


def test_nobody_there_several_models_and_twice_the_same(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    out = tried("What?", "--base", f"http://127.0.0.1:{port}/v1", "--tuned", url)
    assert f"http://127.0.0.1:{port}/v1 does not answer" in out.stderr
    assert "fix: serve wait" in out.stderr
    out = tried("What?", "--base", url, "--tuned", url)
    assert "which of the models at" in out.stderr
    assert f"--base-model {BASE}" in out.stderr
    assert "base and tuned are one model" in both(url, BASE, BASE).stderr
