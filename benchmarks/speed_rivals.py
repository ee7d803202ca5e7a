"""What load testers make of a known truth: each against the bundled stub, whose first token comes at a known time.

    python benchmarks/speed_rivals.py [--streams 64 --streams 256] [--tokens 128] [--rounds 2]

Ours and every other tool that is installed (`evalsuite bench --engine`; $EVALSUITE_GUIDELLM and so on name a program)
take turns against a stub in a process of its own. The chunk that says the role leaves with the first token, as vLLM's
does, so that tools which take it for the first token are not flattered. "Error" is the median TTFT less the one that
the stub was told. CPU of another tool is that of all its processes, less that of the same command with one reply of
two tokens a stream, which is mostly what its start costs: n/a where the difference drowns in that.
Prints a Markdown table.
"""

import platform

import click

from evalsuite.speed.calibrate import paced, row
from evalsuite.speed.client import Target
from evalsuite.speed.engines.asked import Asked
from evalsuite.speed.engines.run import ENGINES, Installed, installed, opinion
from evalsuite.speed.engines.second import own_version
from evalsuite.speed.load import load
from evalsuite.speed.prompts import made
from tune.errors import UserError

GAP_S = 0.01
DROWNED = 0.2  # of what a start costs


def found_here(note: list[str]) -> dict[str, Installed]:
    here = {}
    for tool in ENGINES:
        try:
            here[tool] = installed(tool)
        except UserError as e:
            note.append(f"{e.what}: left out")
    return here


def ours(stub: Target, streams: int, requests: int, told_ms: float) -> list[str]:
    found = row(stub, streams, requests=requests)
    p50 = found.ttft_s.p50 * 1e3
    kept = f"the stub kept {found.true_ttft_s.p50 * 1e3:.1f}"
    return [f"evalsuite {own_version()}", f"{p50:.1f}", f"{p50 - told_ms:+.1f} ({kept})", f"{found.chunks_per_s:,.0f}",
            f"{found.us_per_chunk:.0f}", "; ".join(found.void)]  # fmt: skip


def theirs(
    tool: str, here: Installed, stub: Target, streams: int, requests: int, tokens: int, told_ms: float
) -> list[str]:
    def asked(count: int, most: int) -> Asked:
        return Asked(prompts=made(count, "32"), load=load(concurrency=streams), max_tokens=most, effort="low")

    try:
        start = opinion(tool, here, stub, asked(streams, 2))
        found = opinion(tool, here, stub, asked(requests, tokens))
    except UserError as e:
        return [f"{tool} {here.version}", "n/a", "n/a", "n/a", "n/a", f"{e.what}: {e.why}"]
    seen, failed = found.figures, sum(found.figures.errors.values())
    p50 = seen.ttft_s.p50 * 1e3 if seen.ttft_s else None
    chunks, spent = seen.output_tokens - start.figures.output_tokens, found.cpu_s - start.cpu_s
    return [
        f"{tool} {here.version}",
        "n/a" if p50 is None else f"{p50:.1f}",
        "n/a" if p50 is None else f"{p50 - told_ms:+.1f}",
        f"{seen.output_tokens_per_s:,.0f}" if seen.output_tokens else "n/a",
        f"{spent / chunks * 1e6:.0f}" if chunks > 0 and spent > DROWNED * start.cpu_s else "n/a",
        f"{failed} of {seen.requests} requests failed" if failed else "",
    ]


@click.command()
@click.option("--streams", type=click.IntRange(1), multiple=True, default=(64, 256), show_default=True,
              help="Requests in flight; may be repeated.")  # fmt: skip
@click.option("--tokens", type=click.IntRange(2), default=128, show_default=True, help="Chunks of a reply.")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Replies of each stream.")
@click.option("--ttft-ms", type=click.FloatRange(0), default=10.0, show_default=True, help="True first token.")
def main(streams: tuple[int, ...], tokens: int, rounds: int, ttft_ms: float) -> None:
    notes: list[str] = []
    here = found_here(notes)
    print("| streams | tool | TTFT p50, ms | error, ms | tokens/s | CPU a chunk, µs | |")
    print("| --: | --- | --: | --: | --: | --: | --- |")
    with paced(tokens=tokens, gap_s=GAP_S, ttft_s=ttft_ms / 1000, role_first=False) as stub:
        for count in streams:
            requests = rounds * count
            lines = [ours(stub, count, requests, ttft_ms)]
            lines += [theirs(tool, at, stub, count, requests, tokens, ttft_ms) for tool, at in here.items()]
            for line in lines:
                print(f"| {count} | {' | '.join(line)} |", flush=True)
    told = f"{rounds} replies a stream of {tokens} chunks, one every {GAP_S * 1e3:g} ms, the first at {ttft_ms:g} ms"
    print("\n".join(["", told, platform.platform(), *notes]))


if __name__ == "__main__":
    main()
