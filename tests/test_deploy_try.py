"""`deploy try`: each rendered folder's container command as a process here, up to the platform's own health path."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from deployment import make_checkpoint, make_report, rendered

from deploy import cli, here, rehearsing, render
from deploy.here import Here
from serve.cli import _free_port
from serve.machine import Machine
from tune import artefact, checkpoint
from tune.errors import UserError
from tune.recipe import Recipe

STANDIN = Path(__file__).parent / "standin.py"
STARTED = []
OURS = ("compose", "modal", "runpod", "sagemaker")  # targets that run start.py
CPU = Machine(device="cpu", cores=4, memory=64 * 2**30, vllm="0.32.0")


@pytest.fixture(autouse=True)
def ended():
    yield
    for process in STARTED:
        process.terminate()  # of a test that failed
        process.communicate(timeout=60)
    STARTED.clear()


def stand_in(folder):
    """Let the stand-in be the engine that the rendered kit starts, and the folder be what was rendered."""
    program = (
        "import runpy, sys\n"
        "if __name__ == '__main__':\n"
        "    folder = sys.argv[sys.argv.index('--model') + 1]\n"
        f"    sys.argv[:] = ['standin', folder]\n    runpy.run_path({str(STANDIN)!r}, run_name='__main__')\n"
    )
    made = artefact.read(folder, "deployment", remake="")
    (folder / "kit/serve/launcher.py").write_text(program)
    artefact.finish(folder, "deployment", inputs=made.inputs, settings=made.settings)


def start(folder, *options, **env):
    command = [sys.executable, "-m", "deploy", "try", str(folder), *options]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **env}
    STARTED.append(subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True))
    return STARTED[-1]


def url_of(process):
    """What it prints once the platform would send requests; the engine's first words go to the same place."""
    while line := process.stdout.readline():
        if line.startswith("http"):
            return line.split()
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize(("target", "least"), [*((target, 0) for target in OURS), ("runpod", 1)])
def test_the_container_command_runs_here_until_a_stop(tmp_path, target, least):
    folder = rendered(tmp_path, target, min_replicas=least)
    stand_in(folder)
    port = _free_port("127.0.0.1")
    process = start(folder, "--port", str(port))  # the checkpoint lies near
    assert "gptoss-try-" in process.stdout.readline()  # where the engine's tune came from: the kit alone
    url, _, model, health, *_ = url_of(process)
    assert url.startswith(f"http://127.0.0.1:{port}/")
    assert url.endswith("/invocations" if target == "sagemaker" else "/v1")
    assert model == checkpoint.read(tmp_path / "merged").served_name
    # RunPod's load balancer asks balanced.py, at the port after the server's; its queue and the others the server.
    door = f"{port}{health}"
    if least:
        assert health == f":{port + 1}/ping"
        door = health[1:]
    assert httpx.get(f"http://127.0.0.1:{door}", trust_env=False).status_code == 200
    process.send_signal(signal.SIGINT if target == "compose" else signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.endswith("ended\n"), "the engine was killed, or drained not"
    assert "Traceback" not in err
    assert ("left out: handler.py" in err) == (target == "runpod" and not least)
    assert not list(Path("/tmp").glob("gptoss-try-*/deployment.json"))


def test_the_key_of_the_host_is_asked_for(tmp_path):
    folder = rendered(tmp_path, "compose", secrets={"VLLM_API_KEY": "MY_KEY"})
    stand_in(folder)
    port = _free_port("127.0.0.1")
    process = start(folder, "--port", str(port), MY_KEY="sk-here")
    url, *_ = url_of(process)
    statuses = [
        httpx.get(f"{url}/models", headers=headers, trust_env=False).status_code
        for headers in ({}, {"authorization": "Bearer no"}, {"authorization": "Bearer sk-here"})
    ]
    assert statuses == [401, 401, 200]
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert "sk-here" not in out + err


def test_without_its_key_it_does_not_start(tmp_path):
    folder = rendered(tmp_path, "compose", secrets={"VLLM_API_KEY": "MY_KEY"})
    stand_in(folder)
    process = start(folder, "--port", str(_free_port("127.0.0.1")), VLLM_API_KEY="sk-not-this-one")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "VLLM_API_KEY is empty" in err


def test_another_checkpoint_stands_in_and_that_is_said(tmp_path):
    folder = rendered(tmp_path, "modal")
    stand_in(folder)
    other = make_checkpoint(tmp_path / "elsewhere" / "small", name="small")
    process = start(folder, "--port", str(_free_port("127.0.0.1")), "--checkpoint", str(other.folder))
    assert url_of(process)[2] == other.served_name
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert f"{other.served_name} stands in for python-docs@" in err
    assert process.returncode == 0


def refused(*arguments):
    result = CliRunner().invoke(cli.main, ["try", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    return result.output


def test_what_cannot_be_tried_is_said(tmp_path):
    folder = rendered(tmp_path, "compose")
    shutil.move(tmp_path / "merged", tmp_path / "deploy" / "far" / "merged")
    assert "does not lie near" in refused(folder)
    (folder / "start.py").write_text("print('mine')")
    assert "start.py is not the file" in refused(folder)
    shutil.rmtree(folder / "kit")
    assert "deploy render" in refused(folder)
    assert "deploy render" in refused(tmp_path)


def deployment(tmp_path, **serve):
    folder = rendered(tmp_path, "sagemaker", serve=serve)
    return rehearsing.opened(folder), checkpoint.look(tmp_path / "merged")


def test_a_cpu_engine_is_not_told_of_gpus(tmp_path):
    told, found = deployment(tmp_path, tensor_parallel=1, data_parallel=8)
    made = here.translate(told, found, CPU, 9000)
    assert not {"--gpu-memory-utilization", "--data-parallel-size"} & {*made.deployment["args"]}
    assert "--kv-cache-memory-bytes" in made.deployment["args"]
    assert "--gpu-memory-utilization 0.92" in made.notes[0]
    assert "--data-parallel-size 8" in made.notes[0]
    gpu = here.translate(told, found, CPU.model_copy(update={"device": "cuda"}), 9000)
    assert gpu.notes == ()
    assert (
        gpu.deployment["args"][1:]
        == [  # what the container is told, but for its places
            {told.model_path: str(found.folder.resolve()), "0.0.0.0": "127.0.0.1", "8080": "9000"}.get(word, word)
            for word in told.args[1:]
        ]
    )
    assert gpu.deployment["env"] == told.env
    assert (gpu.health, gpu.arguments, gpu.grace) == ("/ping", ("serve",), 30)


def test_what_memory_does_not_hold_is_not_started(tmp_path):
    told, found = deployment(tmp_path)
    with pytest.raises(UserError, match="memory does not hold"):
        here.translate(told, found, CPU.model_copy(update={"memory": 2**30}), 9000)


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path):
    folder = rendered(tmp_path, "runpod", min_replicas=1)
    with socket.create_server(("", 0)) as taken:
        before = taken.getsockname()[1] - 1
        assert f"port {before + 1}, where runpod asks how the server is, is taken" in refused(folder, "--port", before)


def run(tmp_path, program, grace=30):
    """What comes of a start.py that is this program."""
    told = Here({"port": _free_port("127.0.0.1"), "model": "m"}, "/ping", (), grace, ())
    (tmp_path / "start.py").write_text(program)
    return rehearsing.serve(tmp_path, told, rehearsing.opened(rendered(tmp_path, "compose")), print)


def test_the_exit_status_of_a_start_that_fails_is_ours(tmp_path):
    assert run(tmp_path, "raise SystemExit(70)") == 70


def test_what_the_platform_would_have_killed_is_an_error(tmp_path):
    deaf = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\nwhile True:\n    time.sleep(1)\n"
    )
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UserError, match="did not end within the 1 s"):
        run(tmp_path, deaf, grace=1)
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.engine
def test_sagemaker_s_container_answers_on_the_real_engine(story, tmp_path):
    """`serve` as the argument, /ping and /invocations at 8080's place, SIGTERM within the 30 s that SageMaker gives."""
    tuned = checkpoint.read(story.folder / "work/merged")
    base = checkpoint.read(story.folder / "work/nano")
    sent = {"base": base.digest, "tuned": tuned.digest}
    proof = make_report(tmp_path / "report.json", tuned, base=base.served_name, header=sent)
    folder = tmp_path / "sagemaker"
    recipe = Recipe.model_validate({"serve": {"max_model_len": 1024}})
    render.render("sagemaker", recipe=recipe, checkpoint=tuned.folder, report=proof, out=folder)
    port = _free_port("127.0.0.1")
    process = start(folder, "--port", str(port), "--checkpoint", str(tuned.folder))
    url, *_ = url_of(process)
    body = {"messages": [{"role": "user", "content": "What does len return?"}], "max_tokens": 8}
    with httpx.Client(trust_env=False, timeout=120) as http:
        assert http.get(f"http://127.0.0.1:{port}/ping").status_code == 200
        answer = http.post(url, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 8
    assert answer.headers["x-model-digest"] == tuned.digest
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
