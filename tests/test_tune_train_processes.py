"""`tune train` with [train] gpus = 2 from end to end: two workers over gloo on the CPU, one adapter, one error."""

import os
import signal
from pathlib import Path

import pytest
from runs import history, losses, project, toml, training, until
from tiny_gptoss import replace, tensors_of

from tune.recipe import Recipe, Train
from tune.training import train


def workers(launcher: int) -> dict[str, int]:
    """The processes that a launcher started, by their RANK."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    environments = {int(pid): Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children}
    return {
        value.removeprefix(b"RANK=").decode(): pid
        for pid, environment in environments.items()
        for value in environment
        if value.startswith(b"RANK=")
    }


@pytest.mark.parametrize("native", [False, True], ids=["peft", "packed"])
def test_two_processes_learn_what_one_does_with_the_same_rows_a_step(tmp_path: Path, native: bool) -> None:
    settings = {
        "gpus": 2,
        "max_steps": 6,
        "eval_every": 4,
        "save_every": 3,
        "targets": "all" if native else "attention",
    }
    two = project(tmp_path, native=native, **settings)
    toml(two)
    with training(two) as running:
        out, error = running.communicate(timeout=300)
    assert running.returncode == 0, error
    assert out.startswith("adapter: steps 6, tokens ")
    assert out.count("\n") == 1
    lines = error.splitlines()
    assert lines[0] == "train: 2 processes on the CPU; 4 x 1 x 2 = 8 rows a step"
    assert len(set(lines)) == len(lines)  # one speaks
    assert "Warning" not in error
    assert sorted(path.name for path in two.work.iterdir()) == ["adapter", "dataset"]
    files = ["adapter.json", "adapter_config.json", "adapter_model.safetensors", "loss.jsonl", "training.html"]
    assert sorted(path.name for path in (two.work / "adapter").iterdir()) == files
    found = history(two)
    one = alone(two)
    assert losses(one) == pytest.approx([entry["loss"] for entry in found if "loss" in entry], rel=1e-4)
    looked = [entry["eval_loss"] for entry in found if "eval_loss" in entry]
    assert [entry["eval_loss"] for entry in history(one) if "eval_loss" in entry] == pytest.approx(looked, rel=1e-4)
    assert [e.get("tokens") for e in found] == [e.get("tokens") for e in history(one)]


def alone(two: Recipe) -> Recipe:
    """The same training by this process."""
    changed = Train(**{**two.train.model_dump(), "gpus": 1, "accumulate": 2})
    one = two.model_copy(update={"train": changed})
    train.train(one)
    return one


def test_an_error_of_all_workers_is_told_once(tmp_path: Path) -> None:
    made = project(tmp_path, gpus=2, max_steps=4)
    tensors = tensors_of(made.folder / "base")
    tensors["model.layers.0.self_attn.q_proj.weight"][0] = float("nan")
    replace(made.folder / "base", tensors)
    toml(made)
    with training(made) as running:
        out, error = running.communicate(timeout=300)
    assert (running.returncode, out) == (2, "")
    assert error.count("Error: the loss of the untrained base is nan\n  why: it holds NaN") == 1
    assert error.count("Error:") == 1
    assert "Traceback" not in error
    assert not (made.work / "adapter").exists()


def test_a_killed_worker_ends_all(tmp_path: Path) -> None:
    made = project(tmp_path, gpus=2, max_steps=1000, save_every=1000)
    toml(made)
    with training(made) as running:
        until(running, "step 40 of 1000")
        found = workers(running.pid)
        assert sorted(found) == ["0", "1"]
        os.kill(found["1"], signal.SIGKILL)
        out, error = running.communicate(timeout=300)
    assert (running.returncode, out) == (137, "")
    assert error.count("Error:") == 1
    assert "Error: worker 1 ended with SIGKILL\n" in error
    assert "Traceback" not in error
    assert not any(Path(f"/proc/{pid}").exists() for pid in found.values())
    assert not (made.work / "adapter").exists()
