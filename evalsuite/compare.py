"""Ask both arms, measure both endpoints, and write the report: two URLs in, report.json and report.html out."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evalsuite import ask, html, questions, report
from evalsuite.answers import Arm
from evalsuite.bench import Bench, bench, target
from evalsuite.endpoint import Endpoint
from evalsuite.report import Report, SpeedRow, Throughput
from tune.artefact import VERSION, write_text
from tune.errors import UserError
from tune.recipe import Evaluate

NANO_NOTE = "The base is the nano model: these figures prove that the path works. They say nothing about quality."
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


def compare(
    arms: dict[Arm, Endpoint],
    *,
    settings: Evaluate,
    question_file: Path,
    out: Path,
    concurrency: int = 8,
    speed: Speed | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Report:
    """Write answers.jsonl, report.json and report.html into `out`. Answers on file already are not asked for again.

    `speed` None leaves the throughput part out; one that fails is void in the report, which is written all the same.
    Raises UserError for an endpoint that cannot be asked.
    """
    asked, file = questions.read(question_file), out / "answers.jsonl"
    answers = asyncio.run(
        ask.ask(
            asked,
            arms,
            settings.efforts,
            file,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            concurrency=concurrency,
            report=progress,
        )
    )
    meta = ask.recorded(file)
    made = report.build(
        asked,
        answers,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        margin=settings.margin,
        alpha=settings.alpha,
        efforts=settings.efforts,
        asked_digest=meta.questions,
        throughput=_throughput(arms, meta.models, speed, settings, progress) if speed else None,
        note=NANO_NOTE if meta.models["base"].split("@")[0] == "nano" else "",
        provenance={"gptoss-kit": VERSION, **{f"{arm} endpoint": endpoint.url for arm, endpoint in arms.items()}},
    )
    report.write(out / "report.json", made)
    write_text(out / "report.html", html.render(made))
    return made


def _throughput(
    arms: dict[Arm, Endpoint],
    models: dict[Arm, str],
    speed: Speed,
    settings: Evaluate,
    progress: Callable[[str], None],
) -> Throughput:
    try:
        found = bench(
            *(target(arms[arm], models[arm]) for arm in ask.ARMS),
            **speed.model_dump(),
            effort=settings.efforts[0],
            seed=settings.seed,
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
    load = f"{offered}, {size}, effort {s['effort']}"
    return Throughput(load=load, rows=rows, void="; ".join(found.void))
