"""Every road to a verdict, from replies that lead there, and how often the whole gate is wrong."""

import re
from functools import cache
from math import sqrt

import numpy as np
import pytest
from evaluation import BASE, TUNED, Some, asked_of, both, built, filed, flipped, question, question_set, reply, several
from scipy.stats import binom

from evalsuite.judging import exact, statistics
from evalsuite.judging.comparison import compare
from evalsuite.judging.gate import Evidence, decide
from evalsuite.judging.policy import Policy, weaker
from evalsuite.replies.answers import EFFORT_MISMATCH, MODEL_MISMATCH, graded
from evalsuite.views import summary
from tune.evaluate import Evaluate

GOOD = {"lost": 40, "gained": 45}
ONE, TWO = "1" * 16, "2" * 16


def judged(n, *efforts, guess=0.0, **policy):
    """The verdict on `n` questions that went as told at each effort, and the figures it rests on."""
    set_ = question_set(n, guess=guess)
    told = [
        {"effort": effort, "base_right": n * 6 // 10} | each
        for effort, each in zip(("low", "medium", "high"), efforts, strict=False)
    ]
    r = built(set_, [answer for each in told for answer in flipped(set_, **each)], **policy)
    by_effort = {c.effort: c for c in r.comparisons}
    for each in told:
        c = by_effort[each["effort"]]
        assert (c.lost, c.gained, c.missing) == (each["lost"], each["gained"], each.get("missing", 0))
    return r.verdict, [by_effort[each["effort"]] for each in told]


@pytest.mark.parametrize(
    ("n", "efforts", "outcome", "code", "words"),
    [
        (1000, [GOOD], "PASS", 0, "within the margin of 5"),
        (1000, [{"lost": 60, "gained": 40}], "PASS", 0, "a real loss, but one that the margin allows"),
        (1000, [{"lost": 120, "gained": 40}], "FAIL", 1, "tuned is worse"),
        (1000, [GOOD, {"lost": 120, "gained": 40}], "FAIL", 1, "medium, right answers"),
        (1000, [GOOD | {"silent": (90, 10)}], "FAIL", 1, "readable answers"),
        (60, [{"lost": 5, "gained": 5, "base_right": 40}], "INCONCLUSIVE", 2, "two equal models would need about"),
        (60, [{"lost": 5, "gained": 5}, {"lost": 20, "gained": 1}], "FAIL", 1, "medium, right answers"),
        (700, [{"lost": 70, "gained": 40, "base_right": 600}], "FAIL", 1, "tuned is worse"),
        (100, [{"lost": 9, "gained": 1}, {"lost": 0, "gained": 0}], "FAIL", 1, "margin 5"),
        (400, [{"lost": 26, "gained": 14}], "INCONCLUSIVE", 2, "the loss seen speaks against tuned"),
        (55, [{"lost": 0, "gained": 0}], "INCONCLUSIVE", 2, "may be as low as"),  # by Tango's bound -4.7
        (100, [{"lost": 3, "gained": 0}], "INCONCLUSIVE", 2, "two equal models would need about"),
        (200, [{"lost": 6, "gained": 0}], "FAIL", 1, "tuned is worse (p = 0.016)"),  # one of two checks, at 0.025
        (200, [{"lost": 6, "gained": 0}] + 2 * [{"lost": 0, "gained": 0}], "INCONCLUSIVE", 2, "one of 6 checks looks"),
        (200, 3 * [{"lost": 30, "gained": 2}], "FAIL", 1, "tuned is worse by more than the margin of 5"),
    ],
)
def test_verdict_code_and_words(n, efforts, outcome, code, words):
    verdict, _ = judged(n, *efforts)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code), verdict.reasons
    assert words in " ".join(verdict.reasons)
    assert len(verdict.checks) == 2 * len(efforts)


def test_one_bad_effort_outweighs_any_number_of_good_ones():
    good = [{"lost": 10, "gained": 60}] * 2
    assert judged(1000, *good)[0].outcome == "PASS"
    assert judged(1000, *good, {"lost": 300, "gained": 280})[0].outcome == "INCONCLUSIVE"


