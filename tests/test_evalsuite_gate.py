"""Every road to a verdict, from figures that stand for it, and how often the whole gate is wrong."""

from math import sqrt

import numpy as np
import pytest

from evalsuite import statistics
from evalsuite.comparison import OUTCOMES, ArmFigures, Comparison, Difference
from evalsuite.gate import Evidence, Policy, decide

POLICY = Policy(margin=0.05, alpha=0.05)
EVIDENCE = Evidence(base_models=("b@1",), tuned_models=("t@2",), questions_digest="q" * 64, asked_digest="q" * 64)


def difference(lost: int, gained: int, n: int) -> Difference:
    low, high = statistics.tango_bounds(lost, gained, n, POLICY.alpha)
    return Difference(estimate=(gained - lost) / n, lower=low, upper=high, discordance=(lost + gained) / n)


def arm(right: int, n: int, answered: int) -> ArmFigures:
    outcomes = dict.fromkeys(OUTCOMES, 0) | {"answered": answered, "empty": n - answered}
    return ArmFigures(
        accuracy=right / n,
        interval=statistics.wilson(right, n, 0.025),
        outcomes=outcomes,
        absent=0,
        reasoning_tokens=9,
        completion_tokens=20,
        first_token=None,
        first_answer=None,
        tokens_per_second=None,
    )


def comparison(lost, gained, n=1000, *, effort="low", base_right=600, silent=(0, 0), guess=0.0, missing=0):
    return Comparison(
        effort=effort,
        asked=n + missing,
        paired=n,
        missing=missing,
        base=arm(base_right, n, n),
        tuned=arm(base_right - lost + gained, n, n - silent[0]),
        difference=difference(lost, gained, n),
        answering=difference(*silent, n),
        lost=lost,
        gained=gained,
        mcnemar_p=statistics.mcnemar(lost, gained),
        better_p=statistics.better(lost, gained),
        guess=guess,
        base_above=statistics.wilson(base_right, n, POLICY.alpha)[0],
        kinds=(),
        flips=(),
    )


GOOD = comparison(40, 45)


@pytest.mark.parametrize(
    ("comparisons", "outcome", "code", "words"),
    [
        ([GOOD], "PASS", 0, "within the margin of 5"),
        ([comparison(60, 40)], "PASS", 0, "a real loss, but one that the margin allows"),
        ([comparison(120, 40)], "FAIL", 1, "tuned is worse"),
        ([GOOD, comparison(120, 40, effort="high")], "FAIL", 1, "high, right answers"),
        ([comparison(40, 45, silent=(90, 10))], "FAIL", 1, "readable answers"),
        ([comparison(5, 5, 60, base_right=40)], "INCONCLUSIVE", 2, "two equal models would need about"),
        ([comparison(5, 5, 60, base_right=40), comparison(120, 40, effort="high")], "FAIL", 1, "high, right answers"),
        ([comparison(70, 40, 700)], "FAIL", 1, "tuned is worse"),
        ([comparison(9, 1, 100, base_right=60), GOOD], "FAIL", 1, "margin 5"),
        ([comparison(16, 9, 250, base_right=150)], "INCONCLUSIVE", 2, "the loss seen speaks against tuned"),
    ],
)
def test_verdict_code_and_words(comparisons, outcome, code, words):
    verdict = decide(comparisons, POLICY, EVIDENCE)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code), verdict.reasons
    assert words in " ".join(verdict.reasons)
    assert len(verdict.checks) == 2 * len(comparisons)


