"""Kinds at which base only guesses: named, left out of the claim about right answers, no place to hide a loss in."""

import pytest
from evaluation import Some, built, several
from test_evalsuite_html import text_of

from evalsuite.report import Report
from evalsuite.views import summary

CAN = {"kind": "can", "guess": 0.25}
GUESSED = {"kind": "guessed", "guess": 0.25}
LEFT_OUT = "right answers without guessed (base is not shown to do more than guess there)"


def judged(*some: Some, **more: object) -> Report:
    return built(*several(*some), **more)


def outcomes(r: Report) -> dict[str, str]:
    return {check.name: check.outcome for check in r.verdict.checks}


def test_what_base_only_guesses_at_is_named_and_decides_nothing_about_right_answers():
    """Blind guesses that come out otherwise are no loss: 44 of 900 would be, if they counted."""
    some = [Some(600, 400, 8, 8, **CAN), Some(300, 75, 60, 16, **GUESSED)]
    r = judged(*some)
    [c] = r.comparisons
    assert [(row.kind, row.only_guesses, row.guess) for row in c.kinds] == [
        ("can", False, 0.25),
        ("guessed", True, 0.25),
    ]
    assert c.known is not None
    assert (c.known.asked, c.known.lost, c.known.gained) == (600, 8, 8)
    assert c.difference.lower < -r.policy.margin < c.known.difference.lower
    assert r.verdict.outcome == "PASS"
    assert LEFT_OUT in r.verdict.reasons[0]
    assert c.claims[0].difference == c.known.difference


def test_the_other_kinds_do_not_dilute_a_loss():
    """20 of 200 that base knew are lost: 2 points of all questions, 10 of those that show anything."""
    r = judged(Some(200, 190, 20, 0, **CAN), Some(800, 200, 0, 0, **GUESSED))
    [c] = r.comparisons
    assert c.difference.lower > -r.policy.margin
    assert r.verdict.outcome == "FAIL"
    assert LEFT_OUT in r.verdict.reasons[0]


def test_answers_that_cannot_be_read_count_in_every_kind():
    r = judged(Some(600, 400, **CAN), Some(300, 75, silent=120, **GUESSED))
    assert outcomes(r) == {"accuracy": "PASS", "answering": "FAIL"}
    assert "readable answers: -13.3 points" in r.verdict.reasons[0]


def test_a_loss_of_more_than_the_margin_over_all_fails_wherever_it_is():
    r = judged(Some(600, 400, 8, 8, **CAN), Some(300, 80, 80, 0, **GUESSED))
    assert outcomes(r)["accuracy"] == "FAIL"
    assert "tuned is worse by more than the margin of 5" in r.verdict.reasons[0]


def test_kinds_that_were_kept_for_base_s_luck_fail_nobody_by_themselves():
    """Ten points less where base was shown to know, as many more where it was not: no release, and no FAIL."""
    r = judged(Some(200, 100, 20, 0, **CAN), Some(200, 50, 0, 25, **GUESSED))
    [c] = r.comparisons
    assert c.known is not None
    assert c.known.difference.upper < 0 < c.difference.upper
    assert outcomes(r)["accuracy"] == "INCONCLUSIVE"
    assert (
        "over all 400 questions +1.2 points, and, for these were not chosen by what base got right"
        in r.verdict.reasons[0]
    )


@pytest.mark.parametrize(("gained", "outcome"), [(4, "INCONCLUSIVE"), (40, "PASS")])
def test_where_no_kind_is_left_tuned_has_to_be_better_over_all(gained, outcome):
    r = judged(Some(300, 80, 4, gained, **GUESSED), Some(300, 80, 0, 0, kind="other", guess=0.25))
    [c] = r.comparisons
    assert c.known is None
    assert c.claims[0].difference == c.difference
    assert r.verdict.outcome == outcome
    assert "so a model that knows nothing would be within the margin of 5" in r.verdict.reasons[0]


def test_kinds_too_small_to_show_that_base_knows_them_are_said_to_be_just_that():
    r = judged(*(Some(5, 3, kind=f"kind{i:02}", guess=0.25) for i in range(40)))
    [c] = r.comparisons
    assert c.base_above > c.guess + r.policy.margin
    assert c.known is None
    assert r.verdict.outcome == "INCONCLUSIVE"
    assert "but of no kind of question is it shown to beat guessing" in r.verdict.reasons[0]
    assert "ask more questions of a kind" in r.verdict.reasons[0]


def test_one_kind_is_claimed_whole_or_not_at_all():
    for right, kept in ((330, True), (310, False)):
        [c] = judged(Some(1000, right, 10, 10, **CAN)).comparisons
        assert (c.known == c.whole) == kept
        assert (c.known is None) != kept


def test_guessed_kinds_are_named_in_the_summary_and_on_the_page():
    r = judged(Some(600, 400, 8, 8, **CAN), Some(300, 75, 20, 16, **GUESSED))
    named = (
        "- low: base is not shown to do more than guess, left out of the claim in right answers, which is on "
        "600 of 900 questions: guessed (25.0% of 300, blind guessing 25.0%)"
    )
    assert named in summary.markdown(r)
    text = text_of(r)
    assert "At low, base is not shown to do more than guess at guessed: right answers are claimed without it" in text
    assert "it, on 600 of 900 questions; over all of them tuned is at −0.4 points (" in text
    assert "right answers600 of 900" in text
    assert "guessed 25.0 % → 23.7 %300 asked, −1.3base not shown to do more than guess (25.0 %)" in text
    plain = judged(Some(600, 400, 8, 8, **CAN))
    assert "more than guess" not in summary.markdown(plain)
    assert "more than guess (" not in text_of(plain)
