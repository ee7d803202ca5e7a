"""What a model gets right that reads no question, and that neither a gain nor a base's knowledge is made of it."""

from fractions import Fraction
from itertools import product
from math import prod

import pytest
from evaluation import Some, built, question, several
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.judging import blind


def exact(right: int, chances: list[Fraction]) -> Fraction:
    """Every way to get at least `right` of them, added up."""
    ways = (w for w in product((False, True), repeat=len(chances)) if sum(w) >= right)
    return sum(prod(c if hit else 1 - c for hit, c in zip(w, chances, strict=True)) for w in ways)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*map(Fraction, ("0", "1/4", "1/3", "1/2", "1"))]), max_size=7))
def test_the_p_value_is_that_of_all_ways_to_guess(chances):
    for right in range(len(chances) + 1):
        assert blind.p_value(right, map(float, chances)) == pytest.approx(float(exact(right, chances)), abs=1e-12)
        less = 1 - exact(right + 1, chances)
        assert blind.below_p(right, map(float, chances)) == pytest.approx(float(less), abs=1e-12)


def test_equal_chances_are_the_binomial():
    from scipy.stats import binom

    assert blind.p_value(35, [0.25] * 100) == pytest.approx(binom.sf(34, 100, 0.25), rel=1e-9)
    assert blind.p_value(1600, [0.25] * 1600) >= 0.0


def test_a_chance_is_the_better_of_a_pick_and_of_the_commonest_reply():
    asked = [
        question(0, "value", answer="None"),
        question(1, "value", answer="None", guess=0.7),
        question(2, "value", answer="None"),
        question(3, "value", answer="7"),
        question(4, "name", answer="a"),
        question(5, "name", answer="b", guess=0.5),
    ]
    assert blind.chances(asked) == pytest.approx([2 / 3, 0.7, 2 / 3, 2 / 3, 0, 0.5])


def test_an_answer_is_counted_by_what_it_means_to_its_grader():
    """Half of them spelled otherwise, one reply is still right at all."""
    asked = [question(k, grader="yesno", answer="yes" if k % 2 else "Yes") for k in range(10)]
    assert blind.chances([*asked, question(10, grader="yesno", answer="no")]) == pytest.approx([0.9] * 11)
    asked = [question(k, grader="literal", answer="8443" if k % 2 else "0x20fb") for k in range(10)]
    assert blind.chances([*asked, question(10, grader="literal", answer="1")]) == pytest.approx([0.9] * 11)


def test_a_kind_with_one_answer_is_not_known_by_its_kind():
    """To know that a question is of the kind "silent" would be to know its answer."""
    asked = [question(k, "silent", answer="not stated") for k in range(5)]
    asked += [question(k + 5, "value") for k in range(20)]
    assert blind.chances(asked) == pytest.approx([4 / 24] * 5 + [0] * 20)
    assert blind.chances([question(0)]) == [0]
    assert blind.chances([]) == []


GUESSABLE = {"kind": "open-parameter", "guess": 0.4}


@pytest.mark.parametrize(("right", "outcome"), [(44, "INCONCLUSIVE"), (62, "PASS")])
def test_a_base_that_says_nothing_is_not_enough_to_be_better_than(right, outcome):
    """What one learns who is taught wrong answers: that it is one of the names. Better than base, and no gain."""
    r = built(*several(Some(100, 1, 0, right - 1, **GUESSABLE)), require_gain=True)
    [c] = r.comparisons
    assert c.better_p < 1e-9
    assert {check.name: check.outcome for check in r.verdict.checks} == {
        "accuracy": outcome, "answering": "PASS", "gain": outcome
    }  # fmt: skip
    assert r.verdict.outcome == outcome
    said = "not shown to do more than guess (44.0%, p = 0.24)" if right == 44 else "to do more than guess (62.0%"
    assert any(said in reason for reason in r.verdict.reasons), r.verdict.reasons
    assert any("62.0% right where blind guessing gets 40.0%" in reason for reason in r.verdict.reasons) == (right == 62)


