"""How fast an endpoint is, or tuned against base: interleaved blocks, paired ratios, or why nothing was learned.

In: one or two Targets, prompts, a load. Out: a frozen Bench. A block is one run of the load on one endpoint; requests
within a block are not independent, so the block is the unit of every interval. Knows nothing about answers' worth.
"""

import asyncio
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from evalsuite.asking.endpoint import Endpoint, client, served
from evalsuite.speed.client import Run, Target, closed_loop, open_loop
from evalsuite.speed.metrics import Figures, Frozen, Limits, Sample, Slo, figures, sample, span_of, void
from evalsuite.speed.schedule import Arrivals, offsets
from tune.errors import UserError
from tune.harmony import Effort

PROMPTS = (
    "What does itertools.groupby need of its input?",
    "Explain what a context manager does, with an example.",
    "When is a tuple better than a list?",
    "What is the difference between str.split() and str.split(' ')?",
    "How does functools.lru_cache decide what to forget?",
    "Write a function that reads a CSV file and sums one column.",
    "What happens when a generator is closed?",
    "Why is a mutable default argument a trap?",
)
METRICS: dict[str, bool] = {"ttft_p50": False, "tpot_p50": False, "output_tokens_per_s": True}  # is more better?

Line = Callable[[str], None]


class Arm(Frozen):
    """One endpoint's figures: all blocks pooled, and block by block."""

    url: str
    model: str
    pooled: Figures
    blocks: tuple[Figures, ...]


class Ratio(Frozen):
    """tuned / base of one metric: geometric mean over `blocks` pairs, with a 95 % t interval on the log ratio."""

    metric: str
    base: float  # geometric mean over blocks
    tuned: float
    ratio: float
    low: float
    high: float
    blocks: int
    more_is_better: bool

    @property
    def reading(self) -> Literal["better", "worse", "not distinguishable"]:
        """Of tuned; the interval has to leave 1 out."""
        if self.low <= 1 <= self.high:
            return "not distinguishable"
        return "better" if (self.ratio > 1) == self.more_is_better else "worse"


class Bench(Frozen):
    """The whole measurement. When `void` is not empty the figures say nothing: exit code 3."""

    schema_version: int = 1
    settings: dict[str, Any]
    arms: dict[str, Arm]  # "base" and, when two were measured, "tuned"
    ratios: tuple[Ratio, ...]
    void: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return 3 if self.void else 0


class Calibration(Frozen):
    """What the client itself costs, measured against the stub in a process of its own."""

    chunks: int
    streams: int
    us_per_chunk: float  # CPU time while the run went on
    parse_us_per_chunk: float  # CPU time after it
    ttft_p50_s: float  # of a stub that answers at once: the floor under every TTFT
    chunks_per_s: float  # at which one core would be full


class Load(Frozen):
    """How requests are offered: an open loop at `rate` a second, or a closed one with `concurrency` in flight."""

    rate: float | None = None
    concurrency: int | None = None
    arrivals: Arrivals = "poisson"
    effort: str = ""
    timeout_s: float = 300.0


def resolve(endpoint: Endpoint, name: str) -> Target:
    """The endpoint with the model that it serves. `name`: base, tuned or endpoint. Raises UserError as `served`."""

    async def model() -> str:
        async with client(endpoint) as asking:
            return (await served(asking, endpoint, name)).model

    return target(endpoint, asyncio.run(model()))


def target(endpoint: Endpoint, model: str) -> Target:
    """What to send load to, when the id of the model is known."""
    return Target(url=endpoint.base_url, model=model, key=SecretStr(endpoint.key))


def measure(
    target: Target, bodies: Sequence[Mapping[str, Any]], load: Load, *, seed: int = 0
) -> tuple[list[Sample], Run]:
    """One block. Raises UserError unless exactly one of rate and concurrency is given."""
    if (load.rate is None) == (load.concurrency is None):
        raise UserError("a load is a rate or a concurrency", fix="give one of --rate and --concurrency")
    if load.rate is not None:
        due = offsets(len(bodies), load.rate, arrivals=load.arrivals, seed=seed)
        run = open_loop(target, bodies, due, load.timeout_s)
    elif load.concurrency is not None and load.concurrency > 0:
        run = closed_loop(target, bodies, load.concurrency, load.timeout_s)
    else:
        raise UserError(f"cannot keep {load.concurrency} requests in flight", fix="give a positive --concurrency")
    return [sample(raw, load.effort) for raw in run.raws], run


