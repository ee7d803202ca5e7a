"""Base against itself: how far two equal runs differ, asked of a real server, in a file of its own."""

import base64
import json
import platform
from pathlib import Path
from typing import Any

import pytest
from arms import log, question_set, stub
from click.testing import CliRunner, Result

from evalsuite import questions, sandbox
from evalsuite.cli import main
from evalsuite.judging import power, statistics
from evalsuite.judging.policy import Policy
from evalsuite.judging.power import Planned
from evalsuite.questions import Code, Question, QuestionSet
from evalsuite.replies import answers
from evalsuite.stub.server import Fault, Model

COUNT = 40


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    questions.write(tmp_path / "work/questions.jsonl", question_set(COUNT))
    for name in ("answers.jsonl", "report.json"):
        (tmp_path / "work" / name).write_text("somebody's\n")
    return tmp_path


def noise(project: Path, url: str, settings: str, *more: str) -> Result:
    (project / "recipe.toml").write_text(f'[evaluate]\nefforts = ["low"]\nmax_tokens = 64\n{settings}\n')
    told = ["noise", "--recipe", str(project / "recipe.toml"), "--base", url, "--base-model", "base", *more]
    done = CliRunner().invoke(main, told)
    assert [(project / "work" / name).read_text() for name in ("answers.jsonl", "report.json")] == ["somebody's\n"] * 2
    return done


def test_two_runs_of_a_model_that_samples_differ_as_counted_by_hand(project: Path) -> None:
    asked = question_set(COUNT)
    with stub(project, asked, Model(accuracy=0.7, sampled=True)) as url:
        done = noise(project, url, "temperature = 1.0", "--json")
        assert done.exit_code == 0, done.output
        assert (len(log(url)), {x["seed"] for x in log(url)}) == (2 * COUNT, {0, 1})
        shown = noise(project, url, "temperature = 1.0")
        assert len(log(url)) == 2 * COUNT
    found = json.loads(done.stdout)
    told = {(a.question, a.repeat): a for a in answers.read(project / "work/noise.jsonl", asked)}
    pairs = [(told[q.id, 0], told[q.id, 1]) for q in asked.questions]
    scores, texts = (sum(getattr(a, name) != getattr(b, name) for a, b in pairs) for name in ("score", "text"))
    [row] = found["rows"]
    assert 4 < scores < 36
    assert row[1] == pytest.approx([texts, COUNT, *statistics.wilson(texts, COUNT, 0.025)])
    assert row[2] == pytest.approx([scores, COUNT, *statistics.wilson(scores, COUNT, 0.025)])
    assert row[3:] == [pytest.approx(scores / COUNT), 0]
    claims = [Planned(scores / COUNT, modules=1), Planned(1 / COUNT, modules=1)]  # readable answers never differ
    assert found["needed"] == power.needed(claims, Policy())
    for words in (
        f"{scores / COUNT:.1%}",
        f"80% of the time with about {found['needed']}",
        "40 held-out questions twice",
    ):
        assert words in shown.stdout


def test_a_model_that_repeats_itself_has_no_noise_and_repeats_of_a_recipe_are_asked_twice_too(project: Path) -> None:
    with stub(project, question_set(COUNT), Model(accuracy=0.7)) as url:
        done = noise(project, url, "temperature = 1.0\nrepeats = 2", "--json")
        assert done.exit_code == 0, done.output
        assert (len(log(url)), {x["seed"] for x in log(url)}) == (4 * COUNT, {0, 1, 2, 3})
    found = json.loads(done.stdout)
    assert [found["rows"][0][i][0] for i in (1, 2)] == [0, 0]
    assert (found["rows"][0][3], found["repeats"]) == (0.0, 2)


def with_code(project: Path) -> QuestionSet:
    held: dict[str, Any] = {"kind": "code-call", "module": "base64", "grader": "call"}
    values = [base64.b64encode(bytes([n])) for n in range(6)]
    made = tuple(
        Question(
            **held, id=f"c{n}", prompt=f"c{n}?", answer=f"base64.b64encode(bytes([{n}]))",
            code=Code(about="b64encode", source="____", value=repr(value)),
        )
        for n, value in enumerate(values)
    )  # fmt: skip
    each = QuestionSet(name="code", python=platform.python_version(), questions=made)
    questions.write(project / "work/questions.jsonl", each)
    return each


def test_answers_that_are_code_are_run_in_both_runs(project: Path) -> None:
    if sandbox.level() not in sandbox.SHUT_IN:
        pytest.skip("no sandbox can be had here")
    asked = with_code(project)
    with stub(project, asked, Model()) as url:
        done = noise(project, url, "temperature = 1.0", "--json")
    assert done.exit_code == 0, done.output
    assert [(a.score, a.repeat) for a in answers.read(project / "work/noise.jsonl", asked)].count((1.0, 1)) == 6
    assert json.loads(done.stdout)["rows"][0][2][:2] == [0, 6]


def test_where_code_cannot_be_shut_in_nothing_is_asked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = with_code(project)
    monkeypatch.setattr(sandbox, "refusal", lambda at: f"{at} is not here")
    with stub(project, asked, Model()) as url:
        done = noise(project, url, "temperature = 1.0")
        assert log(url) == []
    assert done.exit_code == 2
    assert "answers that are code cannot be run on this machine" in done.output
    assert not (project / "work/noise.jsonl").exists()


def test_where_nothing_is_answered_twice_it_says_so(project: Path) -> None:
    silent = Model(faults=(Fault(kind="401", prompt="?"),))
    with stub(project, question_set(2), silent) as url:
        questions.write(project / "work/questions.jsonl", question_set(2))
        done = noise(project, url, "")
    assert done.exit_code == 2
    assert "no question was answered in both runs" in done.output
