"""What no answer can change any more (judging/reach.py): a gate that is out of reach passes under no completion."""

import itertools
import random

import pytest
from evaluation import ARMS, TUNED, asked_of, built, question, reply
from hypothesis import event, given, settings
from hypothesis import strategies as st

from evalsuite import report
from evalsuite.judging import clusters, comparison, exact, reach
from evalsuite.judging.policy import Policy
from evalsuite.questions import QuestionSet
from evalsuite.replies import answers, request
from evalsuite.replies.request import Sampling
from tune.evaluate import Gated

SAID = {
    "right": (True, "answered"),
    "wrong": (False, "answered"),
    "mute": (False, "unparsed"),
    "none": (False, "error"),
}
BEST = {"base": "mute", "tuned": "right"}


def set_of(rows):
    """A question each of (kind, module, split, guess)."""
    made = tuple(
        question(i, kind, module=module, split=split, guess=guess)
        for i, (kind, module, split, guess) in enumerate(rows)
    )
    return QuestionSet(name="docs", python="3.11.7", questions=made)


def replies(set_, told, repeats=1):
    """`told`: what each arm said to each question at each effort, by (i, arm, effort, repeat); those that did."""
    return [
        reply(set_.questions[i], arm, effort, SAID[what][0], SAID[what][1], repeat=n, reasoning_tokens=10)
        for (i, arm, effort, n), what in told.items()
        if what
    ]


def asking(set_, repeats=1, early=True):
    known = asked_of(set_)
    sampling = Sampling(max_tokens=256, temperature=1.0 if repeats > 1 else 0.0, seed=0, repeats=repeats)
    return known.model_copy(update={"stop_early": early, "sampling": sampling})


def judged(set_, told, efforts, repeats=1, **policy):
    asked = asking(set_, repeats)
    known = {q.id: q for q in set_.questions}
    filed = []
    for r in replies(set_, told):
        server = asked.servers[r.arm]
        body = request.body(known[r.question], server.model, r.effort, asked.sampling, True, r.repeat)
        ours = {"model": server.model, "server": server.id, "request": request.digest(body)}
        filed.append(answers.graded(known[r.question], r.model_copy(update=ours)))
    return report.build(set_, filed, asked=asked, created="2026-11-27", policy=Policy(**policy), efforts=efforts)


def keys(set_, efforts, repeats=1):
    return [(i, arm, e, n) for i in range(len(set_.questions)) for e in efforts for n in range(repeats) for arm in ARMS]


@st.composite
def runs(draw, most):
    """A question set, what was said of it so far, and a policy under which few questions can pass."""
    n = draw(st.integers(2, most))
    kinds, modules = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    gain = draw(st.booleans())
    splits = ["held-out", *(["taught"] if gain else []), *(["general"] if draw(st.booleans()) else [])]
    rows = [
        (
            f"{draw(st.sampled_from(['open-', '']))}{draw(st.integers(1, kinds))}",
            f"m{draw(st.integers(1, modules))}",
            "held-out" if i == 0 else draw(st.sampled_from(splits)),
            draw(st.sampled_from([0.0, 0.0, 0.5])),
        )
        for i in range(n)
    ]
    set_ = set_of(rows)
    limit = draw(st.sampled_from([None, None, 0.3, 0.6]))
    policy = {
        "margin": draw(st.sampled_from([0.1, 0.3, 0.5])),
        "forgetting_margin": draw(st.sampled_from([0.2, 0.5])),
        "alpha": 0.3,  # one, so that bounds are worked out once
        "require_gain": gain and (any(row[2] == "taught" or row[0].startswith("open-") for row in rows)),
        "missing_cap": 0.5,
        "limits": Gated(steering=False, unparsed=limit),
    }
    return set_, policy


def completed(set_, told, left, said):
    return told | dict(zip(left, said, strict=True))


@settings(max_examples=25, deadline=None)
@given(runs(5), st.data())
def test_out_of_reach_means_that_no_completion_passes_all_of_them_tried(run, data):
    set_, policy = run
    every = keys(set_, ["low"])
    left = sorted(data.draw(st.sets(st.sampled_from(every), min_size=1, max_size=2)))
    arm = {"base": ["right", "right", "wrong", "mute"], "tuned": ["right", "wrong", "mute", "wrong"]}
    told = {key: None if key in left else data.draw(st.sampled_from(arm[key[1]])) for key in every}
    made = judged(set_, told, ["low"], **policy)
    event("out of reach" if made.stopped else "open")
    if made.stopped is None:
        return
    assert made.verdict.outcome != "PASS"  # INVALID where no question could show the gain that is required
    for said in itertools.product(["right", "wrong", "mute"], repeat=len(left)):
        full = judged(set_, completed(set_, told, left, said), ["low"], **policy)
        assert full.stopped is None
        assert full.verdict.outcome != "PASS"
        if made.verdict.outcome == "FAIL":
            assert full.verdict.outcome in ("FAIL", "INVALID")


