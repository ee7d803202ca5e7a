"""What the door adds to the time to the first byte: python benchmarks/door_latency.py [--streams 1 --streams 256]

Two servers, each in a process of its own: uvicorn with our connections and the door, as `serve run` starts it, and
uvicorn as it is, before the same small engine, which streams a chat answer of 32 chunks, one every 20 ms. They take
turns, a round each, and a round is two answers a stream. Milliseconds, of the pooled rounds; the median difference of
paired rounds beside it.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median, quantiles

import click

from evalsuite.speed.client import Target, closed_loop
from evalsuite.speed.metrics import sample

HERE = Path(__file__).parent.parent
SERVER = """
import asyncio, json, socket, sys
import uvicorn
from serve import listening
from serve.middleware import Door, Settings

def chunk(delta, finish=None):
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    told = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}
    return b"data: " + json.dumps(told).encode() + b"\\n\\n"

ROLE = chunk({"role": "assistant", "content": ""})
WORDS = [chunk({"reasoning" if k < 16 else "content": "word "}) for k in range(32)]

async def engine(scope, receive, send):
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": ROLE, "more_body": True})
    for word in WORDS:
        await send({"type": "http.response.body", "body": word, "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": chunk({}, "stop") + b"data: [DONE]\\n\\n"})

app, how = engine, {}
if sys.argv[1] == "door":
    app, how = Door(engine, Settings(names=("m",)), secret="s"), listening.options(None)
    app.doors.ready = True
public = socket.create_server(("127.0.0.1", 0), backlog=2048)
print(public.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", access_log=False, **how)).run([public])
"""
TIMEOUT_S = 120.0
BODY = {"messages": [{"role": "user", "content": "What does asyncio.gather do? " * 40}], "reasoning_effort": "low"}


def first_bytes(target: Target, streams: int) -> list[float]:
    """Milliseconds from each request's sending to its answer's first token."""
    run = closed_loop(target, [BODY] * 2 * streams, streams, TIMEOUT_S)
    found = [sample(raw, ticks=run.ticks) for raw in run.raws]
    if wrong := {s.error for s in found if s.error}:
        raise click.ClickException(f"the server did not answer: {wrong}")
    return [s.ttft_s * 1e3 for s in found if s.ttft_s is not None]


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


@click.command()
@click.option("--streams", type=click.IntRange(1), multiple=True, default=(1, 16, 64, 256), show_default=True)
@click.option("--rounds", default=10, show_default=True, help="of each server, at each number of streams")
def main(streams: tuple[int, ...], rounds: int) -> None:
    env = {**os.environ, "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}"}
    names = ("bare", "door")
    servers = {
        name: subprocess.Popen([sys.executable, "-c", SERVER, name], stdout=subprocess.PIPE, text=True, env=env)
        for name in names
    }
    try:
        targets = {
            name: Target(url=f"http://127.0.0.1:{server.stdout.readline().strip()}/v1", model="m")
            for name, server in servers.items()
            if server.stdout
        }
        for target in targets.values():
            first_bytes(target, 4)
        print("| streams | bare p50, ms | with the door | added, paired | bare p99 | with the door |")
        print("| --: | --: | --: | --: | --: | --: |")
        for count in streams:
            seen: dict[str, list[list[float]]] = {name: [] for name in names}
            for turn in range(rounds if count > 1 else 10 * rounds):
                for name in names if turn % 2 else reversed(names):
                    seen[name].append(first_bytes(targets[name], count))
            pooled = {name: [ms for each in found for ms in each] for name, found in seen.items()}
            added = median(median(b) - median(a) for a, b in zip(seen["bare"], seen["door"], strict=True))
            cells = [median(pooled["bare"]), median(pooled["door"]), added, p99(pooled["bare"]), p99(pooled["door"])]
            print(f"| {count} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)
    finally:
        for server in servers.values():
            server.terminate()
    print(f"\n{rounds} rounds (ten times as many of one stream), Python {platform.python_version()}")


if __name__ == "__main__":
    main()
