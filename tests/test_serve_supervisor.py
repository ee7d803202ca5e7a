"""The supervisor around a small program that speaks the engine's HTTP: what it does when that program misbehaves."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import supervised
from supervised import NEVER, STANDARD

from serve import launcher, probe, processes, supervisor
from serve.ask import ask
from serve.cli import _free_port
from serve.effort import EffortPolicy
from serve.last_words import Words, explain
from serve.middleware import SECRET
from tune.checkpoint import CANARY
from tune.errors import UserError


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF", 0.01)
    monkeypatch.setattr(processes, "EXIT_GRACE", 1)
    supervised.prepare(tmp_path, monkeypatch)
    yield partial(supervised.make, tmp_path)
    assert supervised.left(tmp_path) == []


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
        ("mute", "no token without an effort"),
        ("other weights", "not answer as the checkpoint's weights do, at effort high"),
    ],
)
def test_a_server_that_shows_another_prompt_is_stopped(job, mode, words):
    with pytest.raises(UserError, match=words):
        supervisor.run(job(mode), print, lambda: pytest.fail("it was called ready"))


CAPPED = EffortPolicy(default="low", maximum="medium", spelling="map")
FEWER = EffortPolicy(default="low", allowed=("low", "medium"), maximum="medium")


@pytest.mark.parametrize("policy", [CAPPED, FEWER], ids=["a maximum", "fewer allowed"])
def test_a_server_under_a_policy_is_proven_by_that_policy(job, policy):
    ready = []
    supervisor.run(job("good", policy), print, lambda: (ready.append(1), stop_when_ready()))
    assert ready == [1]


@pytest.mark.parametrize(
    ("policy", "server", "words"),
    [
        (CAPPED, EffortPolicy(default="low"), "at effort high, which is lowered to medium"),
        (FEWER, EffortPolicy(default="low"), "takes effort high, which its policy refuses"),
        (STANDARD, EffortPolicy(default="low"), "trained on, without an effort"),
    ],
)
def test_a_server_that_has_another_policy_is_stopped(job, policy, server, words):
    with pytest.raises(UserError, match=words):
        supervisor.run(job("good", policy, server), print, lambda: pytest.fail("it was called ready"))


def test_each_data_parallel_engine_is_proven(job):
    with pytest.raises(UserError, match="does not answer as the checkpoint's weights do"):
        supervisor.run(job("other rank", ranks=2), print, lambda: pytest.fail("it was called ready"))


def test_nobody_is_let_in_before_the_proof_has_returned(job):
    """A stranger asks all the while: 503 until the proof may return, 200 once the supervisor says ready."""
    release, during = threading.Event(), []
    waiting = job("good", proof=release.wait)

    def report(line):
        if "still being proven" in line:  # the engine answers, and has been asked all there is to ask
            with probe.client(waiting.url) as stranger:
                for path in ("/health", "/readyz", "/ping", "/v1/models", "/livez"):
                    during.append((path, stranger.get(path).status_code))
                during.append(("wait", probe.wait(stranger, 0)))
            with pytest.raises(UserError, match="answered 503") as error:
                ask(waiting.url, "2+2?", effort="", model="", key="", max_tokens=1, write=print)
            assert error.value.fix == f"serve wait {waiting.url}"
            release.set()

    def ready():
        with probe.client(waiting.url) as stranger:
            during.append(("ready", stranger.get("/readyz").status_code))
            during.append(("wait", probe.wait(stranger, 5)))
        stop_when_ready()

    supervisor.run(waiting, report, ready)
    paths = [(path, 503) for path in ("/health", "/readyz", "/ping", "/v1/models")]
    assert during == [
        *paths,
        ("/livez", 200),
        ("wait", "not ready after 0 s: /health answers 503"),
        ("ready", 200),
        ("wait", ""),
    ]


def test_a_proof_that_fails_stops_the_engine_while_it_loads(job):
    def proof():
        raise UserError("the weights are others", fix="copy them again")

    with pytest.raises(UserError, match="the weights are others"):
        supervisor.run(job("good", proof=proof)._replace(command=NEVER, ready_timeout=600), print)


def test_a_file_that_changes_while_the_engine_loads_is_never_served(job):
    """Proven at once, since it was remembered, and changed before the engine read it: it is looked at again."""
    proofs = iter([None, UserError("model.safetensors is not the file")])

    def proof():
        if failure := next(proofs):
            raise failure

    with pytest.raises(UserError, match="is not the file"):
        supervisor.run(job("good", proof=proof), print, lambda: pytest.fail("it was called ready"))


def test_a_proof_that_breaks_is_not_taken_for_a_good_one(job):
    def proof(kind):
        raise kind(2, "the disk went away", "/weights")

    for raised, told in ((FileNotFoundError, UserError), (PermissionError, UserError), (ArithmeticError,) * 2):
        with pytest.raises(told, match="the disk went away"):
            supervisor.run(job("good", proof=lambda kind=raised: proof(kind)), print, lambda: pytest.fail("ready"))


def test_a_checkpoint_without_a_canary_is_refused_before_anything_starts(job, tmp_path):
    (tmp_path / CANARY).unlink()
    with pytest.raises(UserError, match="older version"):
        supervisor.run(job("good"), print)
    assert not (tmp_path / "log").exists()


def test_the_secret_is_new_at_each_start_and_in_no_log_argument_or_answer(job, tmp_path, monkeypatch):
    secrets, lines = [], []
    real = subprocess.Popen

    def noted(argv, **options):
        secrets.append(options["env"][SECRET])
        assert secrets[-1] not in " ".join(argv)
        return real(argv, **options)

    monkeypatch.setattr(processes.subprocess, "Popen", noted)

    def report(line):
        lines.append(line)
        if sum(line.startswith("ready") for line in lines) == 3:
            stop_when_ready()

    crashing = job("crash")
    supervisor.run(crashing, report)
    assert len(set(secrets)) == 3
    said = (tmp_path / "log").read_text() + "".join(lines)
    assert not [s for s in secrets if s in said or len(s) < 32]


def test_without_a_log_the_engine_speaks_where_we_do(job, capfd):
    with pytest.raises(UserError, match="exit code 1") as error:
        supervisor.run(job("no memory", log=None), print)
    assert "Tried to allocate 2 GiB" in capfd.readouterr().err
    assert error.value.fix == "read the engine's output above"


def test_a_failed_start_is_one_error_with_the_log(job, tmp_path):
    with pytest.raises(UserError, match="not enough memory") as error:
        supervisor.run(job("no memory"), print)
    assert "Tried to allocate 2 GiB" in error.value.why
    assert str(tmp_path / "log") in error.value.why


def test_a_start_that_takes_too_long_is_given_up(job):
    with pytest.raises(UserError, match="did not become ready") as error:
        supervisor.run(job("good")._replace(command=NEVER, ready_timeout=0.5), print)
    assert "does not answer" in error.value.why


def test_a_stop_during_the_start_is_no_error(job):
    said = []

    def report(line):
        said.append(line)
        if line.startswith("starting"):
            os.kill(os.getpid(), signal.SIGINT)

    supervisor.run(job("good")._replace(command=NEVER), report)
    assert said[-1] == "stopped"


def test_a_crash_after_ready_is_restarted_and_told(job):
    said, ready = [], []

    def report(line):
        said.append(line)
        if sum(line.startswith("ready") for line in said) == 3:
            stop_when_ready()

    supervisor.run(job("crash"), report, lambda: ready.append(1))
    assert ready == [1]  # whoever reads the ready line gets one
    tries = [line.split(",")[0] for line in said if line.startswith("restarting")]
    assert tries == ["restarting: in 0 s (1 of 3)", "restarting: in 0 s (2 of 3)"]


def test_a_crash_loop_ends(job, monkeypatch):
    monkeypatch.setattr(supervisor, "RESTARTS", 1)
    with pytest.raises(UserError, match="failed 2 times"):
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
    assert [line.split(",")[0] for line in said if line.startswith("restarting")] == ["restarting: in 0 s (1 of 1)"] * 2


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
        ("safetensors_rust.SafetensorError: HeaderTooLarge", 1, ["damaged", "fix: tune check FOLDER"]),
        ("torch.OutOfMemoryError: out of memory", 1, ["[serve] max_model_len", "--max-model-len"]),
        ("NotImplementedError: No MXFP4 MoE backend supports the deployment", 1, ["no kernel", "merged"]),
        ("serve.launcher: error: unrecognized arguments: --nope", 2, ["flags", "--nope"]),
        ("serve.launcher: vLLM 0.32 is needed and 0.29.0 is installed", 3, ["installation", "0.29.0", "cpu.txt"]),
        ("Loading weights", -9, ["was killed", "SIGKILL", "memory"]),
        ("Loading weights", -11, ["SIGSEGV"]),
        ("serve.launcher: EngineCore was ended by SIGKILL", 0, ["was killed", "EngineCore", "SIGKILL", "memory"]),
        ("serve.launcher: EngineCore was ended by SIGSEGV", 1, ["EngineCore was ended by SIGSEGV"]),
        ("Traceback\nFrobError: strange", 1, ["exit code 1", "FrobError: strange"]),
        ("", 1, ["names no error", "/x/log"]),
    ],
)
def test_last_words_become_one_error(tmp_path, tail, code, words):
    log = tmp_path / "log"
    log.write_text(f"torch.OutOfMemoryError: of yesterday\n{tail}")
    assert "SIGKILL" in explain(Words(log.with_name("taken away")), -9, loaded=True).message
    message = explain(Words(log, since=37), code, loaded=False).message.replace(str(log), "/x/log")
    assert all(word in message for word in words), message
    assert "yesterday" not in message


def test_a_log_that_cannot_be_written_is_what_ended_an_engine(tmp_path):
    """/dev/full gives bytes without end to who reads it, and takes none."""
    found = explain(Words(Path("/dev/full")), 1, loaded=False)
    assert "its log cannot be written" in found.message
    assert "/dev/full: No space left on device" in found.message
    gone = tmp_path / "gone"
    assert "names no error" in explain(Words(gone), 1, loaded=False).message
    assert not gone.exists()


def test_waiting_for_a_server_ends_with_the_reason():
    with probe.client(f"http://127.0.0.1:{_free_port('127.0.0.1')}/v1") as http:
        assert "does not answer" in probe.wait(http, 0.1)
    with probe.client("http://127.0.0.1:1") as http:
        assert probe.wait(http, 60, alive=lambda: False) == "the engine stopped"


def test_waiting_ends_for_a_server_that_did_answer_and_has_ended(monkeypatch):
    monkeypatch.setattr(probe, "GONE", 0.3)

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)
            threading.Thread(target=self.server.shutdown).start()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Starting)
    threading.Thread(target=lambda: (server.serve_forever(0.01), server.server_close()), daemon=True).start()
    port = server.server_address[1]
    with probe.client(f"http://127.0.0.1:{port}/v1") as http:
        assert probe.wait(http, 60).startswith(f"it has ended: it did answer, and now 127.0.0.1:{port}")


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


def test_an_engine_without_a_compiler_does_not_compile(monkeypatch, tmp_path):
    eager = ["serve.launcher", "--enforce-eager"]
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    assert not launcher.compiler(eager)
    assert launcher.compiler(["serve.launcher"])  # a GPU engine cannot do without one: it must say so itself
    (tmp_path / "c++").write_text("#!/bin/sh\n")
    (tmp_path / "c++").chmod(0o755)
    assert launcher.compiler(eager)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not launcher.compiler(eager)
