"""The rendered Modal app, imported by the real SDK in a clean process: no token, no home, warnings as errors."""

import inspect
import json
import os
import shutil
import socket
import subprocess
import sys

import httpx
import modal
import pytest
from deployment import rendered
from test_deploy_checks import examine, ids
from test_deploy_start import ask, change, deployment, engine, run, start, until

from deploy.targets import modal as target
from serve.cli import _free_port

LOOK = """
import json, app
print(json.dumps({"app": app.app.name, "server": type(app.Server).__name__, "args": sorted(app.SPEC["server"])}))
"""


def imports(folder, tmp_path, code=LOOK):
    """Import app.py as `modal deploy` would, and say what came of it."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )


def test_the_app_imports_without_a_token(tmp_path):
    out = rendered(tmp_path, "modal", secrets={"HF_TOKEN": "hf-token"}, max_replicas=3)
    result = imports(out, tmp_path)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["app"] == "python-docs"
    assert seen["server"] == "Server"
    assert {*seen["args"]} < {*inspect.signature(modal.App.server).parameters}


TOLD = """
import app, inspect, json
from modal._utils.async_utils import synchronizer
info = app.Server.info()
function = synchronizer._translate_in(app.Server._get_service_function())
scaling = inspect.getclosurevars(function._load).nonlocals["autoscaler_settings"]
print(json.dumps({
    "unauthenticated": info.unauthenticated,
    "port": info.port,
    "gpus": info.gpus,
    "startup": info.startup_timeout,
    "grace": info.exit_grace_period,
    "volumes": {path: [volume.name, volume.read_only] for path, volume in info.volumes.items()},
    "scaling": [scaling.min_containers, scaling.max_containers, scaling.scaledown_window],
    "concurrency": scaling.target_concurrency_float,
    "regions": [info.routing_region, info.compute_regions],
}))
"""


def test_the_sdk_would_tell_modal_what_the_recipe_says(tmp_path):
    recipe = {"min_replicas": 2, "max_replicas": 5, "idle_seconds": 77, "concurrency": 9, "startup_seconds": 600}
    out = rendered(tmp_path, "modal", serve={"drain": 7}, gpu="H200", modal={"region": "eu-north"}, **recipe)
    result = imports(out, tmp_path, TOLD)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "unauthenticated": False,
        "port": 8000,
        "gpus": [["H200", 1]],
        "startup": 600,
        "grace": 27,
        "volumes": {"/models": ["python-docs-models", True], "/cache": ["python-docs-cache", False]},
        "scaling": [2, 5, 77],
        "concurrency": 9,
        "regions": ["eu-west", ["eu-north"]],
    }


def edit(out, **server):
    """Tell Modal something else of the server; None leaves it out."""
    path = out / "modal.json"
    spec = json.loads(path.read_text())
    spec["server"] = {k: v for k, v in {**spec["server"], **server}.items() if v is not None}
    path.write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("server", "complaint"),
    [
        ({"start_up_timeout": 600}, "unexpected keyword"),
        ({"port": 70000}, "Port must be"),
        ({"scaledown_window": 1}, "scaledown_window"),
        ({"exit_grace_period": 3601}, "must not exceed 3600"),
        ({"target_concurrency": "many"}, "target_concurrency"),
    ],
)
def test_the_import_catches_what_the_sdk_refuses(tmp_path, server, complaint):
    out = rendered(tmp_path, "modal")
    edit(out, **server)
    result = imports(out, tmp_path)
    assert result.returncode != 0
    assert complaint in result.stderr


def test_the_longest_drain_is_one_that_modal_takes(tmp_path):
    found = examine(tmp_path / "checked", serve={"max_model_len": 2048, "drain": 7200})
    assert [f.fix for f in found.findings if f.id == "D024"] == ["[serve] drain = 3580"]
    assert imports(rendered(tmp_path, "modal", serve={"drain": 7200}), tmp_path).returncode == 0
    held = examine(tmp_path / "held", serve={"max_model_len": 2048, "drain": 3580})
    assert "D024" not in ids(held)


def test_the_app_imports_in_the_container_with_what_lies_there(tmp_path):
    out = rendered(tmp_path, "modal")
    inside = tmp_path / "root"
    inside.mkdir()
    for name in ("app.py", "modal.json"):  # what Modal takes along by itself, and what the image adds beside it
        shutil.copy(out / name, inside)
    assert '"/root/modal.json"' in (out / "app.py").read_text()
    result = imports(inside, tmp_path)
    assert result.returncode == 0, result.stderr


def test_what_modal_is_told(tmp_path, golden):
    secrets = {"VLLM_API_KEY": "front-door", "HF_TOKEN": "hub", "OTHER": "hub"}
    out = rendered(tmp_path, "modal", modal={"auth": "key", "region": "us-west"}, secrets=secrets)
    golden("deploy/modal/modal.json", (out / "modal.json").read_text())
    assert imports(out, tmp_path).returncode == 0
    assert json.loads((out / "modal.json").read_text())["secrets"] == {
        "front-door": ["VLLM_API_KEY"],
        "hub": ["HF_TOKEN", "OTHER"],
    }
    deployment = json.loads((out / "deployment.json").read_text())["settings"]["deployment"]
    assert deployment["options"]["key_env"] == "VLLM_API_KEY"
    assert json.loads(deployment["env"]["GPTOSS_SERVE_SETTINGS"])["key_env"] == "VLLM_API_KEY"
    assert "VLLM_API_KEY" in (out / "README.md").read_text()
    assert "MODAL_KEY" not in (out / "README.md").read_text()


def built(tmp_path, *programs, vllm=True):
    """Modal's own lines for the image, ours in the middle, run by a shell that finds `programs` alone as Pythons."""
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("dirname", "ln"):
        (path / name).symlink_to(shutil.which(name))
    packages = tmp_path / "packages"
    (packages / "vllm").mkdir(parents=True)
    for name in programs:
        home = packages if vllm else tmp_path / "nowhere"
        (path / name).write_text(f'#!/bin/sh\nPYTHONPATH={home} exec {sys.executable} -S "$@"\n')
        (path / name).chmod(0o755)
    lines = modal.image._Image._registry_setup_commands("docker.io/vllm/vllm-openai", "2026.10", list(target.SETUP))
    assert lines == ["FROM docker.io/vllm/vllm-openai", *target.SETUP]
    script = "set -e\n" + "\n".join(line.removeprefix("RUN ") for line in lines[1:])
    return path, subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": str(path)}, cwd=tmp_path, capture_output=True, text=True
    )


