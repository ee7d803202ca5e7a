"""Two splits that are never mixed, and the gain that a recipe may require."""

from xml.etree import ElementTree

import pytest
from evaluation import Some, built, evaluated, several
from test_evalsuite_html import text_of

from evalsuite import report
from evalsuite.report import Report
from evalsuite.views import summary
from tune.evaluate import Evaluate

HELD = Some(600, 400, 8, 8)
OPEN = {"kind": "open-default"}
TAUGHT = {"kind": "open-default", "split": "taught"}
BETTER, NOTHING, WORSE = {"lost": 5, "gained": 40}, {"lost": 10, "gained": 10}, {"lost": 40, "gained": 5}


def judged(*some: Some, efforts=("low",), **more) -> Report:
    return built(*several(*some, efforts=efforts), **more)


def gain(r: Report):
    [check] = [c for c in r.verdict.checks if c.name == "gain"]
    return check


def test_a_loss_cannot_hide_in_the_other_split():
    lost, won = Some(600, 400, 90, 0), {"n": 600, "base_right": 100, "lost": 0, "gained": 400}
    r = judged(lost, Some(**won, **TAUGHT))
    assert r.verdict.outcome == "FAIL"
    assert r.of("taught")[0].difference.lower > 0.5
    r = judged(Some(**won), lost._replace(**TAUGHT))
    assert r.verdict.outcome == "PASS"
    assert r.of("taught")[0].difference.upper < -0.1
    assert {check.name for check in r.verdict.checks} == {"accuracy", "answering"}
    assert judged(Some(**won), lost._replace(**TAUGHT), require_gain=True).verdict.outcome == "FAIL"


def test_held_out_figures_are_those_of_a_set_without_taught_questions():
    alone, mixed = judged(HELD), judged(HELD, Some(300, 100, **WORSE, **TAUGHT))
    assert alone.of("taught") == ()
    assert mixed.of("held-out") == alone.comparisons
    assert mixed.verdict == alone.verdict
    assert [(c.split, c.asked, c.lost, c.gained) for c in mixed.of("taught")] == [("taught", 300, 40, 5)]
    assert (mixed.modules, alone.modules) == (("held-out",), ("held-out",))
    assert mixed.base_steering == alone.base_steering


@pytest.mark.parametrize(
    ("some", "outcome", "words"),
    [
        ([Some(200, 60, **BETTER, **TAUGHT)], "PASS", "better on taught questions (p at most 0.025)"),
        ([Some(300, 200, **BETTER, **OPEN)], "PASS", "better on open-book held-out questions (p at most 0.025)"),
        (
            [Some(200, 60, **BETTER, **TAUGHT), Some(300, 200, **BETTER, **OPEN)],
            "PASS",
            "better on taught questions and on open-book held-out questions",
        ),
        ([Some(200, 60, **BETTER, **TAUGHT), Some(300, 200, **NOTHING, **OPEN)], "PASS", "better on taught questions"),
        ([Some(200, 60, **NOTHING, **TAUGHT)], "INCONCLUSIVE", "better than base (p is over 0.025)"),
        ([Some(200, 60, **WORSE, **TAUGHT)], "FAIL", "worse than base where it had to be better"),
        ([Some(200, 60, **WORSE, **TAUGHT), Some(300, 200, **NOTHING, **OPEN)], "INCONCLUSIVE", "is not shown"),
        ([Some(200, 60, **WORSE, **TAUGHT), Some(3000, 1000, **WORSE, **OPEN)], "FAIL", "worse than base where it had"),
        ([Some(200, 60, 15, 28, **TAUGHT)], "INCONCLUSIVE", "(p = 0.033)"),  # under alpha, over its half
    ],
)  # fmt: skip
def test_a_gain_that_is_required_is_one_more_check(some, outcome, words):
    r = judged(HELD, *some, require_gain=True)
    assert gain(r).outcome == outcome
    assert words in gain(r).reason
    assert r.verdict.outcome == outcome, r.verdict.reasons
    assert gain(r).reason in r.verdict.reasons
    assert judged(HELD, *some).verdict.outcome == "PASS"


