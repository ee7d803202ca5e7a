"""How fast an endpoint is, or tuned against base: interleaved blocks, paired ratios, or why nothing was learned.

In: one or two Targets, prompts, a load. Out: a frozen Bench. A block is one run of the load on one endpoint; requests
within a block are not independent, so the block is the unit of every interval. Knows nothing about answers' worth.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from evalsuite.speed.client import Target
from evalsuite.speed.load import Line, bodies, load, measure, warmed
from evalsuite.speed.metrics import Figures, Frozen, Limits, Sample, Slo, figures, span_of, void
from evalsuite.speed.prompts import LENGTHS, Sent, made, sent
from evalsuite.speed.schedule import Arrivals
from tune.errors import UserError
from tune.section import EffortName

METRICS: dict[str, bool] = {"ttft_p50": False, "tpot_p50": False, "output_tokens_per_s": True}  # is more better?


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
    prompts: Sent  # what each arm was sent
    arms: dict[str, Arm]  # "base" and, when two were measured, "tuned"
    ratios: tuple[Ratio, ...]
    notes: tuple[str, ...]  # what a reader of the figures has to know
    void: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return 3 if self.void else 0


def bench(
    base: Target,
    tuned: Target | None = None,
    *,
    blocks: int = 6,
    requests: int | None = None,
    rate: float | None = None,
    concurrency: int | None = None,
    arrivals: Arrivals | None = None,
    trace: Sequence[float] = (),
    prompts: Sequence[str] | None = None,
    prompt_tokens: str = LENGTHS,
    max_tokens: int = 128,
    effort: EffortName = "low",
    seed: int = 0,
    warmup: int = 2,
    extra: Mapping[str, Any] | None = None,
    slo: Slo | None = None,
    limits: Limits | None = None,
    timeout_s: float = 300.0,
    report: Line = lambda _line: None,
) -> Bench:
    """Measure one endpoint, or two in A B B A blocks with the same prompts and arrivals in both blocks of a pair.

    `requests` a block: 32, or those of the trace. `prompts` are taken in turn over all blocks and the warm-up; None:
    each request gets one of its own, of `prompt_tokens`, as `prompts.made` does. A server keeps its prefix cache from
    run to run, so a second run needs another seed. `extra` is merged into every request: {"ignore_eos": True,
    "min_tokens": n} gives vLLM a fixed output length, which tells speed from verbosity. Raises UserError for a load
    that makes no sense; a failing endpoint makes a void Bench instead.
    """
    requests = (len(trace) or 32) if requests is None else requests
    if min(requests, max_tokens, 1 if prompts is None else len(prompts)) < 1 or blocks < (2 if tuned else 1):
        least = "two blocks, for an interval, and one prompt, request and token" if tuned else "one of each"
        raise UserError("this bench is too small", why=f"it needs at least {least}", fix="raise --blocks or --requests")
    offered = load(rate, concurrency, arrivals, trace, effort=effort, timeout_s=timeout_s)
    count = blocks * requests + warmup
    texts = (
        made(count, prompt_tokens, seed=seed) if prompts is None else [prompts[i % len(prompts)] for i in range(count)]
    )
    asked = sent(texts, prompt_tokens if prompts is None else "", seed)
    notes = [asked.note] if asked.note else []
    for note in notes:
        report(note)
    every = bodies(texts, max_tokens=max_tokens, effort=effort, seed=seed, extra=extra)
    targets = {"base": base, **({"tuned": tuned} if tuned else {})}
    for name, target in targets.items():
        report(f"warming {name} up")
        targets[name] = warmed(name, target, every[blocks * requests :], offered, report)
    samples: dict[str, list[list[Sample]]] = {name: [] for name in targets}
    cpu: dict[str, list[float]] = {name: [] for name in targets}
    for block in range(blocks):
        order = list(targets) if block % 2 == 0 else list(targets)[::-1]
        for name in order:
            report(f"block {block + 1} of {blocks}, {name}: {requests} requests")
            part = every[block * requests : (block + 1) * requests]
            found, run = measure(targets[name], part, offered, seed=seed + block)
            samples[name].append(found)
            cpu[name].append(run.cpu_s / run.wall_s)
    arms = {name: _arm(targets[name], samples[name], cpu[name], slo) for name in targets}
    notes += [f"{name}: tokens were counted by chunks, of which one may hold several"
              for name, arm in arms.items() if "chunks" in arm.pooled.tokens_counted]  # fmt: skip
    reasons = [f"{name}: {reason}" for name, arm in arms.items() for reason in void(arm.pooled, limits)]
    ratios = _ratios(arms["base"], arms["tuned"]) if tuned else ()
    if tuned and len(ratios) < len(METRICS):
        missing = ", ".join(sorted(set(METRICS) - {r.metric for r in ratios}))
        reasons.append(f"no ratio of {missing}: some block gave no such figure above zero")
    settings = {"blocks": blocks, "requests": requests, **offered.model_dump(mode="json"), "max_tokens": max_tokens,
                "seed": seed, "warmup": warmup, "extra": dict(extra or {}), "limits": (limits or Limits()).model_dump(),
                "slo": slo and slo.model_dump()}  # fmt: skip
    return Bench(settings=settings, prompts=asked, arms=arms, ratios=ratios, notes=tuple(notes), void=tuple(reasons))


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
