"""The check against forgetting: general questions apart, by a margin of their own, in gate, plan and views."""

from xml.etree import ElementTree

import pytest
from evaluation import Some, asked_of, built, evaluated, filed, several
from test_evalsuite_html import text_of

from evalsuite import report
from evalsuite.judging import power
from evalsuite.judging.gate import worst
from evalsuite.judging.policy import Policy, weaker
from evalsuite.packs.general import FAMILIES
from evalsuite.plan import plan, words
from evalsuite.report import Report
from evalsuite.views import html, summary
from tune.evaluate import Evaluate

HELD = Some(600, 400, 8, 8)
SUMS = {"kind": "general-arithmetic", "split": "general"}
JSON = {"kind": "general-json", "split": "general"}


def judged(*some: Some, efforts=("low",), **more) -> Report:
    return built(*several(*some, efforts=efforts), **more)


def forgetting(r: Report):
    return [c for c in r.verdict.checks if c.name == "forgetting"]


def test_a_model_that_forgot_arithmetic_fails_though_held_out_questions_are_fine():
    r = judged(HELD, Some(300, 280, 90, 0, **SUMS), Some(300, 280, **JSON))
    assert (r.verdict.outcome, r.verdict.exit_code) == ("FAIL", 1)
    assert [(c.name, c.outcome) for c in r.verdict.checks] == [
        ("accuracy", "PASS"), ("answering", "PASS"), ("forgetting", "FAIL"),
    ]  # fmt: skip
    assert "low, right answers to general questions: -15.0 points, and with 95% confidence no higher" in "".join(
        r.verdict.reasons
    )


def test_an_equal_one_passes_and_a_gain_in_one_split_hides_no_loss_in_the_other():
    equal = judged(HELD, Some(600, 560, 5, 5, **SUMS), efforts=("low", "high"))
    assert equal.verdict.outcome == "PASS"
    assert [c.effort for c in forgetting(equal)] == ["low", "high"]
    won, lost = {"n": 600, "base_right": 300, "gained": 250}, {"n": 600, "base_right": 550, "lost": 120}
    assert judged(Some(**won), Some(**lost, **SUMS)).verdict.outcome == "FAIL"
    r = judged(Some(**lost), Some(**won, **SUMS))
    assert r.verdict.outcome == "FAIL"
    assert forgetting(r)[0].outcome == "PASS"
    assert r.modules == ("held-out",)
    assert [(c.split, c.asked) for c in r.comparisons] == [("held-out", 600), ("general", 600)]


def test_too_few_to_tell_is_inconclusive_and_says_how_many_general_ones_would_do():
    r = judged(Some(1000, 900, 5, 5), Some(40, 35, 2, 2, **SUMS))
    assert r.verdict.outcome == "INCONCLUSIVE"
    [reason] = r.verdict.reasons
    assert "two equal models would need about" in reason
    assert reason.endswith("general questions for the whole gate to pass 80% of the time, not 40")
    short = judged(Some(40, 35, 2, 2), Some(1000, 900, 5, 5, **SUMS))
    assert all("general" not in reason and reason.endswith("not 40") for reason in short.verdict.reasons)


def test_its_margin_is_its_own():
    held, lost = HELD, Some(1000, 900, 55, 10, **SUMS)  # 4.5 points, for sure within 8
    for margin, outcome in ((0.05, "FAIL"), (0.08, "PASS")):
        r = judged(held, lost, forgetting_margin=margin)
        assert forgetting(r)[0].outcome == outcome
        assert r.policy.margin == 0.05
    r = judged(Some(1000, 900, 55, 10), Some(600, 400, 8, 8, **SUMS), forgetting_margin=0.08)
    assert {c.name: c.outcome for c in r.verdict.checks} == {
        "accuracy": "FAIL", "answering": "PASS", "forgetting": "PASS",
    }  # fmt: skip


