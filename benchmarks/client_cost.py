"""What the load client costs itself: CPU time a streamed chunk, beside aiohttp's and the openai client's.

    python benchmarks/client_cost.py [--streams 256] [--tokens 128] [--gap-ms 10] [--rounds 3] [--json]

All take turns at the same server, which only sends (evalsuite.stub.paced): every chunk in a write of its own, at its
moment. Shown is the median over rounds. The lower the cost, the more load one core can offer before it measures
itself; with few streams far apart, most of it is what the machine takes to wake a thread.
"""

import asyncio
import json
import platform
import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median
from typing import Any

import aiohttp
import click
import openai

from evalsuite.speed.calibrate import paced
from evalsuite.speed.client import Target, closed_loop
from evalsuite.speed.metrics import sample

TIMEOUT_S = 60.0
ASKED: list[Any] = [{"role": "user", "content": "go"}]


def ours(target: Target, streams: int) -> tuple[int, float, float]:
    """Chunks with text, and seconds of CPU time: while requests ran, and of parsing them afterwards."""
    run = closed_loop(target, [{"messages": ASKED}] * streams, streams, TIMEOUT_S)
    before = time.thread_time()
    chunks = sum(len(s.itl_s) + 1 for s in (sample(raw, ticks=run.ticks) for raw in run.raws) if not s.error)
    return chunks, run.cpu_s, time.thread_time() - before


async def by_aiohttp(target: Target, streams: int) -> int:
    """As load testers use it: a line at a time, parsed and timed as it comes."""

    async def one(session: aiohttp.ClientSession) -> list[float]:
        body, times = {"model": target.model, "stream": True, "messages": ASKED}, []
        async with session.post(f"{target.url}/chat/completions", json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    times.append(time.perf_counter())
        return times

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return sum(map(len, await asyncio.gather(*(one(session) for _ in range(streams)))))


async def by_openai(target: Target, streams: int) -> int:
    async def one(client: openai.AsyncOpenAI) -> int:
        stream = await client.chat.completions.create(model=target.model, messages=ASKED, stream=True)
        return sum([1 async for chunk in stream if chunk.choices and chunk.choices[0].delta.content])

    async with openai.AsyncOpenAI(base_url=target.url, api_key="none", max_retries=0) as client:
        return sum(await asyncio.gather(*(one(client) for _ in range(streams))))


def timed(work: Callable[[], Awaitable[int]]) -> tuple[int, float]:
    """Chunks with text, and seconds of this thread's CPU time."""

    async def run() -> tuple[int, float]:
        before = time.thread_time()
        return await work(), time.thread_time() - before

    return asyncio.run(run())


@click.command()
@click.option("--streams", default=256, show_default=True, help="replies at once")
@click.option("--tokens", default=128, show_default=True, help="chunks of a reply")
@click.option("--gap-ms", default=10.0, show_default=True, help="between chunks of a reply")
@click.option("--rounds", default=3, show_default=True, help="turns of each client")
@click.option("--json", "as_json", is_flag=True, help="print the figures as JSON")
def main(streams: int, tokens: int, gap_ms: float, rounds: int, as_json: bool) -> None:
    costs: dict[str, list[float]] = {}
    every = streams * tokens

    def note(name: str, chunks: int, cpu_s: float) -> None:
        if chunks != every:
            raise click.ClickException(f"{name} read {chunks} chunks of {every}")
        costs.setdefault(name, []).append(cpu_s / chunks * 1e6)

    with paced(tokens=tokens, gap_s=gap_ms / 1000) as target:
        for _ in range(rounds):
            chunks, running_s, parsing_s = ours(target, streams)
            note("evalsuite, while requests run", chunks, running_s)
            note("evalsuite, parsing afterwards", chunks, parsing_s)
            note(f"aiohttp {aiohttp.__version__}", *timed(partial(by_aiohttp, target, streams)))
            note(f"openai {openai.__version__}", *timed(partial(by_openai, target, streams)))
    cost = {name: median(found) for name, found in costs.items()}
    if as_json:
        print(json.dumps({"streams": streams, "chunks": every, "rounds": rounds, "us_per_chunk": cost}))
        return
    print(f"{streams} streams of {tokens} chunks, a chunk every {gap_ms:g} ms; median of {rounds} rounds")
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print("| client | µs a chunk | chunks a second that fill one core |\n| --- | --: | --: |")
    for name, us in cost.items():
        print(f"| {name} | {us:.1f} | {1e6 / us:,.0f} |")


if __name__ == "__main__":
    main()
