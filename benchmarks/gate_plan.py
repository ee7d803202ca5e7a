"""Whether the gate passes as often as `evalsuite plan` says: whole gates of a recipe, from graded replies to a verdict.

    python benchmarks/gate_plan.py [--reps 1000] [--seed 0] [--json]

Every repetition draws replies of two models as the plan expects them, equal ones or one that is better on the questions
a gain may be shown on, and has them compared, measured and judged by the gate itself. Needs numpy and scipy; three
minutes.
"""

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple
from unittest.mock import patch

import click
import numpy as np

from evalsuite import plan
from evalsuite.judging import exact, gain, measured, policy, power
from evalsuite.judging.comparison import compare
from evalsuite.judging.gate import Evidence, decide
from evalsuite.questions import Question, Split
from evalsuite.replies.answers import Answer, Key
from tune.evaluate import Evaluate

RIGHT = 0.55  # of the questions that both models get right, whatever else flips
TWO = Evidence(base_models=("b",), tuned_models=("t",), questions_digest="q" * 64, asked_digest="q" * 64)
OPEN = "open-value"
SILENT: dict[str, Any] = dict.fromkeys(
    ["model", "server", "request", "text", "reasoning", "refusal", "error", "finish_reason"], ""
)
SILENT |= dict.fromkeys(["prompt_tokens", "completion_tokens", "first_token_s", "first_answer_s", "total_s"])
SILENT |= {"repeat": 0, "tool_calls": False, "parsed": "", "ran": ""}
SOME = {"empty": 0.06, "truncated": 0.06, "unparsed": 0.08}
MODULES = [f"m{i}" for i in range(12)]
CELLS: list[tuple[dict[str, Any], float, str, float]] = [  # [evaluate], flips, what tuned is better on, by how much
    ({"questions": 200, "efforts": ["low", "medium"], "limits": SOME}, 0.02, "", 0.0),
    ({"questions": 200, "efforts": ["low"], "modules": MODULES, "limits": SOME}, 0.05, "", 0.0),
    ({"questions": 40, "efforts": ["low", "medium"], "margin": 0.2}, 0.05, "", 0.0),
    ({"questions": 200, "efforts": ["low"], "taught": 80, "require_gain": True}, 0.05, gain.TAUGHT, 0.1),
    ({"questions": 200, "efforts": ["low"], "require_gain": True}, 0.05, gain.OPEN, 0.1),
    ({"questions": 200, "efforts": ["low"], "modules": MODULES, "require_gain": True}, 0.1, gain.OPEN, 0.2),
    ({"questions": 200, "efforts": ["low"], "require_gain": True}, 0.02, "", 0.0),
]


class Row(NamedTuple):
    """One recipe: shares of whole gates that pass, and what the plan says of them."""

    recipe: str
    flips: float
    better_on: str
    gain: float
    passed: float
    told: float


def told(asked: Evaluate, flips: float, better_on: str, size: float) -> float:
    made = plan.plan(asked)
    if not asked.require_gain:
        return next(row.power for row in made.rows if row.flips == flips)
    if not better_on:
        return 0.0
    at = plan.GAINS.index(size)
    return next(row.chances[at] for row in made.gains if (row.about, row.flips) == (better_on, flips))


def passed(asked: Evaluate, flips: float, better_on: str, size: float, reps: int, seed: int) -> float:
    """Share of `reps` gates. How far a bound lies from -margin decides nothing and is slow to find, as is how many
    questions an INCONCLUSIVE advises: on which side it lies is exact.passing's, which is no other test."""
    rng, held_to = np.random.default_rng([seed, asked.questions, round(flips * 1000)]), policy.of(asked)
    questions, count = list(_questions(asked)), 0
    splits: list[Split] = ["held-out", "taught"] if asked.taught else ["held-out"]

    def lower(lost: int, gained: int, n: int, alpha: float) -> float:
        return -asked.margin + (1e-6 if gained >= exact.passing(n, asked.margin, alpha)[lost] else -1e-6)

    with patch.object(power, "needed", return_value=1), patch.object(exact, "lower", lower):
        for _ in range(reps):
            answers = dict(_replies(asked, questions, flips, better_on, size, rng))
            first = {key[:3]: a for key, a in answers.items()}
            found = [
                compare(e, questions, answers, split=split, alpha=asked.alpha, margin=asked.margin)
                for split in splits
                for e in asked.efforts
            ]
            figures = measured.figures(questions, first, asked.efforts, held_to)
            count += decide(found, held_to, TWO, figures).outcome == "PASS"
    return count / reps


