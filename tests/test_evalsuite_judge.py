"""`evalsuite judge`: two runs of other tools in, the gate's exit code out; what is no pair of runs is INVALID."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite import judge
from evalsuite.cli import main
from evalsuite.imports.item import Item
from evalsuite.judging import paired
from evalsuite.judging.paired import Asked
from evalsuite.judging.policy import Policy

RUNS = Path(__file__).parent / "golden" / "imports"
FORMATS = {
    "lm-eval": ("lm-eval/{}/samples_sums_*.jsonl", ["--metric", "acc"]),
    "inspect": ("inspect/{}.json", []),
    "promptfoo": ("promptfoo/{}.json", []),
    "mlflow": ("mlflow/{}.json", []),
    "mlflow genai": ("mlflow/genai-{}.json", []),
    "jsonl": ("jsonl/{}.jsonl", []),
}
Rows = list[dict[str, Any]]


def run(kind: str, arm: str) -> Path:
    (path,) = RUNS.glob(FORMATS[kind][0].format(arm))
    return path


def judged(*args: object, code: int) -> Result:
    done = CliRunner().invoke(main, ["judge", *map(str, args)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[Rows], object]], Path]:
    """A run of jsonl that would pass, and what was done to its rows."""

    def change(edit: Callable[[Rows], object]) -> Path:
        rows = [json.loads(line) for line in run("jsonl", "passes").read_text().splitlines()]
        edit(rows)
        path = tmp_path / "changed.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return change


@pytest.mark.parametrize("told", [True, False], ids=["named", "told"])
@pytest.mark.parametrize(("arm", "code", "outcome"), [("passes", 0, "PASS"), ("fails", 1, "FAIL")])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_tool_has_a_run_that_passes_and_one_that_fails(kind, arm, code, outcome, told):
    options = [*FORMATS[kind][1], *(["--format", kind.split()[0]] if told else [])]
    pair = ["--base", run(kind, "base"), "--tuned", run(kind, arm), "--margin", 0.1]
    assert judged(*pair, *options, code=code).stdout.startswith(f"{outcome}: ")
    found = json.loads(judged(*pair, *options, "--json", code=code).stdout)
    lost, gained = (0, 1) if arm == "passes" else (10, 0)
    assert (found["format"], found["verdict"]["outcome"]) == (kind.split()[0], outcome)
    assert (found["right"]["lost"], found["right"]["gained"], found["right"]["paired"]) == (lost, gained, 40)


def test_what_is_not_shown_is_inconclusive_and_says_how_many_items_would_show_it():
    pair = ["--base", run("jsonl", "base"), "--tuned", run("jsonl", "passes")]
    said = judged(*pair, "--margin", 0.04, code=2).stdout
    assert said.startswith("INCONCLUSIVE")
    assert "two equal models would need about" in said


def test_the_bounds_are_the_gates(tmp_path):
    found = json.loads(
        judged("--base", run("jsonl", "base"), "--tuned", run("jsonl", "fails"), "--json", code=1).stdout
    )
    sides = [[json.loads(line) for line in run("jsonl", arm).read_text().splitlines()] for arm in ("base", "fails")]
    asked = [Asked("", b["module"], 0.0, (b["right"], t["right"])) for b, t in zip(*sides, strict=True)]
    assert found["right"] == json.loads(paired.group(asked, 0.05).model_dump_json())


def test_margin_and_alpha_come_of_a_recipe_that_asks_for_no_more(tmp_path):
    recipe = tmp_path / "recipe.toml"
    pair = ["--base", run("jsonl", "base"), "--tuned", run("jsonl", "passes"), "--recipe", recipe]
    for margin, code in ((0.1, 0), (0.04, 2)):
        recipe.write_text(f"[evaluate]\nmargin = {margin}\n")
        judged(*pair, code=code)
    recipe.write_text("[evaluate]\nmargin = 0.1\nrequire_gain = true\n[evaluate.limits]\nempty = 0.1\n")
    assert "limits.empty, require_gain" in judged(*pair, code=2).stderr
    assert "leave out --margin" in judged(*pair, "--margin", 0.1, code=2).stderr


def test_one_file_is_not_two_runs():
    assert (
        "as base and as tuned" in judged("--base", run("jsonl", "base"), "--tuned", run("jsonl", "base"), code=2).stderr
    )


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda rows: rows.append(rows[0]), "tuned has 1 item more than once, such as q1"),
        (lambda rows: rows.__delitem__(slice(0, 2)), "in no file: base 0, tuned 2"),
        (lambda rows: [row.update(right=None) for row in rows[:2]], "without a score: base 0, tuned 2"),
        (lambda rows: [row.update(right=float("nan")) for row in rows[:2]], "without a score: base 0, tuned 2"),
        (lambda rows: [row.update(id=f"x{row['id']}") for row in rows], "no item is in both runs"),
        (lambda rows: rows[0].update(module="others"), "1 item is of another module"),
        (lambda rows: [row.pop("module") for row in rows], "base alone says which items go together"),
    ],
    ids=["twice", "missing", "no score", "NaN", "others", "module", "no modules"],
)
def test_what_is_not_a_run_of_the_same_items_is_void(changed, edit, said):
    out = judged("--base", run("jsonl", "base"), "--tuned", changed(edit), "--margin", 0.1, code=3).stdout
    assert out.startswith("INVALID")
    assert said in out


def test_runs_of_two_tools_are_no_pair():
    base = ["--base", run("lm-eval", "base"), "--metric", "acc"]
    said = judged(*base, "--tuned", run("promptfoo", "passes"), code=2).stderr
    assert "passes.json cannot be judged" in said
    assert "why: it is of promptfoo, and the other run of lm-eval: two tools' items are no pairs" in said
    said = judged("--base", run("jsonl", "base"), "--tuned", run("inspect", "passes"), code=2).stderr
    assert "it is of inspect, and the other run of jsonl" in said


def test_one_item_is_one():
    one = [Item("q", "", True)]
    assert "1 item of both, 1 module;" in judge.words(judge.judge(one, one, Policy()), "base", "tuned")
    assert "1 of 1 item lacks a score" in judge.judge(one, [Item("q", "", None)], Policy()).verdict.reasons[0]


def test_few_missing_items_count_at_their_worst():
    base = [Item(f"q{n}", "", True) for n in range(400)]
    tuned = [item._replace(right=None) if n < 4 else item for n, item in enumerate(base)]
    found = judge.judge(base, tuned, Policy(margin=0.05))
    assert found.verdict.outcome == "PASS"
    assert "4 of 400 are missing and count at their worst" in found.verdict.reasons[0]
    assert found.right
    assert found.right.difference.lower < judge.judge(base, base, Policy()).right.difference.lower


@pytest.mark.parametrize("kind", ["lm-eval", "inspect", "promptfoo"])
def test_another_prompt_under_one_id_is_void(kind, tmp_path):
    path = tmp_path / run(kind, "passes").name
    written = run(kind, "passes").read_text()
    old, new = ('"prompt_hash": "', '"prompt_hash": "0') if kind == "lm-eval" else ("What is 3 + 2?", "What is 2 + 3?")
    assert old in written
    path.write_text(written.replace(old, new, 3))
    out = judged("--base", run(kind, "base"), "--tuned", path, *FORMATS[kind][1], "--margin", 0.1, code=3).stdout
    assert re.search("asks? or expects? something else", out)


def test_the_same_replies_are_no_second_model(tmp_path):
    path = tmp_path / "copy.json"
    shutil.copy(run("inspect", "base"), path)
    assert "word for word" in judged("--base", run("inspect", "base"), "--tuned", path, code=3).stdout


def test_a_graded_score_is_refused_until_it_is_said_what_is_right(changed):
    graded = changed(lambda rows: [row.update(right=0.75 if row["right"] else 0.25) for row in rows])
    pair = ["--base", run("jsonl", "base"), "--tuned", graded, "--margin", 0.1]
    said = judged(*pair, code=2).stderr
    assert "has the score 0.75" in said
    assert "--right-at 0.5" in said
    judged(*pair, "--right-at", 0.5, code=0)


def test_of_several_scores_one_has_to_be_named():
    pair = ["--base", run("lm-eval", "base"), "--tuned", run("lm-eval", "passes"), "--margin", 0.1]
    said = judged(*pair, code=2).stderr
    assert "acc,none, acc_norm,none" in said
    assert "--metric acc,none" in said
    judged(*pair, "--metric", "acc_norm,none", code=0)
    assert "no score named f1" in judged(*pair, "--metric", "f1", code=2).stderr


def test_items_go_together_by_a_key():
    pair = ["--base", run("inspect", "base"), "--tuned", run("inspect", "fails")]
    for key, modules in (("topic", 4), ("metadata.topic", 4), ("target", 40)):
        found = json.loads(judged(*pair, "--module", key, "--json", code=1).stdout)
        assert found["modules"] == modules, key
    assert "has no colour" in judged(*pair, "--module", "colour", code=2).stderr


def test_questions_that_were_asked_twice_go_together():
    """Ten epochs of eight questions are not eighty: what is lost at one of them shows little of others."""

    def side(lost: int) -> list[Item]:
        return [Item(f"{q}/{e}", "task", q >= lost, prompt=str(q)) for q in range(8) for e in range(10)]

    found = judge.judge(side(0), side(1), Policy(margin=0.05))
    assert found.modules == 8
    assert found.verdict.outcome == "INCONCLUSIVE"
    apart = [item._replace(prompt="") for item in side(0)], [item._replace(prompt="") for item in side(1)]
    assert judge.judge(*apart, Policy(margin=0.05)).verdict.outcome == "FAIL"


def test_where_base_only_guesses_not_being_worse_shows_nothing():
    base = [Item(f"q{n}", "", n % 4 == 0, chance=0.25) for n in range(400)]
    found = judge.judge(base, base, Policy(margin=0.05)).verdict
    assert found.outcome == "INCONCLUSIVE"
    assert "blind guessing gets 25.0%" in found.reasons[0]
    knows = [item._replace(right=n % 4 < 3) for n, item in enumerate(base)]
    assert judge.judge(base, knows, Policy()).verdict.outcome == "PASS"
    assert judge.judge(base, [item._replace(right=False) for item in base], Policy()).verdict.outcome == "FAIL"


def test_the_commonest_answer_is_a_guess_but_a_key_that_all_share_is_none():
    base = [Item(f"q{n}", "", n % 10 < 9, answer="yes" if n % 10 < 9 else "no") for n in range(200)]
    assert judge.judge(base, base, Policy()).verdict.outcome == "INCONCLUSIVE"
    assert judge.judge(*[[i._replace(answer="tests") for i in base]] * 2, Policy()).verdict.outcome == "PASS"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([True, False, None]), st.sampled_from([True, False, None])), min_size=1, max_size=40
    )
)
def test_any_two_runs_get_a_verdict_with_a_reason(sides):
    base, tuned = ([Item(str(n), str(n % 3), s[arm]) for n, s in enumerate(sides)] for arm in (0, 1))
    found = judge.judge(base, tuned, Policy())
    assert found.verdict.reasons
    assert judge.words(found, "base", "tuned").startswith(found.verdict.outcome)
