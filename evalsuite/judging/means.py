"""Bounds and p-values of a mean difference when each question was answered several times. Pure.

A question gives one figure d, tuned's share of right answers less base's, -1 to 1. Signs of d tossed at random give an
exact test of two arms between which nothing could tell (`signs_p`; R. A. Fisher, The Design of Experiments, 1935,
chapter 3): on the mean of a question what McNemar's test is on flips, and as sharp as with a studentised mean, which
signs do not reorder. It is no test of the mean itself: losses that are rare and great are not symmetric about it, and
what was not drawn cannot be tossed (benchmarks/gate_repeats.py says how often that lets a bad model through).

So a bound of the mean is N. Gaffke's for bounded figures: the alpha quantile of the weighted mean of them and of the
worst possible one, -1, under weights from a Dirichlet distribution of ones (Mathematical Methods of Statistics 14
(2005) 451-467). Of one answer, right or wrong, it is Clopper and Pearson's. That it errs with at most alpha whatever
the distribution is a conjecture without a known counterexample; for those of the benchmark it was measured.
"""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import lcm, pi

from evalsuite.judging.statistics import TINY

STEP = 1e-7  # to which a bound is found; it is rounded away from the estimate
LEAST = 1e-9  # what the integral is good to: no p is said to be smaller
MOST = 200_000  # the sum of all differences, in their common fraction, up to which tosses are counted and not drawn
DRAWS = 9999
FINEST = 1024  # the greatest denominator of a difference of two means of up to 32 answers

Tally = tuple[tuple[float, int], ...]  # a figure, how often


def lower(values: Sequence[float], alpha: float, worst: float = -1.0) -> float:
    """One-sided lower bound, at level `alpha`, of the mean of figures that are never under `worst`.

    `worst` where there is none, and where all are that.
    """
    from scipy.optimize import brentq

    told, top = tally(values), max(values, default=worst)
    if top <= worst + STEP:
        return worst
    found = brentq(lambda m: below(told, m, worst) - alpha, worst + TINY, top - TINY, xtol=STEP / 2)
    return max(worst, float(found) - STEP)


def p_value(values: Sequence[float]) -> float:
    """One-sided p of H0: the mean of figures from -1 to 1 is at most 0. The test that `lower` inverts. 1 for none."""
    return max(LEAST, below(tally(values), 0.0, -1.0))


def tally(values: Sequence[float]) -> Tally:
    """The figures, ascending."""
    return tuple(sorted(Counter(round(value, 12) for value in values).items()))


def below(told: Tally, mean: float, worst: float) -> float:
    """Chance that the weighted mean of `worst` and of the figures is at most `mean`.

    That of a sum of exponentials of either sign, from its characteristic function: J. P. Imhof, Biometrika 48 (1961)
    419-426. Nothing is drawn, so there is no seed.
    """
    import numpy as np

    parts = [(worst - mean, 1), *((value - mean, count) for value, count in told)]
    if all(value <= 0 for value, _ in parts):
        return 1.0
    far, count = (np.array(column, dtype=np.float64) for column in zip(*parts, strict=True))
    # In log u the integrand is smooth and dies at both ends: the trapezoid rule is as good as exact.
    at = np.linspace(-24.0, 20.0, 1101)
    u = np.exp(at)[:, None] / float(np.sqrt((count * far**2).sum()))
    angle, decay = count * np.arctan(far * u), count * np.log1p((far * u) ** 2) / 2
    area = float((np.sin(angle.sum(axis=1)) * np.exp(-decay.sum(axis=1))).sum() * (at[1] - at[0]))
    return min(1.0, max(0.0, 0.5 - area / pi))


def signs_p(values: Sequence[float], *, both: bool = False) -> float:
    """p of a sum whose signs are tossed: the chance of at least what is seen; `both`: of as much in either direction.

    Exact, by counting, where the differences are whole parts of a fraction that is not too fine: always when every
    answer came. Else 9,999 tosses, always the same ones, with the one that is seen counted in.
    """
    import numpy as np

    parts = [Fraction(value).limit_denominator(FINEST) for value in values if value]
    whole = lcm(*(part.denominator for part in parts))
    sizes = [int(part * whole) for part in parts]
    seen = abs(sum(sizes)) if both else sum(sizes)
    total = sum(map(abs, sizes))
    if total > MOST:
        rng, reached = np.random.default_rng(0), 0
        for _ in range(0, DRAWS, DRAWS // 9):
            tossed = (2 * rng.integers(0, 2, (DRAWS // 9, len(sizes))) - 1) @ np.array(sizes)
            reached += int(np.sum((np.abs(tossed) if both else tossed) >= seen))
        return (reached + 1) / (DRAWS + 1)
    masses = np.zeros(total + 1)  # of the sum of those that fall to one side
    masses[0] = 1.0
    for size in map(abs, sizes):
        moved = masses.copy()
        moved[size:] += masses[: total + 1 - size]
        masses = moved / 2
    sums = 2 * np.arange(total + 1) - total
    return float(min(1.0, masses[(np.abs(sums) if both else sums) >= seen].sum()))
