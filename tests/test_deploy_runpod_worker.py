"""The worker of a RunPod queue, under RunPod's own SDK: its local API, and its job loop against job channels."""

import json
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from deployment import rendered
from runpod_worker import DONE, environment, free_port, needs_sdk, platform, served, upstream, worker

from deploy.targets.runpod import handler as code

pytestmark = needs_sdk
CHAT = "/v1/chat/completions"
EVENT = 'data: {"delta": "\u00e9"}\n\n'
STANDIN = Path(__file__).parent / "standin.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the image of a queue holds as /opt/gptoss-kit."""
    home = tmp_path_factory.mktemp("queue")
    out = rendered(home, "runpod", concurrency=3)
    root = home / "image"
    shutil.copytree(out / "kit", root)
    for name in ("start.py", "handler.py", "deployment.json"):
        shutil.copy(out / name, root)
    return root


@pytest.fixture(scope="module")
def engine():
    with upstream() as server:
        yield server


@pytest.fixture(scope="module")
def run(folder, engine):
    env = {code.UPSTREAM: engine.url, code.UPSTREAM_KEY: "WORD", "WORD": "sk-word"}
    with served(folder, **env) as run:
        yield run


def chat(run, mode, **more):
    found = run(openai_route=CHAT, openai_input={"model": mode, **more})
    assert found["status"] == "COMPLETED", found
    return found["output"]


def test_an_answer_comes_through_whole(run, engine):
    assert chat(run, "plain", reasoning_effort="low") == [{"choices": [{"message": {"content": "3 \u00e9"}}]}]
    assert engine.asked[-1] == (CHAT, {"model": "plain", "reasoning_effort": "low"}, "Bearer sk-word")


def test_models_are_asked_for_by_get(run, engine):
    assert run(openai_route="/v1/models", openai_input={})["output"] == [{"object": "list", "data": [{"id": "m"}]}]
    assert engine.asked[-1][1] is None


def test_a_stream_comes_as_its_events(run):
    pieces = chat(run, "stream", stream=True)
    assert "".join(pieces) == EVENT + DONE
    assert all(piece.endswith("\n\n") for piece in pieces)


@pytest.mark.parametrize(
    ("mode", "code", "status"),
    [("refuses", "invalid_effort", 400), ("html", "upstream_error", 502)],
)
def test_a_refusal_is_an_error_in_the_body(run, mode, code, status):
    ((told),) = chat(run, mode)
    assert (told["error"]["code"], told["error"]["status"]) == (code, status)
    assert "<html>" not in json.dumps(told)


@pytest.mark.parametrize("mode", ["cut", "breaks"])
def test_a_stream_that_ends_too_soon_ends_in_an_error(run, mode):
    pieces = chat(run, mode, stream=True)
    assert pieces[0] == EVENT
    assert pieces[-1]["error"]["code"] == "upstream_gone"


@pytest.mark.parametrize(
    "job",
    [
        {"prompt": "Hello"},
        {"openai_route": 7},
        {"openai_route": "/serve/open", "openai_input": {}},
        {"openai_route": "/v1/../serve/open", "openai_input": {}},
        {"openai_route": "//elsewhere.example/v1/x", "openai_input": {}},
        {"openai_route": "/v1/models?x=1", "openai_input": {}},
        {"openai_route": "/v1/models\n", "openai_input": {}},
    ],
)
def test_what_is_no_job_reaches_no_server(run, engine, job):
    before = len(engine.asked)
    ((told),) = run(**job)["output"]
    assert told["error"]["code"] == "invalid_job"
    assert len(engine.asked) == before


def test_a_server_that_is_gone_is_an_error(folder):
    with served(folder, **{code.UPSTREAM: f"http://127.0.0.1:{free_port()}"}) as run:
        ((told),) = chat(run, "plain")
        assert told["error"]["code"] == "upstream_gone"


@pytest.fixture
def jobs(folder):
    """The worker's real loop: RunPod's channels on one side, a server on the other."""
    with ExitStack() as both:
        there, engine = both.enter_context(platform()), both.enter_context(upstream())
        env = {**environment(there), code.UPSTREAM: engine.url}
        yield there, engine, both.enter_context(worker(folder, **env))
        engine.go.set()  # the worker finishes what is under way


def job(id, mode, **more):
    return {"id": id, "input": {"openai_route": CHAT, "openai_input": {"model": mode, **more}}}


def until(results, kind, id):
    """What came out of a job on one channel."""
    while True:
        found = results.get(timeout=60)
        if found[:2] == (kind, id):
            return found[2]


def test_a_stream_is_sent_on_while_it_comes(jobs):
    there, engine, _ = jobs
    there.jobs.put(job("a", "waits", stream=True))
    assert until(there.results, "stream", "a")["output"].startswith(EVENT)
    engine.go.set()
    assert "".join(until(there.results, "done", "a")["output"]).endswith(DONE)


