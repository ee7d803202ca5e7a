"""How often the gate releases a model that is worse by exactly the margin: its exact test against Tango's score test
and Wald's; and how often whole gates pass and fail equal models. For groups of questions see gate_groups.py.

    python benchmarks/gate_false_release.py [--reps 40000] [--alpha 0.05] [--seed 0] [--json]

Every repetition draws n paired questions in which a share psi flips and the true drop equals the margin, so that
each release is false. A test that keeps its word releases at most alpha of them. Needs numpy and scipy; a minute.
"""

import json
import platform
import sys
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

import click
import numpy as np

from evalsuite.judging import exact, power, statistics
from evalsuite.judging.policy import Policy

GRID = [
    (n, psi, margin)
    for n in (50, 52, 100, 200, 300, 500, 1000, 2000)
    for psi, margin in (
        (0.05, 0.02),
        (0.05, 0.03),
        (0.05, 0.05),
        (0.10, 0.03),
        (0.10, 0.05),
        (0.20, 0.02),
        (0.20, 0.05),
    )
]


class Row(NamedTuple):
    """Share of false releases of each test, and of right releases (two equal models, the same psi) of the gate's."""

    n: int
    psi: float
    margin: float
    exact: float
    tango: float
    wald: float
    equal: float
    told_equal: float  # what judging/power.py says of `equal`


def by_z(z: Callable[..., Any]) -> Callable[..., Any]:
    """A release rule of a score or Wald statistic."""
    return lambda lost, gained, n, margin, alpha: z(lost, gained, n, -margin) > statistics.normal_quantile(1 - alpha)


def by_exact(lost: Any, gained: Any, n: int, margin: float, alpha: float) -> Any:
    """The gate's: the lower bound lies above -margin."""
    return gained >= exact.passing(n, margin, alpha)[lost]


def release_rate(
    rule: Callable[..., Any], n: int, psi: float, drop: float, margin: float, alpha: float, reps: int, seed: int
) -> float:
    """Share of `reps` simulated evaluations that a rule releases.

    Each has `n` questions; a question is lost with probability (psi + drop) / 2 and gained with (psi - drop) / 2.
    """
    rng = np.random.default_rng([seed, n, round(psi * 1000), round(drop * 1000)])
    lost, gained, _ = rng.multinomial(n, [(psi + drop) / 2, (psi - drop) / 2, 1 - psi], size=reps).T
    return float(np.mean(rule(lost, gained, n, margin, alpha)))


def simulate(reps: int, alpha: float, seed: int) -> list[Row]:
    """A row for each cell of the grid."""
    rows = []
    rules = ((by_exact, True), (by_z(statistics.tango_z), True), (by_z(statistics.wald_z), True), (by_exact, False))
    for n, psi, margin in GRID:
        rates = [release_rate(rule, n, psi, margin * worse, margin, alpha, reps, seed) for rule, worse in rules]
        rows.append(Row(n, psi, margin, *rates, power.one(n, psi, margin, alpha)))
    return rows


GATES = [(n, psi, margin) for n in (100, 200, 500) for psi, margin in ((0.05, 0.05), (0.1, 0.05), (0.2, 0.05))]
GATES += [(100, 0.1, 0.01), (200, 0.1, 0.02), (1000, 0.1, 0.03), (1600, 0.1, 0.02)]


class GateRow(NamedTuple):
    """Whole gates of three efforts and two claims each, all drawn for themselves: shares of verdicts."""

    n: int
    psi: float
    margin: float
    false_pass: float  # one claim at one effort is worse by the margin, the others are equal
    equal_pass: float
    told_pass: float  # what judging/power.py says of it
    equal_fail: float
    each_fail: float  # equal models, if every check failed by itself at alpha, without Holm


def gate_rates(n: int, psi: float, margin: float, alpha: float, reps: int, seed: int, checks: int = 6) -> GateRow:
    """Of `reps` whole gates."""
    from scipy.stats import binom

    rng = np.random.default_rng([seed, n, round(psi * 1000), round(margin * 1000)])
    drops = [0.0] * checks + [margin]
    drawn = [rng.multinomial(n, [(psi + drop) / 2, (psi - drop) / 2, 1 - psi], size=reps).T[:2] for drop in drops]
    *passes, at_margin = (by_exact(lost, gained, n, margin, alpha) for lost, gained in drawn)
    p = np.array([binom.sf(lost - 1, lost + gained, 0.5) for lost, gained in drawn[:-1]]).T
    shown = np.array([statistics.holm(row.tolist(), alpha) for row in p])
    equal = np.array(passes).T
    return GateRow(
        n,
        psi,
        margin,
        float(np.mean(equal[:, 1:].all(axis=1) & at_margin)),
        float(np.mean(equal.all(axis=1))),
        power.gate(n, [power.Planned(psi)] * checks, Policy(margin=margin, alpha=alpha)),
        float(np.mean((shown & ~equal).any(axis=1))),
        float(np.mean(((p <= alpha) & ~equal).any(axis=1))),
    )


@click.command()
@click.option("--reps", default=40_000, show_default=True, help="simulated evaluations a cell")
@click.option("--alpha", default=0.05, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print rows as JSON")
def main(reps: int, alpha: float, seed: int, as_json: bool) -> None:
    rows = simulate(reps, alpha, seed)
    worst = {name: max(getattr(r, name) for r in rows) for name in ("exact", "tango", "wald")}
    gates = [gate_rates(*cell, alpha, max(1, reps // 10), seed) for cell in GATES]
    if as_json:
        found = {"rows": [r._asdict() for r in rows], "worst": worst, "gates": [g._asdict() for g in gates]}
        print(json.dumps({"reps": reps, "alpha": alpha, "seed": seed, **found}))
        return
    print(f"False releases at a true drop of exactly the margin: nominal {alpha:.1%}, {reps} repetitions, seed {seed}")
    print(f"{date.today()}, Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}\n")
    columns = f"{'Wald':>6} {'Tango':>6} {'gate':>6} | {'equal models pass':>17} {'told':>6}"
    print(f"{'n':>5} {'flips':>6} {'margin':>7} | {columns}")
    for r in rows:
        print(
            f"{r.n:>5} {r.psi:>6.0%} {r.margin * 100:>4.0f} pt | {r.wald:>6.1%} {r.tango:>6.1%} {r.exact:>6.1%} | "
            f"{r.equal:>17.1%} {r.told_equal:>6.1%}"
        )
    print(f"\nworst: Wald {worst['wald']:.1%}, Tango {worst['tango']:.1%}, gate {worst['exact']:.1%}")
    print(f"\nWhole gates, 3 efforts x 2 claims, independent, {reps // 10} repetitions\n")
    equal = f"equal: {'PASS':>6} {'told':>6} {'FAIL':>6} {'FAIL check by check':>19}"
    print(f"{'n':>5} {'flips':>6} {'margin':>7} | {'false PASS':>10} | {equal}")
    for g in gates:
        print(
            f"{g.n:>5} {g.psi:>6.0%} {g.margin * 100:>4.0f} pt | {g.false_pass:>10.1%} | "
            f"{g.equal_pass:>13.1%} {g.told_pass:>6.1%} {g.equal_fail:>6.1%} {g.each_fail:>19.1%}"
        )


if __name__ == "__main__":
    sys.exit(main())