def test_a_gain_is_required_at_every_effort():
    set_, low = several(HELD, Some(200, 60, **BETTER, **TAUGHT))
    _, high = several(HELD, Some(200, 60, **NOTHING, **TAUGHT), efforts=("high",))
    r = built(set_, [*low, *high], require_gain=True, efforts=["low", "high"])
    assert [(c.effort, c.outcome) for c in r.verdict.checks if c.name == "gain"] == [
        ("low", "PASS"), ("high", "INCONCLUSIVE")
    ]  # fmt: skip
    assert r.verdict.outcome == "INCONCLUSIVE"


def test_a_gain_that_nothing_could_show_voids_the_measurement():
    r = judged(HELD, require_gain=True)
    assert (r.verdict.outcome, r.verdict.checks) == ("INVALID", ())
    assert "neither taught nor open-book questions" in r.verdict.reasons[0]
    assert 'book = "open"' in r.verdict.reasons[0]
    assert judged(HELD).verdict.outcome == "PASS"


def test_taught_questions_alone_show_nothing_of_what_was_lost():
    r = judged(Some(200, 60, **BETTER, **TAUGHT))
    assert r.verdict.outcome == "INVALID"
    assert "no held-out question was asked" in r.verdict.reasons[0]
    assert "INVALID" in text_of(r)
    assert "no held-out question" in summary.markdown(r)


@pytest.mark.parametrize("require_gain", [False, True])
def test_missing_taught_replies_void_a_gain_and_nothing_else(require_gain):
    set_, told = several(HELD, Some(200, 60, **BETTER, **TAUGHT))
    heard = [t for t in told if t.arm == "base" or int(t.question[1:]) < 790]
    r = built(set_, heard, require_gain=require_gain)
    assert r.verdict.outcome == ("INVALID" if require_gain else "PASS")
    if require_gain:
        assert r.verdict.reasons[0].startswith("taught, low: 10 of 200 questions lack a score")


def test_a_file_comes_back_with_both_splits_and_what_was_required(tmp_path):
    set_, told = several(HELD, Some(200, 60, **BETTER, **TAUGHT))
    path = tmp_path / "report.json"
    made = evaluated(path, set_, told, require_gain=True)
    assert report.read(path) == made
    assert made.judged.require_gain
    assert report.weaker(built(set_, told).judged, Evaluate(require_gain=True)) != []


def test_junit_and_the_summary_show_both_splits():
    r = judged(HELD, Some(300, 200, **NOTHING, **OPEN), Some(200, 60, **NOTHING, **TAUGHT), require_gain=True)
    failure = ElementTree.fromstring(summary.junit(r)).find("testcase[@name='gain']/failure")
    assert failure is not None
    assert failure.get("type") == "INCONCLUSIVE"
    assert [line.split(":")[0] for line in (failure.text or "").splitlines()] == [
        "taught questions", "open-book held-out questions"
    ]  # fmt: skip
    rows = [line for line in summary.markdown(r).splitlines() if line.startswith("| low")]
    assert [(row.split(" | ")[1], row.rstrip(" |").split(" | ")[-1]) for row in rows[1:]] == [
        ("taught questions", "0 of 200"), ("open-book held-out questions", "0 of 300")
    ]  # fmt: skip
    assert rows[1].split(" | ")[2:4] == ["30.0%", "30.0%"]
    assert "A gain is required:" in summary.markdown(r)
    shown = summary.markdown(judged(HELD, Some(200, 60, **NOTHING, **TAUGHT)))
    assert "These decide nothing:" in shown
    assert "Held-out questions:" not in summary.markdown(judged(HELD))


def test_the_page_shows_both_splits_apart():
    r = judged(HELD, Some(200, 60, 5, 40, **TAUGHT), efforts=("low", "high"), require_gain=True)
    text = text_of(r)
    assert "And better at what it was taught, or at reading." in text
    assert "low taught questions200 asked 30.0 % → 47.5 % +17.5" in text
    assert "5 / 40 < 0.001 PASS" in text
    assert "By kind of question, taught" in text
    assert "low 66.7 % 66.7 % high 66.7 % 66.7 % Dashed" in text  # held-out questions alone
    assert "taught, low · 5 lost, 40 gained" in text
    assert "Is tuned better?" not in text_of(judged(HELD))
    assert "These figures decide nothing" in text_of(judged(HELD, Some(200, 60, 5, 40, **TAUGHT)))