def test_kinds_at_which_base_only_guesses_are_left_out_as_they_are_of_held_out_ones():
    r = judged(HELD, Some(500, 480, **SUMS), Some(300, 150, 75, 75, "general-refusal", "general", 0.5))
    [check] = forgetting(r)
    assert (check.outcome, r.verdict.outcome) == ("PASS", "PASS")
    left = "without general-refusal (base is not shown to do more than guess there), 500 of 800 questions: 0.0 points"
    assert f"right answers to general questions {left}" in check.reason
    assert check.reason.endswith("; over all 800 questions 0.0 points")
    knows_nothing = judged(HELD, Some(300, 0, **SUMS))
    assert forgetting(knows_nothing)[0].outcome == "INCONCLUSIVE"
    assert "so a model that knows nothing would be within the margin of 5" in forgetting(knows_nothing)[0].reason


def test_the_page_shows_percentages_and_points_of_the_same_questions():
    r = judged(HELD, Some(500, 480, 5, 10, **SUMS), Some(300, 150, 75, 0, "general-refusal", "general", 0.5))
    text = text_of(r)
    assert "500 of 800: without general-refusal, where base is not shown to do more than guess; over all −8.8" in text
    assert "96.0 % → 97.0 % +1.0" in text


def test_it_is_one_more_finding_under_holm():
    """Eight lost and one gained are shown at p = 0.0195: enough among two checks, not among three."""
    few = Some(200, 150, 8, 1)
    assert judged(few).verdict.outcome == "FAIL"
    r = judged(few, Some(600, 560, **SUMS))
    assert r.verdict.outcome == "INCONCLUSIVE"
    assert "one of 3 checks looks as bad as this" in r.verdict.reasons[0]


def test_missing_general_replies_void_the_measurement():
    set_, told = several(HELD, Some(100, 90, **SUMS))
    general = {q.id for q in set_.questions if q.split == "general"}
    for lost, outcome in ((2, "PASS"), (3, "INVALID")):
        gone = sorted(general)[:lost]
        r = built(set_, [a for a in told if a.arm == "base" or a.question not in gone])
        assert (r.verdict.outcome == "INVALID") is (outcome == "INVALID"), r.verdict.reasons
    assert r.verdict.reasons[0].startswith("general, low: 3 of 100 questions lack a score on either side")


def test_general_questions_alone_show_nothing():
    assert "no held-out question was asked" in judged(Some(600, 560, **SUMS)).verdict.reasons[0]


def test_the_worst_case_looks_at_them_too_and_not_at_taught_ones():
    r = judged(HELD, Some(300, 280, 60, 0, **SUMS), Some(300, 280, 200, 0, split="taught"))
    claim = worst(r.comparisons, r.policy)
    assert claim is not None
    assert (claim.name, claim.words) == ("forgetting", "right answers to general questions")
    assert "lower bound of right answers to general questions at low" in text_of(r)


def test_a_recipe_holds_a_verdict_to_its_general_questions():
    recipe = Evaluate(modules=["held-out"], general=120, forgetting_margin=0.03)
    set_, told = several(HELD, Some(120, 110, **SUMS))
    set_ = set_.model_copy(update={"made": recipe.about_questions})
    made = built(set_, told, forgetting_margin=0.03).judged
    assert weaker(made, recipe) == []
    assert weaker(made.model_copy(update={"forgetting_margin": 0.01}), recipe) == []
    assert weaker(built(set_, told).judged, recipe) == ["forgetting_margin 0.05, and the recipe has 0.03"]

    def but(**other):
        return weaker(made.model_copy(update={"made": {**made.made, **other}}), recipe)

    assert made.general == 120
    assert but(general=5000) == but(general=119) == []  # what was wanted is not what there is
    assert weaker(made.model_copy(update={"general": 240}), recipe) == []
    for there in (119, 0):
        says = f"general {there}, and the recipe has 120"
        assert weaker(made.model_copy(update={"general": there}), recipe) == [says]
    assert weaker(made, recipe.model_copy(update={"general": 0})) == []
    by_hand = built(*several(HELD, Some(20, 18, **SUMS))).judged
    assert weaker(by_hand, Evaluate(general=20)) == []
    assert weaker(by_hand, Evaluate(general=21)) == [
        "20 general questions, made by hand, and the recipe has general = 21"
    ]