def test_the_image_has_a_python_that_is_the_engines_own(tmp_path):
    path, result = built(tmp_path, "python3")
    assert result.returncode == 0, result.stderr
    assert (path / "python").readlink().name == "python3"


def test_an_image_that_has_a_python_keeps_it(tmp_path):
    path, result = built(tmp_path, "python3", "python")
    assert result.returncode == 0, result.stderr
    assert not (path / "python").is_symlink()


@pytest.mark.parametrize("programs", [["python3"], ["python"], []])
def test_an_image_without_the_engine_does_not_build(tmp_path, programs):
    _, result = built(tmp_path, *programs, vllm=False)
    assert result.returncode != 0
    assert "python has no vLLM" in result.stderr or not programs


@pytest.mark.parametrize(
    ("table", "secrets", "id"),
    [
        ({"region": "us-east-1"}, {}, "D080"),
        ({"region": "zz-nowhere-9"}, {}, "D080"),
        ({"auth": "key"}, {}, "D081"),
        ({"auth": "key"}, {"HF_TOKEN": "VLLM_API_KEY"}, "D081"),
        ({}, {"VLLM_API_KEY": "front-door"}, "D082"),
    ],
)
def test_each_rule_of_modal_can_break_and_hold(tmp_path, table, secrets, id):
    found = examine(tmp_path / "bad", modal=table, secrets=secrets)
    assert [f.id for f in found.errors] == [id]
    good = {"region": "eu", "auth": "key"}
    assert examine(tmp_path / "good", modal=good, secrets={"VLLM_API_KEY": "front-door"}).errors == ()


