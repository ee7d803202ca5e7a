"""Questions about one module go together: bounds by module, against a t-test and in what the gate makes of them."""

import numpy as np
import pytest
from evaluation import built, question, reply
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import t, ttest_1samp

from evalsuite.judging import clusters, exact
from evalsuite.questions import QuestionSet

ALPHA = 0.05
modules = st.lists(st.tuples(st.integers(1, 30), st.floats(-1, 1)), min_size=2, max_size=14)


def spread_out(totals, sizes):
    """The differences of the questions, and their modules, with these sums."""
    return np.repeat(totals / sizes, sizes).tolist(), np.repeat([f"m{k}" for k in range(len(sizes))], sizes).tolist()


@settings(deadline=None)
@given(modules)
def test_the_bound_is_that_of_the_modules_pseudo_values(drawn):
    """J. W. Tukey's: g times the mean of all, less g - 1 times the mean without a module; a t-interval of them, about
    the mean of all."""
    sizes = np.array([n for n, _ in drawn])
    totals = np.array([round(n * share) for n, share in drawn])
    g, whole = len(sizes), totals.sum() / sizes.sum()
    pseudo = g * whole - (g - 1) * (totals.sum() - totals) / (sizes.sum() - sizes)
    error = np.sqrt(((pseudo - whole) ** 2).sum() / (g * (g - 1)))
    differences, names = spread_out(totals, sizes)
    bound = clusters.lower(differences, names, ALPHA)
    assert bound == pytest.approx(np.clip(whole - t.ppf(1 - ALPHA, g - 1) * error, -1, 1), abs=1e-9)
    assume(error > 1e-9)
    assert clusters.p_value(differences, names) == pytest.approx(t.sf(whole / error, g - 1), abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=14), st.integers(1, 9))
def test_modules_of_one_size_are_a_t_test_of_their_means(means, size):
    assume(np.std(means) > 1e-6)
    differences, names = spread_out(np.array(means) * size, np.full(len(means), size))
    expected = ttest_1samp(means, 0, alternative="greater").pvalue
    assert clusters.p_value(differences, names) == pytest.approx(expected, abs=1e-9)


@given(modules, st.sampled_from([0.01, 0.05, 0.2]))
def test_many_at_once_are_the_same_bound(drawn, margin):
    sizes = np.array([n for n, _ in drawn])
    totals = np.array([round(n * share) for n, share in drawn])
    bound = clusters.lower(*spread_out(totals, sizes), ALPHA)
    assume(abs(bound + margin) > 1e-6)
    assert clusters.shown(np.array([totals, totals]), sizes, margin, ALPHA).tolist() == [bound > -margin] * 2


def test_one_module_bounds_nothing_and_what_is_the_same_everywhere_is_sure():
    assert clusters.lower([1, -1, 0], ["a"] * 3, ALPHA) == 1.0
    assert clusters.lower([], [], ALPHA) == 1.0
    assert clusters.p_value([1, 1], ["a", "a"]) == 0.0
    unlike = ["a"] * 180 + ["b"] * 20  # sizes alone are no doubt
    assert clusters.lower([0] * 200, unlike, ALPHA) == 0.0
    assert clusters.lower([-1] * 200, unlike, ALPHA) == -1.0
    assert (clusters.p_value([1] * 200, unlike), clusters.p_value([0] * 200, unlike)) == (0.0, 1.0)


def judged(lost: list[int], each: int):
    """`lost` of `each` module's questions, in turn; a negative number is gained. All others are right in both."""
    at = [(m, i) for m in range(len(lost)) for i in range(each)]
    made = [question(k, module=f"m{m}") for k, (m, _) in enumerate(at)]
    told = [
        reply(q, arm, "low", i >= (lost[m] if arm == "tuned" else -lost[m]))
        for q, (m, i) in zip(made, at, strict=True)
        for arm in ("base", "tuned")
    ]
    return built(QuestionSet(name="docs", python="3.11.7", questions=tuple(made)), told)


def test_a_loss_that_lies_in_few_modules_is_less_sure_than_one_spread_out():
    """Eight of 400 lost: everywhere a little, or all at once where a ninth module might be as bad."""
    spread, gathered = judged([1] * 8 + [0] * 12, 20), judged([8] + [0] * 19, 20)
    [even], [one] = spread.comparisons, gathered.comparisons
    assert even.difference.estimate == one.difference.estimate == -0.02
    assert even.modules == one.modules == 20
    by_question = exact.lower(8, 0, 400, ALPHA)
    assert even.difference.lower == by_question  # never better than question by question
    assert one.difference.lower < by_question - 0.01
    assert spread.verdict.outcome == "PASS"
    assert gathered.verdict.outcome == "INCONCLUSIVE"
    assert "it may be as low as" in gathered.verdict.reasons[0]
    assert "(by module), beyond the margin of 5" in gathered.verdict.reasons[0]


def test_a_gain_in_one_module_is_none_in_others():
    """Twenty gained at one module of ten, none elsewhere: surely better there, and not shown of the next module."""
    [c] = judged([0] * 9 + [-20], 20).comparisons
    assert c.gained == 20
    assert c.better_p > 0.05
    [c] = judged([-2] * 10, 20).comparisons
    assert c.better_p < 1e-4


def test_a_loss_all_over_fails_and_one_in_two_modules_is_looked_at_again():
    assert judged([4] * 20, 20).verdict.outcome == "FAIL"
    assert judged([20, 20] + [0] * 18, 20).verdict.outcome == "INCONCLUSIVE"


@pytest.mark.parametrize("sizes", [(180, 20), (150, 20, 20, 10)])
def test_modules_of_unlike_sizes_hide_neither_that_nothing_changed_nor_that_all_was_lost(sizes):
    made = [question(k, module=f"m{m}") for k, m in enumerate(np.repeat(range(len(sizes)), sizes))]
    set_ = QuestionSet(name="docs", python="3.11.7", questions=tuple(made))
    for right, outcome in ((True, "PASS"), (False, "FAIL")):
        told = [
            reply(q, arm, "low", arm == "base" or right, text=f"{arm} says\nANSWER: {q.answer}")
            if right
            else reply(q, arm, "low", arm == "base")
            for q in made
            for arm in ("base", "tuned")
        ]
        assert built(set_, told).verdict.outcome == outcome


def test_questions_of_one_module_are_taken_one_by_one():
    [c] = judged([8], 400).comparisons
    assert (c.modules, c.difference.by_module) == (1, False)
    assert c.difference.lower == exact.lower(8, 0, 400, ALPHA)
