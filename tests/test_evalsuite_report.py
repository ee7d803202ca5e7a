"""From answers to a report: what is paired, what is left out, what is counted, and a file that cannot be bent."""

import json
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from evalsuite import report, summary
from evalsuite.answers import EFFORT_MISMATCH, Answer
from evalsuite.questions import Question, QuestionSet
from tune.errors import UserError

EFFORTS = ("low", "medium", "high")


def questions(n: int, kinds: int = 2) -> QuestionSet:
    made = tuple(
        Question(id=f"q{i}", kind=f"kind{i % kinds}", module="ast", prompt=f"P{i}?", answer=f"A{i}", grader="exact")
        for i in range(n)
    )
    return QuestionSet(name="python-docs", python="3.11.7", seed=0, questions=made)


def answer(q: str, arm: str, effort: str = "low", right: bool = True, outcome: str = "answered", **more) -> Answer:
    given = {"model": f"{arm}@{'0' * 16}", "text": f"{arm} says", "score": float(right), "error": ""} | more
    if outcome != "answered":
        given["score"] = None if outcome == "error" else 0.0
    return Answer(question=q, arm=arm, effort=effort, outcome=outcome, **given)


def every_third(arm: str, i: int) -> bool:
    return i % 3 == 0


def both(n: int, *, wrong=every_third, efforts=("low",), **more) -> list[Answer]:
    return [
        answer(f"q{i}", arm, effort, not wrong(arm, i), **more)
        for effort in efforts
        for i in range(n)
        for arm in ("base", "tuned")
    ]


def built(set_: QuestionSet, answers: list[Answer], **more) -> report.Report:
    return report.build(set_, answers, **({"created": "2026-11-21", "margin": 0.05, "alpha": 0.05} | more))


def test_answers_are_paired_by_question_and_effort_whatever_their_order():
    made = both(300, wrong=lambda arm, i: i % 3 == 0 or (arm == "tuned" and i in (1, 2)), efforts=EFFORTS)
    r = built(questions(300), list(reversed(made)))
    assert [c.effort for c in r.comparisons] == list(EFFORTS)
    for c in r.comparisons:
        assert (c.paired, c.missing, c.lost, c.gained) == (300, 0, 2, 0)
        assert (c.base.accuracy, c.tuned.accuracy) == (pytest.approx(200 / 300), pytest.approx(198 / 300))
        assert c.difference.estimate == pytest.approx(-2 / 300)
        assert [(f.question, f.direction) for f in c.flips] == [("q1", "lost"), ("q2", "lost")]
        assert [(k.kind, k.paired) for k in c.kinds] == [("kind0", 150), ("kind1", 150)]
        assert sum(k.difference.estimate * k.paired for k in c.kinds) == pytest.approx(-2)
    assert r.verdict.outcome == "PASS"
    assert r.base_model == "base@0000000000000000"


def test_an_error_is_never_a_wrong_answer_and_the_other_failures_are_wrong_and_shown():
    bad = {1: "error", 2: "empty", 4: "truncated", 5: "unparsed"}
    made = [
        answer(f"q{i}", arm, outcome=bad.get(i, "answered") if arm == "tuned" else "answered")
        for i in range(300)
        for arm in ("base", "tuned")
    ]
    c = built(questions(300), made).comparisons[0]
    assert (c.paired, c.missing, c.lost) == (299, 1, 3)
    assert c.base.accuracy == 1.0
    assert c.tuned.accuracy == pytest.approx(296 / 299)
    assert c.tuned.outcomes == {"answered": 296, "unparsed": 1, "empty": 1, "truncated": 1, "error": 1}
    assert c.answering.estimate == pytest.approx(-3 / 299)
    assert {f.tuned_outcome for f in c.flips} == {"empty", "truncated", "unparsed"}


def test_too_many_errors_or_absent_answers_void_it_and_a_retry_mends_it():
    set_, made = questions(100), both(100)
    failed = [answer(f"q{i}", "tuned", outcome="error", error="502") for i in range(3)]
    r = built(set_, made + failed)  # the later line of a key counts
    assert (r.verdict.outcome, r.verdict.exit_code) == ("INVALID", 3)
    assert "3 of 100 questions lack a score on either side" in r.verdict.reasons[0]
    assert "tuned 3; never asked: base 0, tuned 0" in r.verdict.reasons[0]
    assert built(set_, failed + made).verdict.outcome != "INVALID"
    absent = [a for a in made if a.arm == "base" or int(a.question[1:]) > 9]
    assert "never asked: base 0, tuned 10" in built(set_, absent).verdict.reasons[0]


@pytest.mark.parametrize(
    ("answers", "more", "words"),
    [
        ([], {}, "no question was asked"),
        (both(20, model="m@1"), {}, "the same model: m@1"),
        ([*both(20), answer("q99", "base")], {}, "not in the question set: q99"),
        ([*both(20), answer("q0", "base", model="other")], {}, "more than one model"),
        (both(20), {"asked_digest": "f" * 64}, "belong to question set ffffffffffffffff"),
        (both(20), {"efforts": ["low", "high"]}, "high: 20 of 20 questions lack a score"),
        ([a for a in both(20) if (a.arm == "base") == (int(a.question[1:]) < 10)], {}, "20 of 20 questions lack"),
        (
            [*both(400), answer("q0", "base", outcome="error", error=f"{EFFORT_MISMATCH}: asked high, was low")],
            {},
            "1 replies were made at another effort",
        ),
    ],
)
def test_arms_that_cannot_be_compared_make_it_invalid(answers, more, words):
    r = built(questions(400 if len(answers) > 100 else 20), answers, **more)
    assert r.verdict.outcome == "INVALID"
    assert words in " ".join(r.verdict.reasons)
    assert summary.markdown(r).startswith("## INVALID")


