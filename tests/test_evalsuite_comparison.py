"""Missing replies: whatever they would have been, the bounds hold; and none is dropped in silence."""

import itertools
from collections.abc import Iterator, Sequence

import pytest
from evaluation import both, built, question_set, reply

from evalsuite.judging.comparison import Comparison
from evalsuite.questions import QuestionSet
from evalsuite.replies.answers import Reply


def only(set_: QuestionSet, replies: Sequence[Reply]) -> Comparison:
    return built(set_, replies).comparisons[0]


def completions(set_: QuestionSet, heard: Sequence[Reply]) -> Iterator[list[Reply]]:
    """Every way in which what is missing may have been answered: right, wrong, or not to be read."""
    known = {(r.question, r.arm) for r in heard}
    lacking = [(q, arm) for q in set_.questions for arm in ("base", "tuned") if (q.id, arm) not in known]
    for ways in itertools.product((("answered", True), ("answered", False), ("unparsed", False)), repeat=len(lacking)):
        yield [
            *heard,
            *(reply(q, arm, "low", right, how) for (q, arm), (how, right) in zip(lacking, ways, strict=True)),
        ]


@pytest.mark.parametrize(
    "absent", [[(0, "tuned"), (1, "base")], [(2, "base"), (2, "tuned")], [(3, "base"), (0, "tuned"), (5, "base")]]
)
def test_bounds_hold_whatever_the_missing_replies_would_have_been(absent: list[tuple[int, str]]) -> None:
    set_ = question_set(8, kinds=2, guess=0.1)
    whole = both(set_, lambda arm, i: (arm, i) in {("base", 3), ("tuned", 3), ("tuned", 4), ("base", 5), ("base", 6)})
    heard = [r for r in whole if (int(r.question[1:]), r.arm) not in absent]
    c = only(set_, heard)
    might = [only(set_, each) for each in completions(set_, heard)]
    assert c.missing == len({i for i, _ in absent})
    assert all(m.missing == 0 for m in might)
    for name in ("difference", "answering"):
        assert getattr(c, name).lower == min(getattr(m, name).lower for m in might)
        assert getattr(c, name).upper == max(getattr(m, name).upper for m in might)
        assert getattr(c, name).worse_p == max(getattr(m, name).worse_p for m in might)
    assert c.better_p == max(m.better_p for m in might)
    assert c.base_above == min(m.base_above for m in might)
    assert {m.guess for m in might} == {c.guess}
    for row in range(2):
        assert c.kinds[row].difference.lower == min(m.kinds[row].difference.lower for m in might)
        assert c.kinds[row].difference.upper == max(m.kinds[row].difference.upper for m in might)


def test_an_error_that_cannot_be_heard_is_as_good_as_absent() -> None:
    set_ = question_set(8)
    heard = [r for r in both(set_) if (r.question, r.arm) != ("q0", "tuned")]
    failed = [*heard, reply(set_.questions[0], "tuned", outcome="error")]
    assert only(set_, heard).difference == only(set_, failed).difference


def test_estimates_are_over_what_was_heard() -> None:
    set_ = question_set(100)
    heard = [r for r in both(set_, lambda arm, i: arm == "tuned" and i < 10) if (r.question, r.arm) != ("q99", "tuned")]
    c = only(set_, heard)
    assert (c.paired, c.asked, c.lost) == (99, 100, 10)
    assert c.difference.estimate == pytest.approx(-10 / 99)
    assert c.difference.lower < -10 / 99 < c.difference.upper


def flips(set_: QuestionSet, lost: int, gained: int) -> list[Reply]:
    """The first questions lost, the next gained, all others right."""
    return both(set_, lambda arm, i: i < lost if arm == "tuned" else lost <= i < lost + gained)


@pytest.mark.parametrize("gained", [0, 1])
def test_errors_of_one_arm_are_not_dropped_in_pairs(gained: int) -> None:
    """Four lost of 200 is within five points; four lost and four unheard is not shown to be."""
    set_ = question_set(200)
    whole = flips(set_, 4, gained)
    assert built(set_, whole).verdict.outcome == "PASS"
    heard = [r for r in whole if r.arm == "base" or int(r.question[1:]) < 196]
    verdict = built(set_, [*heard, *(reply(q, "tuned", outcome="error") for q in set_.questions[196:])]).verdict
    assert verdict.outcome == "INCONCLUSIVE"
    assert "points (4 of 200 are missing and count at their worst)" in verdict.reasons[0]


def test_no_fail_rests_on_what_was_not_heard() -> None:
    """Six lost of 300 is worse by more than it may be; one lost and five unheard is not shown to be worse at all."""
    set_ = question_set(300)
    whole = flips(set_, 6, 0)
    assert built(set_, whole, margin=0.03).verdict.outcome == "FAIL"
    heard = [r for r in whole if r.arm == "base" or int(r.question[1:]) not in range(5)]
    assert built(set_, heard, margin=0.03).verdict.outcome == "INCONCLUSIVE"


def test_a_base_that_was_not_heard_is_not_shown_to_know_anything() -> None:
    set_ = question_set(100, guess=0.25)
    right = both(set_, lambda _, i: i >= 42)
    c = only(set_, right)
    assert c.base_above > 0.33
    heard = only(set_, [r for r in right if (r.arm, r.question) not in {("base", "q0"), ("base", "q1")}])
    assert heard.base_above < c.base_above
    assert heard.guess == 0.25


def test_a_kind_of_which_nothing_is_paired_is_still_shown() -> None:
    set_ = question_set(8, kinds=2)
    c = only(set_, [r for r in both(set_) if int(r.question[1:]) % 2 == 0])
    assert [(k.kind, k.asked, k.paired, k.base) for k in c.kinds] == [("kind0", 4, 4, 1.0), ("kind1", 4, 0, None)]
    assert (c.kinds[1].difference.lower, c.kinds[1].difference.upper) == (-1, 1)
