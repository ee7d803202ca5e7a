"""`tune try` with a model that speaks, in memory: its adapter off and on, one after the other and side by side."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import talking
import torch
from click.testing import CliRunner, Result
from talking import RULED, SAYS

from tune import checkpoint, cli, harmony
from tune.errors import UserError
from tune.harmony import CALL, CHANNEL, MESSAGE, RETURN
from tune.recipe import Recipe
from tune.trying import compare, local, show
from tune.trying.questions import held_out
from tune.trying.take import Question, Reply, Sampling, Take


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return talking.make(tmp_path_factory.mktemp("try"))


@pytest.fixture(scope="module")
def sides(project: Recipe) -> dict[str, local.Local]:
    return local.of_recipe(project, tuned=True)


def tried(project: Recipe, *words: str) -> Result:
    return CliRunner().invoke(cli.main, ["try", "--recipe", str(project.folder / "recipe.toml"), *words])


def one(voice: local.Local, sampling: Sampling, question: str = "What is it?", effort: harmony.Effort = "low") -> Reply:
    take = Take("base", voice, effort, 1)
    voice.speak(Question(prompt=question), take, sampling)
    take.close()
    return take.reply


def test_one_model_speaks_with_its_adapter_off_and_on(sides: dict[str, local.Local]) -> None:
    base, tuned = one(sides["base"], Sampling(max_tokens=200)), one(sides["tuned"], Sampling(max_tokens=20))
    assert sides["base"]._model is sides["tuned"]._model
    assert (base.answer, base.ended) == (SAYS, "ended")
    assert base.answer_tokens == len(harmony.encode(SAYS))
    assert base.thinking_tokens == len(harmony.encode(base.thinking)) > 0
    assert base.tokens == base.thinking_tokens + base.answer_tokens + 10  # the format's own
    assert base.first_answer_s is not None
    assert 0 < base.first_answer_s <= base.seconds
    assert tuned.answer != SAYS
    assert one(sides["base"], Sampling(max_tokens=200)).answer == SAYS  # it was off again


def test_what_is_heard_is_what_harmony_parses_and_efforts_differ(sides: dict[str, local.Local]) -> None:
    thinking = {}
    for effort in harmony.EFFORTS:
        reply = one(sides["base"], Sampling(max_tokens=200), effort=effort)
        thinking[effort] = reply.thinking_tokens
        assert reply.answer == SAYS
    assert thinking["low"] < thinking["medium"] < thinking["high"]


def test_a_reply_is_cut_at_its_longest(sides: dict[str, local.Local]) -> None:
    reply = one(sides["base"], Sampling(max_tokens=5))
    assert (reply.tokens, reply.ended, reply.answer, reply.first_answer_s) == (5, "cut", "", None)


def test_a_temperature_follows_its_seed(sides: dict[str, local.Local], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []

    class Ear:
        def __init__(self, take: Take) -> None:
            drawn.append([])

        def put(self, value: torch.Tensor) -> None:
            drawn[-1] += value.flatten().tolist()

        def end(self) -> None: ...

    monkeypatch.setattr(local, "_ear", Ear)
    for temperature, seed in ((9.0, 1), (9.0, 1), (9.0, 2), (0.0, 1), (0.0, 2)):
        one(sides["base"], Sampling(max_tokens=6, temperature=temperature, seed=seed))
    first, again, other, greedy, too = drawn
    assert first == again
    assert greedy == too
    assert first not in (other, greedy)


@pytest.mark.parametrize(
    ("ids", "thinking", "answer", "ended"),
    [
        ([CHANNEL, 17196, MESSAGE, *harmony.encode("🤷🏽 hé"), RETURN], "", "🤷🏽 hé", "ended"),
        ([CHANNEL, 17196, MESSAGE, 5, CALL], "", harmony.decode([5]), "ended"),
        ([CHANNEL, 35644, MESSAGE, 5, harmony.END, 6, 7], harmony.decode([5]), "", "malformed"),  # no <|start|>
        ([*harmony.encode("no header at all"), RETURN], "", "", "malformed"),
    ],
)
def test_a_streamer_hears_channels(ids: list[int], thinking: str, answer: str, ended: str) -> None:
    take = Take("base", local.Local("x", None, "2026-01-01"), "low", 1)
    ear = local._ear(take)
    ear.put(torch.tensor([[1, 2, 3]]))  # the prompt
    for i in ids:
        ear.put(torch.tensor([i]))
    ear.end()
    assert (take.text(True), take.text(False), take.ended, take.tokens) == (thinking, answer, ended, len(ids))


def test_a_stranger_types_tune_try(project: Recipe) -> None:
    """Held-out questions with the data's answer, base and tuned at three efforts each, and a table."""
    out = tried(project, "--max-tokens", "2")
    assert out.exit_code == 0, out.output
    assert "question 1 of 2, held out, eval-0" in out.stdout
    assert talking.asked(project)[0] in out.stdout
    assert out.stdout.count("the data's answer: ") == 2
    assert out.stdout.count("base: gpt-oss@") == out.stdout.count("tuned: python-docs, adapter ") == 6
    table = [line.split() for line in out.stdout.rstrip().splitlines()[-13:]]
    assert table[0] == [
        "question",
        "effort",
        "side",
        "thinking",
        "answer",
        "seconds",
        "tokens/s",
        "first",
        "answer",
        "end",
    ]
    assert [tuple(line[:3]) for line in table[1:]] == [
        (n, effort, side) for n in "12" for effort in harmony.EFFORTS for side in ("base", "tuned")
    ]
    assert "\x1b" not in out.output


