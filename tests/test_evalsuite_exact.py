"""The gate's bounds: the chance of every table is added up, and no model at the margin passes more often than alpha."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial
from test_evalsuite_statistics import counts

from evalsuite.judging import exact, power
from evalsuite.judging import statistics as s
from evalsuite.judging.policy import Policy


def frontier(bound, n, margin, alpha, most):
    """Fewest gained with which a bound lies above -margin, for each number lost up to `most`, by asking for each."""
    found, gained = [], 0
    for lost in range(most + 1):
        while gained <= n - lost and bound(lost, gained, n, alpha) <= -margin:
            gained += 1
        found.append(gained if gained <= n - lost else n + 1)
    return np.array(found)


def size(least, n, margin, flips):
    """Chance of passing at a true drop of the margin: the sum over all tables, by scipy's own distributions."""
    losing, gaining = (flips + margin) / 2, (flips - margin) / 2
    lost = np.arange(len(least))
    rest = binom.sf(least - 1, n - lost, gaining / (1 - losing))
    return float((binom.pmf(lost, n, losing) * rest).sum())


GRID = [(20, 0.1), (35, 0.05), (52, 0.05), (77, 0.1), (100, 0.03), (120, 0.05), (200, 0.03)]


@pytest.mark.parametrize(("n", "margin"), GRID)
def test_no_share_of_flips_lets_a_model_at_the_margin_through_more_often_than_alpha(n, margin):
    most = min(n, int(0.45 * n))
    least = frontier(exact.lower, n, margin, 0.05, most)
    worst = max(size(least, n, margin, flips) for flips in np.linspace(margin, 0.6, 150))
    assert worst <= 0.05 + 1e-6
    assert worst > 0.02  # not bought by never passing
    assert np.array_equal(least, exact.passing(n, margin, 0.05)[: most + 1])


def test_the_asymptotic_bound_alone_lets_seven_in_a_hundred_through():
    least = frontier(lambda *table: s.tango_bounds(*table)[0], 52, 0.05, 0.05, 30)
    assert size(least, 52, 0.05, 0.05) == pytest.approx(0.0694, abs=5e-4)


@pytest.mark.parametrize(("n", "margin", "alpha"), [(52, 0.05, 0.05), (500, 0.03, 0.025), (1999, 0.02, 0.05)])
def test_the_greatest_chance_is_found_between_the_points_that_were_tried(n, margin, alpha):
    least = exact.passing(n, margin, alpha)
    shares = np.linspace(0, (1 - margin) / 2, 2500)
    found = max(exact.chance(least, n, part + margin, part).max() for part in np.array_split(shares, 50))
    assert found <= alpha + 1e-5
    assert found > alpha * 0.8


def test_the_chance_of_a_set_of_tables_is_the_sum_of_theirs():
    n, least = 9, np.array([2, 2, 3, 4, 10, 10, 10, 10, 10, 10])
    tables = [(b, c) for b in range(n + 1) for c in range(n + 1 - b) if c >= least[b]]
    for p, q in ((0.1, 0.2), (0.0, 0.3), (0.4, 0.6), (0.25, 0.0)):
        summed = sum(multinomial.pmf([b, c, n - b - c], n, [p, q, max(0.0, 1 - p - q)]) for b, c in tables)
        assert exact.chance(least, n, np.array([p]), np.array([q]))[0] == pytest.approx(summed, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(counts(), st.floats(0.005, 0.3))
def test_bounds_hold_the_estimate_mirror_and_never_fall_with_a_better_table(table, alpha):
    lost, gained, n = table
    low, high = exact.bounds(lost, gained, n, alpha)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert exact.bounds(gained, lost, n, alpha) == (-high, -low)
    assert exact.lower(lost, gained, n, alpha / 2) <= low
    if lost:
        assert exact.lower(lost - 1, gained, n, alpha) >= low - 2 * exact.STEP
    if lost + gained < n:
        assert exact.lower(lost, gained + 1, n, alpha) >= low - 2 * exact.STEP


def test_bounds_come_to_tango_s_as_questions_grow():
    gaps = [
        (s.tango_bounds(n // 20, n // 20, n, 0.05)[0] - exact.lower(n // 20, n // 20, n, 0.05)) * n**0.5
        for n in (100, 400, 2000)
    ]
    assert all(abs(gap) < 0.03 for gap in gaps)
    assert abs(gaps[-1]) < 0.01


def test_nothing_asked_one_question_and_none_that_flipped():
    assert exact.bounds(0, 0, 0, 0.05) == (-1.0, 1.0)
    assert exact.lower(3, 0, 3, 0.05) == -1.0
    assert exact.lower(0, 3, 3, 0.05) == pytest.approx(2 * 0.05 ** (1 / 3) - 1, abs=1e-5)  # all gained or not
    assert exact.lower(0, 0, 1, 0.05) == pytest.approx(-0.95, abs=1e-5)
    with pytest.raises(ValueError, match="3 lost and 2 gained of 4"):
        exact.lower(3, 2, 4, 0.05)


def test_the_power_of_a_whole_gate_is_what_drawing_gates_gives():
    rng, claims = np.random.default_rng(2), [power.Planned(0.1), power.Planned(0.05, share=0.5)]
    passes = []
    for claim, n in zip(claims, (400, 200), strict=True):
        half = claim.flips / 2
        lost, gained, _ = rng.multinomial(n, [half, half, 1 - claim.flips], size=20_000).T
        passes.append(gained >= exact.passing(n, 0.05, 0.05)[lost])
    assert power.gate(400, claims, Policy()) == pytest.approx(np.mean(passes[0] & passes[1]), abs=0.015)


def test_beyond_the_exact_power_the_textbook_s_takes_over_without_a_step():
    """n = (z + z)^2 flips / margin^2: 12,366 questions at 1 point, 20 % of flips and a power of 80 %, from print."""
    assert power.one(12366, 0.2, 0.01, 0.05) == pytest.approx(0.8, abs=1e-4)
    assert power.one(4000, 0.2, 0.02, 0.05) == pytest.approx(0.883, abs=0.01)
