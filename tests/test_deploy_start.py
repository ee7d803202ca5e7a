"""start.py as the container runs it: from the rendered folder, with the rendered copy of our code and nothing else."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from deployment import make_checkpoint, rendered

SAY = "import os, tune.checkpoint as c; print(c.__file__, os.environ['VLLM_SYSTEM_START_DATE'], flush=True)"


@pytest.fixture
def container(tmp_path):
    """What the image holds as /opt/gptoss-kit, the weights beside it, and a stand-in for the engine's command."""
    out = rendered(tmp_path, "sagemaker")
    root = tmp_path / "image"
    shutil.copytree(out / "kit", root)
    shutil.copy(out / "start.py", root)
    manifest = json.loads((out / "deployment.json").read_text())
    manifest["settings"]["deployment"]["model_path"] = str(tmp_path / "merged")
    manifest["settings"]["deployment"]["args"] = [sys.executable, "-c", SAY]
    (root / "deployment.json").write_text(json.dumps(manifest))
    return root


def start(root, *arguments):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, root / "start.py", *arguments], env=env, stdout=-1, stderr=-1, text=True, cwd="/"
    )


def run(root, *arguments):
    process = start(root, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def engine(root, code):
    """Let `code` stand in for the engine."""
    manifest = json.loads((root / "deployment.json").read_text())
    manifest["settings"]["deployment"]["args"] = [sys.executable, "-c", code]
    (root / "deployment.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("arguments", [[], ["serve"]])
def test_the_proven_checkpoint_starts_with_the_rendered_code(container, arguments):
    code, out, err = run(container, *arguments)
    assert code == 0, err
    assert out.split() == [str(container / "tune" / "checkpoint.py"), "2026-01-01"]


def test_another_checkpoint_does_not_start(container, tmp_path):
    shutil.rmtree(tmp_path / "merged")
    make_checkpoint(tmp_path / "merged", name="another")
    code, out, err = run(container)
    assert (code, out) == (2, "")
    assert "holds another@" in err
    assert "Traceback" not in err


def test_half_a_checkpoint_does_not_start(container, tmp_path):
    (tmp_path / "merged" / "model.safetensors").unlink()
    code, out, err = run(container)
    assert (code, out) == (2, "")
    assert "lacks model.safetensors" in err


def test_weights_that_changed_on_the_way_do_not_start(container, tmp_path):
    weights = tmp_path / "merged" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, out, err = run(container)
    assert (code, out) == (2, "")
    assert "model.safetensors is not the file" in err
    assert "mount or copy the checkpoint again" in err


def test_an_argument_other_than_serve_is_refused(container):
    code, _, err = run(container, "train")
    assert code == 2
    assert "train" in err


def test_the_exit_status_is_the_engines(container):
    engine(container, "raise SystemExit(7)")
    assert run(container)[0] == 7


def test_a_stop_reaches_the_engine_and_waits_for_it(container):
    engine(
        container,
        "from signal import *\n"
        "pthread_sigmask(SIG_BLOCK, {SIGTERM})\n"
        "print('ready', flush=True)\n"
        "print(sigwait({SIGTERM}).name)\n"
        "raise SystemExit(5)",
    )
    process = start(container)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert out == "SIGTERM\n"
    assert process.returncode == 5
