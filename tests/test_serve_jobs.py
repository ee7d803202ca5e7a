"""Another folder's job: whether two engines fit beside each other, one after the other, or not at all."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from checkpoints import fill, finish
from click.testing import CliRunner

from serve import control, jobs, preflight
from serve.cli import main
from serve.command import Options
from serve.machine import Machine
from serve.memory import GIB
from tune.errors import UserError

OPTIONS = Options(port=0)
CPU = Machine(device="cpu", cores=2, memory=64 * GIB, amx=True, vllm="0.32.0")
GPU = Machine(device="cuda", cores=8, memory=79 * GIB, total=79 * GIB, vllm="0.32.0")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """What a server that runs on `before` makes of a folder while the machine is `now`."""
    folder = fill(tmp_path / "one")
    finish(folder)

    def make(before, now, **given):
        monkeypatch.setattr(jobs, "detect", lambda: now)
        found = preflight.check(folder, OPTIONS, before)
        found.require()
        more = {"key": "k", "log": None, "ready_timeout": 9.0, **given}
        serving = jobs.job(found, OPTIONS, **more)
        return serving.need, lambda asked: jobs.remake(OPTIONS, **more)(asked, serving)

    return folder, make


def test_what_there_is_room_for_goes_beside(made, tmp_path):
    folder, make = made
    plan = make(CPU, CPU)[1](folder)
    assert plan.beside
    assert (plan.job.key, plan.job.ready_timeout, plan.job.log) == (
        "k",
        9.0,
        tmp_path / f"serve-one-0-{plan.job.checkpoint.digest[:8]}.log",
    )
    other = fill(tmp_path / "two")
    finish(other)
    assert make(CPU, CPU)[1](other).job.log == tmp_path / "serve-two-0.log"
    plan.job.proof()
    finish(folder, prompt_date="2026-02-02")
    with pytest.raises(UserError, match="holds another checkpoint than the one"):
        plan.job.proof()


def test_several_hosts_exchange_nothing(made):
    folder, _ = made
    told = Options(port=0, tensor_parallel=2, extra=("--nnodes", "2"))
    with pytest.raises(UserError, match="several hosts exchange no checkpoint"):
        jobs.remake(told, key="", log=None, ready_timeout=9.0)(folder, None)


def test_without_room_for_both_one_follows_the_other(made):
    folder, make = made
    need, _ = make(CPU, CPU)
    tight = CPU.model_copy(update={"memory": need - 1})
    assert not make(CPU, tight)[1](folder).beside
    full = GPU.model_copy(update={"memory": 2 * GIB})
    assert not make(GPU, full)[1](folder).beside


def test_what_would_not_fit_alone_either_is_refused(made):
    folder, make = made
    need, remake = make(CPU, CPU.model_copy(update={"memory": -1}))
    with pytest.raises(UserError, match="does not fit into memory") as refused:
        remake(folder)
    assert f"{(need - 1) / GIB:.1f} GiB can be used" in refused.value.why
    assert "serve preflight" in refused.value.fix


def test_other_faults_are_refused_before_anything_is_loaded(made, tmp_path):
    folder, make = made
    remake = make(CPU, CPU)[1]
    with pytest.raises(UserError, match="holds no finished checkpoint"):
        remake(tmp_path)
    (folder / "more.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is not served: "):
        remake(folder)


def reload(port):
    return CliRunner().invoke(main, ["reload", "x", "--port", str(port)])


def test_the_command_says_what_became_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    none = reload(9)
    assert none.exit_code == 2
    assert "no server of yours at port 9 can be reached" in none.output
    with control.Control(9) as server, ThreadPoolExecutor(1) as pool:
        for end, code, shown in (
            (lambda request: request.done({"url": "u", "model": "m", "digest": "d" * 64}), 0, f"u  model m@{'d' * 16}"),
            (lambda request: request.failed(UserError("no", why="it is old", fix="tune export")), 2, "why: it is old"),
        ):
            told = pool.submit(reload, 9)
            while not (request := server.next()):
                assert not told.done()
            end(request)
            assert told.result().exit_code == code
            assert shown in told.result().output
