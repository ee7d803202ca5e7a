"""`serve hosts`: what is printed for each host can be run there, and what cannot be shared out is refused."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import lora_folder
import pytest
from checkpoints import fill, finish
from click.testing import CliRunner

from serve import hosts, keys, launcher, machine, parts, processes
from serve.cli import main
from serve.command import Options
from serve.machine import Machine
from serve.memory import GIB
from tune.errors import UserError

CARDS = Machine(device="cuda", cores=8, memory=79 * GIB, total=79 * GIB, gpus=8, vllm="0.32.0")
WIDE = {"num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 512}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "detect", lambda: CARDS)
    found = fill(tmp_path / "tiny", **WIDE)
    finish(found)
    return found


def told(folder, *words):
    out = CliRunner().invoke(main, ["hosts", str(folder), *words])
    assert out.exit_code == 0, out.output
    blocks = [block.splitlines() for block in out.stdout.strip().split("\n\n")]
    return {address.removeprefix("# "): shlex.split(line) for address, line in blocks}


TWO = ("--host", "10.0.0.1", "--host", "10.0.0.2")


def test_the_first_host_runs_the_server_and_the_others_the_engine_alone(folder):
    found = told(folder, *TWO, "--tensor-parallel", "8", "--port", "8123", "--door", "0.0.0.0", "--api-key-env", "KEY",
                 "--thinking-tokens", "low=5,high=9", "--no-raw-completions", "--", "--seed", "7")  # fmt: skip
    assert list(found) == ["10.0.0.1", "10.0.0.2"]
    first, second = found.values()
    spread = ["--nnodes", "2", "--node-rank", "0", "--master-addr", "10.0.0.1", "--master-port", "29501"]
    assert first[:5] == ["env", "VLLM_HOST_IP=10.0.0.1", "serve", "run", str(folder)]
    at = first.index("--")
    assert first[at + 1 :] == ["--seed", "7", *spread]
    given = main.commands["run"].make_context("run", first[4:at]).params
    assert [given[k] for k in ("host", "port", "tensor_parallel", "raw_completions", "api_key_env")] == [
        "0.0.0.0",
        8123,
        8,
        False,
        "KEY",
    ]
    assert given["thinking_tokens"] == {"low": 5, "high": 9}
    spread[3] = "1"
    assert second[-len(spread) - 1 :] == [*spread, "--headless"]
    assert second[second.index("python") + 1 :][:4] == ["-m", "serve.launcher", "--model", str(folder)]
    assert second[second.index("--tensor-parallel-size") + 1] == "8"
    env = dict(word.split("=", 1) for word in second[1 : second.index("python")])
    assert env["VLLM_HOST_IP"] == "10.0.0.2"
    assert env["VLLM_SYSTEM_START_DATE"] == "2026-01-01"


def test_no_secret_is_printed(folder, monkeypatch):
    monkeypatch.setenv("KEY", "sk-very-secret")
    assert "sk-very-secret" not in str(told(folder, *TWO, "--tensor-parallel", "2", "--api-key-env", "KEY"))


def test_the_recipe_goes_with_the_command(folder, tmp_path):
    (tmp_path / "recipe.toml").write_text("[serve]\ntensor_parallel = 4\ndata_parallel = 2\n")
    first, second = told(folder, *TWO).values()
    assert first[first.index("--recipe") + 1] == str(tmp_path / "recipe.toml")
    assert [second[second.index(f"--{kind}-parallel-size") + 1] for kind in ("tensor", "data")] == ["4", "2"]


def test_files_of_this_machine_are_named_in_whole(tmp_path, monkeypatch):
    """Whatever folder the command is then run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "detect", lambda: CARDS)
    (tmp_path / "keys.toml").write_text(keys.new("a")[1])
    base = lora_folder.base(tmp_path / "base")
    for n, name in enumerate("ab"):
        lora_folder.make(tmp_path / name, base, lora_folder.pairs(seed=n))
    first = next(iter(told(base.folder, *TWO, "--data-parallel", "2", "--gpu", "H100", "--keys", "keys.toml",
                           "--adapter", "one=a", "--adapter", f"two={tmp_path}/b").values()))  # fmt: skip
    words = first[: first.index("--")]
    given = [words[n + 1] for n, word in enumerate(words) if word == "--adapter"]
    assert given == [f"one={tmp_path}/a", f"two={tmp_path}/b"]
    assert words[words.index("--keys") + 1] == str(tmp_path / "keys.toml")


def test_each_host_is_asked_for_its_own_gpus_alone(folder):
    assert told(folder, *TWO, "--tensor-parallel", "8", "--data-parallel", "2", "--gpu", "H100")
    out = CliRunner().invoke(main, ["hosts", str(folder), *TWO, "--tensor-parallel", "8", "--data-parallel", "4"])
    assert out.exit_code == 2
    assert "S071 the engine is told to take 16 GPUs, 8 can be seen" in out.output


