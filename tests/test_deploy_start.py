"""start.py as the container runs it: from the rendered folder, with the rendered copy of our code and nothing else."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from checkpoints import CONFIG
from deployment import Project, make_checkpoint, rendered
from test_serve_kernels import HOPPER

from deploy.targets import start as entry
from serve import parts
from serve.cli import _free_port
from serve.command import Options
from serve.warming import waves
from tune.errors import UserError

STARTED = []
STANDIN = Path(__file__).parent / "standin.py"


def image(out, tmp_path):
    """What the image of a rendered folder holds as /opt/gptoss-kit."""
    root = tmp_path / "image"
    shutil.copytree(out / "kit", root)
    shutil.copy(out / "start.py", root)
    shutil.copy(out / "deployment.json", root)
    change(root, model_path=str(tmp_path / "merged"), port=_free_port("127.0.0.1"))
    return root


@pytest.fixture(autouse=True)
def ended():
    yield
    for process in STARTED:
        process.terminate()  # of a test that failed: it ends its engine, too
        process.communicate(timeout=60)
    STARTED.clear()


@pytest.fixture
def container(tmp_path):
    """An image, the weights beside it, and a stand-in for the engine."""
    out = rendered(tmp_path, "sagemaker", serve={"max_effort": "medium", "drain": 5, "hang_after": 7})
    root = image(out, tmp_path)
    engine(root)
    return root


@pytest.fixture
def host(tmp_path):
    """The second of two hosts, and an engine that writes down how it was started, and waits."""
    project = Project(tmp_path, "kubernetes", num_attention_heads=4, num_key_value_heads=2)
    root = image(project.folder(serve={"tensor_parallel": 2}, kubernetes={"hosts": 2}), tmp_path)
    program = "import json, os, sys, time; print(json.dumps([sys.argv[1:], [*os.environ]]), flush=True); time.sleep(60)"
    change(root, args=[sys.executable, "-c", program])
    return lambda: start(root, LWS_WORKER_INDEX="1", LWS_LEADER_ADDRESS="first.here", VLLM_HOST_IP="10.0.0.8")


def deployment(root):
    return json.loads((root / "deployment.json").read_text())["settings"]["deployment"]


def change(root, **values):
    manifest = json.loads((root / "deployment.json").read_text())
    manifest["settings"]["deployment"] |= values
    (root / "deployment.json").write_text(json.dumps(manifest))


def engine(root, mode=""):
    """Let the stand-in be the engine, with a fault of that name."""
    change(root, args=[sys.executable, str(STANDIN), deployment(root)["model_path"], mode])


def start(root, *arguments, **more):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), **more}
    command = [sys.executable, root / "start.py", *arguments]
    STARTED.append(subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True, cwd="/"))
    return STARTED[-1]


def run(root, *arguments):
    """Start it where it cannot become ready; its exit status and all it said."""
    process = start(root, *arguments)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


def ask(root, path):
    """The status of a path, 0 when nothing listens."""
    try:
        return httpx.get(f"http://127.0.0.1:{deployment(root)['port']}{path}", trust_env=False).status_code
    except httpx.TransportError:
        return 0


def until(process, holds):
    """Wait until something holds, while the process lives."""
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def test_a_host_is_told_which_of_several_it_is():
    """The first binds to its own address; the others find it by the name that stays when its pod is another."""
    alone = {"options": Options().model_dump(mode="json"), "limits": {"startup_seconds": 900}}
    assert entry.ranked(alone, {}) == (0, ())
    two = alone | {"options": parts.counted(Options(tensor_parallel=2), 2).model_dump(mode="json")}
    here = {"LWS_LEADER_ADDRESS": "docs-0.docs.default", "VLLM_HOST_IP": "10.0.0.7"}
    waits = ("--distributed-timeout-seconds", "1500")
    first, other = (entry.ranked(two, {**here, "LWS_WORKER_INDEX": rank}) for rank in "01")
    assert first == (0, ("--node-rank", "0", "--master-addr", "10.0.0.7", "--master-port", "29501", *waits))
    assert other == (1, ("--node-rank", "1", "--master-addr", "docs-0.docs.default", "--master-port", "29501", *waits))
    for name in (*here, "LWS_WORKER_INDEX"):
        with pytest.raises(UserError, match=f"{name} is not set"):
            entry.ranked(two, {key: value for key, value in {**here, "LWS_WORKER_INDEX": "1"}.items() if key != name})
    with pytest.raises(UserError, match="nobody says which"):
        entry.ranked(two, {**here, "LWS_WORKER_INDEX": "first"})


def test_the_first_of_several_hosts_waits_for_the_others_too(tmp_path):
    project = Project(tmp_path, "kubernetes", num_attention_heads=4, num_key_value_heads=2)
    told = deployment(project.folder(serve={"tensor_parallel": 2}, kubernetes={"hosts": 2}, startup_seconds=900))
    told["model_path"] = str(project.checkpoint)
    made = entry.job(told, ("--node-rank", "0"))
    assert made.ready_timeout == 900 + 600
    assert made.command.argv[-2:] == ["--node-rank", "0"]
    assert entry.job(told).ready_timeout == 900


def test_another_host_has_its_part_of_the_engine_and_no_server(host):
    process = host()
    words, env = json.loads(process.stdout.readline())
    assert words[:6] == ["--node-rank", "1", "--master-addr", "first.here", "--master-port", "29501"]
    assert words[6:] == ["--distributed-timeout-seconds", "2400", "--headless"]
    assert "VLLM_SYSTEM_START_DATE" in env
    assert "GPTOSS_SERVE_SETTINGS" not in env
    process.terminate()
    assert process.communicate(timeout=60) is not None
    assert process.returncode == 0


def test_another_host_s_file_that_is_not_the_checkpoint_s_ends_its_part(host, tmp_path):
    weights = tmp_path / "merged" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    process = host()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "model.safetensors" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("arguments", "env"), [([], {}), (["serve"], {"XDG_CACHE_HOME": "/proc/no cache"})])
def test_the_proven_checkpoint_is_served_by_the_rendered_code_until_a_stop(container, arguments, env):
    process = start(container, *arguments, **env)
    assert process.stdout.readline().split() == ["started", str(container / "tune" / "checkpoint.py"), "2026-01-01"]
    until(process, lambda: ask(container, "/ping") == 200)
    assert ask(container, "/readyz") == 200
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "ended\n"  # the engine drained and ended by itself
    assert ask(container, "/livez") == 0


def test_the_server_is_told_what_the_recipe_says(container, tmp_path):
    job = entry.job(deployment(container))
    assert (job.policy.maximum, job.drain, job.hang_after) == ("medium", 5, 7)
    several = deployment(container)
    several["options"]["data_parallel"] = 2
    assert (job.ranks, entry.job(several).ranks) == (1, 2)  # each group of GPUs is proven
    assert (job.ready_timeout, job.log, job.host) == (1800, None, deployment(container)["options"]["host"])
    assert job.checkpoint.folder == tmp_path / "merged"
    assert job.command.env == deployment(container)["env"]


def test_a_gpu_s_engine_is_warmed_in_the_container_too(container, monkeypatch):
    assert entry.job(deployment(container)).waves == ()  # no GPU here
    monkeypatch.setattr(entry.machine, "detect", lambda: HOPPER)
    told = deployment(container)
    assert entry.job(told).waves == waves(told["options"]["max_model_len"], 8192, CONFIG["num_local_experts"])
    monkeypatch.setattr(entry.kernels, "env", lambda found, gpu, *step: {"WANTED": f"{found.format} {gpu} {step}"})
    wanted = {"WANTED": f"merged {HOPPER.model} {(CONFIG['num_local_experts'], 8192)}"}
    assert entry.job(told).command.env == told["env"] | wanted


def test_nobody_is_let_in_while_the_files_are_being_digested(container, tmp_path):
    go = tmp_path / "go"
    slow = f"import time\n        while not Path({str(go)!r}).exists():\n            time.sleep(0.05)"
    before_the_digests(container, slow)  # a disk that takes its time
    process = start(container)
    until(process, lambda: ask(container, "/livez") == 200)
    until(process, lambda: "being proven" in process.stderr.readline())
    assert {ask(container, path) for path in ("/health", "/readyz", "/ping", "/v1/models")} == {503}
    go.touch()
    until(process, lambda: ask(container, "/ping") == 200)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


def before_the_digests(root, code):
    """Let the proof run some lines before it digests the files."""
    script, verify = root / "start.py", "        checkpoint.verify("
    assert script.read_text().count(verify) == 1
    script.write_text(script.read_text().replace(verify, f"        {code}\n{verify}"))


def test_a_file_that_goes_away_while_the_engine_loads_is_no_traceback(container):
    before_the_digests(container, "Path('/gone/x').read_bytes()")
    code, _, err = run(container)
    assert code == 2
    assert "/gone/x cannot be used\n  why: No such file or directory" in err


def test_a_bug_of_ours_is_told_from_what_the_user_must_change(container):
    before_the_digests(container, "1 / 0")
    process = start(container)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 70
    assert "ZeroDivisionError" in err
    assert "ready after" not in err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {"deployment": {"options": {"port": "x"}}}}'])
def test_a_deployment_that_was_written_over_does_not_start(container, text):
    (container / "deployment.json").write_text(text)
    code, out, err = run(container)
    assert (code, out) == (2, "")
    assert "deployment.json is not what was rendered" in err


def test_another_checkpoint_does_not_start(container, tmp_path):
    shutil.rmtree(tmp_path / "merged")
    make_checkpoint(tmp_path / "merged", name="another")
    code, out, err = run(container)
    assert (code, out) == (2, "")
    assert "holds another@" in err


def test_half_a_checkpoint_does_not_start(container, tmp_path):
    (tmp_path / "merged" / "model.safetensors").unlink()
    code, out, err = run(container)
    assert (code, out) == (2, "")
    assert "lacks model.safetensors" in err


def test_what_cannot_be_served_as_it_is_told_does_not_start(container):
    change(container, options={**deployment(container)["options"], "max_model_len": 200_000})
    code, out, err = run(container)
    assert (code, out) == (2, "")
    assert "max_model_len 200000 is over the model's 4096" in err


def test_weights_cut_short_on_the_way_do_not_start(container, tmp_path):
    weights = tmp_path / "merged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, out, err = run(container)
    assert (code, out) == (2, "")
    assert "model.safetensors is damaged" in err


def test_weights_that_changed_on_the_way_are_never_served(container, tmp_path):
    weights = tmp_path / "merged" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, _, err = run(container)
    assert code == 2
    assert "model.safetensors is not the file" in err
    assert "mount or copy the checkpoint again" in err
    assert "ready after" not in err


@pytest.mark.parametrize("name", ["notes.bin", "model-00002-of-00002.safetensors"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "while it loads"])
def test_a_file_that_the_manifest_does_not_name_is_never_served(container, tmp_path, name, late):
    stray = tmp_path / "merged" / name
    if late:
        before_the_digests(container, f"Path({str(stray)!r}).write_bytes(b'x')")
    else:
        stray.write_bytes(b"x")
    code, out, err = run(container)
    assert code == 2
    assert late or not out  # what can be seen at once is seen before the engine is started
    assert name in err
    assert "ready after" not in err


KEYED = {"key_env": "VLLM_API_KEY"}


def keyed(root):
    """Let the deployment ask for the key that a variable holds."""
    settings = json.loads(deployment(root)["env"]["GPTOSS_SERVE_SETTINGS"]) | KEYED
    env = deployment(root)["env"] | {"GPTOSS_SERVE_SETTINGS": json.dumps(settings)}
    change(root, options=deployment(root)["options"] | KEYED, env=env)


def test_the_key_that_the_deployment_names_is_asked_for(container):
    keyed(container)
    process = start(container, VLLM_API_KEY="sk-mine")
    until(process, lambda: ask(container, "/ping") == 200)  # the supervisor got in with it, too
    url = f"http://127.0.0.1:{deployment(container)['port']}/v1/models"
    tokens = ("", "Bearer sk-other", "Bearer sk-mine")
    assert [httpx.get(url, headers={"authorization": t}, trust_env=False).status_code for t in tokens] == [
        401,
        401,
        200,
    ]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "sk-mine" not in out + err


@pytest.mark.parametrize(("key", "says"), [("", "is empty"), ("my key", "no header"), ("mykey\n", "no header")])
def test_without_the_key_that_it_names_nothing_starts(container, monkeypatch, key, says):
    keyed(container)
    process = start(container, VLLM_API_KEY=key)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert f"VLLM_API_KEY {'holds what ' if key else ''}{says}" in err
    assert not key or key.strip() not in err


def test_without_a_name_no_key_is_asked_for(container, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "sk-of-something-else")
    assert entry.job(deployment(container)).key == ""


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("today", "does not show the model the prompt it was trained on"),
        ("other", "does not answer as the checkpoint's weights do"),
        ("dies", "the engine stopped with exit code 7"),
    ],
)
def test_an_engine_that_is_not_as_proven_is_never_served(container, mode, says):
    engine(container, mode)
    code, out, err = run(container)
    assert code == 2
    assert out.startswith("started ")
    assert says in err
    assert "ready after" not in err


def test_an_argument_other_than_serve_is_refused(container):
    code, _, err = run(container, "train")
    assert code == 2
    assert "train" in err