def answers(name: str, target: Target, bodies: Sequence[Mapping[str, Any]], load: Load) -> None:
    """Warm an endpoint up, one request after the other. Raises UserError when not one of them is answered."""
    found, _ = measure(target, bodies, load.model_copy(update={"rate": None, "concurrency": 1}))
    if found and all(s.error for s in found):
        raise UserError(f"{name}, {target.model} at {target.url}, does not answer", why=found[0].error,
                        fix=f"curl {target.url}/models")  # fmt: skip


def bench(
    base: Target,
    tuned: Target | None = None,
    *,
    blocks: int = 6,
    requests: int = 32,
    rate: float | None = None,
    concurrency: int | None = None,
    arrivals: Arrivals = "poisson",
    prompts: Sequence[str] = PROMPTS,
    max_tokens: int = 128,
    effort: Effort = "low",
    seed: int = 0,
    warmup: int = 2,
    extra: Mapping[str, Any] | None = None,
    slo: Slo | None = None,
    limits: Limits | None = None,
    timeout_s: float = 300.0,
    report: Line = lambda _line: None,
) -> Bench:
    """Measure one endpoint, or two in A B B A blocks with the same prompts and arrivals in both blocks of a pair.

    Prompts are taken in turn over all blocks; give blocks x requests of them, or a prefix cache answers the repeats.
    `extra` is merged into every request: {"ignore_eos": True, "min_tokens": n} gives vLLM a fixed output length,
    which tells speed from verbosity. Raises UserError for a load that makes no sense; a failing endpoint makes a void
    Bench instead.
    """
    if min(requests, max_tokens, len(prompts)) < 1 or blocks < (2 if tuned else 1):
        least = "two blocks, for an interval, and one prompt, request and token" if tuned else "one of each"
        raise UserError("this bench is too small", why=f"it needs at least {least}", fix="raise --blocks or --requests")
    targets = {"base": base, **({"tuned": tuned} if tuned else {})}
    load = Load(rate=rate, concurrency=concurrency, arrivals=arrivals, effort=effort, timeout_s=timeout_s)
    fixed = {"max_completion_tokens": max_tokens, "reasoning_effort": effort, "temperature": 0, **(extra or {})}
    bodies = [
        {"messages": [{"role": "user", "content": prompts[i % len(prompts)]}], "seed": seed + i, **fixed}
        for i in range(blocks * requests)
    ]
    for name, target in targets.items():
        report(f"warming {name} up")
        answers(name, target, bodies[:warmup], load)
    samples: dict[str, list[list[Sample]]] = {name: [] for name in targets}
    cpu: dict[str, list[float]] = {name: [] for name in targets}
    for block in range(blocks):
        order = list(targets) if block % 2 == 0 else list(targets)[::-1]
        for name in order:
            report(f"block {block + 1} of {blocks}, {name}: {requests} requests")
            part = bodies[block * requests : (block + 1) * requests]
            found, run = measure(targets[name], part, load, seed=seed + block)
            samples[name].append(found)
            cpu[name].append(run.cpu_s / run.wall_s)
    arms = {name: _arm(targets[name], samples[name], cpu[name], slo) for name in targets}
    reasons = [f"{name}: {reason}" for name, arm in arms.items() for reason in void(arm.pooled, limits)]
    ratios = _ratios(arms["base"], arms["tuned"]) if tuned else ()
    if tuned and len(ratios) < len(METRICS):
        missing = ", ".join(sorted(set(METRICS) - {r.metric for r in ratios}))
        reasons.append(f"no ratio of {missing}: some block gave no such figure above zero")
    settings = {"blocks": blocks, "requests": requests, **load.model_dump(), "max_tokens": max_tokens, "seed": seed,
                "warmup": warmup, "prompts": len(prompts), "extra": dict(extra or {}),
                "limits": (limits or Limits()).model_dump(), "slo": slo and slo.model_dump()}  # fmt: skip
    return Bench(settings=settings, arms=arms, ratios=ratios, void=tuple(reasons))


