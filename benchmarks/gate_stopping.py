"""How much of a comparison is asked before it is known not to pass, and that stopping then changes no PASS.

    python benchmarks/gate_stopping.py [--reps 12] [--questions 200] [--seed 0] [--processes 2] [--json]

Each run: 200 questions of 10 kinds about 20 modules, base 70 % right, three efforts, the gate of the default recipe.
Asked as `evalsuite compare --stop-early` asks, effort by effort, and looked at as often; the verdict of the same run
asked in full stands beside it. "silent" models answer nothing that can be read; "limited" is the same with
`[evaluate.limits] unparsed = 0.05`. About a second a run.
"""

import json
import platform
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from typing import NamedTuple

import click

from evalsuite.asking.stopping import LOOKS
from evalsuite.judging import measured, reach
from evalsuite.judging.comparison import compare
from evalsuite.judging.gate import Evidence, Rest, decide
from evalsuite.judging.policy import Policy
from evalsuite.questions import Question
from evalsuite.replies.answers import ARMS, Answer, Key, first
from tune.evaluate import Gated
from tune.harmony import EFFORTS

LOSSES, FLIPS, RIGHT = (-0.05, 0.0, 0.05, 0.1, 0.2, 0.5), (0.05, 0.1, 0.2), 0.7
TOKENS = {"low": 100, "medium": 200, "high": 400}
EVIDENCE = Evidence(base_models=("b",), tuned_models=("t",), questions_digest="0", asked_digest="0")


class Cell(NamedTuple):
    """One kind of tuned model: its true loss, the share of answers that flip, and whether it can be read at all."""

    loss: float
    flips: float
    silent: bool = False
    limited: bool = False


class Ran(NamedTuple):
    """One run: the verdict in full, the verdict when stopped ("" when it never was), and the share of pairs asked."""

    full: str
    stopped: str
    share: float


def asked(n: int) -> list[Question]:
    return [
        Question(id=f"q{i}", kind=f"k{i % 10}", module=f"m{i % 20}", prompt=f"P{i}", answer=f"A{i}", grader="exact")
        for i in range(n)
    ]


def answer(question: str, arm: str, effort: str, right: bool, silent: bool) -> Answer:
    known = {"question": question, "arm": arm, "effort": effort, "model": arm, "server": arm, "request": "0"}
    known |= {"text": arm, "finish_reason": "stop", "reasoning_tokens": TOKENS[effort], "score": int(right)}
    return Answer.model_validate(known | {"outcome": "unparsed" if silent else "answered"})


def drawn(cell: Cell, questions: list[Question], effort: str, dice: random.Random) -> dict[Key, Answer]:
    flips = max(cell.flips, abs(cell.loss))
    lost, gained = (flips + cell.loss) / 2 / RIGHT, (flips - cell.loss) / 2 / (1 - RIGHT)
    out = dict[Key, Answer]()
    for q in questions:
        base = dice.random() < RIGHT
        tuned = not cell.silent and (dice.random() >= lost if base else dice.random() < gained)
        for arm, right, silent in (("base", base, False), ("tuned", tuned, cell.silent)):
            made = answer(q.id, arm, effort, right, silent)
            out[made.key] = made
    return out


def run(cell: Cell, n: int, seed: str) -> Ran:
    dice, questions = random.Random(seed), asked(n)
    policy = Policy(limits=Gated(unparsed=0.05 if cell.limited else None))
    said = {effort: drawn(cell, questions, effort, dice) for effort in EFFORTS}
    every = {key: a for answers in said.values() for key, a in answers.items()}
    comparisons = [compare(effort, questions, every, alpha=policy.alpha, margin=policy.margin) for effort in EFFORTS]
    full = decide(comparisons, policy, EVIDENCE, measured.figures(questions, first(every.values()), EFFORTS, policy))
    order, step = dice.sample(questions, n), max(1, n // LOOKS)
    have = dict[Key, Answer]()
    for at, effort in enumerate(EFFORTS):
        for count in [*range(step, n, step), n]:
            for q in order[count - step : count]:
                have |= {key: every[key] for arm in ARMS for key in [(q.id, arm, effort, 0)]}
            found = reach.at(effort, EFFORTS, questions, have, policy, 1)
            if any(f is not None and not f.passes for f in found):
                pairs, of = at * n + count, len(EFFORTS) * n
                rest = Rest(pairs, of, reach.findings(questions, have, EFFORTS, policy, 1)) if pairs < of else None
                told = [compare(e, questions, have, alpha=policy.alpha, margin=policy.margin) for e in EFFORTS]
                verdict = decide(told, policy, EVIDENCE, (), rest).outcome if rest else full.outcome
                return Ran(full.outcome, verdict, pairs / of)
    return Ran(full.outcome, "", 1.0)


def row(cell: Cell, runs: list[Ran]) -> dict[str, object]:
    def share(flags: list[bool]) -> float:
        return sum(flags) / len(flags)

    return {
        **cell._asdict(),
        "asked": sum(r.share for r in runs) / len(runs),
        "most": max(r.share for r in runs),
        "pass": share([r.full == "PASS" for r in runs]),
        "pass, stopping": share([r.stopped == "" for r in runs]),
        "unlike": sum((r.full == "PASS") != (r.stopped == "") for r in runs),
        "fail": share([r.full == "FAIL" for r in runs]),
        "fail, stopping": share([r.stopped == "FAIL" for r in runs]),
        "fail alone": sum(r.stopped == "FAIL" and r.full != "FAIL" for r in runs),
    }


@click.command()
@click.option("--reps", default=12, show_default=True)
@click.option("--questions", "n", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--processes", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(reps: int, n: int, seed: int, processes: int, as_json: bool) -> None:
    cells = [Cell(loss, flips) for loss in LOSSES for flips in FLIPS if flips >= abs(loss) or flips == FLIPS[-1]]
    cells += [Cell(RIGHT, RIGHT, silent=True), Cell(RIGHT, RIGHT, silent=True, limited=True)]
    jobs = [(cell, f"{seed} {cell} {i}") for cell in cells for i in range(reps)]
    with ProcessPoolExecutor(processes) as pool:
        runs = list(pool.map(run, [j[0] for j in jobs], [n] * len(jobs), [j[1] for j in jobs], chunksize=4))
    rows = [row(cell, runs[i * reps : (i + 1) * reps]) for i, cell in enumerate(cells)]
    if as_json:
        json.dump({"date": f"{date.today()}", "python": platform.python_version(), "rows": rows}, sys.stdout, indent=1)
        return
    for each in rows:
        print("  ".join(f"{name} {v:.3f}" if isinstance(v, float) else f"{name} {v}" for name, v in each.items()))


if __name__ == "__main__":
    main()