@settings(max_examples=30, deadline=None)
@given(runs(9), st.integers(1, 2), st.data())
def test_out_of_reach_means_that_no_completion_passes_many_of_them_drawn(run, repeats, data):
    set_, policy = run
    efforts = data.draw(st.sampled_from([["low"], ["low", "high"]]))
    dice = random.Random(data.draw(st.integers(0, 2**32)))
    policy |= {"limits": Gated(steering=data.draw(st.booleans()), unparsed=policy["limits"].unparsed)}
    ruined, asked = dice.choice([0.2, 0.6, 1.0]), dice.choice([0.3, 0.6, 0.9])
    every = keys(set_, efforts, repeats)
    told = {}
    for key in every:
        fails = ruined if key[1] == "tuned" else 0.2
        said = dice.choice(["wrong", "mute"]) if dice.random() < fails else "right"
        told[key] = (said if dice.random() > 0.03 else "none") if dice.random() < asked else None
    made = judged(set_, told, efforts, repeats, **policy)
    event("out of reach" if made.stopped else "open")
    if made.stopped is None:
        return
    left = [key for key in every if told[key] in (None, "none")]  # a request that failed may be asked again
    for how in (1.0, 0.8, 0.5):
        for _ in range(2):
            said = [
                BEST[key[1]] if dice.random() < how else dice.choice(["right", "right", "wrong", "mute"])
                for key in left
            ]
            full = judged(set_, completed(set_, told, left, said), efforts, repeats, **policy)
            assert full.verdict.outcome != "PASS"
            if made.verdict.outcome == "FAIL":
                assert full.verdict.outcome in ("FAIL", "INVALID")


def test_the_completion_that_is_best_for_the_exact_bound_is_not_for_the_one_by_module():
    set_ = set_of([("k", f"m{i % 3}", "held-out", 0.0) for i in range(12)])
    policy = {"margin": 0.3, "alpha": 0.05, "limits": Gated(steering=False)}
    every = keys(set_, ["low"])
    told = {key: None if key[0] % 3 == 0 else "right" for key in every}
    left = [key for key in every if told[key] is None]
    best = judged(set_, completed(set_, told, left, [BEST[key[1]] for key in left]), ["low"], **policy)
    mild = judged(set_, completed(set_, told, left, ["right"] * len(left)), ["low"], **policy)
    assert (best.verdict.outcome, mild.verdict.outcome) == ("INCONCLUSIVE", "PASS")
    assert judged(set_, told, ["low"], **policy).stopped is None


@pytest.mark.parametrize(("alpha", "n"), [(0.05, 11), (0.3, 7)])
def test_the_exact_bound_grows_with_every_question_gained_and_falls_with_every_one_lost(alpha, n):
    found = {(b, c): exact.lower(b, c, n, alpha) for b in range(n + 1) for c in range(n + 1 - b)}
    for (b, c), bound in found.items():
        assert bound <= found.get((b, c + 1), 1.0) + reach.SLACK / 10
        assert bound >= found.get((b + 1, c), -1.0) - reach.SLACK / 10


