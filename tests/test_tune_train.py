"""The train stage with the real TRL and PEFT on a 2-layer GPT-OSS."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_gptoss import VOCABULARY, make_base, make_dataset, recipe

from tune import artefact
from tune.data.row import read
from tune.errors import UserError
from tune.recipe import Recipe, Train
from tune.status import status
from tune.training import loading, loss, train, watch


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A project with a base and rows, and nothing trained."""
    root = tmp_path_factory.mktemp("project")
    make_base(root / "base")
    made = recipe(root, train={"epochs": 3.0})
    make_dataset(made)
    return made


@pytest.fixture(scope="module")
def trained(project: Recipe) -> artefact.Artefact:
    return train.train(project)


def elsewhere(project: Recipe, root: Path, **settings: object) -> Recipe:
    """The same project in another folder, untrained."""
    for part in ("base", "work/dataset"):
        shutil.copytree(project.folder / part, root / part)
    return project.model_copy(
        update={"folder": root, "train": Train(**{**project.train.model_dump(), **settings})}  # type: ignore[arg-type]
    )


def steps_of(adapter: Path) -> list[dict[str, float]]:
    """The history's optimizer steps, without its looks at held-out rows."""
    lines = map(json.loads, (adapter / "loss.jsonl").read_text().splitlines())
    return [entry for entry in lines if "loss" in entry]


def test_what_tensorboard_reads_outlives_the_state_of_the_run(project: Recipe, tmp_path: Path) -> None:
    made = elsewhere(project, tmp_path, max_steps=3)

    def written(line: str) -> None:
        if line.startswith("loading"):  # as transformers does, below its output_dir
            events = made.work / "adapter.part" / "runs" / "day_host"
            events.mkdir(parents=True)
            (events / "events.out").write_text("curve")

    found = train.train(made, written)
    assert (made.work / "adapter" / "runs" / "day_host" / "events.out").read_text() == "curve"
    assert "runs/day_host/events.out" in found.files
    assert not (made.work / "adapter.part").exists()


def test_an_adapter_that_has_learned(project: Recipe, trained: artefact.Artefact) -> None:
    figures, folder = trained.figures, project.work / "adapter"
    assert figures["steps"] == 18
    assert figures["last_loss"] < figures["first_loss"]
    assert figures["eval_loss"] < figures["eval_loss_base"] - 0.1
    assert figures["trainable_parameters"] == 2 * 4 * (4 * 64 + 64 + 32 + 32 + 64)
    assert figures["delta_norm"] > 0
    assert 0 < figures["changed_share"] <= 1
    history = steps_of(folder)
    rows = [json.loads(line) for line in (project.work / "dataset" / "train.jsonl").read_text().splitlines()]
    assert [e["step"] for e in history] == list(range(1, 19))
    assert history[-1]["tokens"] == figures["tokens"] == 3 * sum(len(r["input_ids"]) for r in rows)  # none is padding
    assert sorted(trained.files) == ["adapter_config.json", "adapter_model.safetensors", "loss.jsonl", "training.html"]
    assert not (project.work / "adapter.part").exists()
    assert str(project.folder) not in (folder / "adapter_config.json").read_text()


def test_a_finished_adapter_is_kept_until_its_inputs_change(project: Recipe, trained: artefact.Artefact) -> None:
    said: list[str] = []
    assert train.train(project, said.append) == trained
    assert said == ["adapter: 18 steps are done already"]
    assert "stale" not in {row.what: row for row in status(project).rows}["adapter"].figures


def test_labels_are_used_as_given_and_nothing_else_is_in_the_loss(project: Recipe, trained: artefact.Artefact) -> None:
    """The reported loss of the base is plain cross entropy over the labels: no router loss (0.9 in the config)."""
    model = loading.load(project.folder / "base", dtype=torch.float32)
    rows = [json.loads(line) for line in (project.work / "dataset" / "eval.jsonl").read_text().splitlines()]
    total, count = 0.0, 0
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row["input_ids"]]), output_router_logits=False).logits[0, :-1]
        labels = torch.tensor(row["labels"][1:])
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        count += int((labels != -100).sum())
    assert trained.figures["eval_loss_base"] == pytest.approx(total / count, rel=1e-5)


