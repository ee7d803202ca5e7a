"""What `serve run` costs against the engine alone, and what its profiles change: one checkpoint, one GPU, all at once.

    python benchmarks/serve_bare.py FOLDER [--profile fast-start ...] [--streams 1 ...] [--again] [-- FLAGS]

An arm is vLLM as it is, `serve run`, or `serve run --profile NAME`. They start one after the other with FLAGS (which
share the GPU out: `--gpu-memory-utilization 0.3` for three arms) and with caches of their own, empty at first; each
is sent two waves of 32 requests as soon as it is ready, which compile kernels that nobody needed before. Then all of
them answer in turn, a round each, the order turned with every round; and --firsts times each, one request at a time,
the first byte of a stream of /v1/completions, which no parser holds back. --again stops ours and starts them once
more, with the caches that they have by then. A request is 40 made-up words, some 200 tokens, and exactly --tokens out.
Prints tables; ratios are medians over rounds, each against vLLM's same round.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple
from urllib.parse import urlsplit

import click

from evalsuite.speed.client import Target, closed_loop
from evalsuite.speed.metrics import sample
from serve import probe

HERE = Path(__file__).parent.parent
BARE = "bare vLLM"
PARSERS = ["--enable-auto-tool-choice", "--tool-call-parser", "openai", "--reasoning-parser", "openai_gptoss"]
CACHES = ("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
WAVE = 32
TIMEOUT_S = 600.0


class Round(NamedTuple):
    """One closed loop. `first`: seconds to each request's first token."""

    seconds: float
    tokens: int
    first: tuple[float, ...]


def command(arm: str, folder: Path, port: int, context: int, flags: Sequence[str]) -> list[str]:
    """What starts an arm."""
    if arm == BARE:
        module = "vllm.entrypoints.launchers.api_server.entry"
        named = ["--model", str(folder), "--served-model-name", "m", "--port", str(port)]
        return [sys.executable, "-m", module, *named, "--max-model-len", str(context), *PARSERS, *flags]
    profile = ["--profile", arm] if arm != "serve run" else []
    ours = [sys.executable, "-m", "serve", "run", str(folder), "--name", "m", "--port", str(port)]
    return [*ours, "--max-model-len", str(context), "--raw-completions", *profile, "--", *flags]


@contextmanager
def running(argv: Sequence[str], port: int, log: Path, caches: Path) -> Iterator[tuple[Target, float]]:
    """A server that is ready, and the seconds that it took."""
    env = {**os.environ, "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}", "VLLM_NO_USAGE_STATS": "1"}
    env |= {name: str(caches / name.lower()) for name in CACHES}
    began = time.monotonic()
    with log.open("a") as out:
        server = subprocess.Popen(argv, stdout=out, stderr=out, env=env)
    try:
        with probe.client(f"http://127.0.0.1:{port}/v1") as http:
            why = probe.wait(http, 900, alive=lambda: server.poll() is None)
        if why:
            raise click.ClickException(f"{' '.join(argv[:4])}: {why}; see {log}")
        yield Target(url=f"http://127.0.0.1:{port}/v1", model="m"), time.monotonic() - began
    finally:
        server.terminate()
        server.wait()


def asked(target: Target, streams: int, tokens: int, seed: int) -> Round:
    """One request a stream, all at once."""
    words = [f"item{(seed * 7919 + n * 104729 + k * 31) % 99991}" for n in range(streams) for k in range(40)]
    bodies = [
        {
            "messages": [{"role": "user", "content": " ".join(words[40 * n : 40 * n + 40])}],
            "reasoning_effort": "low",
            "temperature": 0,
            "max_tokens": tokens,
            "min_tokens": tokens,
            "ignore_eos": True,
        }
        for n in range(streams)
    ]
    run = closed_loop(target, bodies, streams, TIMEOUT_S)
    found = [sample(raw, ticks=run.ticks) for raw in run.raws]
    if wrong := {s.error for s in found if s.error}:
        raise click.ClickException(f"{target.url} did not answer: {wrong}")
    if short := [s.output_tokens for s in found if s.output_tokens != tokens]:
        raise click.ClickException(f"{target.url} gave {short[0]} tokens, not {tokens}")
    return Round(run.wall_s, tokens * streams, tuple(s.ttft_s for s in found if s.ttft_s is not None))


def first_byte(target: Target, seed: int) -> float:
    """Milliseconds from a request, on a connection that is there, to the first byte of its stream."""
    body = {"model": target.model, "prompt": f"item{seed} " * 40, "max_tokens": 4, "ignore_eos": True, "stream": True}
    with closing(HTTPConnection(urlsplit(target.url).netloc, timeout=60)) as door:
        door.connect()
        began = time.perf_counter()
        door.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = door.getresponse()
        if not answer.read(1) or answer.status != 200:
            raise click.ClickException(f"{target.url} answered {answer.status}: {answer.read(300)!r}")
        took = (time.perf_counter() - began) * 1e3
        answer.read()
    return took