def _arm(target: Target, blocks: list[list[Sample]], cpu: list[float], slo: Slo | None) -> Arm:
    each = [figures(block, cpu=share, slo=slo) for block, share in zip(blocks, cpu, strict=True)]
    pooled = figures([s for b in blocks for s in b], cpu=max(cpu), spans=[span_of(b) for b in blocks], slo=slo)
    achieved = min((f.achieved for f in each if f.achieved is not None), default=None)  # worst block
    pooled = pooled.model_copy(update={"achieved": achieved})
    return Arm(url=target.url, model=target.model, pooled=pooled, blocks=tuple(each))


def _value(metric: str, found: Figures) -> float | None:
    if metric == "output_tokens_per_s":
        return found.output_tokens_per_s or None
    latency = found.ttft_s if metric == "ttft_p50" else found.tpot_s
    return latency.p50 or None if latency else None


def _ratios(base: Arm, tuned: Arm) -> tuple[Ratio, ...]:
    out = []
    for metric, more_is_better in METRICS.items():
        a, b = ([_value(metric, f) for f in arm.blocks] for arm in (base, tuned))
        pairs = [(math.log(x), math.log(y)) for x, y in zip(a, b, strict=True) if x and y]
        if len(pairs) == len(a):  # a block that gave nothing is not dropped in silence
            out.append(paired_ratio(metric, pairs, more_is_better))
    return tuple(out)


def paired_ratio(metric: str, logs: Sequence[tuple[float, float]], more_is_better: bool) -> Ratio:
    """Paired t interval (95 %, two-sided, n - 1 degrees of freedom) on log(tuned / base), one pair a block, n >= 2."""
    from scipy.stats import t

    differences = [b - a for a, b in logs]
    n, mean = len(differences), statistics.fmean(differences)
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    base, tuned = (math.exp(statistics.fmean(side)) for side in zip(*logs, strict=True))
    return Ratio(metric=metric, base=base, tuned=tuned, ratio=math.exp(mean), low=math.exp(mean - half),
                 high=math.exp(mean + half), blocks=n, more_is_better=more_is_better)  # fmt: skip


@contextmanager
def paced(*, tokens: int = 128, gap_s: float = 0.01) -> Iterator[Target]:
    """A stub in a process of its own while the block runs: replies of `tokens`, a chunk every `gap_s`."""
    from evalsuite.stub.server import Model, Script

    script = Script(models={"stub": Model(reasoning_tokens={"low": 0, "medium": 0, "high": 0}, answer_tokens=tokens,
                                          per_token_s=gap_s)})  # fmt: skip
    command = [sys.executable, "-m", "evalsuite.stub", "--script", "-"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as stub:
        try:
            if stub.stdin is None or stub.stdout is None:
                raise RuntimeError("the pipes to the stub were asked for")
            stub.stdin.write(script.model_dump_json())
            stub.stdin.close()
            yield Target(url=stub.stdout.readline().strip(), model="stub")
        finally:
            stub.terminate()


def calibrate(stub: Target, *, streams: int = 32) -> Calibration:
    """Run the client against a `paced` stub, `streams` at once, one reply each."""
    import time

    body = {"messages": [{"role": "user", "content": "go"}]}
    alone = closed_loop(stub, [{**body, "max_completion_tokens": 1}] * 9, 1, 60)
    run = closed_loop(stub, [body] * streams, streams, 60)
    before = time.thread_time()
    found = [sample(raw) for raw in run.raws]
    parse_s = time.thread_time() - before
    chunks = sum(len(s.itl_s) + 1 for s in found if not s.error)
    floor = figures([sample(raw) for raw in alone.raws]).ttft_s
    if not chunks or floor is None:
        raise UserError("the stub gave no chunk", why=str({s.error for s in found}), fix="python -m evalsuite.stub")
    return Calibration(
        chunks=chunks,
        streams=streams,
        us_per_chunk=run.cpu_s / chunks * 1e6,
        parse_us_per_chunk=parse_s / chunks * 1e6,
        ttft_p50_s=floor.p50,
        chunks_per_s=chunks / run.cpu_s,
    )
