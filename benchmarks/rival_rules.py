"""The rules by which gates release a model, ours and others', each over many simulated evaluations at once.

Of packages only the rule is here, in words of our own, with all settings as they come except the confidence: where that
can be chosen it is such that the bound that releases errs in a share `alpha`. benchmarks/rival_packages.py holds each
against the package itself. The table is made by benchmarks/gate_rivals.py.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom, t

from evalsuite.judging import clusters, exact, statistics

Flags = NDArray[np.bool_]
BASE = 0.7  # base's true accuracy: what relative limits and unpaired intervals depend on


class Drawn(NamedTuple):
    """Evaluations: [evaluations, modules] lost and gained questions, [evaluations] right in both arms, sizes."""

    lost: NDArray[np.int64]
    gained: NDArray[np.int64]
    both: NDArray[np.int64]
    sizes: NDArray[np.int64]
    resamples: int = 2000  # of a bootstrap


class Verdicts(NamedTuple):
    """[evaluations]. Neither: asks for more questions. A gate of only two verdicts fails what it does not release."""

    released: Flags
    failed: Flags


class Flips(NamedTuple):
    lost: NDArray[np.int64]
    gained: NDArray[np.int64]
    n: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]  # of the mean, by question

    @classmethod
    def of(cls, drawn: Drawn) -> "Flips":
        lost, gained, n = drawn.lost.sum(axis=1), drawn.gained.sum(axis=1), int(drawn.sizes.sum())
        mean = (gained - lost) / n
        return cls(lost, gained, n, mean, (lost + gained - n * mean**2) / n**2)


Rule = Callable[[Drawn, float, float], Verdicts]  # of a margin and alpha


def between(low: Any, high: Any, margin: float) -> Verdicts:
    """By an interval: released when it lies above -margin, failed when below."""
    return Verdicts(low > -margin, high < -margin)


def two(released: Any) -> Verdicts:
    return Verdicts(released, ~released)


def unpaired_wald(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    f = Flips.of(drawn)
    base, tuned = (drawn.both + f.lost) / f.n, (drawn.both + f.gained) / f.n
    half = ndtri(1 - alpha) * np.sqrt((base * (1 - base) + tuned * (1 - tuned)) / f.n)
    return between(f.mean - half, f.mean + half, margin)


def paired_wald(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    f = Flips.of(drawn)
    half = ndtri(1 - alpha) * np.sqrt(f.variance)
    return between(f.mean - half, f.mean + half, margin)


def newcombe(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    """R. G. Newcombe, Statistics in Medicine 17 (1998) 2635-2650, method 10."""
    f, z = Flips.of(drawn), ndtri(1 - alpha)

    def wilson(p: Any) -> tuple[Any, Any]:
        middle, half = p + z * z / (2 * f.n), z * np.sqrt(p * (1 - p) / f.n + z * z / (4 * f.n**2))
        return (middle - half) / (1 + z * z / f.n), (middle + half) / (1 + z * z / f.n)

    neither = f.n - drawn.both - f.lost - f.gained
    base, tuned = (drawn.both + f.lost) / f.n, (drawn.both + f.gained) / f.n
    odds = (drawn.both * neither - f.lost * f.gained).astype(np.float64)
    odds = np.where(odds > 0, np.maximum(odds - f.n / 2, 0), odds)
    phi = odds / np.maximum(f.n**2 * np.sqrt(base * (1 - base) * tuned * (1 - tuned)), 1e-12)
    (low_b, high_b), (low_t, high_t) = wilson(base), wilson(tuned)
    down, up = (tuned - low_t, high_b - base), (high_t - tuned, base - low_b)
    below, above = (np.sqrt(np.maximum(x * x - 2 * phi * x * y + y * y, 0)) for x, y in (down, up))
    return between(f.mean - below, f.mean + above, margin)


def within_margin(drawn: Drawn, margin: float, alpha: float) -> Verdicts:  # noqa: ARG001
    """No statistics; also all that mlflow.models.evaluation.validation._validate can be asked for (3.17.2): its
    min_absolute_change must be positive, so an allowed drop is a `threshold` of base's accuracy less the margin."""
    f = Flips.of(drawn)
    return two(f.lost - f.gained <= margin * f.n + 1e-9)


