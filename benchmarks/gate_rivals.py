"""How often gates release a model that is worse by exactly the margin: ours, textbook intervals and those on PyPI.

    python benchmarks/gate_rivals.py [--reps 10000] [--alpha 0.05] [--seed 0] [--json] [--with statgate]

All judge the same simulated evaluations. Those of packages by their rule as rival_rules.py has it, so that none need be
installed; --with asks the installed one too (run it with a Python that has it) and says on how many of 200 random
tables both agree. A bootstrap resamples every different table once. Needs numpy and scipy; some minutes.
"""

import json
import platform
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import rival_packages as packages
import rival_rules as rules


class Cell(NamedTuple):
    """Questions, in modules of about the same size; share of flips; margin; intraclass correlation of differences."""

    n: int
    modules: int
    psi: float
    margin: float
    together: float = 0.0


CELLS = [
    Cell(n, 10 if n == 50 else 20, psi, margin)
    for n, psi, margin in (
        (50, 0.05, 0.02),
        (50, 0.10, 0.05),
        (100, 0.05, 0.03),
        (100, 0.20, 0.05),
        (200, 0.05, 0.05),
        (200, 0.10, 0.03),
        (500, 0.10, 0.03),
        (500, 0.20, 0.05),
        (1000, 0.10, 0.03),
        (1000, 0.20, 0.02),
    )
]
CELLS += [
    Cell(200, 10, 0.20, 0.05, 0.05),
    Cell(200, 20, 0.10, 0.05, 0.05),
    Cell(400, 20, 0.10, 0.05, 0.05),
    Cell(1000, 20, 0.20, 0.05, 0.05),
]


class Gate(NamedTuple):
    name: str
    says: str  # how often it says that it may release a model that is worse by the margin
    rule: rules.Rule


def gates(alpha: float) -> list[Gate]:
    says, half = f"{alpha:.1%}", "2.5%"
    return [
        Gate("ours", says, rules.ours),
        Gate("ours, by question alone", says, rules.ours_by_question),
        Gate("Tango's score test", says, rules.tango),
        Gate("Newcombe's paired interval", says, rules.newcombe),
        Gate("paired bootstrap, percentile", says, rules.bootstrap),
        Gate("paired Wald", says, rules.paired_wald),
        Gate("unpaired Wald", says, rules.unpaired_wald),
        Gate("statgate", says, rules.statgate),
        Gate("nemo-evaluator, by category", half, rules.nemo_by_category),
        Gate("nemo-evaluator", half, rules.nemo),
        Gate("toolkit-eval-harness", says, rules.toolkit_eval_harness),
        Gate("evalsig", "-", rules.evalsig),
        Gate("estimate within margin; mlflow", "-", rules.within_margin),
        Gate("McNemar not significant", "-", rules.not_significant),
        Gate("evalproof", "-", rules.evalproof),
        Gate("regressgate", "-", rules.regressgate),
        Gate("llm-evalgate", "-", rules.llm_evalgate),
        Gate("siggate", "-", rules.siggate),
    ]


class Row(NamedTuple):
    gate: str
    cell: Cell
    false: float  # released at a true drop of the margin
    equal: float  # released, of two equal models
    failed: float  # told to be worse, of two equal models


