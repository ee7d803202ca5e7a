"""`tune train` as the program that it is: killed and run again, twice at once, and refusals on the command line."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from runs import edit_rows, elsewhere, history, project, same_adapter, toml, training, until
from safetensors.torch import save_file

from tune import artefact, harmony
from tune.cli import main
from tune.errors import UserError
from tune.harmony import Message
from tune.recipe import Recipe
from tune.training import saving, train
from tune.training.views import advice

LINES = ["GPU ", "processor ", "memory ", "backend peft: ", "24 rows of at most ", "loading gpt-oss@", "trains "]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Long enough to be stopped between two lines of its log."""
    return project(tmp_path_factory.mktemp("kill"), max_steps=24, save_every=2, eval_every=10, accumulate=2)


def test_killed_in_the_midst_and_run_again_it_is_the_unbroken_run(given: Recipe, tmp_path: Path) -> None:
    """And while it trains, a second one in the same folder is told so at once."""
    whole, killed = elsewhere(given, tmp_path / "whole"), elsewhere(given, tmp_path / "killed")
    train.train(whole)
    toml(killed)
    with training(killed) as first:
        said = until(first, "step 3 of 24")
        first.send_signal(signal.SIGSTOP)
        with training(killed) as second:
            _, error = second.communicate(timeout=120)
        assert second.returncode == 2
        assert error.startswith(f"Error: another run is writing work/adapter\n  why: process {first.pid}, since ")
        assert error.endswith(f"  fix: wait for it, or stop it: kill {first.pid}\n")
        first.send_signal(signal.SIGCONT)
        until(first, "step 5 of 24")  # the first one goes on
        first.send_signal(signal.SIGKILL)
    assert [line.startswith(begin) for line, begin in zip(said, LINES, strict=False)] == [True] * len(LINES)
    assert said[len(LINES)].startswith("rehearsal: the longest 4 rows take ")
    assert len(said) == len(LINES) + 1 + 3  # a rehearsal, three steps: no other line, no library's warning
    with training(killed) as again:
        out, error = again.communicate(timeout=120)
    tokens = figures_of(whole)["tokens"]
    assert (again.returncode, out) == (0, f"adapter: steps 24, tokens {tokens}; next: tune export\n")
    assert "resuming at step " in error
    told = [line.removeprefix("advice: ") for line in error.splitlines() if line.startswith("advice: ")]
    assert told == advice.advice(history(killed), figures_of(killed)["eval_loss_base"])
    assert "Traceback" not in error
    assert "Warning" not in error
    for one, other in zip(history(killed), history(whole), strict=True):
        assert one.keys() == other.keys()
        assert {k: v for k, v in one.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in other.items() if k != "seconds"}, rel=1e-4
        )
    assert same_adapter(killed, whole)
    assert sorted(path.name for path in killed.work.iterdir()) == ["adapter", "dataset"]
    page = (killed.work / "adapter" / "training.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") >= 3
    assert "Training python-docs on gpt-oss@" in page


def figures_of(made: Recipe) -> dict[str, float]:
    figures: dict[str, float] = artefact.read(made.work / "adapter", "adapter", remake="").figures
    return figures


def test_a_disk_without_room_is_an_error_with_its_fix(given: Recipe, tmp_path: Path) -> None:
    """A limit on the size of files: the adapter of a checkpoint has room, the optimizer's state has none."""
    made = elsewhere(given, tmp_path)
    toml(made)
    limited = f"ulimit -f 24; exec {sys.executable} -m tune train"
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        ["bash", "-c", limited], cwd=made.folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 2, done.stderr
    assert "Error: work/adapter.part/checkpoint-2 cannot be written\n  why: " in done.stderr
    assert "  fix: df -h work/adapter.part   # make room, then: tune train, which resumes\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (made.work / "adapter").exists()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process grows over 24 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (24 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_what_libraries_raise_for_a_full_disk(tmp_path: Path) -> None:
    folder, large = tmp_path / "checkpoint-1", torch.zeros(99999)
    for write in (
        lambda: torch.save({"a": large}, tmp_path / "a.pt"),
        lambda: save_file({"a": large}, tmp_path / "a.safetensors"),
        lambda: (tmp_path / "a.json").write_text("a" * 99999),
    ):
        with pytest.raises(UserError, match="checkpoint-1 cannot be written"), saving.saving(folder):
            write()
    with pytest.raises(RuntimeError, match="shapes"), saving.saving(folder):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_on_a_terminal_only_progress_is_written_over(
    given: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = elsewhere(given, tmp_path, eval_every=3, max_steps=9)
    path = toml(made)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["train", f"--recipe={path}"], standalone_mode=False)
    said = [line.rpartition("\x1b[2K")[2] for line in capsys.readouterr().err.split("\n")]  # what stays to be read
    [last] = [line for line in said if line.startswith("[#")]
    assert "step 9 of 9" in last
    assert sum(line.startswith("held-out loss") for line in said) == 3
    assert any(line.startswith("advice: Still falling") for line in said)
    assert any(line.startswith("backend peft: ") for line in said)


def test_rows_that_train_on_nothing_are_refused(given: Recipe, tmp_path: Path) -> None:
    made = elsewhere(given, tmp_path)
    edit_rows(made, "train", lambda rows: [{**row, "labels": [-100] * len(row["labels"])} for row in rows])
    done = CliRunner().invoke(main, ["train", f"--recipe={toml(made)}"])
    assert done.exit_code == 2
    assert "train.jsonl:1 " in done.stderr
    assert "nothing is learned" in done.stderr
    assert [path.name for path in made.work.iterdir()] == ["dataset"]


def test_rows_edited_after_the_dataset_stage_are_refused(given: Recipe, tmp_path: Path) -> None:
    made = elsewhere(given, tmp_path)
    path = made.work / "dataset" / "train.jsonl"
    path.write_text(path.read_text().replace("train-0", "train-x"))
    done = CliRunner().invoke(main, ["train", f"--recipe={toml(made)}"])
    assert done.exit_code == 2
    assert "train.jsonl is not the file that dataset.json describes\n  why: its sha256 differs" in done.stderr
    assert done.stderr.endswith("  fix: tune dataset\n")


def test_a_mask_that_trains_on_the_user_is_refused(tmp_path: Path) -> None:
    made = project(tmp_path, vocabulary=harmony.VOCABULARY)
    talk = [Message(role="user", content="What is heapq.merge?"), Message(role="assistant", content="It merges.")]
    rendered = harmony.render_training(talk, "low", "2026-01-01")
    begin, end = [n for n, i in enumerate(rendered.ids) if i == harmony.START][-2:]  # the user's, the assistant's
    ids = {"input_ids": rendered.ids, "labels": [*[-100] * begin, *rendered.ids[begin:end], *rendered.labels[end:]]}
    edit_rows(made, "train", lambda rows: [{**row, **ids} for row in rows])
    done = CliRunner().invoke(main, ["train", f"--recipe={toml(made)}"])
    assert done.exit_code == 2
    assert "trains on what it should not" in done.stderr
    assert "train-0: trains on its user message" in done.stderr
    assert done.stderr.endswith("  fix: tune check --rows shows it; then: tune dataset\n")
