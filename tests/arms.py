"""Two scripted arms for tests: a question set, a server for it, a run over both, and what it was asked."""

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from evalsuite import questions
from evalsuite.asking import ask, check
from evalsuite.asking.ask import Endpoint
from evalsuite.questions import Question, QuestionSet
from evalsuite.replies import answers
from evalsuite.replies.answers import Answer
from evalsuite.stub.server import Model, Script, serving

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
    return QuestionSet(name=name, python="3", questions=tuple(found))


@contextmanager
def stub(
    tmp_path: Path, asked: QuestionSet | None, base: Model | None = None, port: int = 0, **more: Any
) -> Iterator[str]:
    path = tmp_path / "questions.jsonl"
    if asked:
        questions.write(path, asked)
    models = {BASE: base or Model(), TUNED: Model(accuracy=0.0)}
    with serving(Script(models=models, questions=path if asked else None, **more), port) as url:
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


@contextmanager
def canned(said: bytes | list[bytes]) -> Iterator[str]:
    """A server that says the same to everything: these bytes, or the first of a list that may change meanwhile."""

    class Canned(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = said if isinstance(said, bytes) else said[0]
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
