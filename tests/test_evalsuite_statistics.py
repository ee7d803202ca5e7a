"""Known answers from print, brute force at small n, and what must hold at any counts."""

import importlib.util
from itertools import product
from math import comb, sqrt
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.judging import statistics as s


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return benchmark("gate_false_release")


@pytest.fixture(scope="module")
def groups() -> ModuleType:
    return benchmark("gate_groups")


def benchmark(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 400))
    lost = draw(st.integers(0, n))
    return lost, draw(st.integers(0, n - lost)), n


# Fagerland, Lydersen, Laake, Statistical Analysis of Contingency Tables (2017), chapter 8: Bentur 2009, Cavo 2012.
@pytest.mark.parametrize(
    ("lost", "gained", "n", "low", "high", "midp"),
    [(7, 1, 21, -0.5172, -0.0260, 0.0391), (16, 6, 161, -0.1240, -0.0054, 0.034690)],
)
def test_tango_and_mcnemar_give_the_published_figures(lost, gained, n, low, high, midp):
    assert s.tango_bounds(lost, gained, n, 0.025) == pytest.approx((low, high), abs=5e-5)
    assert s.mcnemar(lost, gained) == pytest.approx(midp, abs=5e-5)


# Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_figures(right, n, low, high):
    assert s.wilson(right, n, 0.025) == pytest.approx((low, high), abs=5e-5)


def test_holm_stops_at_the_first_that_is_not_shown():
    """Holm, Scandinavian Journal of Statistics 6 (1979) 65-70: 0.01 by 4, 0.015 by 3, 0.03 by 2 at alpha 0.05."""
    assert s.holm([0.03, 0.01, 0.04, 0.015], 0.05) == [False, True, False, True]
    assert s.holm([0.02, 0.02, 0.02], 0.05) == [False] * 3
    assert s.holm([], 0.05) == []


def test_the_score_variance_is_at_the_likelihoods_own_maximum():
    """The closed form of the nuisance parameter against a numerical search of the multinomial likelihood."""
    from scipy.optimize import minimize_scalar

    for lost, gained, n, null in [(7, 1, 21, -0.05), (0, 3, 30, -0.1), (4, 0, 50, -0.2), (5, 5, 40, 0.15)]:
        low, high = max(0.0, -null), (1 - null) / 2

        def surprise(q, lost=lost, gained=gained, n=n, null=null):
            return -(lost * np.log(q) + gained * np.log(q + null) + (n - lost - gained) * np.log(1 - 2 * q - null))

        q = minimize_scalar(surprise, bounds=(low + 1e-9, high - 1e-9), method="bounded", options={"xatol": 1e-12}).x
        z = (gained - lost - n * null) / sqrt(n * (2 * q + null - null**2))
        assert float(s.tango_z(lost, gained, n, null)) == pytest.approx(z, rel=1e-4)


def test_exact_tests_agree_with_counting_every_outcome():
    for lost, gained in product(range(6), repeat=2):
        flips = lost + gained
        weight = [comb(flips, k) / 2**flips for k in range(flips + 1)]
        assert s.better(lost, gained) == pytest.approx(sum(weight[gained:]))
        far = [abs(k - flips / 2) - abs(gained - flips / 2) for k in range(flips + 1)]
        exact = sum(w for w, f in zip(weight, far, strict=True) if f >= 0)
        at = sum(w for w, f in zip(weight, far, strict=True) if f == 0)
        assert s.mcnemar(lost, gained) == pytest.approx(1.0 if lost == gained else exact - at / 2)


def test_the_size_of_the_test_by_enumeration_of_every_small_table():
    """All outcomes of 40 questions, weighed exactly: no nuisance value lets Tango pass over twice as much as alpha."""
    n, margin, alpha = 40, 0.1, 0.05
    tables = np.array([(b, c) for b in range(n + 1) for c in range(n + 1 - b)])
    ways = np.array([comb(n, int(b)) * comb(n - int(b), int(c)) for b, c in tables], dtype=float)

    def size(z, psi):
        p, q = (psi + margin) / 2, (psi - margin) / 2
        chance = ways * p ** tables[:, 0] * q ** tables[:, 1] * (1 - psi) ** (n - tables.sum(axis=1))
        assert chance.sum() == pytest.approx(1)
        return chance[z(tables[:, 0], tables[:, 1], n, -margin) > s.normal_quantile(1 - alpha)].sum()

    psis = np.linspace(margin, 0.9, 60)
    assert max(size(s.tango_z, psi) for psi in psis) < alpha + 0.012
    assert max(size(s.wald_z, psi) for psi in psis) > 1.5 * alpha


