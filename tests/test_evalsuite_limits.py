"""What [evaluate.limits] gates beside right answers: each limit kept, broken and in doubt; how often all are wrong."""

import re
from math import inf, nan
from xml.etree import ElementTree

import numpy as np
import pytest
from evaluation import asked_of, both, built, evaluated, filed, flipped, question, reply
from pydantic import ValidationError
from scipy.stats import beta, binom, wilcoxon
from test_evalsuite_html import text_of

from evalsuite import report
from evalsuite.contamination import Trained
from evalsuite.judging import measured, shares
from evalsuite.judging.comparison import compare
from evalsuite.judging.gate import Evidence, decide
from evalsuite.judging.limits import Figure
from evalsuite.judging.means import signs_p
from evalsuite.judging.policy import Policy, weaker
from evalsuite.questions import QuestionSet
from evalsuite.replies.answers import Answer, first
from evalsuite.views import summary
from tune import recipe
from tune.errors import UserError
from tune.evaluate import Evaluate, Gated
from tune.harmony import EFFORTS

TWO = ("low", "high")


def asked(n, modules=20, **more):
    """`n` questions about so many modules, in turn."""
    made = tuple(question(i, module=f"m{i % modules}", **more) for i in range(n))
    return QuestionSet(name="docs", python="3.11.7", questions=made)


def checks(r):
    """What the limits came to, in order."""
    return [(c.effort, c.name, c.outcome) for c in r.verdict.checks if c.name not in ("accuracy", "answering", "gain")]


def thinking(set_, base, tuned, few=0):
    """Every answer right, after so much reasoning at each effort; of tuned the first `few` as those of base."""
    return [
        reply(q, arm, effort, reasoning_tokens=(tuned if arm == "tuned" and i >= few else base)[e])
        for e, effort in enumerate(EFFORTS[: len(base)])
        for i, q in enumerate(set_.questions)
        for arm in ("base", "tuned")
    ]


@pytest.mark.parametrize(
    ("n", "base", "tuned", "outcomes"),
    [
        (100, (100, 190, 400), (50, 50, 50), ["FAIL", "FAIL"]),
        (100, (100, 190, 400), (50, 51, 52), ["FAIL", "FAIL"]),  # a token more is no steering
        (100, (100, 190, 400), (50, 90, 90), ["PASS", "FAIL"]),
        (100, (100, 190, 400), (400, 190, 100), ["FAIL", "FAIL"]),
        (100, (100, 190, 400), (30, 60, 120), ["PASS", "PASS"]),
        (100, (100, 190, 190), (50, 90, 50), ["PASS"]),  # base does not steer at the second step either
        (100, (0, 0, 0), (50, 50, 50), []),
        (4, (100, 190, 400), (50, 50, 50), []),  # too few to show that base steers
        (5, (100, 190, 400), (50, 50, 50), ["INCONCLUSIVE", "INCONCLUSIVE"]),  # p = 1/32, one of 8 checks
    ],
)
def test_effort_steers_tuned_where_it_steers_base(n, base, tuned, outcomes):
    r = built(asked(n), thinking(asked(n), base, tuned), efforts=EFFORTS)
    found = [outcome for _, name, outcome in checks(r) if name == "steering"]
    assert found == outcomes
    if n == 100:
        assert r.verdict.outcome == ("FAIL" if "FAIL" in outcomes else "PASS")
    off = built(asked(n), thinking(asked(n), base, tuned), efforts=EFFORTS, limits=Gated(steering=False))
    assert checks(off) == []


def test_a_steering_in_doubt_says_how_many_more_questions_and_one_effort_asks_nothing():
    set_ = asked(100)
    r = built(set_, thinking(set_, (100, 190), (50, 50), few=55), efforts=EFFORTS[:2])
    [figure] = r.limits
    assert (figure.base, figure.value, figure.place) == (1, 0.55, "low to medium")
    assert checks(r) == [("medium", "steering", "FAIL")]  # less than base, and not shown to be on more than half
    some = thinking(set_, (100, 190), (50, 50), few=55)
    base_as_tuned = [
        a.model_copy(update={"reasoning_tokens": 50}) if a.arm == "base" and int(a.question[1:]) >= 60 else a
        for a in some
    ]
    r = built(set_, base_as_tuned, efforts=EFFORTS[:2])
    [check] = [c for c in r.verdict.checks if c.name == "steering"]
    assert check.outcome == "INCONCLUSIVE"
    [more] = re.findall(r"about (\d+) more questions would show it", check.reason)
    drawn = np.random.default_rng(0).binomial(100 + int(more), 0.55, size=4000)
    assert 0.75 < np.mean(binom.sf(drawn - 1, 100 + int(more), 0.5) <= 0.05) < 0.87
    assert built(set_, thinking(set_, (100,), (50,))).limits == ()


