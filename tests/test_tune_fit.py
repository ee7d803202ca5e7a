"""One training run: gradients that are no number, looks at held-out rows, schedules, optimizers, tuned experts."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from runs import ADAPTER, edit_rows, elsewhere, half_wrong, history, losses, project, same_adapter
from safetensors.torch import load_file
from tiny_gptoss import replace, tensors_of
from trl import SFTTrainer

from tune.data.row import read
from tune.errors import UserError
from tune.recipe import Recipe
from tune.training import loading, train, watch


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return project(tmp_path_factory.mktemp("fit"), max_steps=6, schedule="constant", warmup_steps=1)


@pytest.fixture(scope="module")
def looked(given: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """24 steps with a look every 2; the loss on held-out rows falls first, then rises."""
    root = tmp_path_factory.mktemp("looked")
    made = elsewhere(given, root, max_steps=24, eval_every=2, save_every=5, warmup_steps=0)
    edit_rows(made, "eval", half_wrong)
    train.train(made)
    return made


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_gradient_that_is_no_number_stops_and_changes_nothing(
    given: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    made, plain, seen = elsewhere(given, tmp_path, save_every=1), SFTTrainer.training_step, {}

    def step(self: SFTTrainer, model: torch.nn.Module, *inputs: object) -> torch.Tensor:
        loss = plain(self, model, *inputs)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if self.state.global_step == 2:
            next(iter(trained.values())).grad[0, 0] = float(value)
            seen.update(trained)
        return loss

    monkeypatch.setattr(SFTTrainer, "training_step", step)
    with pytest.raises(UserError, match=f"the gradient of step 3 is {value}: nothing was changed by it") as e:
        train.train(made)
    assert e.value.fix == "lower train.learning_rate (it is 0.01), then: tune train"
    monkeypatch.undo()
    [saved] = (made.work / "adapter.part").glob("checkpoint-*")
    assert saved.name == "checkpoint-2"
    kept = load_file(saved / ADAPTER)
    assert len(kept) == len(seen)
    assert all(torch.equal(p.detach(), kept[name.replace(".default", "")]) for name, p in seen.items())
    slower = made.model_copy(update={"train": made.train.model_copy(update={"learning_rate": 1e-3, "max_steps": 2})})
    assert train.train(slower).figures["resumed_from"] == 0


def test_a_base_that_holds_nan_is_refused_in_the_rehearsal(given: Recipe, tmp_path: Path) -> None:
    made, said = elsewhere(given, tmp_path), list[str]()
    tensors = tensors_of(made.folder / "base")
    tensors["model.layers.1.self_attn.q_proj.weight"][0] = float("nan")
    replace(made.folder / "base", tensors)
    with pytest.raises(UserError, match=r"the loss of the untrained base is nan\n  why: it holds NaN"):
        train.train(made, said.append)
    assert not any("step 1 of" in line or line.startswith("rehearsal") for line in said)
    assert not list((made.work / "adapter.part").glob("checkpoint-*"))


def looks(made: Recipe) -> dict[int, float]:
    return {int(entry["step"]): entry["eval_loss"] for entry in history(made) if "eval_loss" in entry}


def loss_with(adapter: Path, made: Recipe) -> float:
    """The loss of a written adapter on the held-out rows, by PEFT and torch alone."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(loading.load(made.folder / "base", dtype=torch.float32), str(adapter))
    total, count = 0.0, 0
    for row in read(made.work / "dataset" / "eval.jsonl", 512):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        labels = torch.tensor(row.labels[1:])
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        count += int((labels != -100).sum())
    return total / count


def test_the_adapter_of_the_best_look_is_written(looked: Recipe) -> None:
    figures = json.loads((looked.work / "adapter" / "adapter.json").read_text())["figures"]
    found = looks(looked)
    best = min(found, key=lambda step: found[step])
    assert list(found) == list(range(2, 25, 2))
    assert best < 24
    assert found[24] > found[best] + 0.05
    assert (figures["best_step"], figures["eval_loss"], figures["steps"]) == (best, found[best], 24)
    assert loss_with(looked.work / "adapter", looked) == pytest.approx(found[best], rel=1e-5)


