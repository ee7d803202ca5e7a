"""Ask both arms, measure both endpoints, and write the report: two URLs in, report.json and report.html out.

Or no URL: a replay makes the report of the answers on file, and asks nobody.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from evalsuite import questions, report
from evalsuite.asking import ask
from evalsuite.asking.endpoint import Endpoint
from evalsuite.asking.stopping import Stopping
from evalsuite.contamination import Trained, contamination
from evalsuite.judging import policy
from evalsuite.own.check import DATASET, training_texts
from evalsuite.questions import NONE_HELD_OUT, QuestionSet
from evalsuite.replies import answers, fitness, graders
from evalsuite.replies.answers import ARMS, Answer, Arm, Meta
from evalsuite.replies.request import Sampling
from evalsuite.replies.server import told_apart
from evalsuite.report import Report, Throughput
from evalsuite.speed import compared
from evalsuite.speed.compared import Speed
from evalsuite.views import html
from tune import artefact
from tune.artefact import VERSION, write_text
from tune.data.page import require_pages
from tune.errors import UserError
from tune.evaluate import Evaluate

NANO_NOTE = (
    "The base is the nano model: these figures prove that the path works and, of kind smollm2, whether tuning taught "
    "it to read; they say nothing about a model of another size."
)
ALIKE_NOTE = (
    "Only their names show that base and tuned are two models: not both send a digest, probed they do not differ."
)
ALONE_NOTE = "All held-out questions are of one module: bounds take them one by one, as if none went together."
ADAPTER = "adapter"  # the stage, in the work folder, that tuned is made of
IDS_KEPT = 20  # of questions that stand in the training data


def compare(
    arms: dict[Arm, Endpoint],
    *,
    settings: Evaluate,
    question_file: Path,
    out: Path,
    pages: Path | None = None,
    dataset: Path | None = None,
    concurrency: int = 8,
    speed: Speed | None = None,
    allow_unlike: bool = False,
    stop_early: bool | None = None,
    progress: Callable[[str], None] = lambda _line: None,
    live: Callable[[str], None] | None = None,
) -> Report:
    """Write answers.jsonl, report.json and report.html into `out`, beside a copy of the questions: together they prove
    the verdict. Answers on file already are not asked for again.

    `speed` None leaves the throughput part out; one that fails is void in the report, which is written all the same.
    Servers that are unfit for a comparison (replies/fitness.py) are asked nothing, and the report is INVALID.
    `stop_early` None: as the settings say. Where asking did stop, throughput is not measured.
    `progress` is told what stays on a terminal, `live` lines that the next one may write over.
    Raises UserError for an endpoint that cannot be asked, and for questions of another recipe or of other pages than
    those collected in `pages`, and for a `dataset`, where the recipe limits contamination, that was changed. And,
    before anything is asked, for questions whose answers are code where no sandbox shuts code in.
    """
    asked = _questions(settings, question_file, pages)
    if not any(q.split == "held-out" for q in asked.questions):
        why = "nothing could show that tuned is not worse: no report would be a PASS"
        raise UserError(f"no question in {question_file} is held out", why=why, fix=NONE_HELD_OUT)
    trained = _trained(asked, settings, dataset)
    _beside(asked, out / report.QUESTIONS, question_file)
    early = settings.stop_early if stop_early is None else stop_early
    stopping = Stopping(asked, settings.efforts, policy.of(settings), settings.repeats) if early else None
    meta = asyncio.run(
        ask.ask(
            asked,
            arms,
            settings.efforts,
            out / report.ANSWERS,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            repeats=settings.repeats,
            concurrency=concurrency,
            allow_unlike=allow_unlike,
            stopping=stopping,
            report=progress,
            live=live,
        )
    )
    fit = not fitness.unfit(asked, settings.efforts, meta) and not (stopping and stopping.why)
    measured = compared.measured(arms, meta, speed, settings.efforts[0], live or progress) if speed and fit else None
    return _written(asked, meta, settings, out, measured, trained)


def replay(
    *,
    settings: Evaluate,
    question_file: Path,
    out: Path,
    pages: Path | None = None,
    dataset: Path | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Report:
    """Write the report that `compare` wrote, of the answers in `out` alone: no server is asked, and none has to be up.

    Whom the answers are from says the header of the last run over these questions; what had to be asked, and how, says
    the recipe. What is not on file is missing. Throughput is that of the report in `out`, if it is of the same run.
    Raises UserError when the answers are not there, or are to another question set, and as `compare` for the questions.
    """
    asked, file = _questions(settings, question_file, pages), out / report.ANSWERS
    again = report.REMAKE
    if not file.is_file():
        why = "a replay asks no server: it judges the answers of a run again"
        raise UserError(f"there is no {file} to replay", why=why, fix=again)
    runs = answers.headers(file)
    if not runs:
        why = "it is of an earlier version, or of a run that ended before anything was asked"
        raise UserError(
            f"{file} does not say who answered", why=why, fix=f"{again}: what is on file is not asked again"
        )
    of_these = [run for run in runs if run.questions == asked.digest]
    if not of_these:
        raise UserError(
            f"{file} belongs to another question set than {question_file}",
            why=f"it answers set {runs[-1].questions[:16]}, and this is {asked.digest[:16]}",
            fix=f"give its questions by --questions, or {again}",
        )
    _beside(asked, out / report.QUESTIONS, question_file)
    sampling = Sampling(
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
        repeats=settings.repeats,
    )
    meta = of_these[-1].model_copy(update={"sampling": sampling})
    found = ask.on_file(file, asked, settings.efforts, meta, progress)
    for line in _missing(asked, found, settings, meta):
        progress(line)
    return _written(
        asked, meta, settings, out, _measured(out / "report.json", meta), _trained(asked, settings, dataset)
    )


def _questions(settings: Evaluate, file: Path, pages: Path | None) -> QuestionSet:
    asked = questions.read(file)
    graders.require(asked)
    settings.require_questions(file, asked.made)
    if pages:
        require_pages(file, asked.made, pages)
    return asked


def _missing(asked: QuestionSet, found: Sequence[Answer], settings: Evaluate, meta: Meta) -> Iterator[str]:
    """What a replay lacks, an arm and effort a line."""
    expected = answers.expected(asked, settings.efforts, meta).keys()
    lacks = expected - {a.key for a in found if not a.error}
    every = Counter((arm, effort) for _, arm, effort, _ in expected)
    failed: Counter[tuple[str, str]] = Counter((a.arm, a.effort) for a in found if a.error)
    counts = Counter((arm, effort) for _, arm, effort, _ in lacks)
    for arm, effort in ((arm, effort) for arm in ARMS for effort in report.in_order(settings.efforts)):
        if not (count := counts[arm, effort]):
            continue
        ended = f", {errors} of them ended in an error" if (errors := failed[arm, effort]) else ""
        yield f"{arm} at effort {effort}: {count} of {every[arm, effort]} answers are missing{ended}"


def _measured(path: Path, meta: Meta) -> Throughput | None:
    try:
        before = report.as_stored(path)
    except UserError:
        return None
    return before.throughput if before.asked == meta else None


def _trained(asked: QuestionSet, settings: Evaluate, dataset: Path | None) -> Trained | None:
    """Which held-out questions stand in the dataset, where the recipe limits that; None when there is no dataset."""
    if settings.limits.contamination is None or dataset is None or not (dataset / f"{DATASET}.json").is_file():
        return None
    held_out = [q for q in asked.questions if q.split == "held-out"]
    found = contamination(held_out, training_texts(dataset))
    return Trained(
        questions=found.questions,
        found=found.any.count,
        ids=found.any.ids[:IDS_KEPT],
        texts=found.texts,
        dataset=artefact.read(dataset, DATASET, remake="tune dataset").digest,
        tuned_on=_tuned_on(dataset.parent / ADAPTER),
    )


def _tuned_on(adapter: Path) -> str:
    """The digest of the dataset that an adapter was trained on; "" where no finished one says so."""
    with suppress(UserError):
        return artefact.read(adapter, ADAPTER, remake="tune train").inputs.get(DATASET, "")
    return ""


def _written(
    asked: QuestionSet,
    meta: Meta,
    settings: Evaluate,
    out: Path,
    measured: Throughput | None,
    trained: Trained | None,
) -> Report:
    servers, unlike = meta.servers, fitness.unlike(meta)
    modules = {q.module for q in asked.questions if q.split == "held-out"}
    made = report.build(
        asked,
        answers.read(out / report.ANSWERS, asked),
        asked=meta,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        policy=policy.of(settings),
        efforts=settings.efforts,
        trained=trained,
        throughput=measured,
        note=" ".join(
            [
                *([NANO_NOTE] if servers["base"].model.split("@")[0] == "nano" else []),
                *([] if told_apart(servers["base"], servers["tuned"]) else [ALIKE_NOTE]),
                *([ALONE_NOTE] if len(modules) == 1 else []),
                *([f"Unlike servers were allowed: {unlike}."] if unlike and meta.unlike_allowed else []),
            ]
        ),
        provenance={"gptoss-kit": VERSION, **{f"{arm} endpoint": server.url for arm, server in servers.items()}},
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
