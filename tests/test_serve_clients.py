"""The clients that people have, each in an environment of its own, against the real engine: what they do by default.

`make clients` makes the environments and runs this. Says nothing about the quality of answers.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tune.harmony import RANKS, decode

pytestmark = pytest.mark.engine

HERE = Path(__file__).parent / "clients"
PINS = {path.stem: path.read_text().split() for path in sorted((HERE / "requirements").glob("*.txt"))}
FOLDER = ".venv-clients"


def script(name):
    """Of several versions of a package there is one script."""
    return HERE / f"with_{name.rstrip('0123456789')}.py"


def program(name):
    """What runs a client's script, and what the script finds in its environment; skips where there is none."""
    variable = f"GPTOSS_CLIENT_{name.upper()}"
    given = os.environ.get(variable, "")
    if given:
        return (sys.executable if name == "codex" else given), {variable: given}
    package, _, pinned = PINS[name][0].partition("==")
    try:
        if version(package) == pinned:
            return sys.executable, {}
    except (PackageNotFoundError, ValueError):
        pass
    pytest.skip(f"{variable} names no program: make {FOLDER}/{name}/.ready, or make clients for all")


@pytest.fixture(scope="session")
def bias():
    """Against what a schema lets a tiny model say for ever, or spell: white space, and the format's words as text."""
    texts = {id: decode([id]).strip() for id in range(RANKS)}
    spelled = {id: -100 for id, text in texts.items() if text and (text == "<" or "json".startswith(text))}
    return json.dumps({**{id: -50 for id, text in texts.items() if not text}, **spelled})


def test_every_client_has_its_script_and_every_script_a_client():
    assert {script(name) for name in PINS} == set(HERE.glob("with_*.py"))


def run(command, env, folder):
    """What a program in an environment of its own says."""
    known = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    told = subprocess.run(command, cwd=folder, env={**known, **env}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def test_the_agent_of_readme_runs_unchanged(endpoints, tmp_path):
    python, env = program("agents")
    example = HERE.parent.parent / "examples/agent.py"
    assert run([python, str(example), endpoints.tuned.url, endpoints.tuned.models[0]], env, tmp_path)


@pytest.mark.parametrize("name", PINS)
def test_a_client_does_what_it_does_by_default(name, endpoints, bias, tmp_path):
    python, env = program(name)
    command = [python, str(script(name)), endpoints.base.url, endpoints.base.models[0]]
    told = run(command, {**env, "CLIENT_LOGIT_BIAS": bias}, tmp_path)
    assert {"low", "medium", "high"} <= set(told.replace(",", " ").split())
