"""Every road to a verdict, from replies that lead there, and how often the whole gate is wrong."""

from functools import cache
from math import sqrt

import numpy as np
import pytest
from evaluation import question, reply

from evalsuite.judging.comparison import compare
from evalsuite.judging.gate import Evidence, Judged, Policy, decide, weaker
from evalsuite.replies.answers import graded
from tune.recipe import Evaluate

POLICY = Policy(margin=0.05, alpha=0.05)
EVIDENCE = Evidence(base_models=("b@1",), tuned_models=("t@2",), questions_digest="q" * 64, asked_digest="q" * 64)

asked = cache(question)


@cache
def answer(i, arm, effort, right, outcome):
    return graded(question(i), reply(question(i), arm, effort, right, outcome))


def comparison(lost, gained, n=1000, *, effort="low", base_right=600, silent=(0, 0), guess=0.0, missing=0):
    """`lost` and `gained` of `n` questions, and `missing` more that neither side replied to.

    `silent`: of those that both got wrong, how many cannot be read from tuned, and from base.
    """
    heard = {}
    quiet = base_right + gained  # from here on both are wrong
    for i in range(n):
        b = (i < base_right, "unparsed" if quiet + silent[0] <= i < quiet + sum(silent) else "answered")
        t = (lost <= i < quiet, "unparsed" if quiet <= i < quiet + silent[0] else "answered")
        for arm, (right, outcome) in (("base", b), ("tuned", t)):
            heard[f"q{i}", arm, effort] = answer(i, arm, effort, right, outcome)
    made = compare(effort, [asked(i, guess=guess) for i in range(n + missing)], heard, POLICY.alpha)
    assert (made.lost, made.gained, made.missing) == (lost, gained, missing)
    return made


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
        ({"effort_mismatches": 3}, "3 replies were made at another effort"),
        ({"model_mismatches": 2}, "2 replies came from another model"),
        ({"base_digest": "d" * 16, "tuned_digest": "d" * 16}, "the same checkpoint: dddddddddddddddd"),
        ({"identical": True}, "word for word"),
        ({"identical": True, "base_digest": "d" * 16}, "word for word"),
        ({"identical": True, "base_digest": "d" * 16, "tuned_digest": "e" * 16}, "word for word"),
        ({"base_digest": "d" * 16, "tuned_digest": "d" * 16, "two_headers": True}, "the same checkpoint"),
    ],
)
def test_arms_that_cannot_be_compared_void_the_measurement(evidence, words):
    verdict = decide([GOOD], POLICY, EVIDENCE.model_copy(update=evidence))
    assert (verdict.outcome, verdict.exit_code, verdict.checks) == ("INVALID", 3, ())
    assert words in verdict.reasons[0]


def test_two_digests_that_servers_send_show_two_models_even_if_they_say_the_same():
    digests = {"base_digest": "d" * 16, "tuned_digest": "e" * 16, "two_headers": True}
    two = EVIDENCE.model_copy(update={"identical": True, **digests})
    assert decide([GOOD], POLICY, two).outcome == "PASS"


def test_a_verdict_is_held_against_the_recipe_by_its_gate_its_requests_and_its_questions():
    recipe = Evaluate(margin=0.05, alpha=0.05, max_tokens=256, temperature=0, modules=["ast", "csv"])
    judged = Judged(efforts=("low",), margin=0.05, alpha=0.05, max_tokens=256, temperature=0, modules=("ast",))
    assert weaker(judged, recipe) == []
    assert weaker(judged.model_copy(update={"margin": 0.01, "alpha": 0.01}), recipe) == []
    for change, words in (
        ({"margin": 0.06}, "margin 0.06, and the recipe has 0.05"),
        ({"alpha": 0.1}, "alpha 0.1, and the recipe has 0.05"),
        ({"max_tokens": 8}, "max_tokens 8, and the recipe has 256"),
        ({"max_tokens": 512}, "max_tokens 512, and the recipe has 256"),
        ({"temperature": 1.5}, "temperature 1.5, and the recipe has 0"),
        ({"modules": ("ast", "json")}, "questions about json, and the recipe's modules are ast, csv"),
        ({"modules": ("",)}, "questions about no module, and the recipe's modules are ast, csv"),
    ):
        assert weaker(judged.model_copy(update=change), recipe) == [words]
    assert weaker(judged, recipe.model_copy(update={"modules": []})) == []


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

    @cache
    def at(lost, gained):
        return comparison(lost, gained, n, base_right=400)

    def passes(drops):
        found = []
        for effort, drop in zip(("low", "medium", "high"), drops, strict=True):
            lost, gained, _ = rng.multinomial(n, [(0.1 + drop) / 2, (0.1 - drop) / 2, 0.9])
            found.append(at(int(lost), int(gained)).model_copy(update={"effort": effort}))
        return decide(found, POLICY, EVIDENCE).outcome == "PASS"

    false = sum(passes((0, 0, POLICY.margin)) for _ in range(gates)) / gates
    right = sum(passes((0, 0, 0)) for _ in range(100)) / 100
    assert false <= POLICY.alpha + 3 * sqrt(POLICY.alpha * (1 - POLICY.alpha) / gates)
    assert right > 0.85