def test_patience_stops_early_and_says_so_once(looked: Recipe, tmp_path: Path) -> None:
    """Killed between two looks, with the best one behind it: resumed, it stops where it would have, with the same."""
    made, said = elsewhere(looked, tmp_path, patience=3, save_every=1), list[str]()
    best = min(looks(looked), key=lambda step: looks(looked)[step])
    end = next(step for step in looks(looked) if step >= best + 6)

    def kill(line: str) -> None:
        if f" step {best + 3} of " in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(made, kill)
    figures = train.train(made, said.append).figures
    assert figures["resumed_from"] in (best + 2, best + 3)
    assert [line for line in said if "training stops" in line] == [
        f"no better in 3 looks: training stops at step {end}"
    ]
    assert sum(line.startswith("held-out loss") and f" at step {end}," in line for line in said) == 1
    assert any(line.startswith(f"step {best} had the best loss on held-out rows") for line in said)
    assert (figures["steps"], figures["best_step"]) == (end, best)
    assert looks(made) == pytest.approx({step: loss for step, loss in looks(looked).items() if step <= end}, rel=1e-4)
    assert same_adapter(made, looked)


def test_work_is_saved_every_so_many_steps(given: Recipe, tmp_path: Path) -> None:
    made, seen = elsewhere(given, tmp_path, save_every=2), list[list[str]]()

    def look(line: str) -> None:
        if "step " in line and "loss" in line:
            seen.append(sorted(p.name for p in (made.work / "adapter.part").glob("checkpoint-*")))

    train.train(made, look)
    assert seen == [[], [], ["checkpoint-2"], ["checkpoint-2"], ["checkpoint-4"], ["checkpoint-4"]]


def test_without_held_out_rows_nothing_is_looked_at(given: Recipe, tmp_path: Path) -> None:
    made = elsewhere(given, tmp_path, eval_every=2, max_steps=2)
    edit_rows(made, "eval", lambda _: [])
    figures = train.train(made).figures
    assert (figures["eval_loss_base"], figures["eval_loss"], figures["best_step"]) == (None, None, None)
    assert looks(made) == {}


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("constant", [0, 0.5, 1, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0, 0.5, 1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_a_schedule_after_its_warm_up(given: Recipe, tmp_path: Path, schedule: str, wanted: list[float]) -> None:
    made = elsewhere(given, tmp_path, schedule=schedule, warmup_steps=2)
    train.train(made)
    assert [entry["lr"] / 1e-2 for entry in history(made) if "lr" in entry] == pytest.approx(wanted, abs=1e-5)


def test_an_optimizer_that_is_not_installed_is_refused(
    given: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else plain(name))
    with pytest.raises(UserError, match=r'train\.optimizer = "adamw_8bit" needs bitsandbytes'):
        train.train(elsewhere(given, tmp_path, optimizer="adamw_8bit"))


@pytest.mark.parametrize("backend", ["peft", "packed"])
def test_tuned_experts_are_trained_saved_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    whole = project(tmp_path / "whole", native=backend == "packed", targets="all", max_steps=6)
    figures = train.train(whole).figures
    killed = elsewhere(whole, tmp_path / "killed")
    monkeypatch.setattr(watch, "SAVE_SECONDS", -1)

    def kill(line: str) -> None:
        if " step 4 of " in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(killed, kill)
    again = train.train(killed).figures
    assert again["resumed_from"] in (3, 4)
    assert losses(killed) == pytest.approx(losses(whole), rel=1e-5)
    assert same_adapter(killed, whole)
    told = json.loads((whole.work / "adapter" / "adapter_config.json").read_text())
    assert told["target_parameters"] == ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    assert (figures["backend"], figures["quantized"]) == (backend, backend == "packed")
    assert figures["trainable_parameters"] == 2 * 4 * (4 * 64 + 64 + 32 + 32 + 64 + 4 * (64 + 192 + 96 + 64))
    assert 0 < figures["changed_share"] <= 1
    assert 0 < figures["relative_delta"] < 10
    assert losses(whole)[-1] < losses(whole)[0]


@pytest.mark.parametrize(("steps", "rates"), [(1, [1.0]), (4, [0.0, 0.5, 1.0, 0.5])])
def test_a_short_try_is_not_all_warm_up(given: Recipe, tmp_path: Path, steps: int, rates: list[float]) -> None:
    """A warm-up begins at a rate of 0: of five steps it would leave a single one with nothing to learn."""
    made = elsewhere(given, tmp_path, max_steps=steps, schedule="linear", warmup_steps=5)
    assert train.train(made).figures["changed_share"] > 0
    found = [entry["lr"] / made.train.learning_rate for entry in history(made) if "loss" in entry]
    assert found == pytest.approx(rates)