def test_percentiles_are_linear_between_neighbours():
    """Hyndman and Fan, The American Statistician 50 (1996) 361, definition 7: at 1 + (n - 1) p of the sorted values."""
    assert s.percentiles([40.0, 10.0, 20.0, 30.0], 0, 50, 95, 100) == pytest.approx((10, 25, 38.5, 40))
    assert s.percentiles([7.0], 50, 99) == (7, 7)


def test_nothing_and_one_question_are_decided_in_words():
    assert s.tango_bounds(0, 0, 0, 0.05) == (-1.0, 1.0)
    assert s.wilson(0, 0, 0.05) == (0.0, 1.0)
    low, high = s.tango_bounds(0, 0, 1, 0.05)
    assert (low, high) == (pytest.approx(-high), pytest.approx(1 / (1 + 1 / s.normal_quantile(0.95) ** 2)))
    assert s.mcnemar(0, 0) == s.better(0, 0) == 1.0
    with pytest.raises(ValueError, match="3 lost and 2 gained of 4"):
        s.tango_bounds(3, 2, 4, 0.05)


@settings(max_examples=150, deadline=None)
@given(counts(), st.floats(0.001, 0.4))
def test_bounds_hold_the_estimate_mirror_when_arms_swap_and_widen_with_confidence(table, alpha):
    lost, gained, n = table
    low, high = s.tango_bounds(lost, gained, n, alpha)
    assert -1 <= low <= (gained - lost) / n + 1e-9
    assert (gained - lost) / n - 1e-9 <= high <= 1
    assert s.tango_bounds(gained, lost, n, alpha) == pytest.approx((-high, -low), abs=1e-7)
    wider = s.tango_bounds(lost, gained, n, alpha / 2)
    assert wider[0] <= low + 1e-9
    assert high <= wider[1] + 1e-9
    if -1 < low < 1 - 1e-6 and lost + gained:
        assert float(s.tango_z(lost, gained, n, low)) == pytest.approx(s.normal_quantile(1 - alpha), abs=1e-3)


@pytest.mark.parametrize("base", range(3))
def test_leaving_out_kinds_by_base_s_answers_keeps_false_releases_at_alpha_and_false_fails_too(groups, base):
    reps, alpha, margin = 4000, 0.05, 0.05
    ceiling = alpha + 3 * sqrt(alpha * (1 - alpha) / reps)
    name, accuracies = groups.KINDS[base]
    for each in (20, 60):
        false, _, _ = groups.kinds_rates(accuracies, each, 0.15, margin, margin, alpha, reps, 7)
        _, fails, kept = groups.kinds_rates(accuracies, each, 0.15, 0.0, margin, alpha, reps, 7)
        assert false <= ceiling
        assert fails <= ceiling
        if "edge" in name:
            assert kept > ceiling  # what was kept looks worse than it is


@pytest.mark.parametrize("sizes", [(20,) * 20, (8, 12, 3, 6, 10, 2, 1, 15, 5, 9, 4, 1, 7, 2, 6, 5, 9, 3, 4, 3)])
def test_questions_that_go_together_by_module_let_hardly_more_through(groups, sizes):
    """One by one they would: the bound by module is what keeps it."""
    alone, gate = groups.modules_rates(sizes, 0.2, 0.05, 0.05, 0.1, 0.05, 8000, 7)
    assert alone > 0.08
    assert gate <= 0.05 + 0.012
    alone, gate = groups.modules_rates(sizes, 0.2, 0.05, 0.05, 0.0, 0.05, 8000, 7)
    assert gate <= alone <= 0.05 + 3 * sqrt(0.05 * 0.95 / 8000)
