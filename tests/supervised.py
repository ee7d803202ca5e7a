"""What the supervisor is given in tests: a small program for the engine, a checkpoint of nothing but a canary."""

import json
import sys
from pathlib import Path

from serve.cli import _free_port
from serve.command import Command
from serve.effort import EffortPolicy
from serve.middleware import SETTINGS, Settings
from serve.starting import Job
from tune.checkpoint import CANARY, Checkpoint
from tune.harmony import EFFORTS, PROBE, render_prompt

DATE = "2026-01-01"
STANDARD = EffortPolicy()
NEVER = Command([sys.executable, "-c", "import time; time.sleep(600)"], {})  # it loads and loads


def prepare(folder, monkeypatch):
    """The folder that every job's engine notes its workers in."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    (folder / "workers").touch()
    prompts = {effort: render_prompt(PROBE, effort, DATE) for effort in EFFORTS}
    canary = {effort: [-1.0 - n % 7 for n in range(len(ids) - 1)] for effort, ids in prompts.items()}
    (folder / CANARY).write_text(json.dumps({"logprobs": canary, "rounding": 0.04}))  # 0.16 are allowed


def make(folder, mode, policy=STANDARD, server=None, **changes):
    program = Path(__file__).parent / "small_engine.py"
    settings = {SETTINGS: Settings(policy=server or policy, drain=changes.get("drain", 0)).model_dump_json()}
    checkpoint = Checkpoint(
        folder=folder, name="m", base="b", format="merged", prompt_date=DATE, prompt_fingerprint="f", digest="d"
    )
    whole = {"command": Command([sys.executable, str(program), mode, str(folder)], settings), "model": "m"}
    whole |= {
        "host": "127.0.0.1",
        "port": _free_port("127.0.0.1"),
        "checkpoint": checkpoint,
        "policy": policy,
        "key": "",
        "drain": 0,
    }
    return Job(**{**whole, "log": folder / "log", "ready_timeout": 60, **changes})


def left(folder):
    """Workers of a small engine that are still alive."""
    return [pid for pid in (folder / "workers").read_text().split() if _alive(int(pid))]


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