def draw(cell: Cell, drop: float, reps: int, seed: int, resamples: int) -> rules.Drawn:
    """Every module draws its shares of lost and gained answers from a Dirichlet distribution (see gate_groups.py)."""
    rng = np.random.default_rng([seed, *(round(x * 1000) for x in cell), round((1 + drop) * 1000)])
    means = np.array([(cell.psi + drop) / 2, (cell.psi - drop) / 2, 1 - cell.psi])
    sizes = np.full(cell.modules, cell.n // cell.modules) + (np.arange(cell.modules) < cell.n % cell.modules)
    shares = np.broadcast_to(means, (reps, cell.modules, 3))
    if cell.together:
        drawn = rng.gamma((1 / cell.together - 1) * means, size=shares.shape)
        shares = drawn / drawn.sum(axis=-1, keepdims=True)
    lost, gained, same = np.moveaxis(rng.multinomial(sizes, shares), -1, 0)
    both = rng.binomial(same.sum(axis=1), (rules.BASE - means[0]) / means[2])
    return rules.Drawn(lost, gained, both, sizes, resamples)


def simulate(cells: Sequence[Cell], alpha: float, reps: int, seed: int, resamples: int) -> list[Row]:
    """A row for each gate in each cell."""
    rows = []
    for cell in cells:
        worse, equal = (draw(cell, drop, reps, seed, resamples) for drop in (cell.margin, 0.0))
        for gate in gates(alpha):
            false, (released, failed) = (
                gate.rule(worse, cell.margin, alpha).released,
                gate.rule(equal, cell.margin, alpha),
            )
            rows.append(Row(gate.name, cell, float(false.mean()), float(released.mean()), float(failed.mean())))
        rules.resampled.cache_clear()
    return rows


class Summary(NamedTuple):
    """Of one gate, over the cells."""

    false: float  # worst, of questions drawn one by one
    false_together: float  # worst, where those of a module go together
    over: int  # cells in which it is over alpha by more than the simulation errs
    equal: float  # mean, of questions drawn one by one
    failed: float  # worst of all


def summary(rows: Sequence[Row], gate: str, alpha: float, reps: int) -> Summary:
    mine = [r for r in rows if r.gate == gate]
    alone, grouped = ([r for r in mine if bool(r.cell.together) is t] for t in (False, True))
    limit = alpha + 3 * (alpha * (1 - alpha) / reps) ** 0.5
    return Summary(
        max((r.false for r in alone), default=0.0),
        max((r.false for r in grouped), default=0.0),
        sum(r.false > limit for r in mine),
        sum(r.equal for r in alone) / max(1, len(alone)),
        max(r.failed for r in mine),
    )


def tables(seed: int, count: int = 200) -> list[tuple[rules.Drawn, float]]:
    """One evaluation each, of up to 150 questions, and its margin."""
    rng, out = np.random.default_rng([seed, count]), []
    for i in range(count):
        margin = float(rng.choice([0.02, 0.03, 0.05, 0.1]))
        psi = float(rng.uniform(0.02, 0.29))
        cell = Cell(int(rng.integers(30, 151)), 10, psi, margin)
        out.append((draw(cell, float(rng.uniform(-psi, psi)), 1, seed + i, 4000), margin))
    return out


@click.command()
@click.option("--reps", default=10_000, show_default=True, help="simulated evaluations a cell")
@click.option("--resamples", default=2000, show_default=True, help="of a bootstrap")
@click.option("--alpha", default=0.05, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print the rows of every cell as JSON")
@click.option("--with", "installed", multiple=True, type=click.Choice(sorted(packages.RIVALS)), help="ask it too")
def main(reps: int, resamples: int, alpha: float, seed: int, as_json: bool, installed: tuple[str, ...]) -> None:
    for package in installed:
        print(packages.agreement(package, tables(seed), alpha), file=sys.stderr, flush=True)
    rows = simulate(CELLS, alpha, reps, seed, resamples) if reps else []
    if as_json:
        found = [{**r._asdict(), "cell": r.cell._asdict()} for r in rows]
        print(json.dumps({"reps": reps, "resamples": resamples, "alpha": alpha, "seed": seed, "rows": found}))
        return
    versions = ", ".join(f"{name} {rival.version}" for name, rival in packages.RIVALS.items())
    print(
        f"{date.today()}, Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, seed {seed}"
    )
    print(f"{reps} repetitions, {len(CELLS)} cells. Rules of: {versions}\n")
    if not rows:
        return
    print(
        f"{'':>31} {'says':>5} | false: {'worst':>6} {'grouped':>7} {'over':>5} | equal: {'PASS':>6} {'worst FAIL':>10}"
    )
    for gate in gates(alpha):
        s = summary(rows, gate.name, alpha, reps)
        over = f"{s.over}/{len(CELLS)}"
        print(
            f"{gate.name:>31} {gate.says:>5} | {s.false:>13.1%} {s.false_together:>7.1%} {over:>5} | "
            f"{s.equal:>13.1%} {s.failed:>10.1%}"
        )


if __name__ == "__main__":
    sys.exit(main())