@pytest.mark.parametrize(("margin", "alpha", "n"), [(0.05, 0.05, 60), (0.2, 0.05, 25)])
def test_what_is_called_out_of_reach_by_a_part_of_its_distribution_is_below_the_margin(margin, alpha, n):
    for b in range(0, n + 1, 1 + n // 8):
        for c in range(0, n + 1 - b, 1 + n // 8):
            shown = exact.lower(b, c, n, alpha) > -margin
            assert reach._shown(reach.Table(b, c, n), margin, alpha) == shown


def test_a_kind_that_base_may_come_to_only_guess_at_can_leave_the_claim():
    rows = [("bad", "m", "held-out", 0.5)] * 30 + [("good", "m", "held-out", 0.0)] * 60
    set_, policy = set_of(rows), {"limits": Gated(steering=False), "missing_cap": 0.02}
    every = keys(set_, ["low"])
    # All of the bad kind's asked questions are lost. Left out it is no loss; kept, the gate cannot pass.
    told = {
        (i, arm, e, n): ("mute" if arm == "tuned" and i < 30 else "right") if i >= 15 else None
        for i, arm, e, n in every
    }
    assert not [f for f in _accuracy(set_, told, policy) if f]
    told |= {(i, arm, "low", 0): "right" if arm == "base" else "mute" for i in range(6, 15) for arm in ARMS}
    [lost] = _accuracy(set_, told, policy)
    assert lost is not None
    assert "24 lost and 0 gained of 84 so far; if tuned gained all the other 6" in lost.undecided


def _accuracy(set_, told, policy):
    """Of right answers alone."""
    known = {q.id: q for q in set_.questions}
    by_key = {a.key: a for a in (answers.graded(known[r.question], r) for r in replies(set_, told))}
    seen, _ = comparison.paired_up(set_.questions, *comparison.told("low", set_.questions, by_key, 1))
    made = Policy(**policy)
    return [reach._right("low", seen, made.margin, made.alpha, "held-out")]


def test_a_stopped_run_says_so_and_never_what_more_questions_would_do():
    set_ = set_of([("k", "m", "held-out", 0.0)] * 200)
    every = keys(set_, ["low", "medium"])
    told = {
        key: ("right" if key[1] == "base" else "mute") if key[2] == "low" and key[0] < 95 else None for key in every
    }
    made = judged(set_, told, ["low", "medium"])
    assert (made.verdict.outcome, made.verdict.exit_code) == ("INCONCLUSIVE", 2)
    assert made.stopped.model_dump() == {"pairs": 95, "of": 400}
    assert made.tuned_model == TUNED
    assert made.verdict.reasons == (
        "stopped at effort low after 95 of 400 pairs of answers: PASS is out of reach, however the rest would be "
        "answered; no further question of this set can help",
        "low, right answers: 95 lost and 0 gained of 95 so far; if tuned gained all the other 105, it would not be "
        "shown to be within the margin of 5",
        "low, readable answers: 95 lost and 0 gained of 95 so far; if tuned gained all the other 105, it would not be "
        "shown to be within the margin of 5",
    )
    assert judged(set_, {k: v for k, v in told.items() if k[0] < 90}, ["low", "medium"]).verdict.outcome == "INVALID"
    late = asking(set_, early=False)
    assert built(set_, replies(set_, told), late, efforts=["low", "medium"]).verdict.outcome == "INVALID"


def test_an_effort_asked_in_full_fails_as_it_would_and_holm_counts_the_checks_that_are_open():
    set_ = set_of([("k", "m", "held-out", 0.0)] * 60)
    every = keys(set_, ["low", "high"])

    def lost(count):
        told = {k: "right" if k[1] == "base" or k[0] >= count else "wrong" for k in every if k[2] == "low"}
        return judged(set_, dict.fromkeys(every) | told, ["low", "high"])

    # Lost one way: p is 2^-count. Of five checks (two an effort and steering) the least is held against alpha / 5.
    assert [lost(count).verdict.outcome for count in (6, 7)] == ["INCONCLUSIVE", "FAIL"]
    assert lost(7).verdict.reasons[1].startswith("low, right answers: -11.7 points")
    assert clusters.p_value([1.0] * 5, ["m"] * 5) == 0.0  # one module: questions alone decide here


def test_errors_may_be_asked_again_so_nothing_is_settled_by_them():
    set_ = set_of([("k", "m", "held-out", 0.0)] * 60)
    every = keys(set_, ["low", "high"])

    def failing(count):
        said = {key: "none" if key[1] == "tuned" and key[0] < count else "right" for key in every if key[2] == "low"}
        return judged(set_, dict.fromkeys(every) | said, ["low", "high"])

    assert failing(1).stopped is None  # judged now it would not pass: one lost of 60 may be over the margin
    full = judged(set_, dict.fromkeys(every, "right") | {(0, "tuned", "low", 0): "none"}, ["low", "high"])
    assert full.verdict.outcome == "INCONCLUSIVE"
    assert failing(40).verdict.outcome == "INVALID"


@pytest.mark.parametrize("limit", [{"unparsed": 0.05}, {"first_answer_ms": 2000}])
def test_a_limit_is_out_of_reach_after_a_few_replies_that_break_it(limit):
    set_ = set_of([("k", "m", "held-out", 0.0)] * 200)

    def after(count):
        asked = asking(set_)
        slow = {"outcome": "unparsed"} if "unparsed" in limit else {"first_answer_s": 2.5}
        said = [reply(q, arm, **(slow if arm == "tuned" else {})) for q in set_.questions[:count] for arm in ARMS]
        made = built(set_, said, asked, limits=Gated(steering=False, **limit), efforts=["low"])
        return made.stopped and made.verdict.reasons[1]

    assert after(4) is None
    assert ": 5 of 5 so far are too many; if none of the other 195 were" in after(5)
