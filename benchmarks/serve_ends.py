"""How `serve run` ends with streams open, and how soon it notices an engine that hangs: seconds, on the real engine.

    python benchmarks/serve_ends.py CHECKPOINT [--streams 100] [--drain 5]

First, SIGTERM under open streams that would go on for long: until the server has gone, and what each client was told.
Then SIGSTOP of the engine's core under a stream: until it is called hung, until the client is told, and until another
engine is ready.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import httpx
import psutil

# An answer that does not end: no <|start|>, <|end|>, <|return|> or <|call|>.
NEVER = dict.fromkeys(("200006", "200007", "200002", "200012"), -100)
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 1900,
                        "ignore_eos": True, "temperature": 0, "logit_bias": NEVER}  # fmt: skip


def started(folder: Path, log: Path, *options: str) -> tuple["subprocess.Popen[str]", str, str]:
    """A server that is ready, its URL and the model's name."""
    command = [sys.executable, "-m", "serve", "run", str(folder), "--port", "0", "--json", "--log", str(log), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout
    line = server.stdout.readline()
    if not line:
        raise click.ClickException(server.communicate()[1])
    facts = json.loads(line)
    return server, facts["url"], facts["models"][0]


async def stream(client: httpx.AsyncClient, model: str, begun: asyncio.Event) -> str:
    """How one client's stream ended: by an error event's code, whole, or by the connection."""
    last = ""
    try:
        async with client.stream("POST", "chat/completions", json={"model": model, **BODY}) as answer:
            async for line in answer.aiter_lines():
                begun.set()
                last = line.removeprefix("data: ") if line.startswith("data: ") else last
    except httpx.TransportError as e:
        return f"the connection: {type(e).__name__}"
    finally:
        begun.set()
    if last == "[DONE]":
        return "whole"
    return str(json.loads(last).get("error", {}).get("code", "without a word")) if last else "nothing"


async def draining(server: "subprocess.Popen[str]", url: str, model: str, count: int) -> tuple[float, Counter[str]]:
    """Seconds from SIGTERM until the server has gone, and what the clients were told."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as client:
        events = [asyncio.Event() for _ in range(count)]
        tasks = [asyncio.create_task(stream(client, model, event)) for event in events]
        for event in events:
            await event.wait()
        server.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await asyncio.to_thread(server.wait)
        return time.monotonic() - began, Counter(await asyncio.gather(*tasks))


def core(pid: int) -> int:
    """The process of a server that makes the steps; the kernel keeps 15 characters of its name."""
    below = psutil.Process(pid).children(recursive=True)
    return next(int(process.pid) for process in below if process.name().startswith("VLLM::EngineCor"))


async def hanging(server: "subprocess.Popen[str]", url: str, model: str) -> dict[str, float]:
    """Seconds from SIGSTOP of the core."""
    lines: dict[str, float] = {}

    def states(began: float) -> None:
        assert server.stderr
        for line in server.stderr:
            state = line.partition(":")[0].strip()
            if state == "hung" or lines:  # before, it became ready
                lines.setdefault(state, time.monotonic() - began)
            if "ready" in lines:
                return

    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:
        begun = asyncio.Event()
        task = asyncio.create_task(stream(client, model, begun))
        await begun.wait()
        began = time.monotonic()
        os.kill(core(server.pid), signal.SIGSTOP)
        watching = asyncio.create_task(asyncio.to_thread(states, began))
        how = await task
        told = time.monotonic() - began
        await watching
    return {"called hung": lines["hung"], f"its client told ({how})": told, "another is ready": lines["ready"]}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--streams", default=100, show_default=True)
@click.option("--drain", default=5, show_default=True)
def main(folder: Path, streams: int, drain: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        server, url, model = started(folder, log, "--drain", str(drain))
        took, told = asyncio.run(draining(server, url, model, streams))
        print(f"stopped {took:.1f} s after SIGTERM, {streams} streams open, a drain of {drain} s")
        print("its clients: " + ", ".join(f"{count} {how}" for how, count in told.most_common()))
        server, url, model = started(folder, log)
        assert server.stderr
        try:
            for what, seconds in asyncio.run(hanging(server, url, model)).items():
                print(f"{what} {seconds:.1f} s after its core was stopped")
        finally:
            server.terminate()
            server.communicate()


if __name__ == "__main__":
    main()