def test_thinking_and_answer_stream_apart(project: Recipe) -> None:
    out = tried(project, "What?", "--effort", "low", "--max-tokens", "40")
    assert f"\nanswer: {SAYS}\n(" in out.stdout
    assert out.stdout.index("\nthinking: ") < out.stdout.index("\nanswer: ")
    assert "first answer token after " in out.stdout


def test_a_typed_question_as_json(project: Recipe) -> None:
    out = tried(project, "What?", "Why?", "--effort", "low", "--max-tokens", "30", "--json")
    told = json.loads(out.stdout)
    assert [q["prompt"] for q in told["questions"]] == ["What?", "Why?"]
    assert [(r["question"], r["effort"], r["side"]) for r in told["replies"]] == [
        (1, "low", "base"), (1, "low", "tuned"), (2, "low", "base"), (2, "low", "tuned")
    ]  # fmt: skip
    assert [r["answer"] for r in told["replies"] if r["side"] == "base"] == [SAYS, SAYS]
    assert "thinking: " in out.stderr  # it streams there


def test_held_out_questions_are_of_different_pages_and_carry_the_rule(project: Recipe) -> None:
    found = held_out(project, None)
    lines = (project.work / "dataset" / "eval.jsonl").read_text().splitlines()
    rows = {row["id"]: row for row in map(json.loads, lines)}
    assert len({rows[q.source]["page"] for q in found}) == len(found) == 2
    for question in found:
        turns = [*([harmony.Message(role="developer", content=question.developer)] if question.developer else [])]
        turns += talking.prompt(question.prompt)
        row = rows[question.source]
        ids = harmony.render_prompt(turns, row["effort"], "2026-01-01")
        assert row["input_ids"][: len(ids)] == ids
        assert question.reference in (SAYS, RULED)


def test_a_checkpoint_folder_for_either_side(project: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    shutil.copytree(project.folder / "base", folder)
    facts = {"name": "m", "base": "b", "format": "merged", "prompt_date": "2026-01-01"}
    made = checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})  # type: ignore[arg-type]
    out = tried(
        project,
        "What?",
        "--effort",
        "low",
        "--base",
        str(folder),
        "--tuned",
        str(folder),
        "--max-tokens",
        "40",
        "--json",
    )
    assert [(r["model"], r["answer"]) for r in json.loads(out.stdout)["replies"]] == [(made.served_name, SAYS)] * 2
    shutil.rmtree(folder)
    shutil.copytree(project.folder / "base", folder)
    checkpoint.finish(folder, **{**facts, "format": "lora"}, inputs={}, settings={}, figures={})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="cannot speak by itself"):
        local.of_folder(folder)
    assert "holds no finished checkpoint" in tried(project, "What?", "--tuned", str(tmp_path)).stderr