def test_a_killed_run_resumes_to_the_same_adapter(
    project: Recipe, trained: artefact.Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = elsewhere(project, tmp_path)
    monkeypatch.setattr(watch, "SAVE_SECONDS", -1)  # save at every step

    def kill(line: str) -> None:
        if " step 9 of " in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(again, kill)
    assert not (again.work / "adapter").exists()
    newest = max((again.work / "adapter.part").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    torn = newest.with_name("checkpoint-99")  # killed while saving
    shutil.copytree(newest, torn)
    (torn / "trainer_state.json").write_text("{")
    resumed = train.train(again)
    assert resumed.figures["resumed_from"] in (8, 9)
    assert resumed.figures["eval_loss_base"] == trained.figures["eval_loss_base"]
    assert resumed.figures["tokens"] == trained.figures["tokens"]
    file = "adapter/adapter_model.safetensors"
    one, other = load_file(project.work / file), load_file(again.work / file)
    assert all(torch.allclose(one[k], other[k], rtol=1e-4, atol=1e-6) for k in one)


def test_a_run_killed_after_its_last_step_trains_no_further(
    project: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    again, evaluate = elsewhere(project, tmp_path, max_steps=2), Trainer.evaluate

    def killed(self: Trainer, **given: object) -> dict[str, float]:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        found: dict[str, float] = evaluate(self, **given)
        return found

    monkeypatch.setattr(Trainer, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train(again)
    monkeypatch.undo()
    [last] = (again.work / "adapter.part").glob("checkpoint-*")
    wanted = load_file(last / "adapter_model.safetensors")
    resumed = train.train(again).figures
    assert (resumed["steps"], resumed["resumed_from"]) == (2, 2)
    assert resumed["eval_loss"] < resumed["eval_loss_base"]
    got = load_file(again.work / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(got[name], tensor) for name, tensor in wanted.items())


def test_every_setting_of_training_is_heeded(project: Recipe, tmp_path: Path) -> None:
    other = elsewhere(project, tmp_path, epochs=2.0, accumulate=2, warmup_steps=3, schedule="cosine", alpha=32, rank=2)
    figures = train.train(other).figures
    assert figures["steps"] == 2 * 24 / (4 * 2)
    history = steps_of(other.work / "adapter")
    peak = other.train.learning_rate
    assert [e["lr"] / peak for e in history][:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])  # then the cosine
    assert history[5]["lr"] < history[4]["lr"] < peak
    told = json.loads((other.work / "adapter" / "adapter_config.json").read_text())
    assert (told["lora_alpha"], told["r"]) == (32, 2)


def test_an_adapter_that_changes_nothing_is_refused(project: Recipe, tmp_path: Path) -> None:
    idle = elsewhere(project, tmp_path, learning_rate=1e-12, max_steps=2)
    with pytest.raises(UserError, match="changes nothing"):
        train.train(idle)
    assert not (idle.work / "adapter").exists()


def test_the_loss_over_rows_that_are_alike_is_the_loss_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weight = torch.randn(300, 16)
    weight[120:] = weight[120]
    labels = torch.randint(0, 300, (40,))
    hidden = torch.randn(40, 16, requires_grad=True)
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.T, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(wanted, hidden)
    for logits in (1 << 24, 121 * 7):  # in one part, in six
        monkeypatch.setattr(loss, "LOGITS", logits)
        head = loss.CpuHead(weight)
        assert head.rows.shape == (121, 16)
        found = head.loss(hidden, labels)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(torch.autograd.grad(found, hidden)[0], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"input_ids": [3, 4, 5], "labels": [-100, 4]}, "differ in length"),
        ({"input_ids": [3, 4, 5], "labels": [-100, 9, 5]}, "not in input_ids"),
        ({"input_ids": [3, 4, 5], "labels": [3, -100, -100]}, "nothing is learned"),
        ({"input_ids": [3, 4, VOCABULARY], "labels": [-100, 4, VOCABULARY]}, "vocabulary of 512"),
        ({"input_ids": [3, 4]}, "Field required"),
    ],
)
def test_a_row_that_is_none_is_named_by_line(tmp_path: Path, ids: dict[str, list[int]], said: str) -> None:
    path = tmp_path / "train.jsonl"
    about = {"id": "p#section-0", "page": "p", "effort": "low"}
    good = {**about, "input_ids": [3, 4], "labels": [-100, 4]}
    path.write_text(json.dumps(good) + "\n" + json.dumps({**about, **ids}) + "\n")
    with pytest.raises(UserError, match=rf"train\.jsonl:2 (.|\n)*{said}"):
        read(path, VOCABULARY)


def test_an_edited_dataset_is_refused(project: Recipe, tmp_path: Path) -> None:
    edited = elsewhere(project, tmp_path)
    path = edited.work / "dataset" / "train.jsonl"
    path.write_text(path.read_text() + path.read_text())
    with pytest.raises(UserError, match="is not the file that dataset"):
        train.train(edited)
    other = edited.model_copy(update={"dataset": edited.dataset.model_copy(update={"max_tokens": 99})})
    with pytest.raises(UserError, match=r"is not the dataset of this recipe\n  why: .*max_tokens"):
        train.train(other)
    shutil.rmtree(edited.work / "dataset")
    with pytest.raises(UserError, match="tune dataset"):
        train.train(edited)