def test_one_bad_effort_outweighs_any_number_of_good_ones():
    good = [comparison(10, 60, effort=e) for e in ("low", "medium")]
    assert decide(good, POLICY, EVIDENCE).outcome == "PASS"
    assert (
        decide([*good, comparison(5, 5, 60, effort="high", base_right=40)], POLICY, EVIDENCE).outcome == "INCONCLUSIVE"
    )


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"tuned_models": ("b@1",)}, "the same model: b@1"),
        ({"tuned_models": ("t@2", "t@3")}, "more than one model: t@2, t@3"),
        ({"asked_digest": "r" * 64}, "belong to question set rrrrrrrrrrrrrrrr, not to qqqqqqqqqqqqqqqq"),
        ({"foreign": ("x1",)}, "not in the question set: x1"),
        ({"effort_mismatches": 3}, "3 replies were made at another effort"),
    ],
)
def test_arms_that_cannot_be_compared_void_the_measurement(evidence, words):
    verdict = decide([GOOD], POLICY, EVIDENCE.model_copy(update=evidence))
    assert (verdict.outcome, verdict.exit_code, verdict.checks) == ("INVALID", 3, ())
    assert words in verdict.reasons[0]


def test_no_questions_and_too_many_missing_void_the_measurement_even_if_the_rest_is_bad():
    assert decide([], POLICY, EVIDENCE).reasons == ("no question was asked",)
    assert decide([comparison(40, 45, missing=20)], POLICY, EVIDENCE).outcome == "PASS"
    verdict = decide([comparison(300, 0, missing=21)], POLICY, EVIDENCE)
    assert verdict.outcome == "INVALID"
    assert "low: 21 of 1021 questions lack a score on either side, more than 2 %" in verdict.reasons[0]


def test_a_base_that_only_guesses_proves_nothing_by_not_being_better():
    """A tuned model that gives the same blind guesses is within any margin, and is not released for it."""
    blind = comparison(30, 30, base_right=255, guess=0.25)
    verdict = decide([blind], POLICY, EVIDENCE)
    assert verdict.outcome == "INCONCLUSIVE"
    assert "base gets 25.5% where blind guessing gets 25.0%" in verdict.reasons[0]
    # A base with next to no right answers is as uninformative, though it beats a chance of 0.
    assert decide([comparison(10, 10, base_right=20)], POLICY, EVIDENCE).outcome == "INCONCLUSIVE"
    assert decide([comparison(20, 60, base_right=20)], POLICY, EVIDENCE).outcome == "PASS"
    assert decide([comparison(20, 4, base_right=20)], POLICY, EVIDENCE).outcome == "FAIL"


def test_every_blind_effort_has_to_show_better_by_itself():
    """All must pass for a PASS, so p = 0.03 is enough at one effort and at three; one that shows nothing holds all."""
    at = [comparison(15, 28, effort=e, base_right=20) for e in ("low", "medium", "high")]
    assert 0.05 / 3 < at[0].better_p < 0.05
    assert decide(at, POLICY, EVIDENCE).outcome == "PASS"
    nothing = comparison(20, 28, effort="high", base_right=20)
    assert nothing.better_p > 0.05
    assert decide([*at[:2], nothing], POLICY, EVIDENCE).outcome == "INCONCLUSIVE"


def test_the_whole_gate_releases_a_model_at_the_margin_no_more_often_than_alpha():
    """Three efforts, one of them worse by exactly the margin: PASS stays rare, and equal models do pass."""
    rng, gates, n = np.random.default_rng(5), 400, 600

    def passes(drops):
        found = []
        for effort, drop in zip(("low", "medium", "high"), drops, strict=True):
            lost, gained, _ = rng.multinomial(n, [(0.1 + drop) / 2, (0.1 - drop) / 2, 0.9])
            found.append(comparison(int(lost), int(gained), n, effort=effort, base_right=400))
        return decide(found, POLICY, EVIDENCE).outcome == "PASS"

    false = sum(passes((0, 0, POLICY.margin)) for _ in range(gates)) / gates
    right = sum(passes((0, 0, 0)) for _ in range(100)) / 100
    assert false <= POLICY.alpha + 3 * sqrt(POLICY.alpha * (1 - POLICY.alpha) / gates)
    assert right > 0.85
