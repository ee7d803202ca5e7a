"""What the supervisor is given in tests: a small program for the engine, a checkpoint of nothing but a canary.

And who watches it there: `Served` runs one and waits for its states, `events` is a client of a stream.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import httpx

from serve import supervisor
from serve.cli import _free_port
from serve.command import Command
from serve.effort import EffortPolicy
from serve.middleware import SETTINGS, Settings
from serve.starting import Job
from tune.checkpoint import CANARY, Checkpoint
from tune.harmony import EFFORTS, PROBE, render_prompt

BODY = {"messages": [{"role": "user", "content": "x"}], "stream": True}
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


class Served:
    """A supervisor whose reports can be waited for; `acts` run in a thread of their own once it is ready."""

    def __init__(self, job, acts):
        self.job, self.said, self.seen = job, [], threading.Condition()
        self.acts, self.failed, self.stopped, self.remake = acts, [], False, None

    def report(self, line):
        with self.seen:
            self.said.append(line)
            self.seen.notify_all()

    def until(self, word, times=1):
        """Wait until a state has been told that often."""
        with self.seen:
            assert self.seen.wait_for(lambda: sum(x.split(":")[0] == word for x in self.said) >= times, 60), self.said

    def act(self):
        try:
            self.acts(self)
        except BaseException as e:  # noqa: BLE001 - raised where the test can see it
            self.failed.append(e)
        finally:
            self.stop()

    def stop(self):
        """Tell it to stop; once, since a second signal kills."""
        if not self.stopped:
            self.stopped = True
            os.kill(os.getpid(), signal.SIGTERM)

    def run(self):
        thread = threading.Thread(target=self.act)
        try:
            supervisor.run(self.job, self.report, thread.start, self.remake)
        finally:
            if thread.ident:
                thread.join()
        if self.failed:
            raise AssertionError(self.said) from self.failed[0]
        return [line.split(":")[0] for line in self.said]


def engine(job):
    """The process of the present engine."""
    found = [
        int(p.parent.name)
        for p in Path("/proc").glob("[0-9]*/cmdline")
        if str(job.checkpoint.folder).encode() in _read(p)
    ]
    (pid,) = [pid for pid in found if os.getpgid(pid) == pid]
    return pid


def events(url, begun):
    """What one client hears of a stream: its data, or the error that ended it."""
    heard = []
    with (
        httpx.Client(base_url=url, timeout=60, verify=False, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=BODY) as answer,
    ):
        for line in answer.iter_lines():
            if line.startswith("data: "):
                heard.append(json.loads(line[6:]))
                if len(heard) == 1:
                    begun.release()
    return heard


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""
