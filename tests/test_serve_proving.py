"""The supervisor while it asks a starting engine: stops are heard, deaths explained, strangers told nothing."""

import subprocess
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import supervised

from serve import supervisor
from serve.doors import OPENING, SECRET_HEADER
from serve.middleware import START
from tune.errors import UserError


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "EXIT_GRACE", 1)
    supervised.prepare(tmp_path, monkeypatch)
    yield partial(supervised.make, tmp_path)
    assert supervised.left(tmp_path) == []


@pytest.mark.parametrize("mode", ["hangs", "hangs deaf"])
def test_a_stop_is_heard_while_the_engine_is_being_asked(job, tmp_path, monkeypatch, mode):
    """It comes while an answer does; the second, when the engine is deaf to the first, ends it without its grace."""
    monkeypatch.setattr(supervisor, "PATIENCE", 5)
    monkeypatch.setattr(supervisor, "EXIT_GRACE", 40)
    said = []
    supervisor.run(job(mode), said.append, lambda: pytest.fail("it was called ready"))
    assert said[-1] == "stopped"
    assert not (tmp_path / "lived on").exists()


DEATHS = ["at /livez", "after /livez", "at /health", "after /health", "at /v1/chat/completions/render"]
DEATHS += ["at /v1/chat/completions", "at /v1/completions", f"at {OPENING}"]


@pytest.mark.parametrize("when", DEATHS)
def test_an_engine_that_dies_while_it_is_being_asked_is_explained(job, when):
    with pytest.raises(UserError, match="not enough memory"):
        supervisor.run(job(f"dies {when}"), print, lambda: pytest.fail("it was called ready"))


@pytest.mark.parametrize(
    ("status", "word", "asked"),
    [(200, False, ["/livez"]), (404, False, ["/livez"]), (200, True, ["/livez", "/health"])],
)
def test_a_stranger_on_the_port_is_told_neither_key_nor_secret(job, monkeypatch, status, word, asked):
    """The last one shows this start's word to whoever asks whether it lives: it hears no more than one question."""
    seen, words = [], []

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, "authorization" in self.headers, SECRET_HEADER.decode() in self.headers))
            self.send_response(status)
            if word and self.path == "/livez":
                self.send_header("x-serve-start", words[0])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    real = subprocess.Popen

    def noted(argv, **options):
        words.append(options["env"][START])
        return real(argv, **options)

    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(supervisor.subprocess, "Popen", noted)
        url = f"http://127.0.0.1:{server.server_port}"
        taken = job("good", key="sk-ours")._replace(command=supervised.NEVER, url=url, ready_timeout=600)
        with pytest.raises(UserError, match="another server answers"):
            supervisor.run(taken, print)
        server.shutdown()
    assert [path for path, *_ in seen] == asked
    assert not any(seen[0][1:])