@pytest.mark.parametrize("efforts", [1, 3])
def test_with_the_advised_number_of_questions_the_whole_gate_passes_as_often_as_it_says(efforts):
    """Every effort and both claims, by drawing gates of that many; a fifth fewer are not enough."""
    verdict, _ = judged(100, *[{"lost": 5, "gained": 5}] * efforts)
    [advised] = {
        int(n) for n in re.findall(r"need about (\d+) questions for the whole gate", " ".join(verdict.reasons))
    }
    rng = np.random.default_rng(3)

    def passing(n, reps=4000):
        least = exact.passing(n, 0.05, 0.05)
        flips = [(0.05, 0.05, 0.9), (0.005, 0.005, 0.99)] * efforts
        drawn = [rng.multinomial(n, share, size=reps) for share in flips]
        return np.mean(np.all([gained >= least[lost] for lost, gained, _ in (each.T for each in drawn)], axis=0))

    assert passing(advised) >= 0.8 - 3 * sqrt(0.8 * 0.2 / 4000)
    assert passing(advised * 8 // 10) < 0.8 - 3 * sqrt(0.8 * 0.2 / 4000)


def test_a_verdict_names_the_confidence_that_it_was_made_at():
    for alpha, words in ((0.05, "with 95% confidence"), (0.025, "with 97.5% confidence")):
        assert words in judged(1000, GOOD, alpha=alpha)[0].reasons[0]


TWENTY, MANY = question_set(20), question_set(400)


def failing(errors):
    """All right, but these: the arm, and how many of its replies were that error."""
    told = both(MANY)
    for arm, count, error in errors:
        lost = {q.id for q in MANY.questions[:count]}
        told = [r for r in told if (r.arm, r.question in lost) != (arm, True)]
        told += [reply(q, arm, outcome="error", error=error) for q in MANY.questions[:count]]
    return told


def named(*names, header=None):
    return {"asked": asked_of(TWENTY, *names, header=header or {})}


@pytest.mark.parametrize(
    ("set_", "replies", "more", "words"),
    [
        (TWENTY, [], {}, "no question was asked"),
        (TWENTY, both(TWENTY), named("m", "m"), "the same model: m"),
        (TWENTY, both(TWENTY), named(f"a@{ONE}", f"b@{ONE}"), f"the same checkpoint: {ONE}"),
        (TWENTY, both(TWENTY), named("a", "b", header={"base": TWO * 4, "tuned": TWO * 4}), f"same checkpoint: {TWO}"),
        (
            TWENTY,
            both(TWENTY),
            {"asked": asked_of(MANY)},
            f"belong to question set {MANY.digest[:16]}, not to {TWENTY.digest[:16]}",
        ),
        (TWENTY, both(TWENTY), {"efforts": ["low", "high"]}, "high: 20 of 20 questions lack a score"),
        (TWENTY, [*both(TWENTY)[:20:2], *both(TWENTY)[21::2]], {}, "20 of 20 questions lack"),  # unmet halves
        (MANY, failing([("base", 3, f"{EFFORT_MISMATCH}: asked high")]), {}, "3 replies were made at another effort"),
        (MANY, failing([("base", 2, f"{MODEL_MISMATCH}: x, not y")]), {}, "2 replies came from another model"),
    ],
)  # fmt: skip
def test_arms_that_cannot_be_compared_void_the_measurement(set_, replies, more, words):
    r = built(set_, replies, **more)
    assert (r.verdict.outcome, r.verdict.exit_code, r.verdict.checks) == ("INVALID", 3, ())
    assert words in " ".join(r.verdict.reasons)
    assert summary.markdown(r).startswith("## INVALID")


def test_an_arm_that_two_models_answered_is_void():
    *others, last = filed(both(TWENTY), TWENTY, asked_of(TWENTY))
    r = built(TWENTY, [*others, last.model_copy(update={"model": "other"})])
    assert r.verdict.outcome == "INVALID"
    assert f"the tuned arm was answered by more than one model: other, {TUNED}" in r.verdict.reasons


def test_two_arms_that_always_say_the_same_are_one_model_unless_digests_show_two():
    set_ = question_set(300)
    same = [r.model_copy(update={"text": r.text.replace("tuned", "base")}) for r in both(set_)]
    one, two = ONE * 4, TWO * 4
    for names, header, outcome in (
        (("a", "b"), {}, "INVALID"),
        ((BASE, "b"), {}, "INVALID"),
        ((BASE, f"b@{ONE}"), {}, "INVALID"),  # names alone
        ((BASE, f"b@{ONE}"), {"tuned": one}, "INVALID"),
        (("a", "b"), {"base": one, "tuned": two}, "PASS"),
    ):
        r = built(set_, same, asked_of(set_, *names, header=header))
        assert r.verdict.outcome == outcome
        assert r.evidence.identical
    assert "word for word" in built(set_, same, asked_of(set_, "a", "b")).verdict.reasons[0]
    other = [*same[:-1], same[-1].model_copy(update={"reasoning": "hm"})]
    assert built(set_, other, asked_of(set_, "a", "b")).verdict.outcome == "PASS"


def test_a_verdict_is_held_against_the_recipe_by_its_gate_its_requests_and_its_questions():
    recipe = Evaluate(margin=0.05, alpha=0.05, max_tokens=256, temperature=0, modules=["ast", "csv"])
    made = built(TWENTY, both(TWENTY)).judged.model_copy(update={"modules": ("ast", "csv")})
    assert weaker(made, recipe) == []
    assert weaker(made.model_copy(update={"margin": 0.01, "alpha": 0.01}), recipe) == []
    for change, words in (
        ({"margin": 0.06}, "margin 0.06, and the recipe has 0.05"),
        ({"alpha": 0.1}, "alpha 0.1, and the recipe has 0.05"),
        ({"max_tokens": 8}, "max_tokens 8, and the recipe has 256"),
        ({"max_tokens": 512}, "max_tokens 512, and the recipe has 256"),
        ({"temperature": 1.5}, "temperature 1.5, and the recipe has 0"),
        ({"modules": ("ast", "json")}, "questions about json, and the recipe's modules are ast, csv"),
        ({"modules": ("",)}, "questions about no module, and the recipe's modules are ast, csv"),
        ({"modules": ("csv",)}, "no question about ast, and the recipe's modules are ast, csv"),
        ({"modules": ()}, "no question about ast, csv, and the recipe's modules are ast, csv"),
    ):
        assert weaker(made.model_copy(update=change), recipe) == [words]
    for limits, words in (
        ({"low": 256, "medium": 256, "high": 256}, []),
        (
            {"low": 128, "medium": 256, "high": 1024},
            [f"max_tokens 256 at effort {e}, and the recipe has {n}" for e, n in (("low", 128), ("high", 1024))],
        ),
    ):  # fmt: skip
        asked = recipe.model_copy(update={"max_tokens": limits})
        assert weaker(made, asked) == words
        assert weaker(made.model_copy(update={"max_tokens": limits}), asked) == []
    assert weaker(made, recipe.model_copy(update={"modules": []})) == []
    gains = recipe.model_copy(update={"require_gain": True})
    assert weaker(made, gains) == ["require_gain false, and the recipe has true"]
    assert weaker(made.model_copy(update={"require_gain": True}), gains) == []
    assert weaker(made.model_copy(update={"require_gain": True}), recipe) == []


def test_a_generated_set_is_held_against_the_recipe_by_what_it_was_made_from():
    """For more questions is no less strict; and of a module that had none to give, no set has more."""
    recipe = Evaluate(modules=["csv", "ast"], questions=200, taught=50, open_kinds=["open-default", "open-section"])
    set_ = TWENTY.model_copy(update={"made": recipe.about_questions})
    made = built(set_, both(set_)).judged
    assert (made.questions, made.modules, made.made) == (20, ("ast",), recipe.about_questions)
    assert weaker(made, recipe) == []

    def but(**other):
        return weaker(made.model_copy(update={"made": {**made.made, **other}}), recipe)

    assert but(questions=400, taught=60) == []
    assert but(modules=["ast", "csv", "json"]) == []
    assert but(questions=199) == ["questions 199, and the recipe has 200"]
    assert but(taught=0) == ["taught 0, and the recipe has 50"]
    assert but(seed=1) == ["seed 1, and the recipe has 0"]
    assert but(book="open") == ["book open, and the recipe has both"]
    assert but(open_kinds=["open-default"]) == [
        "open_kinds open-default, and the recipe has open-default, open-section"
    ]
    assert but(answer_rule="x") == [f"answer_rule x, and the recipe has {recipe.answer_rule}"]
    assert but(modules=["ast"]) == ["no question about csv, and the recipe's modules are csv, ast"]
    assert weaker(made.model_copy(update={"made": {"seed": 0}}), Evaluate())[0].startswith("answer_rule none, ")


def test_a_set_made_by_hand_is_held_against_the_number_that_the_recipe_states_and_no_other(tmp_path):
    made = built(TWENTY, both(TWENTY)).judged
    assert weaker(made, Evaluate(taught=50, seed=9, book="open")) == []  # the default of 200 was not written
    assert weaker(made, Evaluate(questions=20)) == []
    says = "20 held-out questions, made by hand, and the recipe has questions = 21"
    assert weaker(made, Evaluate(questions=21)) == [says]
    (tmp_path / "own.csv").write_text("x")
    [other] = weaker(made, Evaluate(questions_file=tmp_path / "own.csv", questions=20, modules=[], efforts=["low"]))[:1]
    assert other.startswith("answer_rule none, and the recipe has ")  # a recipe with a file of its own means that one
    split = several(Some(20, 10), Some(20, 10, split="taught"))
    assert weaker(built(*split).judged, Evaluate(questions=21)) == [says]


def test_another_file_of_ones_own_is_told_by_twelve_characters_of_its_digest(tmp_path):
    (tmp_path / "own.csv").write_text("x")
    judged = built(TWENTY, both(TWENTY)).judged.model_copy(update={"made": {"sha256": "a" * 64}})
    said = weaker(judged, Evaluate(questions_file=tmp_path / "own.csv"))
    assert "sha256 aaaaaaaaaaaa, and the recipe has 2d711642b726" in said


def test_too_many_missing_void_the_measurement_even_if_the_rest_is_bad():
    assert judged(1020, GOOD | {"missing": 20})[0].outcome == "PASS"
    verdict, _ = judged(1021, {"lost": 300, "gained": 0, "missing": 21})
    assert verdict.outcome == "INVALID"
    assert "low: 21 of 1021 questions lack a score on either side, more than 2 %" in verdict.reasons[0]


def test_a_base_that_only_guesses_proves_nothing_by_not_being_better():
    """A tuned model that gives the same blind guesses is within any margin, and is not released for it."""
    verdict, _ = judged(1000, {"lost": 30, "gained": 30, "base_right": 255}, guess=0.25)
    assert verdict.outcome == "INCONCLUSIVE"
    assert "base gets 25.5% where blind guessing gets 25.0%" in verdict.reasons[0]
    # 31 % may be 33 %, and is not shown to be over 30 %.
    verdict, _ = judged(1000, {"lost": 30, "gained": 30, "base_right": 310}, guess=0.25)
    assert verdict.outcome == "INCONCLUSIVE"
    assert judged(1000, {"lost": 30, "gained": 30, "base_right": 330}, guess=0.25)[0].outcome == "PASS"
    # A base with next to no right answers is as uninformative, though it beats a chance of 0.
    few = {"base_right": 20}
    assert judged(1000, {"lost": 10, "gained": 10} | few)[0].outcome == "INCONCLUSIVE"
    assert judged(1000, {"lost": 20, "gained": 60} | few)[0].outcome == "PASS"
    assert judged(1000, {"lost": 20, "gained": 4} | few)[0].outcome == "FAIL"


def test_what_shows_that_base_knows_something_is_the_lower_bound():
    """Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3: 81 of 263 are 25.53 % to 36.62 %."""
    _, [c] = judged(263, {"lost": 0, "gained": 1, "base_right": 81}, alpha=0.025)
    assert c.base_above == pytest.approx(0.2553, abs=5e-5)


def test_what_shows_that_tuned_is_better_is_how_seldom_chance_gains_as_much():
    """Eight of ten flips gained: heads at least eight times of ten, 56 ways of 1024."""
    _, [c] = judged(60, {"lost": 2, "gained": 8})
    assert c.better_p == pytest.approx(56 / 1024)


def test_every_blind_effort_has_to_show_better_by_itself():
    """All must pass for a PASS, so p = 0.03 is enough at one effort and at three; one that shows nothing holds all."""
    seen = {"lost": 15, "gained": 28, "base_right": 20}
    verdict, [c, *_] = judged(1000, seen, seen, seen)
    assert 0.05 / 3 < c.better_p < 0.05
    assert verdict.outcome == "PASS"
    verdict, [*_, nothing] = judged(1000, seen, seen, {"lost": 20, "gained": 28, "base_right": 20})
    assert nothing.better_p > 0.05
    assert verdict.outcome == "INCONCLUSIVE"


def test_whole_gates_release_a_model_at_the_margin_and_fail_an_equal_one_no_more_often_than_alpha():
    """Three efforts and both claims, from replies on; one effort worse by exactly the margin, or none."""
    rng, gates, n, policy = np.random.default_rng(5), 300, 100, Policy(margin=0.1, alpha=0.05)
    two = Evidence(base_models=("b",), tuned_models=("t",), questions_digest="q" * 64, asked_digest="q" * 64)
    set_ = question_set(n)

    @cache
    def answer(i, arm, right, readable):
        return graded(question(i), reply(question(i), arm, "low", right, "answered" if readable else "unparsed"))

    @cache
    def at(lost, gained, quiet, mute):
        right = {"base": range(60), "tuned": range(lost, 60 + gained)}
        silent = {"base": range(n - mute, n), "tuned": range(n - mute - quiet, n - mute)}
        heard = [answer(i, arm, i in right[arm], i not in silent[arm]) for i in range(n) for arm in right]
        return compare("low", set_.questions, {a.key: a for a in heard}, alpha=policy.alpha, margin=policy.margin)

    def outcome(drops):
        found = []
        for drop in drops:
            lost, gained, _ = rng.multinomial(n, [(0.2 + drop) / 2, (0.2 - drop) / 2, 0.8])
            found.append(at(int(lost), int(gained), *(int(x) for x in rng.multinomial(n, [0.05, 0.05, 0.9])[:2])))
        return decide(found, policy, two).outcome

    most = binom.ppf(0.9999, gates, policy.alpha)
    assert sum(outcome((0, 0, policy.margin)) == "PASS" for _ in range(gates)) <= most
    assert sum(outcome((0, 0, 0)) == "FAIL" for _ in range(gates)) <= most


def test_a_check_by_itself_at_alpha_would_fail_equal_models_far_too_often():
    """What Holm is for: six checks of 100 questions, decided one by one, call one of two equal models worse."""
    rng, p = np.random.default_rng(1), []
    for lost, gained, _ in rng.multinomial(100, [0.1, 0.1, 0.8], size=(1000, 6)).reshape(-1, 3):
        p.append(statistics.better(int(gained), int(lost)))
    gates = np.reshape(p, (1000, 6))
    assert np.mean((gates <= 0.05).any(axis=1)) > 0.1
    assert sum(any(statistics.holm(list(gate), 0.05)) for gate in gates) <= binom.ppf(0.9999, 1000, 0.05)
