"""What the load client costs itself: CPU time a chunk, beside the openai client's against the same stub.

    python benchmarks/client_cost.py [--streams 32] [--tokens 128] [--rounds 3] [--json]

The stub runs in a process of its own and sends each stream a chunk every 10 ms. The two clients take turns; shown is
the median over rounds. The lower the cost, the more load one core can offer before it measures itself. Seconds.
"""

import asyncio
import json
import platform
import time
from statistics import median

import click
import openai

from evalsuite.speed.calibrate import floor, paced, row
from evalsuite.speed.client import Target


def openai_cost(stub: Target, streams: int) -> tuple[int, float]:
    """Chunks with text, and microseconds of this thread's CPU time a chunk: `streams` at once, one reply each."""

    async def one(client: openai.AsyncOpenAI) -> int:
        stream = await client.chat.completions.create(
            model=stub.model,
            messages=[{"role": "user", "content": "go"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        return sum([1 async for chunk in stream if chunk.choices and chunk.choices[0].delta.content])

    async def all_of_them() -> tuple[int, float]:
        async with openai.AsyncOpenAI(base_url=stub.url, api_key="none", max_retries=0) as client:
            await client.models.list()  # what it sets up once is not counted
            before = time.thread_time()
            chunks = sum(await asyncio.gather(*(one(client) for _ in range(streams))))
            return chunks, time.thread_time() - before

    chunks, cpu_s = asyncio.run(all_of_them())
    return chunks, cpu_s / chunks * 1e6


@click.command()
@click.option("--streams", default=32, show_default=True, help="replies at once")
@click.option("--tokens", default=128, show_default=True, help="chunks of a reply")
@click.option("--rounds", default=3, show_default=True, help="turns of each client")
@click.option("--json", "as_json", is_flag=True, help="print the figures as JSON")
def main(streams: int, tokens: int, rounds: int, as_json: bool) -> None:
    ours, theirs, floors = [], [], []
    with paced(tokens=tokens) as stub:
        for _ in range(rounds):
            floors.append(floor(stub))
            ours.append(row(stub, streams, requests=streams))
            theirs.append(openai_cost(stub, streams))
    cost = {
        "evalsuite, while requests run": median(c.us_per_chunk for c in ours),
        "evalsuite, parsed afterwards": median(c.parse_us_per_chunk for c in ours),
        "openai": median(us for _, us in theirs),
    }
    if as_json:
        chunks = {"evalsuite": ours[0].chunks, "openai": theirs[0][0]}
        print(json.dumps({"streams": streams, "rounds": rounds, "chunks": chunks, "us_per_chunk": cost}))
        return
    print(f"{streams} streams of {tokens} chunks, a chunk every 10 ms; median of {rounds} rounds")
    print(f"Python {platform.python_version()}, openai {openai.__version__}, {platform.machine()}\n")
    print(f"{'client':<30} {'µs a chunk':>10} {'chunks/s a core':>16}")
    for name, us in cost.items():
        print(f"{name:<30} {us:>10.1f} {1e6 / us:>16,.0f}")
    print(f"\ntime to first token of an idle stub, median: {median(floors) * 1000:.2f} ms")


if __name__ == "__main__":
    main()
