"""A training that does not fit: rows at a time are halved, long rows left out, each told, nothing learned lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import edit_rows, elsewhere, history, losses, project, same_adapter
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssDecoderLayer
from trl import SFTTrainer

from tune.errors import UserError
from tune.recipe import Recipe, Train
from tune.training import memory, train
from tune.training.backends import peft
from tune.training.fit import Kind


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """24 rows of 18 to 25 tokens."""
    return project(tmp_path_factory.mktemp("memory"), max_steps=8, save_every=2, schedule="constant", warmup_steps=1)


@pytest.fixture(scope="module")
def halved(given: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run with 2 rows at a time and 4 a step from the start."""
    made = elsewhere(given, tmp_path_factory.mktemp("halved"), batch=2, accumulate=2)
    train.train(made)
    return made


@pytest.fixture
def room_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let training raise torch's error at more than `tokens` at a time, once `after` steps are done."""
    plain = SFTTrainer.training_step

    def plant(tokens: int, after: int = -1) -> None:
        def step(self: SFTTrainer, model: object, inputs: dict[str, torch.Tensor], *more: object) -> torch.Tensor:
            began = after < 0 or (getattr(self, "started", 0) and self.state.global_step >= after)
            if began and inputs["input_ids"].numel() > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore of it")
            return plain(self, model, inputs, *more)

        monkeypatch.setattr(SFTTrainer, "training_step", step)

    return plant


def longer(row: dict[str, Any]) -> dict[str, Any]:
    """The row with 60 tokens."""
    more = 60 - len(row["input_ids"])
    return {**row, "input_ids": [3] * more + row["input_ids"], "labels": [-100] * more + row["labels"]}


def test_layers_are_recomputed_in_the_rehearsal_as_in_training(
    given: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, step, layer = peft.load, SFTTrainer.training_step, GptOssDecoderLayer.forward
    calls, taken = list[int](), list[int]()

    def recomputing(*given: Any, **named: Any) -> tuple[Any, Kind]:
        model, kind = load(*given, **named)
        return model, kind._replace(arguments={"gradient_checkpointing": True})

    def forward(*given: Any, **named: Any) -> Any:
        calls.append(1)
        return layer(*given, **named)

    def counted(self: SFTTrainer, *given: Any) -> torch.Tensor:
        before = len(calls)
        loss = step(self, *given)
        taken.append(len(calls) - before)
        return loss

    monkeypatch.setattr(peft, "load", recomputing)
    monkeypatch.setattr(SFTTrainer, "training_step", counted)
    monkeypatch.setattr(GptOssDecoderLayer, "forward", forward)
    train.train(elsewhere(given, tmp_path, max_steps=2))
    assert len(taken) > 2
    assert set(taken) == {2 * 2}  # layers, each in forward and again in backward


def test_a_batch_too_large_is_halved_and_learns_the_same(
    given: Recipe, halved: Recipe, room_for: Callable[..., None], tmp_path: Path
) -> None:
    made, said = elsewhere(given, tmp_path), list[str]()
    room_for(60)  # two rows fit, four do not
    figures = train.train(made, said.append).figures
    assert "out of memory: train.batch = 2 and train.accumulate = 2 from here on" in said
    assert (figures["batch"], figures["accumulate"], figures["steps"]) == (2, 2, 8)
    assert "rows_left_out" not in figures
    assert losses(made) == pytest.approx(losses(halved), rel=1e-5)
    assert same_adapter(made, halved)


def test_memory_that_ends_in_training_resumes_what_was_saved(
    given: Recipe, halved: Recipe, room_for: Callable[..., None], tmp_path: Path
) -> None:
    made, said = elsewhere(given, tmp_path), list[str]()

    def kill(line: str) -> None:
        said.append(line)
        if "step 5 of 8" in line:
            raise KeyboardInterrupt

    room_for(60, after=3)
    with pytest.raises(KeyboardInterrupt):
        train.train(made, kill)
    told = [line for line in said if "memory:" in line or line.startswith("resuming")]
    assert told == ["out of memory: train.batch = 2 and train.accumulate = 2 from here on", "resuming at step 2"]
    again = list[str]()
    figures = train.train(made, again.append).figures
    assert not any("memory:" in line for line in again)  # what fitted is remembered
    assert (figures["resumed_from"], figures["batch"], figures["accumulate"]) == (4, 2, 2)
    assert losses(made) == pytest.approx(losses(halved), rel=1e-5)
    assert [e["tokens"] for e in history(made) if "loss" in e] == [e["tokens"] for e in history(halved) if "loss" in e]
    assert same_adapter(made, halved)


def test_rows_that_never_fit_are_left_out_and_counted(
    given: Recipe, room_for: Callable[..., None], tmp_path: Path
) -> None:
    """In the midst of training: other rows are another training, which begins again, its base's loss too."""
    made, said = elsewhere(given, tmp_path / "long", batch=2, accumulate=2), list[str]()
    short = elsewhere(given, tmp_path / "short", batch=1, accumulate=4)
    for part, many in (("train", 10), ("eval", 1)):
        edit_rows(made, part, lambda rows, many=many: [*map(longer, rows[:many]), *rows[many:]])  # type: ignore[misc]
        edit_rows(short, part, lambda rows, many=many: rows[many:])  # type: ignore[misc]
    room_for(45, after=3)
    figures = train.train(made, said.append).figures
    assert "out of memory: train.batch = 1 and train.accumulate = 4 from here on" in said
    assert (
        "out of memory with one row: 10 of 24 rows and 1 of 4 held-out ones are over 45 tokens and left out"
        " from here on"
    ) in said
    assert (figures["rows_left_out"], figures["batch"], figures["steps"], figures["resumed_from"]) == (10, 1, 8, 0)
    wanted = train.train(short).figures
    assert figures["eval_loss_base"] == pytest.approx(wanted["eval_loss_base"], rel=1e-6)
    assert same_adapter(made, short)


def test_too_little_for_any_row_is_an_error_with_its_fix(
    given: Recipe, room_for: Callable[..., None], tmp_path: Path
) -> None:
    made = elsewhere(given, tmp_path)
    room_for(10)
    with pytest.raises(UserError) as e:
        train.train(made)
    assert e.value.what == "there is too little memory for one row of this dataset"
    assert e.value.why == "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert e.value.fix.startswith("lower dataset.max_tokens, then: tune dataset")
    assert not (made.work / "adapter").exists()


GIB = 2**30
# Held and at most with 2 rows of 1,024 tokens of a 20b on an H100; with 8 at once 14.95 GiB were measured.
MEASURED = memory.Rehearsal(0.22, round(11.87 * GIB), round(13.01 * GIB))


@pytest.mark.parametrize(
    ("found", "settings", "total", "hinted"),
    [
        (MEASURED, Train(batch=2, accumulate=4), 80, True),
        (MEASURED, Train(batch=2, accumulate=4), 20, False),  # five sixths of it are 16.7, and 16.9 are wanted
        (MEASURED, Train(batch=8, accumulate=1), 80, False),  # they are at once already
        (memory.Rehearsal(0.5, 0, 0), Train(batch=2, accumulate=4), 80, False),  # a CPU
    ],
)
def test_more_rows_at_a_time_are_hinted_at_only_where_they_fit(
    found: memory.Rehearsal, settings: Train, total: int, hinted: bool
) -> None:
    hint = memory.roomier(found, settings, total * GIB)
    assert hint.startswith("hint: train.batch = 8 and train.accumulate = 1 would fit (18 of 86 GB)") is hinted
    assert bool(hint) is hinted