def test_a_gain_is_refuted_by_less_than_guessing_gets():
    """Base says nothing and is no yardstick; what learned wrong answers is far below guessing: a no, and not a
    question of how many are asked."""
    r = built(*several(Some(200, 1, 0, 14, **GUESSABLE)), require_gain=True)
    [c] = r.comparisons
    assert (c.better_p < 1e-4, c.below_p < 1e-20, c.open_book.below_p == c.below_p) == (True, True, True)
    assert {check.name: check.outcome for check in r.verdict.checks} == {
        "accuracy": "FAIL", "answering": "PASS", "gain": "FAIL"
    }  # fmt: skip
    assert r.verdict.outcome == "FAIL"
    assert "and tuned is shown to do less than guess (7.5%, p = 1" in r.verdict.reasons[0]
    assert r.verdict.reasons[1].endswith("shown to be worse than blind guessing where it had to be better")
    assert built(*several(Some(200, 1, 0, 14, **GUESSABLE))).verdict.outcome == "INCONCLUSIVE"


@pytest.mark.parametrize(("right", "outcome"), [(62, "FAIL"), (64, "INCONCLUSIVE")])
def test_a_gain_is_refuted_by_twice_the_smaller_p(right, outcome):
    """Of 200 at 0.4 P(X <= 62) is 0.005 and P(X <= 64) 0.012: Holm's first of three checks is held to 0.0167."""
    r = built(*several(Some(200, 0, 0, right, **GUESSABLE)), require_gain=True)
    assert r.verdict.outcome == outcome
    assert 0.005 < r.comparisons[0].below_p < 0.0167


def test_what_did_not_come_refutes_no_gain():
    set_, told = several(Some(200, 1, 0, 50, **GUESSABLE))
    assert built(set_, told, require_gain=True).verdict.outcome == "FAIL"
    heard = [t for t in told if t.arm == "base" or not 60 <= int(t.question[1:]) < 80]
    [c] = built(set_, heard, require_gain=True).comparisons
    assert c.below_p == pytest.approx(blind.below_p(71, [0.4] * 200))


def test_a_gain_on_taught_questions_is_not_refuted_by_reading_worse_than_guessing():
    """Where base knows nothing of the held-out ones either, reading is what tuned has to do all the same."""
    taught, nothing = {"kind": "open-default", "split": "taught"}, Some(200, 1, 0, 14, **GUESSABLE)
    r = built(*several(nothing, Some(200, 60, 5, 40, **taught)), require_gain=True)
    assert {c.name: c.outcome for c in r.verdict.checks} == {"accuracy": "FAIL", "answering": "PASS", "gain": "PASS"}
    r = built(*several(nothing, Some(10, 1, 0, 1, guess=0.4, **taught)), require_gain=True)
    assert {c.name: c.outcome for c in r.verdict.checks}["gain"] == "INCONCLUSIVE"
    assert r.verdict.outcome == "FAIL"
    r = built(*several(nothing, Some(600, 400, 8, 8), Some(200, 60, 5, 40, **taught)), require_gain=True)
    assert r.verdict.outcome == "PASS"  # what it does worse than guessing base does too, and it is no claim


def test_a_base_that_gives_one_reply_to_all_knows_nothing():
    """A tenth of the answers is None, and base says nothing else: being as good shows nothing of tuned."""
    set_, told = several(Some(400, 48), Some(400, 352))
    made = [q.model_copy(update={"answer": "None"}) if i < 48 else q for i, q in enumerate(set_.questions[:400])]
    some = set_.model_copy(update={"questions": tuple(made)})
    ids = {q.id for q in made}
    replies = [
        r.model_copy(update={"text": f"{r.arm} says\nANSWER: None"}) if int(r.question[1:]) < 48 else r
        for r in told
        if r.question in ids
    ]
    [c] = built(some, replies).comparisons
    assert c.base.accuracy == 0.12
    assert c.guess == pytest.approx(47 / 399)
    assert c.known is None
