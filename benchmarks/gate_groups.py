"""What groups of questions do to the gate: modules whose questions go together, and kinds at which base only guesses.

    python benchmarks/gate_groups.py [--reps 20000] [--alpha 0.05] [--seed 0] [--json]

As in gate_false_release.py, tuned is worse by exactly the margin, so that each release is false: at most alpha of them
may be. Needs numpy and scipy; a minute.
"""

import json
import platform
import sys
from datetime import date
from typing import Any, NamedTuple

import click
import numpy as np

from evalsuite.judging import clusters, exact, statistics


def by_exact(lost: Any, gained: Any, n: int, margin: float, alpha: float) -> Any:
    """Question by question: the exact lower bound lies above -margin."""
    return gained >= exact.passing(n, margin, alpha)[lost]


def shared(n: int, modules: int) -> tuple[int, ...]:
    return tuple(n // modules + (i < n % modules) for i in range(modules))


UNLIKE = (8, 12, 3, 6, 10, 2, 1, 15, 5, 9, 4, 1, 7, 2, 6, 5, 9, 3, 4, 3)  # as a demo's modules give questions
MODULES = [  # questions of each module, share of flips, margin
    ("20 unlike modules", UNLIKE, 0.2, 0.05),
    ("20 unlike modules", UNLIKE, 0.1, 0.05),
    ("20 modules", shared(400, 20), 0.1, 0.05),
    ("20 modules", shared(1000, 20), 0.2, 0.05),
    ("40 modules", shared(400, 40), 0.1, 0.05),
    ("10 modules", shared(200, 10), 0.2, 0.05),
    ("10 modules", shared(200, 10), 0.1, 0.05),
    ("5 modules", shared(250, 5), 0.2, 0.05),
]


class ModulesRow(NamedTuple):
    """Shares of evaluations that pass, when questions of a module go together."""

    modules: str
    n: int
    psi: float
    margin: float
    together: float  # intraclass correlation of the differences
    by_question: float  # false: question by question alone
    gate: float  # false: by module too
    equal: float  # right releases of two equal models


def modules_rates(
    sizes: tuple[int, ...], psi: float, drop: float, margin: float, together: float, alpha: float, reps: int, seed: int
) -> tuple[float, float]:
    """How often `exact` alone passes, and with it the bound by module.

    Every module draws its own shares of lost and gained from a Dirichlet distribution whose means are psi and drop: the
    intraclass correlation is 1 / (1 + its concentration).
    """
    rng = np.random.default_rng([seed, sum(sizes), len(sizes), round(together * 1000), round(drop * 1000)])
    means, n = np.array([(psi + drop) / 2, (psi - drop) / 2, 1 - psi]), np.array(sizes)
    shares = np.broadcast_to(means, (reps, len(sizes), 3))
    if together:
        drawn = rng.gamma((1 / together - 1) * means, size=shares.shape)
        shares = drawn / drawn.sum(axis=-1, keepdims=True)
    counts = rng.multinomial(n, shares)
    lost, gained = counts[..., 0], counts[..., 1]
    alone = by_exact(lost.sum(axis=1), gained.sum(axis=1), int(n.sum()), margin, alpha)
    return float(np.mean(alone)), float(np.mean(alone & clusters.shown(gained - lost, n, margin, alpha)))


def simulate_modules(reps: int, alpha: float, seed: int) -> list[ModulesRow]:
    rows = []
    for name, sizes, psi, margin in MODULES:
        for together in (0.0, 0.05, 0.1):
            alone, false = modules_rates(sizes, psi, margin, margin, together, alpha, reps, seed)
            _, equal = modules_rates(sizes, psi, 0.0, margin, together, alpha, reps, seed)
            rows.append(ModulesRow(name, sum(sizes), psi, margin, together, alone, false, equal))
    return rows


LOST = [  # modules, questions of each, chance that a module is hit, share of its answers that is lost then
    (20, 10, 0.05, 1.0),
    (20, 10, 0.1, 0.5),
    (40, 10, 0.05, 1.0),
    (100, 10, 0.05, 1.0),
]


class LostRow(NamedTuple):
    """Shares of evaluations that pass though tuned is worse by the margin: some modules are hit, the rest not."""

    modules: int
    each: int
    hit: float
    lost: float
    by_question: float
    gate: float


def simulate_lost(reps: int, alpha: float, seed: int) -> list[LostRow]:
    """Rare and great losses: what no bound from so few modules can see when none of them was drawn. No other flips."""
    rows = []
    for modules, each, hit, lost in LOST:
        rng = np.random.default_rng([seed, modules, each, round(hit * 1000), round(lost * 1000)])
        gone = rng.binomial(each, lost * (rng.random((reps, modules)) < hit))
        alone = by_exact(gone.sum(axis=1), 0, modules * each, hit * lost, alpha)
        both = alone & clusters.shown(-gone, np.full(modules, each), hit * lost, alpha)
        rows.append(LostRow(modules, each, hit, lost, float(np.mean(alone)), float(np.mean(both))))
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
@click.option("--reps", default=20_000, show_default=True, help="simulated evaluations a cell")
@click.option("--alpha", default=0.05, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print rows as JSON")
def main(reps: int, alpha: float, seed: int, as_json: bool) -> None:
    by_kind, by_module = simulate_kinds(max(1, reps // 5), alpha, seed), simulate_modules(reps, alpha, seed)
    by_lost = simulate_lost(reps, alpha, seed)
    if as_json:
        rows = {
            "lost": [r._asdict() for r in by_lost],
            "kinds": [r._asdict() for r in by_kind],
            "modules": [r._asdict() for r in by_module],
        }
        print(json.dumps({"reps": reps, "alpha": alpha, "seed": seed, **rows}))
        return
    print(
        f"{date.today()}, Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, seed {seed}"
    )
    print(f"\nQuestions of a module go together, {reps} repetitions\n")
    false = f"{'by question':>11} {'by module too':>13}"
    print(f"{'':>18} {'n':>5} {'flips':>6} {'margin':>7} {'together':>8} | false: {false} | {'equal pass':>10}")
    for m in by_module:
        print(
            f"{m.modules:>18} {m.n:>5} {m.psi:>6.0%} {m.margin * 100:>4.0f} pt {m.together:>8.2f} | "
            f"{m.by_question:>18.1%} {m.gate:>13.1%} | {m.equal:>10.1%}"
        )
    print(f"\nModules hit by chance, tuned worse by the margin, {reps} repetitions\n")
    print(f"{'modules':>8} {'of each':>7} {'hit':>5} {'lost then':>9} | false: {'by question':>11} {'gate':>6}")
    for x in by_lost:
        print(f"{x.modules:>8} {x.each:>7} {x.hit:>5.0%} {x.lost:>9.0%} | {x.by_question:>18.1%} {x.gate:>6.1%}")
    print(f"\nKinds at which base only guesses left out: guessing {GUESS:.0%}, flips 15%, {reps // 5} repetitions\n")
    equal = f"equal: {'PASS':>6} {'FAIL':>6} {'FAIL of kept alone':>18}"
    print(f"{'base':>30} {'a kind':>6} {'margin':>7} | {'false PASS':>10} | {equal}")
    for k in by_kind:
        print(
            f"{k.base:>30} {k.each:>6} {k.margin * 100:>4.0f} pt | {k.false_pass:>10.1%} | "
            f"{k.equal_pass:>13.1%} {k.equal_fail:>6.1%} {k.kept_fail:>18.1%}"
        )


if __name__ == "__main__":
    sys.exit(main())
