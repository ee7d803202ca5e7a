"""The rendered Modal app, imported by the real SDK in a clean process: no token, no home, warnings as errors."""

import json
import os
import subprocess
import sys

import pytest
from deployment import rendered

LOOK = """
import json, app
print(json.dumps({"app": app.app.name, "server": type(app.Server).__name__, "deployment": app.DEPLOYMENT["model"]}))
"""


def imports(folder, tmp_path):
    """Import app.py as `modal deploy` would, and say what came of it."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )


def test_the_app_imports_without_a_token(tmp_path):
    out = rendered(tmp_path, "modal", secrets={"HF_TOKEN": "hf-token"}, max_replicas=3)
    result = imports(out, tmp_path)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["app"] == "python-docs"
    assert seen["server"] == "Server"
    assert seen["deployment"].startswith("python-docs@")


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
