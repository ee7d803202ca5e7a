"""Ask both arms, measure both endpoints, and write the report: two URLs in, report.json and report.html out."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evalsuite import questions, report
from evalsuite.asking import ask
from evalsuite.asking.endpoint import Endpoint
from evalsuite.questions import QuestionSet
from evalsuite.replies import answers
from evalsuite.replies.answers import ARMS, Arm, Meta
from evalsuite.replies.server import told_apart
from evalsuite.report import Report, SpeedRow, Throughput
from evalsuite.speed import prompts
from evalsuite.speed.bench import Bench, bench
from evalsuite.speed.load import target
from evalsuite.views import html
from tune.artefact import VERSION, write_text
from tune.data.page import require_pages
from tune.errors import UserError
from tune.recipe import Evaluate

NANO_NOTE = (
    "The base is the nano model: these figures prove that the path works and, of kind smollm2, whether tuning taught "
    "it to read; they say nothing about a model of another size."
)
ALIKE_NOTE = (
    "Only their names show that base and tuned are two models: not both send a digest, probed they do not differ."
)
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


def compare(
    arms: dict[Arm, Endpoint],
    *,
    settings: Evaluate,
    question_file: Path,
    out: Path,
    pages: Path | None = None,
    concurrency: int = 8,
    speed: Speed | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Report:
    """Write answers.jsonl, report.json and report.html into `out`, beside a copy of the questions: together they prove
    the verdict. Answers on file already are not asked for again.

    `speed` None leaves the throughput part out; one that fails is void in the report, which is written all the same.
    Raises UserError for an endpoint that cannot be asked, and for questions of another recipe or of other pages than
    those collected in `pages`.
    """
    asked, file = questions.read(question_file), out / report.ANSWERS
    settings.require_questions(question_file, asked.made)
    if pages:
        require_pages(question_file, asked.made, pages)
    _beside(asked, out / report.QUESTIONS, question_file)
    meta = asyncio.run(
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
    servers = meta.servers
    made = report.build(
        asked,
        answers.read(file, asked),
        asked=meta,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        margin=settings.margin,
        alpha=settings.alpha,
        efforts=settings.efforts,
        require_gain=settings.require_gain,
        throughput=_throughput(arms, meta, speed, settings, progress) if speed else None,
        note=" ".join(
            [
                *([NANO_NOTE] if servers["base"].model.split("@")[0] == "nano" else []),
                *([] if told_apart(servers["base"], servers["tuned"]) else [ALIKE_NOTE]),
            ]
        ),
        provenance={"gptoss-kit": VERSION, **{f"{arm} endpoint": endpoint.url for arm, endpoint in arms.items()}},
    )
    report.write(out / "report.json", made)
    write_text(out / "report.html", html.render(made))
    return made


def _beside(asked: QuestionSet, place: Path, source: Path) -> None:
    """Lay a copy of the questions beside the answers. Another set that lies there is somebody's: it is left alone."""
    if place.exists() and questions.read(place) != asked:
        raise UserError(
            f"{place} is another question set than {source}",
            why="a report lies beside the questions that it is about",
            fix="give a folder of its own by --out",
        )
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        questions.write(place, asked)


def _throughput(
    arms: dict[Arm, Endpoint],
    meta: Meta,
    speed: Speed,
    settings: Evaluate,
    progress: Callable[[str], None],
) -> Throughput:
    try:
        found = bench(
            *(target(arms[arm], meta.servers[arm].model) for arm in ARMS),
            **speed.model_dump(),
            effort=settings.efforts[0],
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
