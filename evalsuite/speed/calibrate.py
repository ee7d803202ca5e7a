"""What the client itself makes of a known truth: its figures against a stub in a process of its own.

In: how many streams at once, a time to first token and a gap that the stub is told to keep. Out: a frozen Calibration.
The stub says in each reply when its first token left, on the clock that both processes share, so that its own lateness
is not taken for the client's.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evalsuite.speed.client import Raw, Target, closed_loop
from evalsuite.speed.metrics import Distribution, Frozen, Limits, distribution, figures, sample, void
from evalsuite.speed.wire import parse
from tune.errors import UserError

LEAST = 8  # requests of a row
ROUNDS = 2  # replies of each stream, if that is more
TIMEOUT_S = 60.0


class Row(Frozen):
    """One concurrency. Seconds. `error_s` is how long after a first token had left the client took it for arrived."""

    streams: int
    requests: int
    chunks: int
    true_ttft_s: Distribution  # as the stub kept it, from the client's sending
    ttft_s: Distribution  # as the client measured it
    error_s: Distribution
    chunks_per_s: float  # read in this run
    cpu: float  # share of one core that the client used
    us_per_chunk: float  # CPU time while the run went on
    parse_us_per_chunk: float  # CPU time after it
    void: tuple[str, ...]  # what such a run would be called


class Calibration(Frozen):
    """`scripted_ttft_s` and `gap_s` are what the stub was told; `floor_s` is the TTFT of one that answers at once."""

    scripted_ttft_s: float
    gap_s: float
    tokens: int
    floor_s: float
    rows: tuple[Row, ...]


@contextmanager
def paced(*, tokens: int = 128, gap_s: float = 0.01, ttft_s: float = 0.0, role_first: bool = True) -> Iterator[Target]:
    """A stub in a process of its own while the block runs: replies of `tokens` from `ttft_s` on, each `gap_s` later."""
    command = [sys.executable, "-m", "evalsuite.stub.paced", *["--role-first"] * role_first]
    command += ["--tokens", f"{tokens}", "--first-token-s", f"{ttft_s}", "--per-token-s", f"{gap_s}"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as stub:
        try:
            if stub.stdout is None:
                raise RuntimeError("the pipe to the stub was asked for")
            yield Target(url=stub.stdout.readline().strip(), model="stub")
        finally:
            stub.terminate()


def calibrate(
    streams: Sequence[int] = (1, 16, 64, 256), *, ttft_s: float = 0.01, gap_s: float = 0.02, tokens: int = 32
) -> Calibration:
    """A row for each of `streams`, and the floor."""
    if not streams or min(streams) < 1 or tokens < 1 or min(ttft_s, gap_s) < 0:
        raise UserError("nothing to calibrate on", why="streams and tokens start at 1, times at 0",
                        fix="evalsuite calibrate --streams 16")  # fmt: skip
    if (longest := ttft_s + tokens * gap_s) >= TIMEOUT_S:
        raise UserError(f"a reply would take {longest:,.0f} s", why=f"one is waited for {TIMEOUT_S:g} s",
                        fix="lower --ttft-ms, --gap-ms or --tokens")  # fmt: skip
    with paced(tokens=tokens, gap_s=gap_s, ttft_s=ttft_s) as stub:
        rows = tuple(row(stub, n) for n in streams)
    with paced(tokens=1) as stub:
        return Calibration(scripted_ttft_s=ttft_s, gap_s=gap_s, tokens=tokens, floor_s=floor(stub), rows=rows)


def row(stub: Target, streams: int, *, requests: int = 0, limits: Limits | None = None) -> Row:
    """Run the client against a `paced` stub, `streams` at once. Raises UserError without a reply."""
    count = requests or max(ROUNDS * streams, LEAST)
    asked = [{"messages": [{"role": "user", "content": f"{i}"}]} for i in range(count)]
    run = closed_loop(stub, asked, streams, TIMEOUT_S)
    before = time.thread_time()
    found = [sample(raw, ticks=run.ticks) for raw in run.raws]
    parse_s = time.thread_time() - before
    good = [(s, raw) for s, raw in zip(found, run.raws, strict=True) if not s.error]
    left = [(s, _written(raw)) for s, raw in good]
    chunks = sum(len(s.itl_s) + 1 for s, _ in good)
    measured = figures(found, cpu=run.cpu_s / run.wall_s)
    true = distribution(at - s.start for s, at in left if s.start is not None)
    error = distribution(s.start + s.ttft_s - at for s, at in left if s.start is not None and s.ttft_s is not None)
    if not measured.ttft_s or not true or not error:
        raise UserError("the stub gave no chunk", why=str({s.error for s in found}),
                        fix="python -m evalsuite.stub.paced")  # fmt: skip
    return Row(
        streams=streams,
        requests=count,
        chunks=chunks,
        true_ttft_s=true,
        ttft_s=measured.ttft_s,
        error_s=error,
        chunks_per_s=chunks / run.wall_s,
        cpu=measured.cpu,
        us_per_chunk=run.cpu_s / chunks * 1e6,
        parse_us_per_chunk=parse_s / chunks * 1e6,
        void=void(measured, limits),
    )


def floor(stub: Target) -> float:
    """Median TTFT, in seconds, of single requests for one token: what stands under every TTFT."""
    body = {"messages": [{"role": "user", "content": "go"}], "max_completion_tokens": 1}
    found = figures([sample(raw) for raw in closed_loop(stub, [body] * 9, 1, TIMEOUT_S).raws])
    if found.ttft_s is None:
        raise UserError("the stub gave no chunk", why=str(found.errors), fix="python -m evalsuite.stub.paced")
    return found.ttft_s.p50


def table(found: Calibration) -> str:
    """A calibration as text: a line a concurrency, milliseconds, what would be void under it."""
    told = f"the stub was told {found.scripted_ttft_s * 1e3:g} ms to the first token, {found.gap_s * 1e3:g} ms a token"
    heads = ("streams", "true p50", "p50", "p95", "error p50", "error p95", "chunks/s", "CPU", "a run")
    lines = [[
        f"{r.streams}", *(f"{s * 1e3:.1f}" for s in (r.true_ttft_s.p50, r.ttft_s.p50, r.ttft_s.p95, r.error_s.p50,
                                                     r.error_s.p95)),
        f"{r.chunks_per_s:,.0f}", f"{r.cpu:.0%}", "void" if r.void else "counts",
    ] for r in found.rows]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    drawn = ["  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in (heads, *lines)]
    late = [f"{r.streams} streams: the stub itself was late; what it kept is the truth here"
            for r in found.rows if r.true_ttft_s.p50 > 2 * max(found.scripted_ttft_s, found.floor_s)]  # fmt: skip
    why = [f"{r.streams} streams: {reason}" for r in found.rows for reason in r.void]
    floor = f"floor: {found.floor_s * 1e3:.2f} ms to the first token of a stub that answers at once"
    return "\n".join([f"time to first token in ms, {told}", *drawn, *late, *why, floor])


def _written(raw: Raw) -> float:
    """When the stub says that the first token left, in seconds on the machine's monotonic clock."""
    for _, data in parse(raw.pieces).events():
        if b'"written"' in data:
            return float(json.loads(data)["written"])
    raise UserError("this server does not say when it sent", fix="calibrate against python -m evalsuite.stub.paced")
