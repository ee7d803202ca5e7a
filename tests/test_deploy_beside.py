"""Records that lie beside a folder: another one at the same endpoint, and a push of something else from the same."""

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import platform_operator
import pytest
from click.testing import CliRunner
from deployment import needed, rendered
from platform_door import Fault, opened

from deploy import beside, cli, commands, kept, live, running
from deploy import folder as folders
from deploy.live import Live, Release
from tune import artefact


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint and its report."""
    at = tmp_path_factory.mktemp("made")
    rendered(at, "modal")
    return at


@pytest.fixture
def env(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deploy.targets.modal.live", platform_operator)
    monkeypatch.setattr(running, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(commands, "_hands", platform_operator.hands)
    builder = tmp_path / "bin" / "builder"
    builder.parent.mkdir()
    builder.write_text(f"#!/bin/sh\npwd >> {tmp_path}/where\n")
    builder.chmod(builder.stat().st_mode | stat.S_IXUSR)
    with opened() as door:
        path = f"{builder.parent}:{os.environ['PATH']}"
        yield {**os.environ, "PATH": path, "DOOR": door.url, "PLATFORM_API_KEY": "the-key-0123456789"}, door


@pytest.fixture
def run(env, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        done = CliRunner().invoke(cli.main, [*map(str, arguments)], env=env[0])
        assert done.exit_code == code, done.output
        return done.stdout, done.stderr

    return run


@pytest.fixture
def render(made, run):
    def render(out, target="modal", more=""):
        told = made / "recipe.toml"
        told.write_text(
            '[serve]\nmax_model_len = 2048\n[deploy]\nreceipt_days = 100000\nregistry = "docker.io/acme"\n' + more
        )
        inputs = ("--checkpoint", made / "merged", "--report", made / "report.json", "--recipe", told)
        return run("render", target, *inputs, "--out", out)

    return render


# Two folders, one endpoint


def test_a_push_over_another_folder_s_says_so_before_it_asks(run, render, env):
    render("work/a")
    run("push", "work/a", "--yes")
    assert "D058 work/a was pushed to the same endpoint, python-docs on modal" in render("work/b")[1]
    assert "D058" not in Path("work/b/README.md").read_text()  # the same inputs give the same bytes
    said = "warning: work/a was pushed to the same endpoint, python-docs on modal (python-docs@"
    asked = len(env[1].asked)
    assert said in run("push", "work/b", code=2)[1]  # nobody is there to be asked
    assert said in run("push", "work/b", "--dry-run")[1]
    assert json.loads(run("push", "work/b", "--dry-run", "--json")[0])["dry_run"]
    assert len(env[1].asked) == asked
    assert said in run("push", "work/b", "--yes")[1]
    assert "work/b was pushed to the same endpoint" in run("destroy", "work/a", "--yes")[1]


def test_a_rollback_over_it_says_so_too(run, render):
    for out, more in (("work/b", ""), ("work/b", "max_replicas = 2\n"), ("work/a", "")):
        render(out, more=more)
        run("push", out, "--yes")
    assert "warning: work/a was pushed to the same endpoint" in run("rollback", "work/b", "--yes")[1]


def test_a_folder_that_was_destroyed_or_never_came_so_far_is_no_other(run, render, env):
    render("work/a")
    run("push", "work/a", "--yes")
    run("destroy", "work/a", "--yes")
    assert "D058" not in render("work/b")[1]
    for _ in range(2):  # nor is a folder another than itself
        assert "warning" not in run("push", "work/b", "--yes")[1]
        assert "D058" not in render("work/b")[1]
    run("destroy", "work/b", "--yes")
    Path("bin/builder").write_text("#!/bin/sh\nexit 1\n")
    run("push", "work/a", "--yes", code=2)
    assert "D058" not in render("work/b")[1]


def test_one_that_failed_after_it_made_something_is_one(run, render, env):
    render("work/a")
    env[1].faults["GET /things/python-docs"] = [Fault(404), Fault(403)]
    run("push", "work/a", "--yes", code=2)
    assert "D058 work/a was" in render("work/b")[1]


def test_files_that_are_no_records_are_passed_over(run, render):
    Path("work").mkdir()
    Path("work/x.live.json").write_text("{")
    Path("work/y.live.json").mkdir()
    Path("work/z.live.json").write_text('{"target": "runpod", "name": "python-docs"}')
    assert "D058" not in render("work/a")[1]


PLACES = [
    ("compose", {"compose": {"port": 9000}}, True),
    ("modal", {"modal": {"region": "eu"}}, True),
    ("sagemaker", {"sagemaker": {"region": "us-east-2"}}, False),
    ("runpod", {"min_replicas": 1}, True),
    ("runpod", {"runpod": {"type": "pod"}, "secrets": {"VLLM_API_KEY": "k"}, "min_replicas": 1}, False),
    ("kubernetes", {"kubernetes": {"kind": "kserve"}}, True),
    ("kubernetes", {"kubernetes": {"namespace": "other"}}, False),
    ("skypilot", {"skypilot": {"serve": False}}, False),
    ("huggingface", {"min_replicas": 1}, True),
]


@pytest.mark.parametrize(("target", "other", "same"), PLACES)
def test_what_is_in_another_place_is_another_endpoint(tmp_path, target, other, same):
    a, b = (rendered(tmp_path / name, target, **{**needed(target), **told}) for name, told in (("a", {}), ("b", other)))
    first, second = (shutil.copytree(p, tmp_path / "work" / n) for p, n in ((a, "a"), (b, "b")))
    at = folders.read(first)
    release = Release(at="2026-11-01", model=at.deployment.model, folder_digest=at.digest, gate="PASS x", finished=True)
    kept.keep(at)
    live.write(first, Live(target=at.deployment.target, name=at.deployment.name, releases=(release,)))
    here = folders.read(second).deployment
    assert bool(list(beside.sharing(second, here))) == same
    shutil.rmtree(kept.place(first, at.digest))
    assert list(beside.sharing(second, here)) == [(first, release)]  # nobody knows: it is told
    assert list(beside.sharing(second, here.model_copy(update={"name": "other"}))) == []


# One folder, two endpoints


def test_a_render_of_another_target_over_what_was_pushed_says_so_and_destroy_removes_that(run, render, env):
    render("work/a")
    run("push", "work/a", "--yes")
    digest = artefact.read(Path("work/a"), "deployment", remake="").digest
    err = render("work/a", "runpod")[1]
    assert "warning D059 work/a was pushed as python-docs on modal (python-docs@" in err
    assert "fix: deploy destroy work/a removes that first" in err
    for command in ("push", "status", "client"):
        assert "fix: deploy destroy work/a removes" in run(command, "work/a", code=2)[1]
    assert "DELETE https" in run("destroy", "work/a", "--dry-run")[0]
    err = run("destroy", "work/a", "--yes")[1]
    assert env[1].things == {}
    assert "  endpoint id1\n" in err
    assert "D059" not in render("work/a", "runpod")[1]
    assert "was not pushed from here" in run("client", "work/a", code=2)[1]
    assert not kept.place(Path("work/a"), digest).exists()


def test_its_commands_run_in_what_was_pushed_then(run, render, monkeypatch):
    from deploy.steps import Command, Step

    def destroy(deployment, live):
        yield Step(id="down", what="down", action=Command(argv=("builder", "down")))
        return ()

    render("work/a")
    run("push", "work/a", "--yes")
    digest = artefact.read(Path("work/a"), "deployment", remake="").digest
    render("work/a", "runpod")
    monkeypatch.setattr(platform_operator, "destroy", destroy)
    run("destroy", "work/a", "--yes")
    assert Path("where").read_text().splitlines()[-1] == str(kept.place(Path("work/a"), digest))


def test_the_same_rendered_again_says_nothing(run, render):
    render("work/a")
    run("push", "work/a", "--yes")
    assert "D059" not in render("work/a")[1]
