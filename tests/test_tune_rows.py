"""`tune check --rows`: every token of a row can be told trained or not, and the shares add up."""

import json
import re
import sys
from pathlib import Path

import pytest
import talking
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tune import cli, harmony
from tune.data.row import Row
from tune.harmony import IGNORE, Message
from tune.recipe import Recipe
from tune.trying import rows

WORDS = st.text(max_size=20) | st.sampled_from(["⟦x⟧", "<|start|>", " a ", "\n\n", "\x1b[31m", "\\", "🤷🏽‍♂️"])


@pytest.fixture
def project(tmp_path: Path) -> Recipe:
    (tmp_path / "recipe.toml").write_text('[base]\nmodel = "base"\n')
    made = Recipe(folder=tmp_path, base={"model": "base"})  # type: ignore[arg-type]
    talking.make_dataset(made)
    return made


def checked(project: Recipe, *words: str) -> Result:
    return CliRunner().invoke(cli.main, ["check", "--recipe", str(project.folder / "recipe.toml"), *words])


def row(user: str, thinking: str, answer: str) -> Row:
    talk = [Message(role="user", content=user), Message(role="assistant", content=answer, thinking=thinking)]
    made = harmony.render_training(talk, "low", "2026-01-01")
    return Row(id="r", page="p", effort="low", input_ids=made.ids, labels=made.labels)


def test_rows_of_each_effort_and_shares_of_all(project: Recipe) -> None:
    out = checked(project, "--rows", "1")
    assert out.exit_code == 0, out.output
    assert "\x1b" not in out.stdout
    train = [json.loads(line) for line in (project.work / "dataset/train.jsonl").read_text().splitlines()]
    every = train + [json.loads(line) for line in (project.work / "dataset/eval.jsonl").read_text().splitlines()]
    efforts = [effort for effort in harmony.EFFORTS if any(one["effort"] == effort for one in train)]
    assert re.findall(r", effort (\w+), page", out.stdout) == efforts
    assert out.stdout.count("⟦") == out.stdout.count("⟧") == len(efforts)
    tokens = sum(len(one["input_ids"]) for one in every)
    trained = sum(sum(y != IGNORE for y in one["labels"]) for one in every)
    told = {line.split()[0]: line.split()[1:] for line in out.stdout.splitlines() if line.endswith("%")}
    assert told["all"] == ["18", f"{tokens:,}", f"{trained:,}", f"{trained / tokens:.1%}"]
    assert told["prompt"][2] == "0"
    figures = {what: [int(n.replace(",", "")) for n in cells[:3]] for what, cells in told.items()}
    for groups in (("train", "eval"), harmony.EFFORTS, ("analysis", "final", "prompt")):
        sums = [sum(figures[g][n] for g in groups if g in figures) for n in (1, 2)]
        assert sums == [tokens, trained]
    assert f"{max(len(one['input_ids']) for one in every)} tokens\n" in out.stdout
    assert "rows in which nothing is trained: 0; every row" in out.stdout


def test_the_shares_as_json_and_the_option_without_a_number(project: Recipe) -> None:
    found = json.loads(checked(project, "--rows", "--json").stdout)
    assert found["problems"] == []
    assert found["findings"][0]["what"] == "all"
    assert len(re.findall(", effort low, page", checked(project, "--rows").stdout)) == 2


def test_a_folder_or_rows_and_not_both(project: Recipe) -> None:
    for words in ([], ["x", "--rows"]):
        out = checked(project, *words)
        assert out.exit_code == 2
        assert "one of them" in out.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_mask_that_is_off_is_an_error(project: Recipe, as_json: bool) -> None:
    good = Row.model_validate_json((project.work / "dataset/train.jsonl").read_text().splitlines()[-1])
    first = next(n for n, y in enumerate(good.labels) if y != IGNORE)
    talking.make_dataset(project, {"labels": good.input_ids[:first] + good.labels[first:]})
    out = checked(project, "--rows", *(["--json"] if as_json else []))
    said = json.loads(out.stdout)["problems"][0]["why"] if as_json else out.stderr
    assert out.exit_code == 2
    assert "train train-11: trains on its system message" in said
    assert "trains on its user message" in said


def test_an_edited_dataset_is_not_shown(project: Recipe) -> None:
    path = project.work / "dataset" / "eval.jsonl"
    path.write_text(path.read_text() * 2)
    assert "is not the file that dataset" in checked(project, "--rows").stderr


@settings(max_examples=80, deadline=None)
@given(WORDS, WORDS, WORDS)
def test_what_stands_in_brackets_is_what_is_trained(user: str, thinking: str, answer: str) -> None:
    one = row(user, thinking, answer)
    shown = rows.text(one, lambda line: line.text, brackets=True)
    assert (shown.count("⟦"), shown.count("⟧")) == (1, 1)
    before, _, rest = shown.partition("⟦")
    trained, _, after = rest.partition("⟧")
    assert after == ""
    assert before.endswith("<|start|>assistant")
    assert trained.startswith("<|channel|>analysis<|message|>")
    assert trained.endswith("<|return|>")
    assert all(c == "\n" or c.isprintable() for c in shown)
    control = [i for i in one.input_ids if i >= harmony.RANKS]
    assert len(re.findall(r"<\|(?:start|end|message|channel|return)\|>", shown)) == len(control)  # spelled ones are not


def test_edges_and_control_tokens_are_visible() -> None:
    shown = rows.text(row(" q\t", "<|end|>", "\none\n\ntwo "), lambda line: line.text, brackets=True)
    assert "<|message|>·q⇥<|end|>" in shown
    assert "<|message|><\\|end|><|end|>" in shown
    assert "final<|message|>⏎\none\n\ntwo·<|return|>⟧" in shown


def test_colour_on_a_terminal_alone_and_only_if_it_is_wanted(project: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = "\n".join(rows.findings(project, 1, as_json=False))
    assert "⟦" not in shown
    green = "".join(re.findall(r"\x1b\[32m(.*?)\x1b\[0m", shown))
    assert green.startswith("<|channel|>analysis<|message|>")
    assert "<|return|>" in green
    assert "\x1b[2msystem\x1b[0m" in shown
    monkeypatch.setenv("NO_COLOR", "1")
    shown = "\n".join(rows.findings(project, 1, as_json=False))
    assert "\x1b" not in shown
    assert "⟦<|channel|>" in shown