@pytest.mark.parametrize(
    ("sizes", "count", "says"),
    [
        ((1, 1), 2, "1 GPUs cannot be shared out among 2 hosts"),
        ((3, 1), 2, "3 GPUs cannot be shared out among 2 hosts"),
        ((2, 3), 2, "3 models of 2 GPUs cannot be shared out among 2 hosts"),
        ((3, 2), 3, "2 models of 3 GPUs cannot be shared out among 3 hosts"),
        ((2, 1), 2, ""),
        ((8, 2), 2, ""),
        ((2, 2), 4, ""),
        ((1, 4), 2, ""),
    ],
)
def test_what_cannot_be_shared_out_is_refused_as_the_engine_would(sizes, count, says):
    options = Options(tensor_parallel=sizes[0], data_parallel=sizes[1])
    if says:
        with pytest.raises(UserError, match=says):
            parts.counted(options, count)
    else:
        assert parts.counted(options, count).tuning.hosts == count


@pytest.mark.parametrize("named", [(), ("a",), ("a", "a"), ("a", "b; rm"), ("a", "-b")])
def test_hosts_are_several_and_have_addresses(named):
    with pytest.raises(UserError):
        hosts.checked(named)


PART = """
import signal, subprocess, sys, time
from argparse import Namespace
from serve import launcher

def run(args):
    assert args.api_server_count == 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as vLLM's own
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    worker = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    worker.stdout.readline()
    print(worker.pid, flush=True)
    time.sleep(60)

with launcher.tied():
    launcher._headless(run, Namespace(headless=True, master_addr="127.0.0.1", master_port=int(sys.argv[1])))
"""
HOST = "import sys; from serve import launcher; sys.exit(launcher.host([sys.executable, '-c', *sys.argv[1:]]))"


@pytest.fixture
def first():
    """Where the first host listens."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(20)
        yield door


@contextmanager
def part(first):
    """Another host's part with a worker that ignores SIGTERM; its processes: ours, vLLM's, the worker."""
    words = [sys.executable, "-c", HOST, PART, str(first.getsockname()[1])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ours:
        assert ours.stdout
        worker = int(ours.stdout.readline())
        vllm = int(Path(f"/proc/{ours.pid}/task/{ours.pid}/children").read_text())
        with first.accept()[0] as store:
            yield ours, vllm, worker, store
        ours.kill()


def gone(pid):
    """Whether it has ended, waited for by its new parent or not, within the time that an orphan gets."""
    stat = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + launcher.ORPHAN + 20
    while time.monotonic() < deadline:
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX":
            return True
        time.sleep(0.05)
    return False


def test_a_host_without_a_server_ends_when_told_and_leaves_no_worker(first):
    with part(first) as (ours, vllm, worker, _):
        ours.send_signal(signal.SIGTERM)
        assert ours.communicate(timeout=20) == ("", "")
        assert ours.returncode == 0
        assert [gone(pid) for pid in (vllm, worker)] == [True, True]


def test_a_host_without_a_server_ends_with_the_first(first):
    with part(first) as (ours, vllm, worker, store):
        store.close()
        assert "the engine at 127.0.0.1 has gone" in ours.communicate(timeout=20)[1]
        assert ours.returncode == 0
        assert [gone(pid) for pid in (vllm, worker)] == [True, True]


@pytest.mark.parametrize("killed", ["ours", "vLLM's"])
def test_a_killed_part_leaves_no_worker(first, killed):
    with part(first) as (ours, vllm, worker, _):
        os.kill(ours.pid if killed == "ours" else vllm, signal.SIGKILL)
        said = ours.communicate(timeout=60)[1]
        assert [gone(pid) for pid in (vllm, worker)] == [True, True]
    if killed != "ours":
        assert (ours.returncode, said) == (137, "serve.launcher: the engine was ended by SIGKILL\n")


def test_a_host_without_a_server_outlives_the_shell_that_started_it(first):
    """Nobody supervises it: a parent that ends is a login that ends."""
    shell = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', *sys.argv[1:]]).pid, flush=True)"
    words = [sys.executable, "-c", shell, HOST, PART, str(first.getsockname()[1])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as login:
        assert login.stdout
        ours, worker = int(login.stdout.readline()), int(login.stdout.readline())
        assert login.wait(timeout=20) == 0
        with first.accept()[0]:
            with pytest.raises(subprocess.TimeoutExpired):
                login.communicate(timeout=3)  # it holds the other end
            os.kill(ours, signal.SIGTERM)
            assert [gone(pid) for pid in (ours, worker)] == [True, True]


def test_the_command_of_a_host_is_run_in_a_group_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.launcher", "--headless", "--model", "x"])
    monkeypatch.setattr(launcher, "host", lambda argv: argv[1:])
    with pytest.raises(SystemExit) as ended:
        launcher.main()
    assert ended.value.code == ["-m", "serve.launcher", "--headless", "--model", "x"]


def test_what_a_host_s_command_starts_is_tied_to_it_and_starts_no_other(monkeypatch):
    called = []
    monkeypatch.setattr(sys, "argv", ["serve.launcher", "--headless"])
    monkeypatch.setenv(processes.SUPERVISOR, str(os.getppid()))
    monkeypatch.setattr(launcher, "host", lambda _: pytest.fail("it started another"))
    monkeypatch.setattr(launcher, "tied", lambda: called.append("tied") or nullcontext())
    monkeypatch.setattr(launcher, "_serve", lambda: called.append("serves"))
    launcher.main()
    assert called == ["tied", "serves"]