def test_times_tokens_and_steering_are_those_of_the_answers():
    made = [
        answer(
            f"q{i}",
            arm,
            e,
            reasoning_tokens=t + i,
            completion_tokens=100,
            first_token_s=0.1,
            first_answer_s=0.5 + i / 100,
            total_s=2.0,
        )
        for e, t in zip(EFFORTS, (10, 60, 110), strict=True)
        for i in range(101)
        for arm in ("base", "tuned")
    ]
    made = [
        a.model_copy(update={"reasoning_tokens": 60}) if a.arm == "tuned" and a.effort == "low" else a for a in made
    ]
    made[-1] = answer("q100", "tuned", "high", outcome="error")  # says nothing of speed
    r = built(questions(101), made)
    c = r.comparisons[0]
    assert c.base.reasoning_tokens == 60
    assert c.base.first_answer == (pytest.approx(1.0), pytest.approx(1.45))
    assert c.base.tokens_per_second == pytest.approx(50)
    assert r.base_steering is not None
    assert r.base_steering.ratio == pytest.approx(160 / 60)
    assert r.base_steering.monotone
    assert r.tuned_steering is not None
    assert r.tuned_steering.tokens == {"low": 60, "medium": 110, "high": 159.5}
    assert r.comparisons[2].tuned.completion_tokens == 100


def test_reasoning_that_the_server_did_not_count_is_counted():
    made = [
        answer(f"q{i}", arm, reasoning="We need len." if arm == "base" else "")
        for i in range(9)
        for arm in ("base", "tuned")
    ]
    c = built(questions(9), made).comparisons[0]
    assert (c.base.reasoning_tokens, c.tuned.reasoning_tokens, c.base.completion_tokens) == (4, 0, None)


def test_a_tuned_model_that_no_longer_thinks_in_order_is_seen():
    made = [
        answer(f"q{i}", arm, e, reasoning_tokens=t if arm == "base" else 200 - t)
        for e, t in zip(EFFORTS, (10, 60, 110), strict=True)
        for i in range(5)
        for arm in ("base", "tuned")
    ]
    r = built(questions(5), made)
    assert r.base_steering is not None
    assert r.tuned_steering is not None
    assert (r.base_steering.monotone, r.tuned_steering.monotone) == (True, False)


def test_half_an_answer_is_refused_for_the_tests_count_flips():
    with pytest.raises(ValidationError, match="a score is 0 or 1"):
        answer("q1", "base", score=0.5)


def test_a_file_comes_back_equal_and_every_damage_is_refused(tmp_path):
    r = built(questions(40), both(40, efforts=EFFORTS), note="nano")
    path = tmp_path / "out" / "report.json"
    report.write(path, r)
    assert report.read(path) == r
    whole = path.read_text()

    def refused(text: str, words: str) -> None:
        path.write_text(text)
        with pytest.raises(UserError, match=words) as e:
            report.read(path)
        assert e.value.fix == "evalsuite compare"

    assert r.verdict.outcome == "INCONCLUSIVE"
    refused(
        whole.replace('"outcome": "INCONCLUSIVE",\n  "reasons"', '"outcome": "PASS",\n  "reasons"'), "changed after"
    )
    refused(whole.replace('"tuned_model": "tuned@0', '"tuned_model": "tuned@1'), "changed after")
    refused(whole[: len(whole) // 2], "not JSON")
    refused(whole.replace('"margin": 0.05', '"margin": "wide"'), "not a report")
    refused(json.dumps({**json.loads(whole), "schema_version": 9}), "another version")
    refused("[]", "not a report")
    refused("[" * 100_000, "not JSON")
    refused(whole.replace('"schema_version": 1', f'"schema_version": {"1" * 5000}'), "not JSON")
    refused("", "not JSON")
    with pytest.raises(UserError, match="there is no report"):
        report.read(tmp_path / "none.json")


def test_junit_turns_red_exactly_where_the_gate_does():
    def suite(r: report.Report) -> ElementTree.Element:
        return ElementTree.fromstring(summary.junit(r))

    good = built(questions(600), both(600, efforts=EFFORTS))
    assert good.verdict.outcome == "PASS"
    assert suite(good).attrib.items() >= {"tests": "6", "failures": "0", "errors": "0"}.items()

    worse = built(questions(600), both(600, wrong=lambda arm, i: i % 3 == 0 or (arm == "tuned" and i % 4 == 0)))
    failures = suite(worse).findall("testcase[@name='accuracy']/failure")
    assert [f.get("type") for f in failures] == ["FAIL"]
    d = worse.comparisons[0].difference
    assert failures[0].text == f"-16.7 ({d.lower * 100:+.1f} to {d.upper * 100:+.1f})"
    assert d.lower < -0.1667 < d.upper

    few = suite(built(questions(30), both(30)))
    assert [f.get("type") for f in few.iter("failure")] == ["INCONCLUSIVE", "INCONCLUSIVE"]

    noted = suite(built(questions(30), both(30), note="nano \x00 only"))
    assert noted.findtext("system-out") == "nano \ufffd only"
    assert few.find("system-out") is None

    void = suite(built(questions(30), both(30, model='m\x00<&"@1')))
    assert void.attrib.items() >= {"tests": "1", "failures": "0", "errors": "1"}.items()
    assert 'm\ufffd<&"@1' in (void.find("testcase/error").text or "")


def test_markdown_is_one_table_that_names_cannot_break():
    r = built(questions(60), both(60, efforts=EFFORTS), note="a | b\n# <script>", provenance={"url": "http://x/_y_"})
    text = summary.markdown(r)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(EFFORTS)
    assert {row.count("|") for row in rows} == {9}
    assert r"> a \| b \# \<script\>" in text
    assert "<script>" not in text
