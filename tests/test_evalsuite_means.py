"""The mean of several answers a question: its tests against scipy and closed forms, and how often they are wrong."""

import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, permutation_test

from evalsuite.judging import means, paired
from evalsuite.judging.paired import Asked

differences = st.lists(
    st.sampled_from([Fraction(i, k) for k in (2, 3, 4) for i in range(-k, k + 1)]), min_size=2, max_size=9
)


@settings(max_examples=60, deadline=None)
@given(differences, st.booleans())
def test_tossed_signs_are_scipys_permutation_test(found: list[Fraction], both: bool) -> None:
    values = [float(each) for each in found]
    told = permutation_test(
        (np.array(values),),
        lambda d, axis: np.round(np.sum(d, axis=axis), 9),
        permutation_type="samples",
        alternative="two-sided" if both else "greater",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert means.signs_p(values, both=both) == pytest.approx(told.pvalue, abs=1e-9)


def test_where_counting_is_too_long_signs_are_drawn_with_the_seen_one_among_them(monkeypatch: Any) -> None:
    rng = np.random.default_rng(5)
    values = [float(d) for d in rng.integers(-3, 5, 150) / 4]
    counted = means.signs_p(values)
    assert means.signs_p([0.25] * 30) == pytest.approx(0.5**30)
    monkeypatch.setattr(means, "MOST", 0)
    drawn = means.signs_p(values)
    assert drawn == means.signs_p(values)
    assert drawn == pytest.approx(counted, abs=4 * np.sqrt(counted / means.DRAWS))
    assert means.signs_p([0.25] * 30) == 1 / (means.DRAWS + 1)


@pytest.mark.parametrize(("n", "right"), [(3, 1), (50, 3), (200, 190), (200, 200), (1000, 500)])
def test_of_one_answer_the_bound_is_clopper_and_pearsons(n: int, right: int) -> None:
    for alpha in (0.05, 0.01):
        values = [1.0] * right + [0.0] * (n - right)
        assert means.lower(values, alpha, 0.0) == pytest.approx(beta.ppf(alpha, right, n - right + 1), abs=1e-6)
        assert means.lower(values, alpha, 0.0) <= beta.ppf(alpha, right, n - right + 1) + 1e-8
    assert means.lower([0.0] * n, 0.05, 0.0) == means.lower([], 0.05, 0.0) == 0.0
    assert means.lower([-1.0] * n, 0.05) == means.lower([], 0.05) == -1.0
    assert means.p_value([]) == 1.0


@settings(max_examples=30, deadline=None)
@given(differences)
def test_the_bound_is_the_quantile_of_weighted_means_and_p_says_the_same(found: list[Fraction]) -> None:
    values = [float(each) for each in found]
    weights = np.random.default_rng(0).exponential(size=(100_000, len(values) + 1))
    drawn = weights @ np.array([-1.0, *values]) / weights.sum(axis=1)
    assert np.mean(drawn <= means.lower(values, 0.05)) == pytest.approx(0.05, abs=0.004) or max(values) == -1
    assert np.mean(drawn <= 0) == pytest.approx(means.p_value(values), abs=0.008)
    assert (means.lower(values, 0.05) > 1e-6) <= (means.p_value(values) <= 0.05)


def test_several_answers_are_judged_by_their_means_and_one_by_the_exact_tests() -> None:
    once = [Asked("", f"m{i}", 0.0, (True, i > 4)) for i in range(100)]
    four = [((True,) * 4, (i > 4,) * 4) for i in range(100)]
    often = [one._replace(sides=(1.0, float(i > 4)), repeats=four[i]) for i, one in enumerate(once)]
    a, b = (paired.group(asked, 0.05) for asked in (once, often))
    assert (a.lost, a.difference.estimate) == (b.lost, b.difference.estimate) == (5, -0.05)
    assert a.difference.worse_p == pytest.approx(max(binom.sf(4, 5, 0.5), a.difference.worse_p))
    assert b.difference.lower == pytest.approx(min(means.lower([-1.0] * 5 + [0.0] * 95, 0.05), b.difference.lower))
    assert a.difference.lower != b.difference.lower
    assert paired.base_above(often, 0.05) == pytest.approx(0.05 ** (1 / 100), abs=1e-6)


def test_rare_great_losses_pass_by_tossed_signs_and_not_by_the_gate() -> None:
    """The reason why signs alone are no gate: benchmarks/gate_repeats.py, run small where they fail."""
    spec = importlib.util.spec_from_file_location(
        "gate_repeats", Path(__file__).parent.parent / "benchmarks/gate_repeats.py"
    )
    assert spec
    assert spec.loader
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    reps = 1000
    for way, n, repeats in (("lost, all else sure", 50, 4), ("half lost", 100, 4), ("noise", 50, 2)):
        rng = np.random.default_rng([7, n])
        d = bench.differences(way, n, repeats, bench.MARGIN, reps, rng)
        assert d.mean() == pytest.approx(-bench.MARGIN, abs=0.006)
        assert np.mean(bench.by_gate(d, -bench.MARGIN) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / reps)
        signs = np.mean(bench.by_signs(d + bench.MARGIN, rng) <= 0.05)
        assert signs >= 0.08 or way == "noise"