def _questions(asked: Evaluate) -> Iterator[Question]:
    modules = asked.modules or ["m"]
    for i in range(asked.questions + asked.taught):
        taught = i >= asked.questions
        opened = asked.book == "open" or (asked.book == "both" and (i // len(modules)) % 2)
        yield Question(
            id=f"q{i}",
            kind=OPEN if opened and not taught else "kind",
            module=f"t{i}" if taught else modules[i % len(modules)],
            prompt=f"P{i}?",
            answer=f"A{i}",
            grader="exact",
            split="taught" if taught else "held-out",
        )


def _replies(
    asked: Evaluate, questions: Sequence[Question], flips: float, better_on: str, size: float, rng: Any
) -> Iterator[tuple[Key, Answer]]:
    """Right answers flip on some questions, readable ones on others, and on others still neither arm says anything of
    use. At each effort anew; an arm reasons twice as long as at the effort below, or as long."""
    ends = [(name, limit * plan.SPARED) for name, limit in asked.limits if name in SOME and limit]
    better = {gain.TAUGHT: [q.split == "taught" for q in questions], gain.OPEN: [q.kind == OPEN for q in questions]}
    more = size * np.array(better.get(better_on, [0] * len(questions)))
    still, tokens = flips / 2 * (1 - more), np.full((2, len(questions)), 50)
    ways = [
        ("lost", still),
        ("gained", still + more),
        ("mute", flips / 2),
        ("told", flips / 2),
        ("right", RIGHT),
        *ends,
    ]
    names, until = (
        [*(name for name, _ in ways), ""],
        np.cumsum([np.broadcast_to(p, more.shape) for _, p in ways], axis=0),
    )
    said: dict[tuple[str, int, int], Answer] = {}  # equal ones are one
    for effort in asked.efforts:
        drawn = (rng.random(len(questions)) >= until).sum(axis=0)
        tokens *= 1 + (rng.random(tokens.shape) < plan.LONGER)
        for i, q in enumerate(questions):
            way = names[drawn[i]]
            for arm, right, mute in (("base", "lost", "told"), ("tuned", "gained", "mute")):
                outcome = way if way in SOME else "refused" if way == mute else "answered"
                told = outcome, int(way in ("right", right)), int(tokens[int(arm == "tuned"), i])
                yield (q.id, arm, effort, 0), said.get(told) or said.setdefault(told, _answer(*told))


def _answer(outcome: str, score: int, tokens: int) -> Answer:
    about = {
        "question": "",
        "arm": "base",
        "effort": "",
        "outcome": outcome,
        "score": score,
        "reasoning_tokens": tokens,
    }
    return Answer.model_construct(**about, **SILENT)


@click.command()
@click.option("--reps", default=1000, show_default=True, help="simulated gates a recipe")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print rows as JSON")
def main(reps: int, seed: int, as_json: bool) -> None:
    rows = []
    for given, *cell in CELLS:
        asked = Evaluate.model_validate(given)
        said = {key: len(value) if key == "modules" else value for key, value in given.items()}
        rows.append(Row(json.dumps(said), *cell, passed(asked, *cell, reps, seed), told(asked, *cell)))
    if as_json:
        print(json.dumps({"reps": reps, "seed": seed, "rows": [r._asdict() for r in rows]}))
        return
    print(f"{date.today()}, Python {platform.python_version()}, numpy {np.__version__}, {reps} gates, seed {seed}\n")
    for r in rows:
        better = f", tuned better by {r.gain * 100:.0f} points on {r.better_on}" if r.better_on else ""
        print(f"passed {r.passed:>6.1%}  told {r.told:>6.1%}  flips {r.flips:.0%}{better}  {r.recipe}")


if __name__ == "__main__":
    sys.exit(main())
