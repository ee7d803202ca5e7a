"""A comparison that stops asking once no answer could lead to a PASS: what is asked, what it says, what it can be made
to say."""

import json
from pathlib import Path
from typing import Any

import pytest
from arms import BASE, TUNED, log, question_set
from click.testing import CliRunner

from evalsuite import questions, report
from evalsuite.asking.endpoint import Endpoint
from evalsuite.cli import main
from evalsuite.compare import compare, replay
from evalsuite.speed.compared import Speed
from evalsuite.stub.server import Model, Script, serving
from evalsuite.views import html, summary
from tune import artefact
from tune.errors import UserError
from tune.evaluate import Evaluate, Gated

COUNT = 60
SETTINGS = Evaluate(efforts=["low", "high"], max_tokens=64, limits=Gated(steering=False))
RUINED = Model(accuracy=0.0)


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    questions.write(tmp_path / "q.jsonl", question_set(COUNT))
    return {"settings": SETTINGS, "question_file": tmp_path / "q.jsonl", "out": tmp_path / "out"}


def ran(
    told: dict[str, Any], tuned: Model, port: int = 0, **more: Any
) -> tuple[report.Report, list[dict[str, Any]], int]:
    """The report, what was asked for it, and where."""
    models = {BASE: Model(seed="one"), TUNED: tuned}
    with serving(Script(models=models, questions=told["question_file"]), port) as url:
        arms = {"base": Endpoint(url=url, model=BASE), "tuned": Endpoint(url=url, model=TUNED)}
        made = compare(arms, **told, **more)  # type: ignore[arg-type]
        return made, log(url), int(url.split(":")[2].split("/")[0])


def test_a_ruined_model_is_asked_about_half_of_one_effort_and_everything_says_so(
    tmp_path: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = list[str]()
    told["settings"] = SETTINGS.model_copy(update={"stop_early": True})  # as a recipe says it
    made, asked, _ = ran(told, RUINED, speed=Speed(blocks=2, requests=2), progress=lines.append)
    out: Path = told["out"]
    assert (made.verdict.outcome, made.throughput) == ("INCONCLUSIVE", None)
    assert made.stopped
    assert made.stopped.of == 2 * COUNT
    assert 20 <= made.stopped.pairs <= 45
    assert len(asked) <= 2 * made.stopped.pairs + 8  # what was in flight is waited for, and kept
    assert sum(x["effort"] == "high" for x in asked) <= 2 + 8  # one pair of each effort comes first
    assert [line for line in lines if line.startswith("PASS is out of reach: low, right answers: ")]
    first = f"stopped at effort low after {made.stopped.pairs} of 120 pairs of answers: PASS is out of reach"
    assert made.verdict.reasons[0].startswith(first)
    assert "no further question" in made.verdict.reasons[0]
    markdown, junit, page = summary.markdown(made), summary.junit(made), html.render(made)
    assert first in markdown
    assert "base only guesses" not in markdown
    assert first in page
    assert html.STOPPED in page
    assert f'name="stopped" value="{made.stopped.pairs} of 120 pairs of answers"' in junit
    assert 'failure type="INCONCLUSIVE" message="low, right answers:' in junit
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["gate", str(out / "report.json")])
    assert (done.exit_code, first in done.output) == (2, True)
    assert "next: tune another" in done.output
    assert "evalsuite questions" not in done.output
    before = json.loads((out / "report.json").read_text())
    replay(**told)
    assert json.loads((out / "report.json").read_text())["verdict"] == before["verdict"]


def test_a_model_that_passes_is_asked_all_and_the_verdict_is_the_same(told: dict[str, Any]) -> None:
    equal = Model(seed="one", reasoning_tokens={"low": 5, "medium": 17, "high": 49})
    made, asked, port = ran(told, equal, stop_early=True, speed=None)
    assert (made.verdict.outcome, made.stopped, len(asked)) == ("PASS", None, 4 * COUNT)
    again, more, _ = ran(told, equal, port, speed=None)
    assert (again.verdict, more) == (made.verdict, [])


def test_a_stopped_run_goes_on_where_it_was_killed_and_is_asked_in_full_without_stopping(told: dict[str, Any]) -> None:
    made, _, port = ran(told, RUINED, stop_early=True, speed=None)
    file: Path = told["out"] / report.ANSWERS
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:30]) + whole[30][:40])  # as a kill leaves it
    assert replay(**told).verdict.outcome == "INVALID"  # nothing is settled yet
    again, asked, _ = ran(told, RUINED, port, stop_early=True, speed=None)
    assert again.stopped
    assert 0 < len(asked) <= 2 * again.stopped.pairs - 29 + 8
    lines = list[str]()
    _, asked, _ = ran(told, RUINED, port, stop_early=True, speed=None, progress=lines.append)
    assert asked == []
    assert any(line.endswith("nothing more is asked") for line in lines)
    full, asked, _ = ran(told, RUINED, port, speed=None)
    assert (full.verdict.outcome, full.stopped) == ("FAIL", None)
    assert len(asked) >= 4 * COUNT - 2 * made.stopped.pairs - 16  # type: ignore[union-attr]


def test_a_stopped_report_is_no_pass_whatever_is_written_into_it(told: dict[str, Any]) -> None:
    ran(told, RUINED, stop_early=True, speed=None)
    path: Path = told["out"] / "report.json"
    found = json.loads(path.read_text())
    assert report.read(path).verdict.outcome == "INCONCLUSIVE"

    def read(**changes: Any) -> report.Report:
        changed = {k: v for k, v in (found | changes).items() if k != "digest" and v is not None}
        made = report.Report.model_validate(changed)
        artefact.write_text(path, json.dumps({"digest": made.digest, **made.model_dump(mode="json")}))
        return report.read(path)

    passed = {"outcome": "PASS", "reasons": ["so it is"], "checks": []}
    early = {k: v for k, v in found["asked"].items() if k != "stop_early"}
    for changes in ({"verdict": passed}, {"verdict": passed, "stopped": None, "asked": early}):
        with pytest.raises(UserError, match="says PASS, and its replies do not say so"):
            read(**changes)
    with pytest.raises(UserError) as why:  # and without the word it proves nothing at all
        read(asked=early)
    assert "they give INVALID" in why.value.why
    assert read(stopped={"pairs": 119, "of": 120}).stopped != {"pairs": 119, "of": 120}


def test_the_flag_wins_over_the_recipe(tmp_path: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[Any]()

    def noted(*_: Any, stop_early: bool | None, **__: Any) -> None:
        given.append(stop_early)
        raise UserError("enough")

    monkeypatch.setattr("evalsuite.compare.compare", noted)
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text('[evaluate]\nmodules = ["ast"]\n')
    for flag in ([], ["--stop-early"], ["--no-stop-early"]):
        CliRunner().invoke(main, ["compare", "--base", "http://b/v1", "--tuned", "http://t/v1", *flag])
    assert given == [None, True, False]
