"""From answers to a report: what is paired, what is left out, what is counted, and a file that cannot be bent."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from evaluation import BASE, asked_of, both, built, evaluated, filed, question, question_set, reply
from pydantic import ValidationError

from evalsuite import report
from evalsuite.judging.comparison import OUTCOMES
from evalsuite.plan import plan
from evalsuite.replies import answers
from evalsuite.replies.answers import Answer
from evalsuite.replies.server import Server
from evalsuite.views import html, summary
from tune.errors import UserError
from tune.evaluate import Evaluate

EFFORTS = ("low", "medium", "high")


def every_third(arm: str, i: int) -> bool:
    return i % 3 == 0


def test_answers_are_paired_by_question_and_effort_whatever_their_order():
    set_ = question_set(300, kinds=2)
    made = both(set_, lambda arm, i: i % 3 == 0 or (arm == "tuned" and i in (1, 2)), EFFORTS)
    r = built(set_, list(reversed(made)))
    assert [c.effort for c in r.comparisons] == list(EFFORTS)
    for c in r.comparisons:
        assert (c.paired, c.missing, c.lost, c.gained) == (300, 0, 2, 0)
        assert (c.base.accuracy, c.tuned.accuracy) == (pytest.approx(200 / 300), pytest.approx(198 / 300))
        assert c.difference.estimate == pytest.approx(-2 / 300)
        assert [(f.question, f.direction) for f in c.flips] == [("q1", "lost"), ("q2", "lost")]
        assert [(k.kind, k.paired) for k in c.kinds] == [("kind0", 150), ("kind1", 150)]
        assert sum(k.difference.estimate * k.paired for k in c.kinds) == pytest.approx(-2)
    assert r.verdict.outcome == "PASS"
    assert r.base_model == BASE


def test_an_error_is_never_a_wrong_answer_and_the_other_failures_are_wrong_and_shown():
    bad = dict(enumerate(o for o in OUTCOMES if o != "answered"))  # whatever outcomes there are
    set_ = question_set(300)
    made = [
        reply(q, arm, outcome=bad.get(i, "answered") if arm == "tuned" else "answered")
        for i, q in enumerate(set_.questions)
        for arm in ("base", "tuned")
    ]
    c = built(set_, made).comparisons[0]
    wrong = set(bad.values()) - {"error", "timeout"}
    assert (c.paired, c.missing, c.lost) == (298, 2, len(wrong))
    assert c.base.accuracy == 1.0
    assert c.tuned.accuracy == pytest.approx(1 - len(wrong) / 298)
    assert c.tuned.outcomes == {"answered": 300 - len(bad), **dict.fromkeys(bad.values(), 1)}
    assert c.answering.estimate == pytest.approx(-len(wrong) / 298)
    assert {f.tuned_outcome for f in c.flips} == wrong == set(OUTCOMES) - {"answered", "error", "timeout"}
    page = html.render(built(set_, made))
    assert all(f"--{o}:" in page for o in OUTCOMES), "an outcome without a colour"


def test_a_report_of_earlier_replies_is_still_proven() -> None:
    """What a reply did not do is not in its line: files of before keep their digests."""
    line = answers.line(reply(question(0), "base"))
    assert b"refusal" not in line
    assert b"tool_calls" not in line
    server = Server(url="http://a/v1", model="a")
    assert "usage" not in server.model_dump_json()
    assert server.id != server.model_copy(update={"usage": False}).id
    assert b"refusal" in answers.line(reply(question(0), "base", refusal="no"))


def test_too_many_errors_or_absent_answers_void_it_and_a_retry_mends_it():
    set_ = question_set(100)
    made = both(set_)
    failed = [reply(q, "tuned", outcome="error") for q in set_.questions[:3]]
    heard = [r for r in made if r.arm == "base" or r.question not in {"q0", "q1", "q2"}]
    r = built(set_, heard + failed)
    assert (r.verdict.outcome, r.verdict.exit_code) == ("INVALID", 3)
    assert "3 of 100 questions lack a score on either side" in r.verdict.reasons[0]
    assert "tuned 3; never asked: base 0, tuned 0" in r.verdict.reasons[0]
    for mended in (failed + made, made + failed):  # a reply counts, whenever the error came
        assert built(set_, mended).verdict.outcome != "INVALID"
    absent = [a for a in made if a.arm == "base" or int(a.question[1:]) > 9]
    assert "never asked: base 0, tuned 10" in built(set_, absent).verdict.reasons[0]


def test_what_is_on_file_of_others_is_counted_and_not_used():
    set_, few = question_set(300), question_set(290)
    made, asked = both(set_), asked_of(set_)
    elsewhere = filed(both(set_, lambda arm, _: arm == "tuned"), set_, asked_of(set_, tuned="tuned@" + "2" * 16))
    r = built(set_, [*made, *(a for a in elsewhere if a.arm == "tuned")])
    assert r.verdict.outcome == "PASS"
    assert r.evidence.others == {"of another server": 300}
    assert "replies on file of another server, not counted: 300" in summary.markdown(r)
    hotter = asked.model_copy(update={"sampling": asked.sampling.model_copy(update={"temperature": 1.0})})
    later = built(set_, filed(made, set_, asked), hotter, efforts=["low"])
    assert later.evidence.others == {"to another request": 600}
    assert later.verdict.outcome == "INVALID"
    assert built(few, filed(made, set_, asked)).evidence.others == {"to questions or at efforts that are not asked": 20}


def test_times_tokens_and_steering_are_those_of_the_answers():
    set_ = question_set(101)
    made = [
        reply(
            q,
            arm,
            e,
            reasoning_tokens=t + i,
            completion_tokens=100,
            first_token_s=0.1,
            first_answer_s=0.5 + i / 100,
            total_s=2.0,
        )
        for e, t in zip(EFFORTS, (10, 60, 110), strict=True)
        for i, q in enumerate(set_.questions)
        for arm in ("base", "tuned")
    ]
    made = [
        a.model_copy(update={"reasoning_tokens": 60}) if a.arm == "tuned" and a.effort == "low" else a for a in made
    ]
    made[-1] = reply(question(100), "tuned", "high", outcome="error")  # says nothing of speed
    r = built(set_, made)
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
    set_ = question_set(9)
    made = [
        reply(q, arm, reasoning="We need len." if arm == "base" else "")
        for q in set_.questions
        for arm in ("base", "tuned")
    ]
    c = built(set_, made).comparisons[0]
    assert (c.base.reasoning_tokens, c.tuned.reasoning_tokens, c.base.completion_tokens) == (4, 0, None)


def test_a_tuned_model_that_no_longer_thinks_in_order_is_seen():
    set_ = question_set(5)
    made = [
        reply(q, arm, e, reasoning_tokens=t if arm == "base" else 200 - t)
        for e, t in zip(EFFORTS, (10, 60, 110), strict=True)
        for q in set_.questions
        for arm in ("base", "tuned")
    ]
    r = built(set_, made)
    assert r.base_steering is not None
    assert r.tuned_steering is not None
    assert (r.base_steering.monotone, r.tuned_steering.monotone) == (True, False)


def test_half_an_answer_is_refused_for_the_tests_count_flips():
    whole = filed([reply(question(1), "base")], question_set(3), asked_of(question_set(3)))[0].model_dump()
    with pytest.raises(ValidationError, match="Input should be 0 or 1"):
        Answer(**whole | {"score": 0.5})


def refused(path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as e:
        report.read(path)
    assert e.value.fix in {
        "evalsuite compare --base URL --tuned URL",
        "put questions.jsonl and answers.jsonl of that run beside it, or evalsuite compare --base URL --tuned URL",
    }


def test_a_file_comes_back_equal_and_every_damage_is_refused(tmp_path):
    set_ = question_set(40)
    path = tmp_path / "out" / "report.json"
    r = evaluated(path, set_, both(set_, every_third, EFFORTS), note="nano")
    assert report.read(path) == r
    whole = path.read_text()
    assert r.verdict.outcome == "INCONCLUSIVE"
    for text, words in (
        (whole.replace('"outcome": "INCONCLUSIVE",\n  "reasons"', '"outcome": "PASS",\n  "reasons"'), "changed after"),
        (whole.replace('"tuned_model": "tuned@1', '"tuned_model": "tuned@2'), "changed after"),
        (whole[: len(whole) // 2], "not JSON"),
        (whole.replace('"margin": 0.05', '"margin": "wide"'), "not a report"),
        (json.dumps({**json.loads(whole), "schema_version": 4}), "another version"),
        ("[]", "not a report"),
        ("{}", "not a report\n  why: it has no 'digest'"),
        ("[" * 100_000, "not JSON"),
        (whole.replace('"schema_version": 5', f'"schema_version": {"1" * 5000}'), "not JSON"),
        ("", "not JSON"),
    ):
        assert text != whole
        path.write_text(text)
        refused(path, words)
    refused(tmp_path / "none.json", "there is no report")


def forged(path: Path, change) -> None:
    """The report with something changed and its digest made anew, as one who wants it to pass would."""
    data = json.loads(path.read_text())
    del data["digest"]
    change(data)
    report.write(path, report.Report.model_validate(data))


def test_a_verdict_comes_from_the_replies_and_not_from_the_file(tmp_path):
    set_, path = question_set(200), tmp_path / "report.json"
    bad = evaluated(path, set_, both(set_, lambda arm, i: arm == "tuned" and i % 4 == 0))
    assert bad.verdict.outcome == "FAIL"
    good = built(set_, both(set_))
    assert good.verdict.outcome == "PASS"

    def passes(data):
        data["verdict"] = good.model_dump(mode="json")["verdict"]

    def figures(data):
        passes(data)
        data["comparisons"] = good.model_dump(mode="json")["comparisons"]

    def missing(data):
        figures(data)
        data["policy"]["missing_cap"] = 0.99
        data["asked"]["servers"]["tuned"]["url"] = "http://other/v1"

    whole = path.read_text()
    for change, words in (
        (passes, "says PASS, and its replies do not say so"),
        (figures, "says PASS, and its replies do not say so"),
        (missing, "cannot be proven"),
    ):
        path.write_text(whole)
        forged(path, change)
        refused(path, words)


def test_figures_of_the_file_are_not_shown(tmp_path):
    """Changed figures that leave the verdict as it is are not believed either: what is shown is worked out again."""
    set_, path = question_set(300), tmp_path / "report.json"
    r = evaluated(path, set_, both(set_, every_third))

    def better(data):
        data["comparisons"][0]["tuned"]["accuracy"] = 1.0
        data["tuned_model"] = "gpt-9"

    forged(path, better)
    assert report.read(path) == r


def test_a_report_without_its_own_replies_and_questions_is_refused(tmp_path):
    set_, path = question_set(60), tmp_path / "report.json"
    evaluated(path, set_, both(set_))
    told, asked = tmp_path / "answers.jsonl", tmp_path / "questions.jsonl"
    before = {told: told.read_bytes(), asked: asked.read_bytes()}
    first, *rest = before[told].splitlines(keepends=True)
    other = tmp_path / "other" / "report.json"
    evaluated(other, question_set(61), both(question_set(61), every_third))
    wrong = first.replace(b"ANSWER: A0", b"ANSWER: B0")
    again = answers.line(filed([reply(question(0), "base", right=False)], set_, asked_of(set_))[0])
    for file, content, words in (
        (told, None, "cannot be proven"),
        (told, b"".join(rest), "cannot be proven"),
        (told, before[told][:-9], "cannot be proven"),
        (told, wrong + b"".join(rest), "answers.jsonl:1 was changed after it was written"),
        (told, again + b"".join(rest), "cannot be proven"),
        (told, before[told] + again, "a second reply to one request"),
        (told, other.with_name("answers.jsonl").read_bytes(), "cannot be proven"),
        (asked, None, "there is no question set"),
        (asked, other.with_name("questions.jsonl").read_bytes(), "cannot be proven"),
        (asked, before[asked].replace(b"P0?", b"P00?"), "changed after it was frozen"),
    ):
        for place, whole in before.items():
            place.write_bytes(whole)
        assert content != before[file]
        file.unlink() if content is None else file.write_bytes(content)
        refused(path, words)
    told.write_bytes(before[told])
    asked.write_bytes(before[asked])
    assert report.read(path).verdict.outcome == "PASS"


def test_replies_of_a_later_run_beside_it_do_not_spoil_a_report(tmp_path):
    set_, path = question_set(60), tmp_path / "report.json"
    made = evaluated(path, set_, both(set_))
    later = filed(both(set_), set_, asked_of(set_, tuned="tuned@" + "2" * 16))
    with path.with_name("answers.jsonl").open("ab") as f:
        f.writelines(answers.line(a) for a in later if a.arm == "tuned")
    assert report.read(path).verdict == made.verdict


def test_junit_turns_red_exactly_where_the_gate_does():
    def suite(r: report.Report) -> ElementTree.Element:
        return ElementTree.fromstring(summary.junit(r))

    many, few_ = question_set(600), question_set(30)
    good = built(many, both(many, every_third, EFFORTS))
    assert good.verdict.outcome == "PASS"
    assert suite(good).attrib.items() >= {"tests": "6", "failures": "0", "errors": "0"}.items()

    worse = built(many, both(many, lambda arm, i: i % 3 == 0 or (arm == "tuned" and i % 4 == 0)))
    failures = suite(worse).findall("testcase[@name='accuracy']/failure")
    assert [f.get("type") for f in failures] == ["FAIL"]
    d = worse.comparisons[0].difference
    assert failures[0].text == f"-16.7 ({d.lower * 100:+.1f} to {d.upper * 100:+.1f})"
    assert d.lower < -0.1667 < d.upper

    few = suite(built(few_, both(few_, every_third)))
    assert [f.get("type") for f in few.iter("failure")] == ["INCONCLUSIVE", "INCONCLUSIVE"]

    noted = suite(built(few_, both(few_, every_third), note="nano \x00 only"))
    assert noted.findtext("system-out") == "nano \ufffd only"
    assert few.find("system-out") is None

    void = suite(built(few_, both(few_), asked_of(few_, *['m\x00<&"@1'] * 2)))
    assert void.attrib.items() >= {"tests": "1", "failures": "0", "errors": "1"}.items()
    assert 'm\ufffd<&"@1' in (void.find("testcase/error").text or "")


def test_markdown_is_one_table_that_names_cannot_break():
    set_ = question_set(60)
    r = built(set_, both(set_, every_third, EFFORTS), note="a | b\n# <script>", provenance={"url": "http://x/_y_"})
    text = summary.markdown(r)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(EFFORTS)
    assert {row.count("|") for row in rows} == {9}
    assert r"> a \| b \# \<script\>" in text
    assert "<script>" not in text


def test_markdown_and_junit_say_how_questions_were_asked():
    set_ = question_set(9)
    asked = asked_of(set_)
    hot = asked.model_copy(update={"sampling": asked.sampling.model_copy(update={"temperature": 0.7, "seed": 3})})
    r, said = built(set_, both(set_), hot), "temperature 0.7, seed 3, at most 256 tokens"
    assert f"\n- sampling: {said}\n" in summary.markdown(r)
    properties = ElementTree.fromstring(summary.junit(r)).iter("property")
    assert {p.get("name"): p.get("value") for p in properties}["sampling"] == said


def test_efforts_stand_low_to_high_and_then_as_given_wherever_they_are_listed():
    set_ = question_set(60)
    efforts = ["xhigh", "high", "minimal", "low", "medium"]
    told = [a for e in efforts for a in both(set_, every_third, [e])]
    order = ["low", "medium", "high", "xhigh", "minimal"]
    r = built(set_, told, efforts=efforts)
    rows = re.findall(r"^\| (\w+) \|", summary.markdown(r).partition("| effort")[2], re.M)
    assert rows == order
    cases = ElementTree.fromstring(summary.junit(r)).findall("testcase[@name='accuracy']")
    assert [case.get("classname") for case in cases] == [f"evalsuite.{e}" for e in order]
    assert plan(Evaluate(efforts=efforts)).efforts == tuple(order)
