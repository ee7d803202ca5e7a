"""Several processes through accelerate's launcher, over gloo on the CPU: real workers, real collectives."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from tiny_gptoss import make_base, make_dataset, recipe

from tune.errors import UserError
from tune.recipe import Train
from tune.training.processes import launch, worker

HERE = Path(__file__).parent


def environment(folder: Path, launched: bool = True) -> dict[str, str]:
    path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    wrong = {"ACCELERATE_MIXED_PRECISION": "fp8", "ACCELERATE_USE_FSDP": "true", "HF_HOME": str(folder / "hf")}
    mine = folder / "hf" / "accelerate" / "default_config.yaml"  # of the user: must not be heeded
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\ndebug: true\n")
    return {**os.environ, **(wrong if launched else {}), "PYTHONPATH": path}


def started(part: str, folder: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launched", part, str(folder), str(processes)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(folder, processes > 1), timeout=300)


def test_two_processes_meet_and_one_speaks(tmp_path):
    done = started("meet", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "rank 0 speaks\n", "rank 0 reports\n")
    assert [json.loads((tmp_path / f"{n}.json").read_text()) for n in (0, 1)] == [["gloo", 3.0, False]] * 2


@pytest.mark.parametrize(
    ("part", "code", "said"),
    [
        ("refuse", 2, "Error: rank 1 does not like it\n  why: a test\n  fix: tune train\n"),
        ("refuse_all", 2, "Error: nobody likes it\n  fix: tune train\n"),
        ("killed", 137, "Error: worker 1 ended with SIGKILL\n  why: last words\n"),
    ],
)
def test_a_worker_that_dies_ends_all_with_one_error_and_its_exit_code(tmp_path, part, code, said):
    done = started(part, tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert done.stderr.count("Error:") == 1
    assert "Traceback" not in done.stderr


def test_a_bug_in_a_worker_shows_its_traceback_alone(tmp_path):
    done = started("bug", tmp_path)
    assert done.returncode == 70
    assert done.stderr.startswith("worker 1: Traceback")
    assert done.stderr.endswith("KeyError: 'no such thing'\n")
    assert done.stderr.count("Traceback") == 1


def test_ctrl_c_ends_the_workers_too(tmp_path):
    command = [sys.executable, "-m", "launched", "wait", str(tmp_path), "2"]
    at = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment(tmp_path)}
    with subprocess.Popen(command, **at) as running:
        while running.poll() is None and len(list(tmp_path.glob("*.pid"))) < 2:
            time.sleep(0.05)
        pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=60)
    assert (running.returncode, output) == (130, "\nstopped\n")
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_the_same_rows_a_step_give_the_same_losses_on_one_and_on_two_processes(tmp_path):
    """4 rows x 4 micro-batches on one, 4 x 2 on each of two."""
    make_base(tmp_path / "base")
    make_dataset(recipe(tmp_path))
    curves = []
    for processes in (1, 2):
        done = started("fit", tmp_path, processes)
        assert done.returncode == 0, done.stderr
        curves.append(json.loads((tmp_path / f"of{processes}" / "0" / "told.json").read_text()))
    one, two = curves
    assert [e["loss"] for e in two["history"] if "loss" in e] == pytest.approx(
        [e["loss"] for e in one["history"] if "loss" in e], rel=1e-5
    )
    assert [e["tokens"] for e in two["history"] if "loss" in e] == [e["tokens"] for e in one["history"] if "loss" in e]
    assert two["before"] == pytest.approx(one["before"], rel=1e-5)
    assert two["after"] == pytest.approx(one["after"], rel=1e-5)
    assert one["after"] < one["before"] - 0.1
    assert not (tmp_path / "of2" / "1" / "adapter_model.safetensors").exists()


def test_every_choice_is_in_the_command(tmp_path):
    made = recipe(tmp_path, train={"gpus": 4, "hosts": ["10.0.0.1", "10.0.0.2"]})
    told = launch.arguments(Path("my recipe.toml"), made, 1, threads=3, more=["--json"])
    read = launch_command_parser().parse_args(told)
    assert (read.num_processes, read.num_machines, read.machine_rank) == (8, 2, 1)
    assert (read.main_process_ip, read.main_process_port) == ("10.0.0.1", launch.PORT)
    assert (read.multi_gpu, read.use_fsdp, read.mixed_precision, read.dynamo_backend) == (True, False, "no", "no")
    assert read.num_cpu_threads_per_process == 3
    assert (read.module, read.training_script) == (True, "tune")
    assert read.training_script_args == ["train", "--recipe=my recipe.toml", "--json"]
    assert json.loads(Path(read.config_file).read_text())["distributed_type"] == "NO"
    spread = launch_command_parser().parse_args(
        launch.arguments(Path("r"), recipe(tmp_path, train={"gpus": 2}), fsdp=True)
    )
    assert (spread.use_fsdp, spread.multi_gpu, spread.fsdp_version) == (True, False, "2")
    assert spread.fsdp_transformer_layer_cls_to_wrap == "GptOssDecoderLayer"
    assert spread.main_process_port == 0


def test_a_recipe_for_one_starts_nothing_and_a_worker_neither(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert not launch.needed(recipe(tmp_path))
    assert launch.needed(recipe(tmp_path, train={"gpus": 2}))
    assert launch.needed(recipe(tmp_path, train={"hosts": ["a", "b"]}))
    assert worker.is_main()
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    assert not launch.needed(recipe(tmp_path, train={"gpus": 2}))
    assert worker.inside()
    assert not worker.is_main()


def test_this_host_is_found_by_its_address():
    assert launch.host_rank_of(["203.0.113.7", "127.0.0.1"]) == 1
    assert launch.host_rank_of([]) == 0
    with pytest.raises(UserError, match=r"none of \[train\] hosts.*\n.*\n  fix: tune train --host-rank 0"):
        launch.host_rank_of(["203.0.113.7", "host.invalid"])
    with pytest.raises(UserError, match="several"):
        launch.host_rank_of(["127.0.0.1", "localhost"])


def test_a_rank_that_is_no_host_is_refused(tmp_path):
    made = recipe(tmp_path, train={"hosts": ["203.0.113.7", "203.0.113.8"]})
    with pytest.raises(UserError, match="--host-rank 2 is no host"):
        launch.run(tmp_path / "recipe.toml", made, 2, report=print)


def test_a_world_of_another_size_is_refused():
    worker.require_world(Train(gpus=2, hosts=["a", "b"]), 4)
    with pytest.raises(UserError, match=r"1 processes train together\n  why: train\.gpus = 2 on 2 hosts makes 4"):
        worker.require_world(Train(gpus=2, hosts=["a", "b"]), 1)
