"""The rendered Modal app, imported by the real SDK in a clean process: no token, no home, warnings as errors."""

import json
import os
import socket
import subprocess
import sys

import pytest
from deployment import rendered

LOOK = """
import json, app
print(json.dumps({"app": app.app.name, "server": type(app.Server).__name__, "deployment": app.DEPLOYMENT["model"]}))
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
    assert seen["deployment"].startswith("python-docs@")


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
}))
"""


def test_the_sdk_would_tell_modal_what_the_recipe_says(tmp_path):
    recipe = {"min_replicas": 2, "max_replicas": 5, "idle_seconds": 77, "concurrency": 9, "startup_seconds": 600}
    out = rendered(tmp_path, "modal", serve={"drain": 7}, gpu="H200", **recipe)
    result = imports(out, tmp_path, TOLD)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "unauthenticated": False,
        "port": 8000,
        "gpus": [["H200", 1]],
        "startup": 600,
        "grace": 27,
        "volumes": {"/models": ["python-docs-models", True]},
        "scaling": [2, 5, 77],
        "concurrency": 9,
    }


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("startup_timeout=", "start_up_timeout=", "unexpected keyword"),
        ('port=DEPLOYMENT["port"]', "port=70000", "Port must be"),
        ('scaledown_window=SCALING["idle_seconds"]', "scaledown_window=1", "scaledown_window"),
        ('"/models": weights', '"models": weights', "absolute"),
    ],
)
def test_the_import_catches_what_the_sdk_refuses(tmp_path, old, new, complaint):
    out = rendered(tmp_path, "modal")
    app = out / "app.py"
    assert old in app.read_text()
    app.write_text(app.read_text().replace(old, new))
    result = imports(out, tmp_path)
    assert result.returncode != 0
    assert complaint in result.stderr


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
app.ROOT, app.DEPLOYMENT["port"] = ".", {port}
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
