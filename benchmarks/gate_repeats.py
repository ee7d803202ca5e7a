"""How often a gate of several answers a question lets a model through that is worse by the margin: three tests held
against each other.

    python benchmarks/gate_repeats.py [--reps 2000] [--alpha 0.05] [--seed 0] [--json]

"signs": signs of d + margin tossed at random, d a question's difference of means. "t": Student's. "gate": what our gate
uses (evalsuite/judging/means.py). Models differ in ways that are symmetric and in ways that are not. A minute or two.
"""

import json
import platform
import sys
from datetime import date
from typing import Any, NamedTuple

import click
import numpy as np

from evalsuite.judging import exact, means

MARGIN = 0.05
TOSSES = 999
QUESTIONS, REPEATS = (50, 100, 200, 400), (2, 4, 8)


def chances(way: str, n: int, drop: float, rng: Any) -> tuple[Any, Any]:
    """Each question's chance of a right answer, of base and tuned, whose mean is lower by `drop`: (n,) each."""
    if way == "noise":  # every question a coin of its own, all a little worse
        base = rng.beta(2.0, 1.0, n)
        return base, base * (1 - drop * 3 / 2)
    if way == "lost whole":  # 60 % are always right, and some of those then always wrong; the rest are coins in both
        sure = rng.random(n) < 0.6
        return np.where(sure, 1.0, 0.5), np.where(sure, rng.random(n) >= drop / 0.6, 0.5)
    if way == "lost, all else sure":  # the worst for tossed signs: nothing else ever differs
        return np.ones(n), np.where(rng.random(n) < drop, 0.0, 1.0)
    if way == "half lost":  # twice as many questions are right half of the time
        return np.ones(n), np.where(rng.random(n) < 2 * drop, 0.5, 1.0)
    if way == "few gained":  # 2 % gained whole, all others a little worse
        gained = rng.random(n) < 0.02
        return np.where(gained, 0.0, 1.0), np.where(gained, 1.0, 1 - (drop + 0.02) / 0.98)
    raise ValueError(way)


WAYS = ("noise", "lost whole", "lost, all else sure", "half lost", "few gained")


class Row(NamedTuple):
    """Shares of gates. `drop`: how much worse tuned is."""

    way: str
    n: int
    repeats: int
    signs: float  # false releases at a loss of the margin
    student: float
    gate: float
    signs_worse: float  # models of one mean: tuned is called worse
    gate_worse: float


def differences(way: str, n: int, repeats: int, drop: float, reps: int, rng: Any) -> Any:
    """(reps, n): tuned's mean less base's."""
    out = np.empty((reps, n))
    for i in range(reps):
        base, tuned = chances(way, n, drop, rng)
        out[i] = (rng.binomial(repeats, tuned) - rng.binomial(repeats, base)) / repeats
    return out


def by_signs(d: Any, rng: Any) -> Any:
    """One-sided p of each row, with the row itself among the tosses."""
    tosses = 2.0 * rng.integers(0, 2, (d.shape[1], TOSSES)) - 1
    return (1 + np.sum(d @ tosses >= d.sum(axis=1)[:, None] - 1e-9, axis=1)) / (TOSSES + 1)


def by_student(d: Any) -> Any:
    from scipy.stats import t

    n = d.shape[1]
    error = np.maximum(d.std(axis=1, ddof=1), 1e-12) / np.sqrt(n)
    return t.sf(d.mean(axis=1) / error, n - 1)


def by_gate(d: Any, null: float) -> Any:
    """p of H0: the mean is at most `null`; 1 where what is seen is no more than that, as no bound lies above it."""
    return np.array([means.below(means.tally(row), null, -1.0) if row.mean() > null else 1.0 for row in d])


def simulate(reps: int, alpha: float, seed: int) -> list[Row]:
    rows = []
    for w, way in enumerate(WAYS):
        for n in QUESTIONS:
            for repeats in REPEATS:
                rng = np.random.default_rng([seed, w, n, repeats])
                d = differences(way, n, repeats, MARGIN, reps, rng)
                even = differences(way, n, repeats, 0.0, reps, rng)
                tossed = by_signs(-even, rng) <= alpha
                worse = np.zeros(reps, dtype=bool)
                worse[tossed] = by_gate(-even[tossed], 0.0) <= alpha  # both have to say so
                found = [by_signs(d + MARGIN, rng), by_student(d + MARGIN), by_gate(d, -MARGIN)]
                false = [float(np.mean(p <= alpha)) for p in found]
                rows.append(Row(way, n, repeats, *false, float(np.mean(tossed)), float(np.mean(worse))))
    return rows


class Pass(NamedTuple):
    """How often two equal models pass, every question a coin: by one answer each (exact), by the means of several."""

    n: int
    once: float
    by_repeats: tuple[float, ...]


def simulate_passes(reps: int, alpha: float, seed: int) -> list[Pass]:
    out = []
    for n in QUESTIONS:
        rng = np.random.default_rng([seed, n])
        single = differences("noise", n, 1, 0.0, reps, rng)
        lost, gained = (single < 0).sum(axis=1), (single > 0).sum(axis=1)
        once = float(np.mean(gained >= exact.passing(n, MARGIN, alpha)[lost]))
        several = [by_gate(differences("noise", n, k, 0.0, reps, rng), -MARGIN) <= alpha for k in REPEATS]
        out.append(Pass(n, once, tuple(float(np.mean(each)) for each in several)))
    return out


@click.command()
@click.option("--reps", default=2000, show_default=True, help="simulated gates a cell")
@click.option("--alpha", default=0.05, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print rows as JSON")
def main(reps: int, alpha: float, seed: int, as_json: bool) -> None:
    rows, passes = simulate(reps, alpha, seed), simulate_passes(reps, alpha, seed)
    if as_json:
        print(json.dumps({"rows": [r._asdict() for r in rows], "passes": [p._asdict() for p in passes]}))
        return
    print(f"{date.today()}, Python {platform.python_version()}, numpy {np.__version__}, {reps} gates, seed {seed}")
    print(f"\nTuned worse by the margin, {MARGIN * 100:g} points: released. Equal on the mean: called worse.\n")
    head = f"{'signs':>7} {'t':>7} {'gate':>7}"
    print(f"{'':>20} {'n':>4} {'answers':>7} | released: {head} | worse: {'signs':>7} {'gate':>7}")
    for r in rows:
        print(
            f"{r.way:>20} {r.n:>4} {r.repeats:>7} | {r.signs:>17.1%} {r.student:>7.1%} {r.gate:>7.1%} | "
            f"{r.signs_worse:>14.1%} {r.gate_worse:>7.1%}"
        )
    worst = [max(column) for column in zip(*(r[3:] for r in rows), strict=True)]
    print(f"{'worst':>20} {'':>4} {'':>7} | {worst[0]:>17.1%} {worst[1]:>7.1%} {worst[2]:>7.1%} | ", end="")
    print(f"{worst[3]:>14.1%} {worst[4]:>7.1%}")
    print(f"\nEqual models that pass: one answer each (exact), then {', '.join(map(str, REPEATS))} answers each\n")
    for p in passes:
        print(f"{p.n:>5} | {p.once:>6.1%} | {' '.join(f'{share:>6.1%}' for share in p.by_repeats)}")


if __name__ == "__main__":
    sys.exit(main())
