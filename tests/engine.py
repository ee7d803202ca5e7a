"""The real server for tests: `serve run` as a child process, on a free port, with a key."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

KEY = "sk-test-0123456789"  # what running_server asks of clients
DATE = "2026-01-01"


class Server(NamedTuple):
    """A running `serve run`: `url` ends in /v1; `models` are the plain name and name@digest16."""

    url: str
    models: list[str]
    digest: str
    log: Path
    pid: int


class Starting(NamedTuple):
    """A `serve run` that is not ready yet."""

    process: "subprocess.Popen[str]"
    log: Path

    def ready(self) -> Server:
        """Wait for the line that it prints when it is ready."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"serve run failed: {self.process.communicate()[1]}")
        facts = json.loads(line)
        return Server(facts["url"], facts["models"], facts["digest"], self.log, self.process.pid)


def start(folder: Path, *options: str, log: Path | None = None) -> Starting:
    """`serve run FOLDER` on a free port; the key that it wants is in OPENAI_API_KEY."""
    log = log or folder.parent / f"serve-{folder.name}.log"
    command = [sys.executable, "-m", "serve", "run", str(folder), "--port", "0", "--json", "--log", str(log)]
    command += ["--api-key-env", "OPENAI_API_KEY", *options]
    return Starting(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), log)


def stop(starting: Starting) -> None:
    """SIGTERM, then a check that it ended well and that no process of it is left."""
    process, group = starting.process, children(starting.process.pid)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert group, "the server had no engine process"
    left = [pid for pid in group if _lives(pid)]
    assert not left, f"processes outlived the server: {left}"
    deadline = time.monotonic() + 30
    while left := [pid for pid in group if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"dead, and never waited for: {left}"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    """Of those that the server did not start itself, the system's first process waits, a moment later."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


@contextmanager
def running(*folders: Path) -> Iterator[list[Server]]:
    """Servers of these folders, started together and ready; stopped at the end.

    Sets OPENAI_API_KEY meanwhile, so that a plain `openai.OpenAI(base_url=url)` works.
    """
    before = os.environ.get("OPENAI_API_KEY")
    os.environ["OPENAI_API_KEY"] = KEY
    started = [start(folder) for folder in folders]
    try:
        yield [s.ready() for s in started]
        for s in started:
            stop(s)
    finally:
        for s in started:
            if s.process.poll() is None:
                s.process.terminate()
                s.process.communicate(timeout=60)
        del os.environ["OPENAI_API_KEY"]
        if before is not None:
            os.environ["OPENAI_API_KEY"] = before


def children(pid: int) -> Sequence[int]:
    """Every process below one, from /proc."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it ended while we looked
        below.setdefault(parent, []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        todo += (mine := below.get(todo.pop(), []))
        found += mine
    return found
