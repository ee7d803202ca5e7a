"""The supervisor around a small program that speaks the engine's HTTP: what it does when that program misbehaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve import probe, supervisor
from serve.cli import _free_port
from serve.command import Command
from serve.supervisor import Job, explain
from tune.errors import UserError

DATE = "2026-01-01"
PROGRAM = """
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tune.harmony import Message, render_prompt

mode, port, notes = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
print("started", flush=True)
if mode == "no memory":
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
worker = subprocess.Popen([sys.executable, "-c", deaf])
with (notes / "workers").open("a") as f:
    f.write(f"{worker.pid}\\n")

class Engine(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-serve-start", "another" if mode == "stranger" else os.environ["GPTOSS_KIT_START"])
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        self.answer({})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/render"):
            effort = "medium" if mode == "effort lost" else asked["reasoning_effort"]
            date = "2026-02-02" if mode == "today" else "2026-01-01"
            return self.answer({"token_ids": render_prompt([Message(**m) for m in asked["messages"]], effort, date)})
        self.answer({"usage": {"completion_tokens": 0 if mode == "mute" else 2}})
        if mode == "crash" and asked["reasoning_effort"] == "high" and len((notes / "workers").read_text().split()) < 3:
            os._exit(7)

ThreadingHTTPServer(("127.0.0.1", port), Engine).serve_forever()
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF", 0.01)
    monkeypatch.setattr(supervisor, "EXIT_GRACE", 1)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    (tmp_path / "workers").touch()

    def make(mode, **changes):
        port = _free_port("127.0.0.1")
        command = Command([sys.executable, "-c", PROGRAM, mode, str(port), str(tmp_path)], {})
        whole = {"model": "m", "prompt_date": DATE, "key": "", "drain": 0, "log": tmp_path / "log", "ready_timeout": 60}
        return Job(command=command, url=f"http://127.0.0.1:{port}", **{**whole, **changes})

    yield make
    assert [pid for pid in (tmp_path / "workers").read_text().split() if alive(int(pid))] == []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stop_when_ready():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("mode", ["good", "deaf"])
def test_a_stop_ends_the_engine_and_its_workers(job, mode):
    said = []
    before = signal.getsignal(signal.SIGTERM)
    supervisor.run(job(mode), said.append, stop_when_ready)
    assert said[-1] == "stopped"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("stranger", "another server answers"),
        ("effort lost", "at effort low"),
        ("today", "2026-|02|01"),
        ("mute", "no token at effort low"),
    ],
)
def test_a_server_that_shows_another_prompt_is_stopped(job, mode, words):
    with pytest.raises(UserError, match=words):
        supervisor.run(job(mode), print, lambda: pytest.fail("it was called ready"))


def test_a_failed_start_is_one_error_with_the_log(job, tmp_path):
    with pytest.raises(UserError, match="not enough memory") as error:
        supervisor.run(job("no memory"), print)
    assert "Tried to allocate 2 GiB" in error.value.why
    assert str(tmp_path / "log") in error.value.why


def test_a_start_that_takes_too_long_is_given_up(job):
    never = Command([sys.executable, "-c", "import time; time.sleep(600)"], {})
    with pytest.raises(UserError, match="did not become ready") as error:
        supervisor.run(job("good")._replace(command=never, ready_timeout=0.5), print)
    assert "does not answer" in error.value.why


def test_a_stop_during_the_start_is_no_error(job):
    never = Command([sys.executable, "-c", "import time; time.sleep(600)"], {})
    said = []

    def report(line):
        said.append(line)
        if line.startswith("starting"):
            os.kill(os.getpid(), signal.SIGINT)

    supervisor.run(job("good")._replace(command=never), report)
    assert said[-1] == "stopped"


def test_a_crash_after_ready_is_restarted_and_told(job):
    said, ready = [], []

    def report(line):
        said.append(line)
        if sum(line.startswith("ready") for line in said) == 3:
            stop_when_ready()

    supervisor.run(job("crash"), report, lambda: ready.append(1))
    assert ready == [1]  # whoever reads the ready line gets one
    assert [line.split(";")[1].split(" in")[0] for line in said if "crashed" in line] == [
        " restart 1 of 3",
        " restart 2 of 3",
    ]


def test_a_crash_loop_ends(job, monkeypatch):
    monkeypatch.setattr(supervisor, "RESTARTS", 1)
    with pytest.raises(UserError, match="crashed 2 times"):
        supervisor.run(job("crash"), print)


def test_crashes_of_an_engine_that_ran_long_are_not_counted_together(job, monkeypatch):
    monkeypatch.setattr(supervisor, "RESTARTS", 1)
    monkeypatch.setattr(supervisor, "STEADY", 0)  # any time is long
    said = []

    def report(line):
        said.append(line)
        if sum(line.startswith("ready") for line in said) == 3:
            stop_when_ready()

    supervisor.run(job("crash"), report)
    assert [line.split(";")[1].split(" in")[0] for line in said if "crashed" in line] == [" restart 1 of 1"] * 2


@pytest.mark.parametrize(
    ("tail", "code", "words"),
    [
        ("OSError: [Errno 98] Address already in use", 1, ["port is in use", "--port 0"]),
        (
            "(Worker pid=9) ERROR 11-21 [x.py:1] ValueError: Available memory on node 0 is less",
            1,
            ["memory", "Available"],
        ),
        ("ValueError: Following weights were not initialized from checkpoint: {'a'}", 1, ["do not fit", "tune check"]),
        ("NotImplementedError: No MXFP4 MoE backend supports the deployment", 1, ["no kernel", "merged"]),
        ("serve.launcher: error: unrecognized arguments: --nope", 2, ["flags", "--nope"]),
        ("serve.launcher: vLLM 0.32 is needed and 0.29.0 is installed", 3, ["installation", "0.29.0"]),
        ("Loading weights", -9, ["killed by the system"]),
        ("Traceback\nFrobError: strange", 1, ["exit code 1", "FrobError: strange"]),
        ("", 1, ["names no error", "/x/log"]),
    ],
)
def test_last_words_become_one_error(tail, code, words):
    message = explain(tail, code, Path("/x/log")).message
    assert all(word in message for word in words), message


def test_waiting_for_a_server_ends_with_the_reason():
    with probe.client(f"http://127.0.0.1:{_free_port('127.0.0.1')}/v1") as http:
        assert "does not answer" in probe.wait(http, 0.1)
    with probe.client("http://127.0.0.1:1") as http:
        assert probe.wait(http, 60, alive=lambda: False) == "the engine stopped"


def test_the_engine_goes_when_its_supervisor_is_killed():
    start = "subprocess.Popen([sys.executable, '-m', 'serve.launcher', '--no-such-flag'])"
    code = f"import subprocess, sys, time; print({start}.pid, flush=True); time.sleep(600)"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as parent:
        engine = int(parent.stdout.readline())
        maps = Path(f"/proc/{engine}/maps")
        while "libtorch" not in maps.read_text():  # seconds past the line that ties it to its parent
            time.sleep(0.01)
        parent.kill()
        _, said = parent.communicate(timeout=60)  # which ends when the engine has let go of the pipe
    assert "no-such-flag" not in said, "the engine went on until it read its arguments"


def test_another_vllm_is_refused_in_words(tmp_path):
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("__version__ = '0.29.0'\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "serve.launcher"]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert out.returncode == 3
    assert "vLLM 0.32 is needed" in out.stderr
    assert "Traceback" not in out.stderr
