"""The load test beside an evaluation: both endpoints loaded, and what a report shows of it."""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from evalsuite.asking.endpoint import Endpoint
from evalsuite.replies.answers import ARMS, Arm, Meta
from evalsuite.report import SpeedRow, Throughput
from evalsuite.speed import prompts
from evalsuite.speed.bench import Bench, bench
from evalsuite.speed.load import target
from tune.errors import UserError
from tune.section import EffortName

METRICS = {  # of a Bench: how the report names it, its unit, and what to multiply by
    "ttft_p50": ("time to first token, median", "ms", 1000),
    "tpot_p50": ("time per output token, median", "ms", 1000),
    "output_tokens_per_s": ("output tokens per second", "tokens/s", 1),
}


class Speed(BaseModel):
    """How to load the endpoints. The defaults are small: a first figure, not a capacity test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: int = 4
    requests: int = 8
    concurrency: int = 2
    max_tokens: int = 64
    prompt_tokens: str = "32-96"


def measured(
    arms: dict[Arm, Endpoint], meta: Meta, speed: Speed, effort: EffortName, progress: Callable[[str], None]
) -> Throughput:
    """What the load does; void, with the reason, where it could not be measured."""
    try:
        found = bench(
            *(target(arms[arm], meta.servers[arm].model) for arm in ARMS),
            **speed.model_dump(),
            effort=effort,
            seed=prompts.drawn(),  # a prefix cache may hold the prompts of the last run
            report=progress,
        )
    except UserError as e:
        return Throughput(load="not measured", rows=(), void=f"{e.what}: {e.why}" if e.why else e.what)
    return throughput(found)


def throughput(found: Bench) -> Throughput:
    """The report's view of a two-endpoint Bench."""
    rows = tuple(
        SpeedRow(
            metric=METRICS[r.metric][0],
            unit=METRICS[r.metric][1],
            base=r.base * METRICS[r.metric][2],
            tuned=r.tuned * METRICS[r.metric][2],
            ratio=r.ratio,
            interval=(r.low, r.high),
            higher_is_better=r.more_is_better,
        )
        for r in found.ratios
    )
    s = found.settings
    offered = f"{s['rate']} requests/s" if s["rate"] else f"{s['concurrency']} requests in flight"
    size = f"{s['blocks']} blocks of {s['requests']} an arm, at most {s['max_tokens']} tokens"
    load = "; ".join([f"{offered}, {size}, effort {s['effort']}", *found.notes])
    return Throughput(load=load, rows=rows, void="; ".join(found.void))