def test_a_refusal_fails_the_job_with_its_words(jobs):
    there, _, _ = jobs
    there.jobs.put(job("a", "refuses"))
    assert "no such effort" in until(there.results, "done", "a")["error"]


def test_a_cancelled_job_ends_its_request_and_no_other(jobs):
    there, engine, process = jobs
    there.jobs.put(job("a", "waits", stream=True))
    assert engine.came.wait(60)
    there.stops.put({"jobsToStop": ["a"]})
    assert engine.left.wait(60)  # the server sees the client go
    assert not engine.go.is_set()
    there.jobs.put(job("b", "plain"))
    assert "choices" in until(there.results, "done", "b")["output"][0]
    assert process.poll() is None


def test_jobs_run_beside_each_other(jobs):
    there, engine, _ = jobs
    there.jobs.put(job("a", "waits", stream=True))
    assert engine.came.wait(60)
    there.jobs.put(job("b", "plain"))
    assert "choices" in until(there.results, "done", "b")["output"][0]
    assert not engine.go.is_set()


def test_a_job_under_way_finishes_before_the_worker_stops(jobs):
    there, engine, process = jobs
    there.jobs.put(job("a", "waits", stream=True))
    assert engine.came.wait(60)
    process.send_signal(signal.SIGTERM)
    until(there.results, "stream", "a")
    assert process.poll() is None
    engine.go.set()
    assert "".join(until(there.results, "done", "a")["output"]).endswith(DONE)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out


@pytest.fixture
def child(folder, tmp_path):
    """The image with a stand-in for the engine under start.py."""
    root = tmp_path / "image"
    shutil.copytree(folder, root)
    manifest = json.loads((root / "deployment.json").read_text())
    model = str(folder.parent / "merged")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(sys.executable)

    def with_engine(mode=""):
        args = [sys.executable, str(STANDIN), model, mode]
        manifest["settings"]["deployment"] |= {"model_path": model, "port": free_port(), "args": args}
        (root / "deployment.json").write_text(json.dumps(manifest))
        return root

    with_engine.env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return with_engine


def test_jobs_are_taken_once_the_proven_server_is_ready_and_its_death_ends_the_worker(child):
    root = child()
    with platform() as there, worker(root, **environment(there), **child.env) as process:
        there.jobs.put({"id": "a", "input": {"openai_route": "/v1/models", "openai_input": {}}})
        assert until(there.results, "done", "a")["output"] == [{"usage": {"completion_tokens": 2}}]
        (server,) = (pid for pid in below(process.pid) if "start.py" in command(pid))
        group = below(server)  # in a container they end with its first process
        os.kill(server, signal.SIGKILL)
        process.wait(60)
        for pid in group:
            os.kill(pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the server ended with exit code -9" in out
        assert "completion_tokens" not in out  # nobody's answer stands in the log


def test_sigterm_ends_the_server_with_the_worker(child):
    root = child()
    with platform() as there, worker(root, **environment(there), **child.env) as process:
        there.jobs.put({"id": "a", "input": {"openai_route": "/v1/models", "openai_input": {}}})
        until(there.results, "done", "a")
        group = below(process.pid)
        assert len(group) >= 2  # start.py and its engine
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=90)
        assert process.returncode == 0, out
        assert [pid for pid in group if Path(f"/proc/{pid}").exists() and command(pid)] == []


def test_a_server_that_cannot_be_proven_takes_no_job(child):
    root = child("other")
    with platform() as there, worker(root, **environment(there), **child.env) as process:
        there.jobs.put({"id": "a", "input": {"openai_route": "/v1/models", "openai_input": {}}})
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "does not answer as the checkpoint's weights do" in out
        assert there.results.empty()


def below(pid):
    from engine import children

    return children(pid)


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.engine
def test_the_real_engine_answers_jobs(folder, endpoints):
    tuned = endpoints.tuned
    base = tuned.url.removesuffix("/v1")
    env = {code.UPSTREAM: base, code.UPSTREAM_KEY: "OPENAI_API_KEY", "OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]}
    asked = {
        "model": tuned.models[1],
        "messages": [{"role": "user", "content": "What does len return?"}],
        "reasoning_effort": "low",
        "max_tokens": 24,
    }
    with served(folder, **env) as run:
        (plain,) = run(openai_route=CHAT, openai_input=asked)["output"]
        assert plain["choices"][0]["finish_reason"] in {"stop", "length"}
        assert plain["model"] == tuned.models[0]  # vLLM answers under its first name
        pieces = run(openai_route=CHAT, openai_input={**asked, "stream": True})["output"]
        assert "".join(pieces).endswith(DONE)
        (wrong,) = run(openai_route=CHAT, openai_input={**asked, "reasoning_effort": "extreme"})["output"]
        assert wrong["error"]["status"] == 400
        (listed,) = run(openai_route="/v1/models", openai_input={})["output"]
        assert {m["id"] for m in listed["data"]} >= {tuned.models[1]}