def firsts(targets: dict[str, Target], rounds: int) -> None:
    """First bytes in turn, each prompt new to all of them, and their table."""
    seen: dict[str, list[float]] = {arm: [] for arm in targets}
    for turn in range(-5, rounds):
        for arm in sorted(targets, reverse=bool(turn % 2)):
            took = first_byte(targets[arm], turn + 5)
            if turn >= 0:
                seen[arm].append(took)
    print("\n| arm | first byte p50, ms | p90 | added p50, paired |\n| --- | --: | --: | --: |")
    for arm, mine in seen.items():
        added = median(m - b for m, b in zip(mine, seen[BARE], strict=True))
        print(f"| {arm} | {median(mine):.2f} | {quantiles(mine, n=10)[8]:.2f} | {added:+.2f} |", flush=True)


def compiled(caches: Path) -> int:
    """Kernels that Triton has compiled so far."""
    return sum(1 for _ in (caches / "triton_cache_dir").glob("*"))


def started(arm: str, ready: float, waves: Sequence[Round], kernels: int) -> str:
    cells = [arm, f"{ready:.1f}", *(f"{wave.seconds:.2f}" for wave in waves), str(kernels)]
    return f"| {' | '.join(cells)} |"


def compared(targets: dict[str, Target], streams: Sequence[int], tokens: int, rounds: int) -> None:
    """Rounds in turn, and their table."""
    print("\n| streams | arm | tokens/s | of bare vLLM's | first token p50, ms | p99 | added p50, paired |")
    print("| --: | --- | --: | --: | --: | --: | --: |")
    for count in streams:
        seen: dict[str, list[Round]] = {arm: [] for arm in targets}
        for turn in range(-1, rounds):  # the first is not kept
            for arm in sorted(targets, reverse=bool(turn % 2)):
                one = asked(targets[arm], count, tokens, turn + 2)
                if turn >= 0:
                    seen[arm].append(one)
        for arm, mine in seen.items():
            pairs = list(zip(mine, seen[BARE], strict=True))
            ratio = median(b.seconds / m.seconds for m, b in pairs)
            added = median(median(m.first) - median(b.first) for m, b in pairs) * 1e3
            first = [second * 1e3 for one in mine for second in one.first]
            rate = median(one.tokens / one.seconds for one in mine)
            p99 = quantiles(first, n=100)[98] if len(first) > 1 else first[0]
            print(f"| {count} | {arm} | {rate:,.0f} | {ratio:.3f} | {median(first):.1f} | {p99:.1f} | {added:+.2f} |")
        sys.stdout.flush()


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--profile", "profiles", multiple=True)
@click.option("--streams", type=click.IntRange(1), multiple=True, default=(1, 32, 256), show_default=True)
@click.option("--tokens", default=256, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--context", default=8192, show_default=True, help="Tokens of prompt and answer.")
@click.option("--port", default=8700, show_default=True)
@click.option("--firsts", "first_rounds", default=0, show_default=True, help="Rounds of first bytes.")
@click.option("--again", is_flag=True)
@click.option("--logs", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir()), show_default=True)
@click.argument("flags", nargs=-1)
def main(
    folder: Path, profiles: tuple[str, ...], streams: tuple[int, ...], tokens: int, rounds: int, context: int,
    port: int, first_rounds: int, again: bool, logs: Path, flags: tuple[str, ...],
) -> None:  # fmt: skip
    arms = {arm: port + n for n, arm in enumerate((BARE, "serve run", *profiles))}
    with tempfile.TemporaryDirectory() as caches:

        def start(arm: str, stack: ExitStack, label: str) -> Target:
            name = arm.replace(" ", "-")
            argv = command(arm, folder, arms[arm], context, flags)
            log = logs / f"{name}.log"
            target, ready = stack.enter_context(running(argv, arms[arm], log, Path(caches) / name))
            before = compiled(Path(caches) / name)
            waves = [asked(target, WAVE, tokens, -n) for n in (1, 2)]
            print(started(label, ready, waves, compiled(Path(caches) / name) - before), flush=True)
            return target

        print(f"| arm | ready after, s | first wave of {WAVE}, s | second | kernels compiled in them |")
        print("| --- | --: | --: | --: | --: |")
        with ExitStack() as stack:
            targets = {arm: start(arm, stack, arm) for arm in arms}
            had = {arm: compiled(Path(caches) / arm.replace(" ", "-")) for arm in targets}
            compared(targets, streams, tokens, rounds)
            more = {arm: compiled(Path(caches) / arm.replace(" ", "-")) - count for arm, count in had.items()}
            if first_rounds:
                firsts(targets, first_rounds)
            print(f"\nkernels compiled in these rounds: {more}", flush=True)
        for arm in (arm for arm in arms if again and arm != BARE):
            with ExitStack() as stack:
                start(arm, stack, f"{arm}, caches warm")


if __name__ == "__main__":
    main()
