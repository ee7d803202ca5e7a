"""How often the gate releases a model that is worse by exactly the margin: Tango's score test against Wald's; and
what leaving out the kinds at which base only guesses does to it.

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


KINDS = [  # base's accuracy on each kind of question; blind guessing gets GUESS
    ("some known, some guessed", (0.9, 0.7, 0.6, 0.25, 0.25, 0.25)),
    ("all at the edge of being shown", (0.42,) * 8),
    ("nothing but guessed", (0.25,) * 8),
]
GUESS = 0.25


class KindsRow(NamedTuple):
    """Share of evaluations, by kinds of question that base knows; `each` questions of a kind, `psi` of them flip."""

    base: str
    each: int
    margin: float
    false_pass: float  # tuned is worse by the margin on every kind, and passes
    equal_pass: float
    equal_fail: float  # two equal models: FAIL as the gate says it, where all questions show a loss too
    kept_fail: float  # the same, if the kinds that were kept were enough


def kinds_rates(
    accuracies: tuple[float, ...], each: int, psi: float, drop: float, margin: float, alpha: float, reps: int, seed: int
) -> tuple[float, float, float]:
    """How often the check of right answers passes, fails, and would fail on what was kept alone; of `reps` evaluations.

    A kind is kept if base's Wilson bound is over GUESS + margin. Where none is kept, nothing counts as kept: tuned has
    to be better over all (exact McNemar).
    """
    from scipy.stats import binom

    rng = np.random.default_rng([seed, each, round(drop * 1000), len(set(accuracies))])
    bounds = np.array([statistics.wilson(right, each, alpha)[0] for right in range(each + 1)])
    lost, gained = (psi + drop) / 2, (psi - drop) / 2
    ways = [rng.multinomial(each, [p - lost, lost, gained, 1 - p - gained], size=reps) for p in accuracies]
    both, b, c, _ = np.moveaxis(np.array(ways), -1, 0)  # each: kinds x reps
    kept = bounds[both + b] > GUESS + margin
    any_kept, whole, z = kept.any(axis=0), each * len(accuracies), statistics.normal_quantile(1 - alpha)
    some = [(x * kept).sum(axis=0) for x in (b, c, np.full_like(b, each))]
    over_all = [b.sum(axis=0), c.sum(axis=0), whole]
    near = statistics.tango_z(*some, -margin) > z
    passes = any_kept & near & (statistics.tango_z(*over_all, -margin) >= -z)
    worse, all_worse = (statistics.tango_z(*found, 0.0) < -z for found in (some, over_all))
    fails = any_kept & ~near & worse
    better = ~any_kept & (binom.sf(over_all[1] - 1, over_all[0] + over_all[1], 0.5) <= alpha)
    fails_all = all_worse & (fails | (~any_kept & ~better))
    return float(np.mean(passes | better)), float(np.mean(fails_all)), float(np.mean(fails))


def simulate_kinds(reps: int, alpha: float, seed: int) -> list[KindsRow]:
    rows = []
    for base, accuracies in KINDS:
        for each, margin in ((20, 0.05), (60, 0.05), (150, 0.03)):
            false, _, _ = kinds_rates(accuracies, each, 0.15, margin, margin, alpha, reps, seed)
            passed, fails, kept = kinds_rates(accuracies, each, 0.15, 0.0, margin, alpha, reps, seed)
            rows.append(KindsRow(base, each, margin, false, passed, fails, kept))
    return rows


@click.command()
@click.option("--reps", default=40_000, show_default=True, help="simulated evaluations a cell")
@click.option("--alpha", default=0.05, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print rows as JSON")
def main(reps: int, alpha: float, seed: int, as_json: bool) -> None:
    rows = simulate(reps, alpha, seed)
    worst = {name: max(getattr(r, name) for r in rows) for name in ("tango", "wald")}
    by_kind = simulate_kinds(max(1, reps // 10), alpha, seed)
    if as_json:
        found = {"rows": [r._asdict() for r in rows], "worst": worst, "kinds": [r._asdict() for r in by_kind]}
        print(json.dumps({"reps": reps, "alpha": alpha, "seed": seed, **found}))
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
    print(f"\nKinds at which base only guesses left out: guessing {GUESS:.0%}, flips 15%, {reps // 10} repetitions\n")
    equal = f"equal: {'PASS':>6} {'FAIL':>6} {'FAIL of kept alone':>18}"
    print(f"{'base':>30} {'a kind':>6} {'margin':>7} | {'false PASS':>10} | {equal}")
    for k in by_kind:
        print(
            f"{k.base:>30} {k.each:>6} {k.margin * 100:>4.0f} pt | {k.false_pass:>10.1%} | "
            f"{k.equal_pass:>13.1%} {k.equal_fail:>6.1%} {k.kept_fail:>18.1%}"
        )


if __name__ == "__main__":
    sys.exit(main())
