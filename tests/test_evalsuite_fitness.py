"""Two servers that cannot be compared: asked nothing, INVALID, and why on every view."""

import json
from pathlib import Path
from typing import Any

import pytest
from arms import log, question_set
from click.testing import CliRunner, Result

from evalsuite import questions, report
from evalsuite.cli import main
from evalsuite.judging.gate import EXIT
from evalsuite.replies.server import Server
from evalsuite.stub.server import Model, Script, serving
from tune.errors import UserError

UNLIKE = (
    "base is served by engine version 0.10.2, tuned by 0.11.0: serve both with one version, or compare with "
    "--allow-unlike-servers"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text('[evaluate]\nefforts = ["low", "high"]\nmax_tokens = {low = 32, high = 64}\n')
    (tmp_path / "work").mkdir()
    questions.write(tmp_path / "work" / "questions.jsonl", question_set(4))  # of four words at most, "End so." included
    return tmp_path / "work"


def compared(folder: Path, base: dict[str, Any], tuned: dict[str, Any], *more: str) -> tuple[Result, int]:
    """What the command did, and how often questions were asked. Of an arm: `length`, and what a Script takes."""
    made = []
    for name, told in (("a", dict(base)), ("b", dict(tuned))):
        models = {name: Model(max_model_len=told.pop("length", None), seed="1", voice=name)}
        made.append(Script(models=models, questions=folder / "questions.jsonl", **told))
    with serving(made[0]) as one, serving(made[1]) as two:
        done = CliRunner().invoke(main, ["compare", "--no-speed", "--base", one, "--tuned", two, *more])
        return done, len(log(one)) + len(log(two))


@pytest.mark.parametrize(
    ("base", "tuned", "reason"),
    [
        ({"version": "0.10.2"}, {"version": "0.11.0"}, UNLIKE),
        ({"length": 4000}, {"length": 67}, "tuned is served with max_model_len 67, and the longest question needs at "
         "least 4 tokens and its reply at effort high up to 64: serve it with --max-model-len 68 or more"),
    ],
)  # fmt: skip
def test_servers_that_cannot_be_compared_are_asked_nothing_and_every_view_says_why(
    folder: Path, base: dict[str, Any], tuned: dict[str, Any], reason: str
) -> None:
    done, sent = compared(folder, base, tuned)
    assert (done.exit_code, sent) == (3, 0), done.output
    assert f"nothing is asked: {reason}" in done.stderr
    made = report.read(folder / "report.json")
    assert made.verdict.outcome == "INVALID"
    assert len(made.verdict.reasons) == 1, "what follows from asking nothing is no reason of its own"
    assert made.verdict.reasons[0].startswith(reason)
    gate = CliRunner().invoke(main, ["gate", "work/report.json"])
    assert (gate.exit_code, reason in gate.stdout) == (3, True)
    CliRunner().invoke(main, ["report", "work/report.json", "--html", "p", "--junit", "j", "--markdown", "m"])
    for view in ("p", "j", "m"):
        text = Path(view).read_text().replace("\\_", "_")
        assert reason in text, view
    replayed = CliRunner().invoke(main, ["compare", "--replay"])
    assert replayed.exit_code == 3
    assert report.read(folder / "report.json").verdict == made.verdict


@pytest.mark.parametrize(
    ("base", "tuned"),
    [
        ({"version": "0.11.0"}, {"version": "0.11.0"}),
        ({}, {"version": "0.11.0"}),  # a hosted provider, and one's own: unknown is not unlike
        ({}, {"digest": "1" * 64}),
        ({"length": 68}, {"length": 4000}),
        ({}, {"length": 68}),
    ],
)
def test_what_does_not_matter_or_is_unknown_is_no_reason(
    folder: Path, base: dict[str, Any], tuned: dict[str, Any]
) -> None:
    done, sent = compared(folder, base, tuned)
    assert (done.exit_code, sent) == (0, 16), done.output
    assert "unfit" not in json.loads((folder / "report.json").read_text())["evidence"]


def test_unlike_servers_may_be_allowed_and_the_report_says_so(folder: Path) -> None:
    done, sent = compared(folder, {"version": "0.10.2"}, {"version": "0.11.0"}, "--allow-unlike-servers")
    assert (done.exit_code, sent) == (0, 16), done.output
    made = report.read(folder / "report.json")
    assert made.asked.unlike_allowed
    assert made.note.endswith("Unlike servers were allowed: base is served by engine version 0.10.2, tuned by 0.11.0.")
    assert made.note in done.stdout
    assert CliRunner().invoke(main, ["compare", "--replay"]).exit_code == 0
    assert report.read(folder / "report.json").asked == made.asked


def test_a_recipe_can_forbid_it_whatever_flag_was_given(folder: Path) -> None:
    """Refused before anything is asked; and what a run with the flag left is no PASS by way of a replay, of another
    recipe, or of what the report says of itself."""
    unlike = ({"version": "0.10.2"}, {"version": "0.11.0"}, "--allow-unlike-servers")
    assert compared(folder, *unlike)[0].exit_code == 0
    before, recipe = report.read(folder / "report.json"), Path("recipe.toml")
    assert before.judged.unlike == "base is served by engine version 0.10.2, tuned by 0.11.0"
    assert CliRunner().invoke(main, ["gate", "work/report.json"]).exit_code == EXIT[before.verdict.outcome]
    recipe.write_text(recipe.read_text() + "allow_unlike_servers = false\n")
    done, sent = compared(folder, *unlike)
    assert (done.exit_code, sent, "is forbidden here" in done.output) == (2, 0, True)
    gate = CliRunner().invoke(main, ["gate", "work/report.json"])
    why = f"it has unlike servers ({before.judged.unlike}), and the recipe has allow_unlike_servers = false"
    assert (gate.exit_code, why in gate.output) == (2, True)
    replayed = CliRunner().invoke(main, ["compare", "--replay"])
    assert replayed.exit_code == 3
    [reason] = report.read(folder / "report.json").verdict.reasons
    assert reason == f"{before.judged.unlike}: serve both with one version, for allow_unlike_servers is false"
    assert CliRunner().invoke(main, ["gate", "work/report.json"]).exit_code == 2  # and its servers are what they were
    same = ({"version": "0.11.0"}, {"version": "0.11.0"})
    (folder / "answers.jsonl").unlink()
    assert compared(folder, *same)[0].exit_code == 0
    assert CliRunner().invoke(main, ["gate", "work/report.json"]).exit_code != 2


def test_a_report_that_calls_its_servers_alike_is_not_believed(folder: Path) -> None:
    """Replies are filed under a server's id, which its version is a part of."""
    compared(folder, {"version": "0.10.2"}, {"version": "0.11.0"}, "--allow-unlike-servers")
    made = report.as_stored(folder / "report.json")
    base = made.asked.servers["base"].model_copy(update={"version": made.asked.servers["tuned"].version})
    asked = made.asked.model_copy(update={"servers": {**made.asked.servers, "base": base}})
    report.write(folder / "report.json", made.model_copy(update={"asked": asked}))
    with pytest.raises(UserError, match="cannot be proven"):
        report.read(folder / "report.json")


def test_too_short_a_context_is_never_allowed(folder: Path) -> None:
    done, sent = compared(folder, {"length": 67}, {}, "--allow-unlike-servers")
    assert (done.exit_code, sent) == (3, 0)


@pytest.mark.parametrize(
    "said", ["", "{", "[1]", '{"version": 3}', '{"version": "a\\u001b[2J"}', '"<html>"', '{"v": 1}']
)
def test_what_names_no_version_is_unknown(said: str) -> None:
    assert Server(url="u", model="m", version=said).engine == ""
    assert Server(url="u", model="m", version='{"version": "0.11.0", "x": 1}').engine == "0.11.0"


def test_the_length_changes_no_id() -> None:
    """It stands in what is listed, too, and answers of before are those of the same server."""
    assert Server(url="u", model="m", max_model_len=8).id == Server(url="u", model="m").id
