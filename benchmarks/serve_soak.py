"""Whether `serve run` stays as it is under load: memory and open files of our processes, minute by minute.

    python benchmarks/serve_soak.py CHECKPOINT [--minutes 20] [--clients 4]

Clients of every kind at once: whole and streamed answers of three APIs, clients that leave in the middle of a stream,
wrong keys, bodies that are no JSON, and a keys file that is rewritten all the time. Shown are the supervisor's and the
engine server's own memory (the core beside it holds the model). Exits 1 when either grew by over a tenth, or by over 16
files, between the end of the first quarter and the end, or when an answer was of another kind than it should be.
"""

import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx
import psutil

from serve import keys

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 16}
EACH_S = 15


MIX: list[tuple[str, dict[str, Any]]] = [
    ("chat/completions", ASK),
    ("chat/completions", {**ASK, "stream": True}),
    ("chat/completions", {**ASK, "reasoning_effort": "high"}),
    ("responses", {"input": "x", "max_output_tokens": 16}),
    ("responses", {"input": "x", "max_output_tokens": 16, "stream": True}),
    ("messages", ASK),
]


class Wrong(Exception):
    """An answer of another kind than it should be."""


def expect(status: int, answer: httpx.Response) -> None:
    if answer.status_code != status:
        raise Wrong(f"{answer.request.url.path} {answer.status_code} {answer.read()[:200]!r}")


def whole(client: httpx.Client, model: str) -> None:
    path, body = random.choice(MIX)
    expect(200, client.post(path, json={"model": model, **body}))


def leaves(client: httpx.Client, model: str) -> None:
    """Goes after the first bytes of a long stream."""
    body = {"model": model, **ASK, "max_tokens": 1000, "stream": True}
    with client.stream("POST", "chat/completions", json=body) as answer:
        expect(200, answer)
        next(answer.iter_raw())


def stranger(client: httpx.Client, _model: str) -> None:
    expect(401, client.post("responses", json={}, headers={"authorization": "Bearer wrong"}))


def garbled(client: httpx.Client, _model: str) -> None:
    expect(400, client.post("chat/completions", content=b'{"messages": [' * 50))


KINDS: tuple[Callable[[httpx.Client, str], None], ...] = (whole, whole, whole, leaves, stranger, garbled)


def client(url: str, key: str, model: str, over: threading.Event, heard: "Counter[str]") -> None:
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120, trust_env=False) as http:
        while not over.is_set():
            kind = random.choice(KINDS)
            try:
                kind(http, model)
                heard[kind.__name__] += 1
            except (httpx.HTTPError, Wrong) as e:
                heard[f"wrong: {kind.__name__}: {type(e).__name__} {e}"] += 1


def rewritten(path: Path, lines: str, over: threading.Event) -> None:
    """The same key, and another one that changes."""
    while not over.wait(2):
        new = path.with_suffix(".new")
        new.write_text(lines + keys.new(f"k{secrets.token_hex(2)}")[1])
        new.replace(path)


def measured(process: psutil.Process) -> tuple[float, int]:
    """MiB that it alone holds, and open files."""
    return process.memory_full_info().uss / 2**20, process.num_fds()


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--minutes", default=20.0, show_default=True)
@click.option("--clients", default=4, show_default=True)
def main(folder: Path, minutes: float, clients: int) -> None:
    over, heard, rows = threading.Event(), Counter[str](), list[tuple[float, ...]]()
    with tempfile.TemporaryDirectory() as scratch:
        key, lines = keys.new("soak")
        file = Path(scratch) / "keys.toml"
        file.write_text(lines)
        command = [
            sys.executable,
            "-m",
            "serve",
            "run",
            str(folder),
            "--port",
            "0",
            "--json",
            "--log",
            f"{scratch}/log",
        ]
        server = subprocess.Popen([*command, "--keys", str(file)], stdout=subprocess.PIPE, text=True, env=os.environ)
        assert server.stdout
        facts = json.loads(server.stdout.readline())
        supervisor = psutil.Process(server.pid)
        (engine,) = supervisor.children()
        work = [(client, (facts["url"], key, facts["models"][0], over, heard))] * clients + [
            (rewritten, (file, lines, over))
        ]
        threads = [threading.Thread(target=target, args=args) for target, args in work]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        print("| minute | answers | supervisor, MiB | files | engine's server, MiB | files |")
        print("| --: | --: | --: | --: | --: | --: |")
        while (gone := time.monotonic() - began) < minutes * 60:
            time.sleep(EACH_S)
            rows.append((gone / 60, sum(heard.values()), *measured(supervisor), *measured(engine)))
            if len(rows) % 4 == 0:
                minute, answers, ours, files, theirs, theirs_files = rows[-1]
                print(
                    f"| {minute:.0f} | {answers:,} | {ours:.1f} | {files} | {theirs:.1f} | {theirs_files} |", flush=True
                )
        over.set()
        for thread in threads:
            thread.join()
        server.terminate()
        server.wait()
    print(", ".join(f"{count:,} {name}" for name, count in sorted(heard.items())))
    first, last = rows[len(rows) // 4], rows[-1]
    grown = [last[k] > 1.1 * first[k] for k in (2, 4)] + [last[k] > first[k] + 16 for k in (3, 5)]
    if any(grown) or any(name.startswith("wrong") for name in heard) or server.returncode:
        sys.exit("something grew, or was answered otherwise than it should be")


if __name__ == "__main__":
    main()