def test_a_step_that_is_kept_in_most_modules_and_lost_in_many_is_in_doubt():
    """60 of 100 questions: spread out they show it; 12 whole modules of 20 do not."""
    for spread, outcome in ((True, "PASS"), (False, "INCONCLUSIVE")):
        made = [question(i, module=f"m{i // 5}") for i in range(100)]
        keeps = {i for i in range(100) if (i % 5 < 3 if spread else i // 5 < 12)}
        told = [
            reply(q, arm, effort, reasoning_tokens=100 if effort == "low" or i not in keeps else 200)
            for i, q in enumerate(made)
            for arm in ("base", "tuned")
            for effort in TWO
        ]
        base_everywhere = [
            a.model_copy(update={"reasoning_tokens": 200}) if (a.arm, a.effort) == ("base", "high") else a for a in told
        ]
        set_ = QuestionSet(name="docs", python="3.11.7", questions=tuple(made))
        policy = Policy()
        r = built(set_, base_everywhere, efforts=TWO)
        [figure] = measured.figures(set_.questions, first(answers(set_, r, base_everywhere)), TWO, policy)
        assert figure.kept is (outcome == "PASS")


def answers(set_, r, told):
    return filed(told, set_, r.asked)


NEEDED = r"need about (\d+ questions for the whole gate.*? to pass)"
OUTCOME = {"empty": "empty", "truncated": "truncated-reasoning", "unparsed": "unparsed"}


def silent(n, outcome, count):
    """Both arms alike, and `count` replies of each that came to this."""
    set_ = asked(n)
    told = [r for r in both(set_) if int(r.question[1:]) >= count]
    return set_, told + [reply(q, arm, outcome=outcome) for q in set_.questions[:count] for arm in ("base", "tuned")]


@pytest.mark.parametrize("name", OUTCOME)
@pytest.mark.parametrize(
    ("count", "outcome", "words"),
    [
        (6, "PASS", "1.5% (6 of 400), and with 95% confidence no more than 2.9%: within the limit of 5%"),
        (18, "INCONCLUSIVE", "4.5% (18 of 400), but it may be as much as 6.6%, over the limit of 5%; if so, about"),
        (60, "FAIL", "15.0% (60 of 400): over the limit of 5% (p = "),
        (25, "INCONCLUSIVE", "over the limit of 5%"),
    ],
)
def test_a_share_of_replies_is_shown_to_be_within_its_limit_or_over_it(name, count, outcome, words):
    r = built(*silent(400, OUTCOME[name], count), limits=Gated(**{name: 0.05}))
    assert checks(r) == [("low", name, outcome)]
    [check] = [c for c in r.verdict.checks if c.name == name]
    assert words in check.reason
    assert r.verdict.outcome == outcome  # base is as bad, and that is no excuse
    assert checks(built(*silent(400, OUTCOME[name], count))) == []


def test_other_ways_to_say_nothing_count_where_they_belong():
    counted = {"truncated": "truncated", "off-format": "empty"}
    for outcome, name in counted.items():
        r = built(*silent(400, outcome, 60), limits=Gated(empty=0.05, truncated=0.05, unparsed=0.05))
        assert [c for c in checks(r) if c[2] == "FAIL"] == [("low", name, "FAIL")]


def test_missing_replies_and_whole_modules_count_at_their_worst():
    set_, told = silent(400, "unparsed", 10)
    limits = Gated(unparsed=0.045)
    assert checks(built(set_, told, limits=limits)) == [("low", "unparsed", "PASS")]
    fewer = [r for r in told if r.arm == "base" or int(r.question[1:]) < 393]
    assert checks(built(set_, fewer, limits=limits)) == [("low", "unparsed", "INCONCLUSIVE")]
    gathered = QuestionSet(
        name="docs",
        python="3.11.7",
        questions=tuple(q.model_copy(update={"module": f"m{i // 20}"}) for i, q in enumerate(set_.questions)),
    )
    [figure] = built(gathered, told, limits=limits).limits
    assert figure.bound > beta.ppf(0.95, 11, 390) + 0.01
    assert checks(built(gathered, told, limits=limits)) == [("low", "unparsed", "INCONCLUSIVE")]


def test_bounds_are_those_of_the_literature():
    """Clopper and Pearson 1934, by the beta quantile; and the rule of three."""
    assert shares.exact_upper(0, 60, 0.05) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert binom.cdf(7, 90, shares.exact_upper(7, 90, 0.05)) == pytest.approx(0.05)
    assert shares.exact_upper(3, 3, 0.05) == shares.exact_upper(0, 0, 0.05) == 1
    n = shares.needed(0.01, 0.02, 0.05)
    assert shares.exact_upper(int(n * 0.01), n, 0.05) <= 0.02
    assert shares.needed(0.02, 0.02, 0.05) is None


def test_signs_tossed_are_the_exact_signed_rank_test_without_ranks():
    assert signs_p([1] * 8) == signs_p([2, 2, 2, 2, 2, 2, 2, 2]) == 1 / 256
    assert signs_p([]) == signs_p([0, 0]) == 1
    values = [1, 2, -3, 4, 5, -6, 7]
    assert signs_p(values) == pytest.approx(wilcoxon(values, alternative="greater", mode="exact").pvalue)


@pytest.mark.parametrize(
    ("found", "limit", "outcome"), [(0, 0.0, "PASS"), (1, 0.0, "FAIL"), (2, 0.02, "PASS"), (3, 0.02, "FAIL")]
)
def test_contamination_is_a_count_and_leaves_nothing_in_doubt(found, limit, outcome):
    trained = Trained(questions=100, found=found, texts=7, dataset="d" * 64)
    r = built(asked(100), both(asked(100)), limits=Gated(contamination=limit), trained=trained)
    assert checks(r) == [(None, "contamination", outcome)]
    reason = next(c.reason for c in r.verdict.checks if c.name == "contamination")
    assert f"{found}.0% ({found} of 100, dataset dddddddddddddddd)" in reason


@pytest.mark.parametrize(
    ("questions", "found", "ids", "why"),
    [
        (1, 0, (), "1 questions were looked for, and 60 are held out"),
        (61, 0, (), "61 questions were looked for"),
        (60, 1, ("q60",), "'q60' was found, and is no held-out question"),
        (60, 61, (), "61 of 60 were found"),
        (60, 0, ("q3",), "0 of 60 were found, and 1 are named"),
    ],
)
def test_contamination_of_another_question_set_is_refused(tmp_path, questions, found, ids, why):
    made = question(60, split="taught")
    set_ = asked(60).model_copy(update={"questions": (*asked(60).questions, made)})
    trained = Trained(questions=questions, found=found, ids=ids, texts=7, dataset="d" * 64)
    with pytest.raises(UserError, match="another question set") as e:
        built(set_, both(set_), limits=Gated(contamination=0), trained=trained)
    assert why in e.value.why
    path, own = tmp_path / "report.json", Trained(questions=60, found=0, texts=7, dataset="d" * 64)
    r = evaluated(path, set_, both(set_), limits=Gated(contamination=0), trained=own)
    report.write(path, r.model_copy(update={"evidence": r.evidence.model_copy(update={"trained": trained})}))
    with pytest.raises(UserError, match="another question set"):
        report.read(path)


def test_contamination_of_a_dataset_that_tuned_was_not_trained_on_is_not_measured():
    own = Trained(questions=100, found=0, texts=7, dataset="d" * 64, tuned_on="d" * 64)
    r = built(asked(100), both(asked(100)), limits=Gated(contamination=0), trained=own)
    assert checks(r) == [(None, "contamination", "PASS")]
    other = own.model_copy(update={"tuned_on": "e" * 64})
    r = built(asked(100), both(asked(100)), limits=Gated(contamination=0), trained=other)
    assert checks(r) == [(None, "contamination", "INCONCLUSIVE")]
    assert f"not measured; tuned was trained on another dataset, {'e' * 16}, than {'d' * 16}" in r.verdict.reasons[0]


def test_contamination_that_nobody_measured_is_no_pass():
    r = built(asked(100), both(asked(100)), limits=Gated(contamination=0))
    assert r.verdict.outcome == "INCONCLUSIVE"
    assert "not measured; there was no dataset to look in; tune dataset, then" in r.verdict.reasons[0]


def twins(n, lost, base_lost=0):
    """`n` items and their twins; tuned is wrong at the twins of the first `lost`, base at those of some others."""
    items = [question(i, module=f"m{i % 20}") for i in range(n)]
    others = [question(n + i, module=f"m{i % 20}", twin=f"q{i}") for i in range(n)]
    told = [reply(q, arm) for q in items for arm in ("base", "tuned")]
    for i, q in enumerate(others):
        told += [reply(q, "base", right=not lost <= i < lost + base_lost), reply(q, "tuned", right=i >= lost)]
    return QuestionSet(name="docs", python="3.11.7", questions=tuple(items + others)), told


@pytest.mark.parametrize(
    ("lost", "base_lost", "outcome"),
    [(0, 0, "PASS"), (8, 8, "PASS"), (60, 0, "FAIL"), (20, 0, "INCONCLUSIVE"), (60, 60, "INCONCLUSIVE")],
)
def test_a_gap_between_items_and_their_twins_is_held_against_that_of_base(lost, base_lost, outcome):
    r = built(*twins(200, lost, base_lost), limits=Gated(memorisation=0.1))
    assert checks(r) == [("low", "memorisation", outcome)]
    [figure] = r.limits
    assert figure.value == pytest.approx((lost - base_lost) / 200)


def test_without_twins_memorisation_is_not_measured():
    r = built(asked(100), both(asked(100)), limits=Gated(memorisation=0.1))
    assert checks(r) == [("low", "memorisation", "INCONCLUSIVE")]
    assert "no question has a twin" in r.verdict.reasons[0]
    plain = asked(3).questions[0].model_dump_json()
    assert "twin" not in plain


def timed(n, late, **more):
    """All right; `late` replies of tuned begin to answer after 3 s, the others after 1 s."""
    return [
        reply(q, arm, first_answer_s=3.0 if arm == "tuned" and i < late else 1.0, **more)
        for i, q in enumerate(asked(n).questions)
        for arm in ("base", "tuned")
    ]


@pytest.mark.parametrize(
    ("n", "late", "outcome", "words"),
    [
        (
            400,
            8,
            "PASS",
            "1,000 ms (8 of 400 were later than the limit), and with 95% confidence no more than 1,000 ms",
        ),
        (400, 60, "FAIL", "3,000 ms (60 of 400 were later than the limit): over the limit of 2000 ms"),
        (400, 18, "INCONCLUSIVE", "it may be as much as 3,000 ms"),
        (50, 0, "INCONCLUSIVE", "it may be higher, over the limit of 2000 ms; if so, about"),  # 59 is the least
        (60, 0, "PASS", "within the limit"),
    ],
)
def test_the_95th_percentile_of_the_first_answer_is_bounded_by_the_binomial(n, late, outcome, words):
    r = built(asked(n), timed(n, late), limits=Gated(first_answer_ms=2000))
    [check] = [c for c in r.verdict.checks if c.name == "first_answer_ms"]
    assert (check.outcome, words in check.reason) == (outcome, True), check.reason


def test_a_reply_that_never_came_to_an_answer_was_waited_for_in_vain():
    set_, told = silent(400, "truncated-reasoning", 60)
    told = [r if int(r.question[1:]) < 60 else r.model_copy(update={"first_answer_s": 1.0}) for r in told]
    assert checks(built(set_, told, limits=Gated(first_answer_ms=2000))) == [("low", "first_answer_ms", "FAIL")]
    r = built(set_, both(set_), limits=Gated(first_answer_ms=2000))
    assert "no reply says when its answer began" in r.verdict.reasons[0]


@pytest.mark.parametrize(
    ("tokens", "wrong", "outcome"),
    [(500, 80, "PASS"), (500, 180, "FAIL"), (500, 150, "INCONCLUSIVE"), (900, 0, "FAIL"), (500, 400, "FAIL")],
)
def test_tokens_of_wrong_answers_are_paid_for_by_right_ones(tokens, wrong, outcome):
    set_ = asked(400)
    told = [
        reply(q, arm, right=i * 7 % 400 >= wrong, completion_tokens=tokens + i % 11 - 5)
        for i, q in enumerate(set_.questions)
        for arm in ("base", "tuned")
    ]
    r = built(set_, told, limits=Gated(tokens_per_right=800))
    assert checks(r) == [("low", "tokens_per_right", outcome)]
    [figure] = r.limits
    if wrong < 400:
        assert figure.value == pytest.approx(tokens * 400 / (400 - wrong), rel=1e-3)
        assert figure.bound > figure.value
    else:
        assert (figure.value, figure.bound) == (None, None)
    r = built(set_, both(set_), limits=Gated(tokens_per_right=800))
    assert "the server counts no tokens" in r.verdict.reasons[0]


ALL = {"empty": 0.05, "truncated": 0.05, "unparsed": 0.05, "memorisation": 0.1, "first_answer_ms": 2000}
ALL |= {"tokens_per_right": 800, "contamination": 0}


def test_a_verdict_held_to_laxer_limits_than_the_recipe_has_is_refused():
    made = built(asked(20), both(asked(20)), limits=Gated(**ALL)).judged
    same = Evaluate(limits=Gated(**ALL))
    assert weaker(made, same) == []
    assert weaker(made, Evaluate()) == []
    for key, limit in ALL.items():
        for was, said in ((None, "none"), (limit * 1.5 or 0.5, f"{limit * 1.5 or 0.5:g}")):
            other = made.model_copy(update={"limits": Gated(**{**ALL, key: was})})
            assert weaker(other, same) == [f"limits.{key} {said}, and the recipe has {limit:g}"]
        assert weaker(made.model_copy(update={"limits": Gated(**{**ALL, key: limit / 2})}), same) == []
    off = made.model_copy(update={"limits": Gated(**ALL, steering=False)})
    assert weaker(off, same) == ["limits.steering false, and the recipe has true"]
    assert weaker(made, Evaluate(limits=Gated(**ALL, steering=False))) == []


def test_keys_of_the_table_are_read_and_unknown_ones_named(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("[evaluate.limits]\ntruncated = 0.02\nsteering = false\n")
    assert recipe.read(path).evaluate.limits == Gated(truncated=0.02, steering=False)
    path.write_text("[evaluate.limits]\ntruncatd = 0.02\n")
    with pytest.raises(UserError, match="problem") as e:
        recipe.read(path)
    assert "evaluate.limits.truncatd: no such key; there are steering, empty, truncated" in e.value.why
    for wrong in ({"truncated": 0}, {"empty": 1}, {"first_answer_ms": 0}, {"contamination": -0.1}):
        with pytest.raises(ValidationError):
            Gated(**wrong)


def test_what_was_not_measured_is_not_kept_whatever_the_limit():
    without = Gated.model_construct(steering=True, first_answer_ms=inf, tokens_per_right=inf)  # no recipe has these
    policy, set_ = Policy.model_construct(**{**dict(Policy()), "limits": without}), asked(60)
    found = measured.figures(set_.questions, first(filed(both(set_), set_, asked_of(set_))), ["low"], policy)
    assert [(f.name, f.of, f.kept) for f in found] == [("first_answer_ms", "", False), ("tokens_per_right", "", False)]
    with pytest.raises(ValidationError, match="is kept, and was not measured"):
        Figure(**{**dict(found[0]), "kept": True})
    for wrong in (
        {"margin": nan},
        {"alpha": nan},
        {"forgetting_margin": inf},
        {"limits": {"first_answer_ms": inf}},
        {"limits": {"empty": nan}},
    ):
        with pytest.raises(ValidationError, match=r"finite number|less than"):
            Policy.model_validate(wrong)


def test_a_file_comes_back_with_limits_and_with_what_was_trained_on(tmp_path):
    set_ = asked(100)
    trained = Trained(questions=100, found=1, ids=("q3",), texts=7, dataset="d" * 64)
    path = tmp_path / "report.json"
    made = evaluated(path, set_, thinking(set_, (100, 190), (50, 50)), efforts=EFFORTS[:2], limits=Gated(**ALL),
                     trained=trained)  # fmt: skip
    assert report.read(path) == made
    assert made.evidence.trained == trained


def test_junit_the_summary_and_the_page_show_each_limit():
    set_ = asked(400)
    told = thinking(set_, (100, 190), (50, 50))
    r = built(set_, told, efforts=EFFORTS[:2], limits=Gated(truncated=0.05, contamination=0.0))
    tree = ElementTree.fromstring(summary.junit(r))
    cases = {(c.get("classname"), c.get("name")): c for c in tree.iter("testcase")}
    assert {key[1] for key in cases} == {"accuracy", "answering", "steering", "truncated", "contamination"}
    failure = cases["evalsuite.medium", "steering"].find("failure")
    assert failure is not None
    assert (failure.get("type"), failure.text) == ("FAIL", "low to medium: 0.0%, limit 50%")
    assert cases["evalsuite.all", "contamination"].find("failure").get("type") == "INCONCLUSIVE"
    assert cases["evalsuite.low", "truncated"].find("failure") is None
    shown = summary.markdown(r)
    assert (
        "| low to medium | steering: questions with longer reasoning | 100.0% | 0.0% | 0.0% | over 50% | FAIL |"
        in shown
    )
    assert "| low | truncated replies | 0.0% | 0.0% | 0.7% | 5% | PASS |" in shown
    assert "| all | held-out questions in the training data | – | – | – | 0% | INCONCLUSIVE |" in shown
    page = text_of(r)
    assert "Tuned is shown to be beyond a limit of the recipe." in page
    assert "low truncated replies 0.0 % 0.0 % 0.7 % 5 % PASS" in page
    assert "Limits" not in text_of(built(set_, both(set_)))
    assert "Limits:" not in summary.markdown(built(set_, both(set_)))


def test_gates_over_all_limits_fail_a_model_at_its_limits_and_equal_to_base_no_more_often_than_alpha():
    """From replies on: both arms drawn alike, every rate, time and ratio exactly at its limit, modules unlike each
    other. And none of these, which are met with nothing to spare, is shown to be kept more often than alpha."""
    rng, gates, modules, each, policy = np.random.default_rng(11), 100, 8, 15, Policy(limits=Gated(
        empty=0.05, truncated=0.2, unparsed=0.05, memorisation=0.001, first_answer_ms=1000, tokens_per_right=250
    ))  # fmt: skip
    n = modules * each
    made = [question(i, module=f"m{i % modules}") for i in range(n // 2)]
    made += [question(n // 2 + i, module=f"m{i % modules}", twin=f"q{i}") for i in range(n // 2)]
    module = np.array([int(q.module[1:]) for q in made])
    two = Evidence(base_models=("b",), tuned_models=("t",), questions_digest="q" * 64, asked_digest="q" * 64)
    ends = ("truncated", "empty", "unparsed", "answered")
    failed, kept = 0, dict.fromkeys(["empty", "truncated", "unparsed", "first_answer_ms", "tokens_per_right"], 0)
    for _ in range(gates):
        heard = {}
        for effort, more in (("low", 1.0), ("high", 1.25)):
            cut = rng.choice([0.0, 0.4], size=modules)[module]
            for arm in ("base", "tuned"):
                where = rng.random(n)
                end = (where >= cut).astype(int) + (where >= cut + 0.05) + (where >= cut + 0.1)
                right = (end == 3) & (rng.random(n) < 4 / 7)  # 0.4 of all: 100 tokens a reply are 250 a right one
                tokens = rng.gamma(4, 25, size=n)
                late = np.where(rng.random(n) < 0.05, 1.5, 0.5)
                for i, q in enumerate(made):
                    heard[q.id, arm, effort] = Answer(
                        question=q.id, arm=arm, effort=effort, model="", server="", request="",
                        outcome=ends[end[i]], score=int(right[i]), first_answer_s=late[i],
                        completion_tokens=max(1, round(tokens[i])), reasoning_tokens=max(1, round(tokens[i] * more)),
                    )  # fmt: skip
        figures = measured.figures(made, heard, ("low", "high"), policy)
        found = [compare(e, made, heard, alpha=policy.alpha, margin=policy.margin) for e in ("low", "high")]
        failed += decide(found, policy, two, figures).outcome == "FAIL"
        for figure in figures:
            if figure.name in kept and figure.effort == "low":
                kept[figure.name] += figure.kept
    most = binom.ppf(0.9999, gates, policy.alpha)
    assert failed <= most
    assert all(count <= most for count in kept.values()), kept


def test_the_number_of_questions_that_an_inconclusive_names_is_for_the_limits_too():
    """A share near its limit takes many; one that was seen to be over it no number would keep, and it is named."""
    set_ = asked(100)

    def advised(count, **limits):
        few = [r for r in flipped(set_, 5, 5, base_right=60) if int(r.question[1:]) < 100 - count]
        few += [reply(q, arm, outcome="empty") for q in set_.questions[100 - count :] for arm in ("base", "tuned")]
        [said] = {
            found[1]
            for found in re.finditer(NEEDED, " ".join(built(set_, few, limits=Gated(**limits)).verdict.reasons))
        }
        return int(said.split()[0]), said

    plain, near, over = advised(2), advised(2, empty=0.03), advised(2, empty=0.015)
    assert near[0] > 2 * plain[0]
    assert over == (plain[0], f"{plain[0]} questions for the whole gate, empty replies apart, to pass")
