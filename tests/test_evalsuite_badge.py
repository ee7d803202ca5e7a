"""The badge: the verdict of the report and no better one, in the page's colours, whatever a model is called."""

import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from evaluation import asked_of, both, built, evaluated, flipped, none, question_set
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.cli import main
from evalsuite.report import Report
from evalsuite.views import badge
from tune.errors import UserError

GREEN, SVG = "#17734a", "{http://www.w3.org/2000/svg}"


def reported(wrong=none, n: int = 300, **more) -> Report:
    set_ = question_set(n)
    return built(set_, both(set_, wrong), **more)


def worse(arm: str, i: int) -> bool:
    return arm == "tuned" and i % 3 == 0


def undecided() -> Report:
    set_ = question_set(30)
    return built(set_, flipped(set_, 2, 2, base_right=20))


def named(report: Report, tuned: str, base: str = "base") -> Report:
    return report.model_copy(update={"tuned_model": tuned, "base_model": base})


REPORTS = {"PASS": reported, "FAIL": lambda: reported(worse), "INCONCLUSIVE": undecided}
REPORT = reported()


@pytest.mark.parametrize("outcome", REPORTS)
def test_a_badge_says_the_verdict_and_only_a_pass_is_green(outcome, golden):
    made = REPORTS[outcome]()
    assert made.verdict.outcome == outcome
    drawn, facts = badge.svg(made), json.loads(badge.endpoint(made))
    golden(f"badge/{outcome.lower()}.svg", drawn)
    golden(f"badge/{outcome.lower()}.json", badge.endpoint(made))
    assert facts == {"schemaVersion": 1, "label": made.tuned_model, "message": f"{outcome} {made.created}",
                     "color": badge.colour(outcome.lower())[1:]}  # fmt: skip
    assert (GREEN in drawn, f"#{facts['color']}" == GREEN) == (outcome == "PASS",) * 2
    root = ElementTree.fromstring(drawn)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == root.get("aria-label")
    assert root.get("aria-label").startswith(f"{outcome} {made.created}: {made.tuned_model} against {made.base_model}")
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")


def test_servers_that_cannot_be_compared_are_no_pass_whatever_the_verdict_says():
    unfit = REPORT.evidence.model_copy(update={"unfit": ("two versions",)})
    made = REPORT.model_copy(update={"evidence": unfit})
    assert made.verdict.outcome == "PASS"
    assert GREEN not in badge.svg(made)
    assert json.loads(badge.endpoint(made))["message"].startswith("INVALID")
    assert f"#{json.loads(badge.endpoint(made))['color']}" != GREEN


def test_the_note_of_a_report_is_in_the_title():
    made = REPORT.model_copy(update={"note": "A nano proves <the path>."})
    assert ElementTree.fromstring(badge.svg(made)).findtext(f"{SVG}title").endswith(". A nano proves <the path>.")


@given(st.text(st.characters(), max_size=80), st.text(st.characters(), max_size=20))
@settings(max_examples=200)
def test_no_name_is_markup_or_a_line_of_its_own(tuned, base):
    made = named(REPORT, tuned, base)
    drawn = badge.svg(made)
    root = ElementTree.fromstring(drawn)  # well-formed, whatever it is called
    assert {e.tag.removeprefix(SVG) for e in root.iter()} == {"svg", "title", "path", "g", "text"}
    assert len(list(root.iter())) == 7
    left, right = (e.text or "" for e in root.iter(f"{SVG}text"))
    assert left == badge.name(tuned)
    assert len(left) <= badge.MOST
    assert left.isprintable()
    assert right == f"PASS {made.created}"
    assert json.loads(badge.endpoint(made))["label"] == left


def test_a_long_name_is_cut_and_a_wide_one_gets_room():
    assert badge.name("x" * 48) == "x" * 48
    assert badge.name("x" * 49) == "x" * 47 + "…"
    narrow, wide = (int(ElementTree.fromstring(badge.svg(named(REPORT, n))).get("width")) for n in ("aaaa", "模型模型"))
    assert wide - narrow == 4 * (badge.WIDE - badge.NARROW)


def test_the_colours_are_the_page_s():
    page = Path(badge.__file__).with_name("page.css").read_text()
    for outcome in ("pass", "fail", "inconclusive", "invalid"):
        assert f"--{outcome}: {badge.colour(outcome)};" in page.partition("@media")[0]


@pytest.mark.parametrize("document", ["README.md", "examples/gate.yml"])
def test_the_command_in_the_documents_writes_one(tmp_path, monkeypatch, document):
    text = (Path(__file__).parents[1] / document).read_text()
    (command,) = re.findall(r"^.*evalsuite (report work/report\.json .*--badge .*)$", text, re.M)
    set_ = question_set(300)
    evaluated(tmp_path / "work" / "report.json", set_, both(set_), asked_of(set_))
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, shlex.split(command)).exit_code == 0
    assert "PASS" in Path("work/gate.svg").read_text()


def test_the_command_writes_either_and_refuses_other_files(tmp_path):
    set_ = question_set(300)
    file = tmp_path / "report.json"
    evaluated(file, set_, both(set_), asked_of(set_))
    run = CliRunner()
    for suffix in (".svg", ".json"):
        out = tmp_path / f"badge{suffix}"
        result = run.invoke(main, ["report", str(file), "--badge", str(out)])
        assert (result.exit_code, result.stdout) == (0, "")
        assert "PASS" in out.read_text()
    refused = run.invoke(main, ["report", str(file), "--badge", str(tmp_path / "badge.png")])
    assert refused.exit_code == 2
    assert "--badge badge.svg" in refused.output
    assert not (tmp_path / "badge.png").exists()
    with pytest.raises(UserError):
        badge.render(REPORT, "")