def test_a_report_is_judged_again_by_its_own_margin_and_without_one_is_what_it_was(tmp_path):
    set_, told = several(HELD, Some(1000, 900, 55, 10, **SUMS))
    made = evaluated(tmp_path / "report.json", set_, told, forgetting_margin=0.08)
    again = report.read(tmp_path / "report.json")
    assert again.verdict == made.verdict
    assert again.policy.forgetting_margin == 0.08
    assert "forgetting_margin" not in judged(HELD).model_dump(mode="json")["policy"]


def test_a_plan_counts_their_requests_and_their_check():
    asked = Evaluate(questions=400, taught=10, general=200, efforts=["low"], max_tokens=100)
    made, without = plan(asked), plan(asked.model_copy(update={"general": 0}))
    assert (made.requests, made.tokens) == (2 * 610, 2 * 610 * 100)
    modules = sum(map(len, FAMILIES.values()))  # each template is one
    for row, less in zip(made.rows, without.rows, strict=True):
        assert row.power == pytest.approx(less.power * power.one(200, row.flips, 0.05, 0.05, modules))
        assert row.needed > less.needed
    few = made.rows[0].needed
    assert plan(asked.model_copy(update={"questions": few, "general": few})).rows[0].power >= 0.8
    assert plan(asked.model_copy(update={"forgetting_margin": 0.1})).rows[1].power > made.rows[1].power
    assert "400 held-out questions, 200 general and 10 taught ones" in words(made)
    assert "pass all 3 checks" in words(made)
    assert "general" not in words(without)


def test_the_gate_counts_them_among_what_it_advises_for():
    r = judged(Some(100, 90, 5, 5), Some(100, 90, 5, 5, **SUMS))
    seen = power.seen(r.comparisons)
    assert [c.split for c in seen] == ["held-out", "held-out", "general"]
    assert power.needed(seen, r.policy) > power.needed(seen, Policy(forgetting_margin=0.2))


def test_views_show_them_apart():
    r = judged(HELD, Some(300, 280, 90, 0, **SUMS), Some(60, 40, split="taught"), efforts=("low", "high"))
    page = text_of(r)
    assert "Has tuned forgotten? The same of general questions" in page
    assert "By kind of question, general" in page
    assert "By kind of question, taught" in page
    assert "general, low" in page
    held_out, _, rest = page.partition("Has tuned forgotten?")
    assert "general-arithmetic" not in held_out
    assert rest.count("93.3 % → 63.3 %") >= 2
    text = summary.markdown(r)
    first, _, second = text.partition("General questions, with a margin of 5 points:\n\n")
    assert "| low | 66.7% | 66.7% |" in first.partition("Held-out questions:")[2]
    assert "93.3%" not in first
    assert second.splitlines()[2].startswith("| low | 93.3% | 63.3% |")
    tree = ElementTree.fromstring(summary.junit(r))
    cases = {(c.get("classname"), c.get("name")): c for c in tree.findall("testcase")}
    failure = cases["evalsuite.high", "forgetting"].find("failure")
    assert failure is not None
    assert failure.text is not None
    assert failure.text.startswith("-30.0 (")
    without = judged(HELD)
    assert "forgotten" not in html.render(without)
    assert "General" not in summary.markdown(without)


def test_a_card_shows_them_under_their_own_words():
    from tune.hub.card import SPLITS

    assert dict(SPLITS)["general"].startswith("General questions")


def test_replies_to_them_are_filed_like_any():
    set_, told = several(HELD, Some(10, 9, **SUMS))
    assert len(filed(told, set_, asked_of(set_))) == 2 * 610
