"""How often the gate releases a model that is worse by exactly the margin: its exact test against Tango's score test
and Wald's; how often whole gates pass and fail equal models; and what leaving out the kinds at which base only guesses
does to it.

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
    equal_fail: float  # two equal models: FAIL as the gate says it, of this check alone: all questions show a loss
    kept_fail: float  # the same, if the kinds that were kept told it


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
    near = statistics.tango_z(*some, -margin) > z  # where the size of some of them is not in doubt, Tango's is enough
    passes = any_kept & near & (statistics.tango_z(*over_all, -margin) >= -z)
    worse, all_worse = (binom.sf(lost - 1, lost + gained, 0.5) <= alpha for lost, gained, _ in (some, over_all))
    better = ~any_kept & (binom.sf(over_all[1] - 1, over_all[0] + over_all[1], 0.5) <= alpha)
    fails = all_worse & ~passes & ~better
    return float(np.mean(passes | better)), float(np.mean(fails)), float(np.mean(any_kept & ~near & worse))


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
    worst = {name: max(getattr(r, name) for r in rows) for name in ("exact", "tango", "wald")}
    gates = [gate_rates(*cell, alpha, max(1, reps // 10), seed) for cell in GATES]
    by_kind = simulate_kinds(max(1, reps // 10), alpha, seed)
    if as_json:
        found = {"rows": [r._asdict() for r in rows], "worst": worst, "gates": [g._asdict() for g in gates]}
        found["kinds"] = [r._asdict() for r in by_kind]
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