def test_no_snapshot_is_offered(tmp_path):
    with pytest.raises(ValueError, match="snapshot"):
        examine(tmp_path, modal={"snapshot": True})


START = """
import signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Door(BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Door.asked += 1
        {seen}
        self.send_response(200 if self.path == "/readyz" and Door.asked > 2 else 503)
        self.end_headers()
    def log_message(self, *_): pass

server = HTTPServer(("127.0.0.1", {port}), Door)
while Door.asked < 3:
    server.handle_request()
{then}
"""
REPLICA = """
import app, threading
app.ROOT, app.SPEC["server"]["port"] = ".", {port}
server = app.Server._get_user_cls()()
server.start()
{then}
for thread in threading.enumerate():
    if "end_with" in thread.name:
        thread.join()
print("stopped")
"""


def replica(tmp_path, *, start=START, seen="", child="", then=""):
    """One replica as Modal would run it, on this machine, with a start.py that listens and then does `child`; `seen`
    is done at each request, before its answer."""
    out = rendered(tmp_path, "modal")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (out / "start.py").write_text(start.format(port=port, seen=seen, then=child))
    return imports(out, tmp_path, REPLICA.format(port=port, then=then))


@pytest.mark.parametrize(("code", "ends"), [(7, 7), (0, 1)])
def test_the_container_ends_with_the_server(tmp_path, code, ends):
    result = replica(tmp_path, child=f"raise SystemExit({code})")
    assert (result.returncode, result.stdout, result.stderr) == (ends, "", "")


def test_a_server_that_ends_before_it_is_ready_is_not_waited_for(tmp_path):
    result = replica(tmp_path, start="raise SystemExit(2)")
    assert (result.returncode, result.stdout) == (1, "")
    assert "RuntimeError: the server exited, see the log above" in result.stderr


def test_a_server_that_listens_but_is_not_ready_is_waited_for(tmp_path):
    seen = "sys.stdout.write('asked\\n'); sys.stdout.flush()"
    result = replica(tmp_path, seen=seen, child="signal.pause()", then="server.stop()")
    assert (result.returncode, result.stdout) == (0, "asked\nasked\nasked\nstopped\n"), result.stderr


def test_a_stop_is_no_failure(tmp_path):
    result = replica(tmp_path, child="signal.pause()", then="server.stop()")
    assert (result.returncode, result.stdout) == (0, "stopped\n"), result.stderr


def test_our_own_door_asks_for_the_key_and_the_supervisor_has_it(tmp_path):
    table = {"modal": {"auth": "key"}, "secrets": {"VLLM_API_KEY": "front-door"}}
    out = rendered(tmp_path, "modal", serve={"drain": 5}, **table)
    root = tmp_path / "image"
    shutil.copytree(out / "kit", root)
    shutil.copy(out / "start.py", root)
    shutil.copy(out / "deployment.json", root)
    change(root, model_path=str(tmp_path / "merged"), port=_free_port("127.0.0.1"))
    engine(root)
    code, _, err = run(root)
    assert code == 2
    assert "VLLM_API_KEY is empty" in err
    process = start(root, VLLM_API_KEY="a-key")
    try:
        until(process, lambda: ask(root, "/readyz") == 200)
        url = f"http://127.0.0.1:{deployment(root)['port']}/v1/models"
        told = [
            httpx.get(url, headers=head, trust_env=False).status_code for head in ({}, bearer("b"), bearer("a-key"))
        ]
        assert told == [401, 401, 200]
    finally:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "a-key" not in err


def bearer(key):
    return {"Authorization": f"Bearer {key}"}
