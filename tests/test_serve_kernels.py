"""Kernels that are made beside the loading are those that a step asks for later: real Triton, for a GPU not there.

vLLM for a CPU brings no triton_kernels, so tests/stand_ins has one.
"""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from checkpoints import CONFIG, fill, finish
from test_serve_jobs import CPU, GPU, OPTIONS

from serve import jobs, kernels, launcher, preflight

ROOT = Path(__file__).parent.parent
STAND_IN = ROOT / "tests" / "stand_ins"
LATER = """
import json, sys
from serve import kernels
kernels._prepare()
print(json.dumps([kernels.make(32, tokens) for tokens in json.loads(sys.argv[1])]))
"""
STARTED = """
import os
from serve import kernels
kernels.begin()
print(os.environ["TRITON_CACHE_DIR"], os.wait()[1])
"""


def python(*words, path=(ROOT, STAND_IN), **env):
    """A process of ours, after its end."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONWARNINGS": "ignore", **env}
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False)


def test_no_step_makes_a_kernel_that_was_not_made_before(tmp_path):
    env = {kernels.CACHE: str(tmp_path), kernels.WANTED: "32 96"}
    first = python("-m", "serve.kernels", **env)
    assert first.stderr.startswith("serve.kernels: 7 kernels made for steps up to 96 tokens in "), first.stderr
    assert first.returncode == 0
    again = python("-m", "serve.kernels", **env)
    assert again.stderr.startswith("serve.kernels: 0 kernels made "), again.stderr
    asked = [*range(1, 97), 97]
    later = python("-c", LATER, json.dumps(asked), **env)
    assert later.stdout, later.stderr
    assert json.loads(later.stdout) == [0] * 96 + [1]


def test_the_engine_has_them_made_in_the_cache_that_it_uses_itself(tmp_path, monkeypatch):
    env = {"VLLM_CACHE_ROOT": str(tmp_path), kernels.WANTED: "32 1"}
    monkeypatch.delenv(kernels.CACHE, raising=False)
    done = python("-c", STARTED, **env)
    assert done.stdout.split() == [str(tmp_path / "triton"), "0"], done.stderr
    assert list((tmp_path / "triton").glob("*/_bits.cubin"))


def test_a_cache_that_is_named_is_used(tmp_path):
    done = python("-c", STARTED, **{kernels.CACHE: str(tmp_path / "mine"), kernels.WANTED: "32 1"})
    assert done.stdout.split() == [str(tmp_path / "mine"), "0"], done.stderr


def test_without_vllm_s_kernels_they_are_made_when_they_are_needed(tmp_path):
    done = python("-m", "serve.kernels", path=(ROOT,), **{kernels.WANTED: "32 1"})
    assert done.stderr == (
        "serve.kernels: kernels are made when they are first needed: No module named 'triton_kernels'\n"
    )


def test_nothing_is_started_for_an_engine_with_other_kernels(monkeypatch):
    monkeypatch.delenv(kernels.WANTED, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    kernels.begin()


def test_they_are_begun_before_the_engine_is(monkeypatch):
    done = []
    monkeypatch.setattr(launcher, "tied", nullcontext)
    monkeypatch.setattr(kernels, "begin", lambda: done.append("kernels"))
    monkeypatch.setattr(launcher, "_serve", lambda: done.append("engine"))
    monkeypatch.setattr(sys, "argv", ["serve.launcher"])
    launcher.main()
    assert done == ["kernels", "engine"]


HOPPER = GPU.model_copy(update={"model": "NVIDIA H100 80GB HBM3"})


@pytest.mark.parametrize(
    ("machine", "format", "wanted"),
    [
        (HOPPER, "mxfp4", f"{CONFIG['num_local_experts']} 8192"),
        (HOPPER, "merged", None),
        (GPU.model_copy(update={"model": "NVIDIA B200"}), "mxfp4", None),
        (CPU, "mxfp4", None),
    ],
)
def test_they_are_wanted_where_the_engine_has_them(tmp_path, machine, format, wanted):
    folder = fill(tmp_path / "one", format)
    finish(folder, format=format)
    found = preflight.check(folder, OPTIONS, machine)
    assert jobs.engine(found, OPTIONS).env.get(kernels.WANTED) == wanted


def test_experts_that_have_adapters_are_multiplied_by_another_kernel(tmp_path):
    folder = fill(tmp_path / "one", "mxfp4")
    finish(folder, format="mxfp4")
    told = OPTIONS.model_copy(update={"adapter_rank": 8, "adapter_experts": True})
    assert kernels.WANTED not in jobs.engine(preflight.check(folder, told, HOPPER), told).env
