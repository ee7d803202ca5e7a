"""How often the gate releases a model that is worse by exactly the margin: Tango's score test against Wald's.

    python benchmarks/gate_false_release.py [--reps 40000] [--alpha 0.05] [--seed 0] [--json]

Every repetition draws n paired questions in which a share psi flips and the true drop equals the margin, so that
each release is false. A test that keeps its word releases at most alpha of them. Needs numpy and scipy; seconds.
"""

import json
import platform
import sys
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

import click
import numpy as np

from evalsuite.judging import statistics

GRID = [
    (n, psi, margin)
    for n in (50, 100, 200, 300, 500, 1000, 2000)
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
    """Share of false releases of each test, and of right releases (two equal models, the same psi) of Tango's."""

    n: int
    psi: float
    margin: float
    tango: float
    wald: float
    tango_equal: float
    formula_equal: float  # what statistics.power says of tango_equal


def release_rate(
    z: Callable[..., Any], n: int, psi: float, drop: float, margin: float, alpha: float, reps: int, seed: int
) -> float:
    """Share of `reps` simulated evaluations that the test releases: z at -margin above the 1 - alpha quantile.

    Each has `n` questions; a question is lost with probability (psi + drop) / 2 and gained with (psi - drop) / 2.
    """
    rng = np.random.default_rng([seed, n, round(psi * 1000), round(drop * 1000)])
    lost, gained, _ = rng.multinomial(n, [(psi + drop) / 2, (psi - drop) / 2, 1 - psi], size=reps).T
    return float(np.mean(z(lost, gained, n, -margin) > statistics.normal_quantile(1 - alpha)))


def simulate(reps: int, alpha: float, seed: int) -> list[Row]:
    """A row for each cell of the grid."""
    rows = []
    for n, psi, margin in GRID:
        tango, wald, equal = (
            release_rate(z, n, psi, drop, margin, alpha, reps, seed)
            for z, drop in ((statistics.tango_z, margin), (statistics.wald_z, margin), (statistics.tango_z, 0.0))
        )
        rows.append(Row(n, psi, margin, tango, wald, equal, statistics.power(n, psi, margin, alpha)))
    return rows


@click.command()
@click.option("--reps", default=40_000, show_default=True, help="simulated evaluations a cell")
@click.option("--alpha", default=0.05, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print rows as JSON")
def main(reps: int, alpha: float, seed: int, as_json: bool) -> None:
    rows = simulate(reps, alpha, seed)
    worst = {name: max(getattr(r, name) for r in rows) for name in ("tango", "wald")}
    if as_json:
        print(
            json.dumps(
                {"reps": reps, "alpha": alpha, "seed": seed, "rows": [r._asdict() for r in rows], "worst": worst}
            )
        )
        return
    print(f"False releases at a true drop of exactly the margin: nominal {alpha:.1%}, {reps} repetitions, seed {seed}")
    print(f"{date.today()}, Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}\n")
    print(f"{'n':>5} {'flips':>6} {'margin':>7} | {'Wald':>6} {'Tango':>6} | {'equal models pass':>17} {'formula':>8}")
    for r in rows:
        print(
            f"{r.n:>5} {r.psi:>6.0%} {r.margin * 100:>4.0f} pt | {r.wald:>6.1%} {r.tango:>6.1%} | "
            f"{r.tango_equal:>17.1%} {r.formula_equal:>8.1%}"
        )
    print(f"\nworst: Wald {worst['wald']:.1%}, Tango {worst['tango']:.1%}")


if __name__ == "__main__":
    sys.exit(main())