def not_significant(drawn: Drawn, margin: float, alpha: float) -> Verdicts:  # noqa: ARG001
    """Released unless worse by a two-sided exact McNemar test: the absence of evidence taken for evidence."""
    f = Flips.of(drawn)
    return two((f.gained >= f.lost) | (mcnemar(f) > alpha))


def mcnemar(f: Flips) -> NDArray[np.float64]:
    p: NDArray[np.float64] = np.minimum(1.0, 2 * binom.cdf(np.minimum(f.lost, f.gained), f.lost + f.gained, 0.5))
    return p


def tango(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    f = Flips.of(drawn)
    z, quantile = statistics.tango_z(f.lost, f.gained, f.n, -margin), ndtri(1 - alpha)
    return Verdicts(z > quantile, z < -quantile)


def ours_by_question(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    f = Flips.of(drawn)
    released = f.gained >= exact.passing(f.n, margin, alpha)[f.lost]
    return Verdicts(released, ~released & (binom.sf(f.lost - 1, f.lost + f.gained, 0.5) <= alpha))


def ours(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    """Of one check: both bounds have to lie above -margin, both tests have to show a loss."""
    one, left = ours_by_question(drawn, margin, alpha), drawn.gained - drawn.lost
    released = one.released & clusters.shown(left, drawn.sizes, margin, alpha)
    f = Flips.of(drawn)
    worse = (binom.sf(f.lost - 1, f.lost + f.gained, 0.5) <= alpha) & clusters.shown(-left, drawn.sizes, 0.0, alpha)
    return Verdicts(released, ~released & worse)


@lru_cache(maxsize=200_000)
def resampled(lost: int, gained: int, n: int, resamples: int) -> NDArray[np.float64]:
    """Sorted means of resampled evaluations: each is a draw of the table, and a table is resampled once."""
    rng = np.random.default_rng([lost, gained, n])
    b, c, _ = rng.multinomial(n, [lost / n, gained / n, max(0.0, (n - lost - gained) / n)], size=resamples).T
    return np.sort((c - b) / n)


def of_tables(drawn: Drawn, found: Callable[[int, int, int], tuple[float, ...]]) -> list[NDArray[np.float64]]:
    """What is found of each table (lost, gained, n), once for every different one; [evaluations] each."""
    f = Flips.of(drawn)
    tables, at = np.unique(np.stack([f.lost, f.gained]), axis=1, return_inverse=True)
    values = np.array([found(int(b), int(c), f.n) for b, c in tables.T])
    return [column[at.ravel()] for column in values.T]


def bootstrap(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    def found(b: int, c: int, n: int) -> tuple[float, ...]:
        return tuple(np.quantile(resampled(b, c, n, drawn.resamples), [alpha, 1 - alpha]))

    return between(*of_tables(drawn, found), margin)


def bca(lost: int, gained: int, n: int, alpha: float, resamples: int) -> tuple[float, float]:
    """B. Efron, Journal of the American Statistical Association 82 (1987) 171-185; ties count half."""
    means, mean = resampled(lost, gained, n, resamples), (gained - lost) / n
    below = np.mean(means < mean - 1e-12) + np.mean(abs(means - mean) <= 1e-12) / 2
    z0 = ndtri(np.clip(below, 1 / (resamples + 1), resamples / (resamples + 1)))
    values, counts = np.array([-1, 1, 0]) - mean, np.array([lost, gained, n - lost - gained])
    spread = float((counts * values**2).sum())
    if spread < 1e-9:
        return mean, mean
    skew = float((counts * values**3).sum()) / (6 * spread**1.5)
    z = z0 + ndtri(np.array([alpha, 1 - alpha]))
    low, high = np.quantile(means, ndtr(z0 + z / (1 - skew * z)))
    return float(low), float(high)


def statgate(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    """statgate.verdict.evaluate_gate: a BCa interval of the paired mean; at its own alpha of 2 * alpha."""
    return between(*of_tables(drawn, lambda b, c, n: bca(b, c, n, alpha, drawn.resamples)), margin)


def toolkit_eval_harness(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    """toolkit_eval_harness.compare.compare_reports: a percentile bootstrap, as a share of base's accuracy as seen."""
    f = Flips.of(drawn)
    (low,) = of_tables(drawn, lambda b, c, n: (float(np.quantile(resampled(b, c, n, drawn.resamples), alpha)),))
    base = (drawn.both + f.lost) / f.n
    return two(np.where(base > 0, -low <= margin / BASE * base + 1e-12, f.gained + drawn.both > 0))


def nemo(drawn: Drawn, margin: float, alpha: float) -> Verdicts:  # noqa: ARG001
    """nemo_evaluator.engine.gate, with scipy, questions without a category: t of 95 %, two-sided, which is fixed."""
    f = Flips.of(drawn)
    half = t.ppf(0.975, f.n - 1) * np.sqrt(f.variance * f.n / (f.n - 1))
    return Verdicts((f.mean - half).round(6) >= -margin, (f.mean + half).round(6) < -margin)


def nemo_by_category(drawn: Drawn, margin: float, alpha: float) -> Verdicts:  # noqa: ARG001
    """The same where every question has a category: clustered standard error, and the quantile of the normal."""
    f, groups = Flips.of(drawn), len(drawn.sizes)
    left = drawn.gained - drawn.lost - f.mean[:, None] * drawn.sizes
    half = ndtri(0.975) * np.sqrt(groups / (groups - 1) * (left**2).sum(axis=1)) / f.n
    return Verdicts((f.mean - half).round(6) >= -margin, (f.mean + half).round(6) < -margin)


def evalproof(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    """evalproof.gate.decide: fails only a drop of the margin that is significant (exact McNemar)."""
    f = Flips.of(drawn)
    return two(~((f.lost - f.gained >= margin * f.n - 1e-9) & (mcnemar(f) < alpha)))


def regressgate(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    """regressgate.gate.compare_reports, one trial a case: fails a drop over the margin that a sign test shows."""
    f = Flips.of(drawn)
    shown = binom.sf(f.lost - 1, f.lost + f.gained, 0.5) < alpha / 2
    return two(~((f.lost - f.gained > margin * f.n + 1e-9) & shown))


def llm_evalgate(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    """llm_evalgate.bench.gate.RegressionGate: the same with a one-sided bootstrap test."""
    f, b = Flips.of(drawn), drawn.resamples
    (p,) = of_tables(drawn, lambda *table: ((1 + np.sum(resampled(*table, b) >= 0)) / (b + 1),))
    return two(~((f.lost - f.gained > margin * f.n + 1e-9) & (p <= alpha)))


def siggate(drawn: Drawn, margin: float, alpha: float) -> Verdicts:  # noqa: ARG001
    """siggate.decision.failures by the default rules, over deltagate: knows no margin. Fails a significant loss, a gain
    that is not significant, and two runs that are the same in every question."""
    f = Flips.of(drawn)
    deviation = np.sqrt(np.maximum(f.variance * f.n / (f.n - 1), 1e-18))
    low, high = of_tables(drawn, lambda *table: bca(*table, alpha / 2, drawn.resamples))
    real = (2 * ndtr(-abs(f.mean) / deviation) < alpha) & ((low > 0) | (high < 0))
    return two((f.lost + f.gained > 0) & np.where(f.mean > 0, real, ~(real & (f.mean < 0))))


def evalsig(drawn: Drawn, margin: float, alpha: float) -> Verdicts:
    """evalsig.compare.gate.gate: allows only a significant gain of `min_delta`; rejects when it could have seen one."""
    f, power = Flips.of(drawn), 0.8
    flips = f.lost + f.gained
    by_normal = ndtr((f.lost - f.gained) / np.sqrt(np.maximum(flips, 1)))
    p = np.where(flips <= 25, binom.sf(f.gained - 1, flips, 0.5), by_normal)
    significant = (p < alpha) & (f.mean > 0)
    seen = (ndtri(1 - alpha) + ndtri(power)) * np.sqrt(f.variance * f.n / (f.n - 1))
    released = significant & (f.mean >= margin - 1e-12)
    return Verdicts(released, ~released & (significant | (seen <= margin)))
