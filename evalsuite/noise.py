"""Base against itself: one endpoint asked the same questions twice in, how far two equal runs differ out.

The second run has seeds of its own, so that a server which repeats itself for a seed is no surer than it is. It is kept
in a file of its own, and is no part of a comparison: it says what a gate takes, and decides nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from evalsuite import questions
from evalsuite.asking import ask
from evalsuite.asking.endpoint import Endpoint
from evalsuite.judging import policy as policies
from evalsuite.judging import power, statistics
from evalsuite.judging.comparison import Comparison, compare
from evalsuite.judging.notation import percent, stated
from evalsuite.questions import QuestionSet
from evalsuite.replies import answers, fitness
from evalsuite.replies.answers import Answer
from evalsuite.report import in_order
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.section import EffortName

TAIL = 0.025  # on either side of a share


class Differing(NamedTuple):
    """How many of so many pairs differ, and Wilson's two-sided 95 % bounds of the share."""

    differ: int
    of: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.differ / self.of)} ({percent(self.low)} to {percent(self.high)})"


class Row(NamedTuple):
    """One effort. Shares are of held-out questions, by the first answer of each run; `discordance` is of the runs'
    means of all their answers, which a gate sees: the mean square difference, of one answer each the share that
    differs."""

    effort: EffortName
    answers: Differing  # another text, or another outcome
    scores: Differing
    discordance: float
    missing: int


class Noise(BaseModel):
    """`needed`: held-out questions with which two equal runs pass the gate's checks of them, at every effort, as often
    as `target`; `power`: how often they do with those that there are. General questions are not asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    questions: int
    repeats: int
    temperature: float
    margin: float
    target: float
    rows: tuple[Row, ...]
    power: float
    needed: int


def measure(
    endpoint: Endpoint,
    *,
    settings: Evaluate,
    question_file: Path,
    out: Path,
    concurrency: int = 8,
    progress: Callable[[str], None] = lambda _line: None,
    live: Callable[[str], None] | None = None,
) -> Noise:
    """Ask what the file `out` does not hold yet. Raises UserError as `compare`, and where an effort has no pair."""
    asked = questions.read(question_file)
    settings.require_questions(question_file, asked.made)
    asked = asked.model_copy(update={"questions": tuple(q for q in asked.questions if q.split == "held-out")})
    meta = asyncio.run(
        ask.ask(
            asked,
            {"base": endpoint},
            settings.efforts,
            out,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            repeats=2 * settings.repeats,
            concurrency=concurrency,
            report=progress,
            live=live,
        )
    )
    if void := fitness.unfit(asked, settings.efforts, meta):
        raise UserError(f"{endpoint.url} cannot be asked these questions", why=void[0], fix="serve it so, run again")
    found, _ = answers.counted(answers.read(out, asked), asked, settings.efforts, meta)
    policy, runs = policies.of(settings), {a.key: a for a in _as_arms(found, settings.repeats)}
    comparisons = [
        compare(e, asked.questions, runs, alpha=policy.alpha, margin=policy.margin, repeats=settings.repeats)
        for e in in_order(settings.efforts)
    ]
    seen = power.seen(comparisons)
    return Noise(
        model=meta.servers["base"].model,
        questions=len(asked.questions),
        repeats=settings.repeats,
        temperature=settings.temperature,
        margin=policy.margin,
        target=policy.power,
        rows=tuple(_row(c, asked, runs, out) for c in comparisons),
        power=power.gate(len(asked.questions), seen, policy),
        needed=power.needed(seen, policy),
    )


def words(made: Noise) -> str:
    """As the terminal shows it."""
    each = f", {made.repeats} answers each" if made.repeats > 1 else ""
    wide = max(len(row.effort) for row in made.rows) + 2
    missing = sum(row.missing for row in made.rows)
    lines = [
        f"{made.model} against itself: {made.questions} held-out questions twice{each}, temperature"
        f" {made.temperature:g}, bounds 95%",
        "",
        f"{'':{wide}}{'answers differ':<26}{'scores differ':<26}discordance",
        *(f"{r.effort:{wide}}{r.answers!s:<26}{r.scores!s:<26}{r.discordance:.3f}" for r in made.rows),
        "",
        *([f"{missing} questions lack answers in a run: shares are of what came"] if missing else []),
        f"two equal models that differ so pass the checks of held-out questions, with a margin of {stated(made.margin)}"
        f" points, {made.power:.0%} of the time with {made.questions} questions;",
        f"{made.target:.0%} of the time with about {made.needed}",
    ]
    return "\n".join(lines)


def _as_arms(found: Sequence[Answer], repeats: int) -> list[Answer]:
    """The later half of the answers to a question as those of tuned."""
    second = {"arm": "tuned"}
    return [
        a if a.repeat < repeats else a.model_copy(update=second | {"repeat": a.repeat - repeats})
        for a in found
        if a.arm == "base"
    ]


def _row(c: Comparison, asked: QuestionSet, runs: dict[answers.Key, Answer], out: Path) -> Row:
    pairs = [(runs.get((q.id, "base", c.effort, 0)), runs.get((q.id, "tuned", c.effort, 0))) for q in asked.questions]
    both = [(a, b) for a, b in pairs if a and b and a.score is not None and b.score is not None]
    if not both:
        why = f"at effort {c.effort} no question was answered in both runs"
        raise UserError(f"{out} shows no noise", why=why, fix="evalsuite noise again: errors are asked again")
    return Row(
        effort=c.effort,
        answers=_differing([(a.text, a.outcome) != (b.text, b.outcome) for a, b in both]),
        scores=_differing([a.score != b.score for a, b in both]),
        discordance=c.difference.discordance,
        missing=c.missing,
    )


def _differing(flags: Sequence[bool]) -> Differing:
    return Differing(sum(flags), len(flags), *statistics.wilson(sum(flags), len(flags), TAIL))