def refused(project: Recipe, tmp_path: Path, spoil: Callable[[Recipe], None], *words: str) -> str:
    for part in ("base", "work"):
        shutil.copytree(project.folder / part, tmp_path / part)
    shutil.copy(project.folder / "recipe.toml", tmp_path)
    other = project.model_copy(update={"folder": tmp_path})
    spoil(other)
    out = tried(other, *words)
    assert out.exit_code == 2, out.output
    return out.stderr


def test_an_adapter_that_is_not_there_or_of_something_else(project: Recipe, tmp_path: Path) -> None:
    def one(name: str, spoil: Callable[[Recipe], None], *words: str) -> str:
        return refused(project, tmp_path / name, spoil, *words)

    (tmp_path / "x").mkdir()
    said = one("gone", lambda r: shutil.rmtree(r.work / "adapter"))
    assert "holds no finished adapter\n  fix: tune train" in said
    said = one("base", lambda r: talking.refinish(r, base="0" * 64), "What?")
    assert "is of another base\n  why: it was trained on base, the recipe's base is gpt-oss@" in said
    said = one("data", lambda r: talking.refinish(r, dataset="0" * 64))
    assert "trained on another dataset" in said
    said = one("edited", lambda r: (r.work / "adapter/adapter_config.json").write_text("{}") and None, "What?")
    assert "adapter_config.json is not the file" in said
    said = one("dataless", lambda r: shutil.rmtree(r.work / "dataset"))
    assert "fix: tune dataset" in said


def test_ctrl_c_keeps_what_was_said(project: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def press(self: show.Lines, text: str, thinking: bool) -> None:
        heard.append(text)
        if len(heard) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(show.Lines, "piece", press)
    out = tried(project, "What?", "--effort", "low")
    assert out.exit_code == 130
    (row,) = out.stdout.rstrip().splitlines()[-1:]
    assert row.split()[:4] == ["1", "low", "base", "3"]
    assert row.endswith("stopped")


class Scripted:
    """A side that says what it is told to."""

    name = "scripted"

    def __init__(self, thinking: str, answer: str) -> None:
        self.said = (thinking, answer)

    def speak(self, question: Question, take: Take, sampling: Sampling) -> None:
        for text, kind in zip(self.said, (True, False), strict=True):
            for c in text:
                take.add(c, kind)
        take.ended = "ended"


def test_two_columns_are_drawn_and_stay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes of a model never reach the terminal; the rows that stay hold both texts beside each other."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(show.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((120, 10)))
    monkeypatch.setattr(show, "PACE", -1)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    wide = show.chosen()
    assert isinstance(wide, show.Columns)
    voices = {"base": Scripted("hm", "left " * 200), "tuned": Scripted("\x1b[2J" * 3, "right 日本\x07")}
    question = Question(prompt="Q\x1b]0;owned\x07?", reference="R")
    compare.Conversation(wide).hold(voices, [question], ["low"], Sampling(max_tokens=1))  # type: ignore[arg-type]
    out = capsys.readouterr().out
    assert set(out) - {"\x1b"} == {c for c in out if c == "\n" or c.isprintable()}
    moves = [part.split("F")[0] for part in out.split("\x1b[")[1::2]]
    assert all(move.isdigit() and int(move) <= 8 for move in moves), "never above what is on the screen"
    stays = out.rpartition("\x1b[J")[2]
    assert "base: scripted" + " " * 44 + " │ tuned: scripted" in stays
    assert "hm" + " " * 56 + " │ " + r"\x1b[2J" * 3 in stays
    assert stays.count("left") == 200
    assert "│ right 日本\\x07" in stays
    monkeypatch.setattr(show.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((80, 10)))
    assert isinstance(show.chosen(), show.Lines)
