"""`deploy push` and its siblings against a platform on loopback: gate, record, faults, kills and secrets."""

import json
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import platform_operator
import pytest
from click.testing import CliRunner
from deployment import make_checkpoint, rendered
from platform_door import Fault, opened, until

from deploy import cli, commands, live, pushing, reaching, receipt, render, running
from deploy import folder as folders
from deploy.steps import Command, Step
from evalsuite.asking.client_info import ClientInfo
from tune import artefact
from tune.recipe import Recipe

HERE = Path(__file__).parent
SECRETS = {
    "PLATFORM_API_KEY": "the-platform-key-0123456789",
    "HF_TOKEN": "hf_" + "a1B2" * 8,
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYzz",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder rendered for Modal; its operator here is platform_operator."""
    return rendered(tmp_path_factory.mktemp("made"), "modal")


@pytest.fixture
def folder(made, tmp_path):
    there = shutil.copytree(made, tmp_path / "modal")
    of_date(there, datetime.now(UTC))
    return there


@pytest.fixture(autouse=True)
def operator(monkeypatch):
    monkeypatch.setitem(sys.modules, "deploy.targets.modal.live", platform_operator)
    monkeypatch.setattr(running, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(commands, "_hands", platform_operator.hands)


@pytest.fixture
def door():
    with opened() as door:
        yield door


@pytest.fixture
def env(door, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    builder = tools / "builder"
    builder.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/built\necho "log with $HF_TOKEN"\n')
    builder.chmod(builder.stat().st_mode | stat.S_IXUSR)
    path = f"{tools}:{os.environ['PATH']}"
    return {**os.environ, **SECRETS, "PATH": path, "DOOR": door.url, "PYTHONPATH": f"{HERE.parent}:{HERE}"}


def start(env, *arguments, **more):
    command = [sys.executable, str(HERE / "platform_operator.py"), *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, text=True, **(pipes | more))


def run(env, *arguments):
    """Exit code, standard output and standard error; neither holds a secret."""
    done = CliRunner().invoke(cli.main, [*map(str, arguments)], env=env)
    for value in SECRETS.values():
        assert value not in done.output
    return done.exit_code, done.stdout, done.stderr


def record(folder):
    return json.loads(live.place(folder).read_text())


def built(folder):
    path = folder.parent / "built"
    return path.read_text().splitlines() if path.exists() else []


# A push


def test_a_push_makes_keeps_and_tells(folder, env, door):
    code, out, err = run(env, "push", folder, "--yes")
    assert code == 0, err
    assert "ready: id1" in out
    assert "endpoint id1    removed by: platform delete id1" in out
    assert re.search(r"python-docs@[0-9a-f]{16} on modal, 1 x H100", err)
    assert "makes endpoint <its id>" in err
    assert "3.95 USD an hour" in err
    (release,) = record(folder)["releases"]
    manifest = artefact.read(folder, "deployment", remake="")
    assert release["finished"]
    assert release["folder_digest"] == manifest.digest
    assert release["gate"] == f"PASS {manifest.inputs['report']}"
    assert [s["id"] for s in release["steps"]] == ["image", "look", "make", "wait"]
    assert release["steps"][2]["action"]["body"]["model"] == release["model"]
    assert "hidden-by-the-platform" not in live.place(folder).read_text()
    assert [a.key for a in door.asked] == [f"Bearer {SECRETS['PLATFORM_API_KEY']}"] * 3


def test_a_second_push_changes_what_is_there(folder, env, door):
    run(env, "push", folder, "--yes")
    code, out, _ = run(env, "push", folder, "--yes", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["release"]["finished"]
    assert {"what": "endpoint id1", "remove": "platform delete id1"} in told["made"]
    assert len(door.made()) == 1
    assert len(door.made("PATCH")) == 1
    assert len(record(folder)["releases"]) == 2


def test_a_dry_run_shows_every_step_and_does_nothing(folder, env, door):
    code, out, _ = run(env, "push", folder, "--dry-run")
    assert code == 0
    assert "$ builder build" in out
    assert "POST https://api.platform.example/things\n  Authorization: Bearer $PLATFORM_API_KEY" in out
    assert out.endswith("nothing was sent\n")
    code, out, _ = run(env, "push", folder, "--dry-run", "--json")
    assert [s["id"] for s in json.loads(out)["steps"]] == ["image", "look", "make", "wait"]
    for command, sent in (("status", "GET https"), ("logs", "$ builder logs"), ("destroy", "DELETE https")):
        code, out, _ = run(env, command, folder, "--dry-run")
        assert code == 0
        assert sent in out
        if command != "destroy":  # nothing was looked at, so nothing is told
            assert out.endswith("# what it tells hangs on what the platform answers\nnothing was sent\n")
    assert door.asked == []
    assert built(folder) == []
    assert not live.place(folder).exists()


@pytest.mark.parametrize("command", ["push", "destroy", "rollback"])
def test_nobody_to_ask_is_a_no(folder, env, door, command):
    if command == "rollback":
        pushed_twice(env, folder)
    asked = len(door.asked)
    code, _, err = run(env, command, folder)
    assert code == 2
    assert "fix: --yes" in err
    assert len(door.asked) == asked


@pytest.mark.parametrize(("answer", "code"), [("n\n", 130), ("y\n", 0), ("\x04", 130)])
def test_on_a_terminal_it_asks(folder, env, door, answer, code):
    ours, theirs = pty.openpty()
    with start(env, "push", folder, stdin=theirs) as process:
        os.write(ours, answer.encode())
        _, err = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code
    assert "push it? [y/N]" in err
    assert bool(door.asked) == (code == 0)


# The gate


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "app.py").write_text("print()"), "app.py is not the file that deployment.json describes"),
        (lambda f: (f / "app.py").unlink(), "lacks app.py"),
        (lambda f: (f / "more.py").write_text(""), "did not write: more.py"),
        (lambda f: (f / "link").symlink_to("/etc/passwd"), "did not write: link"),
        (lambda f: (f / "deployment.json").unlink(), "no finished deployment"),
        (lambda f: edited(f, lambda d: d["settings"]["deployment"].update(more=1)), "by another version"),
        (lambda f: edited(f, lambda d: d["inputs"].update(report="0" * 64)), "contradicts itself"),
        (lambda f: edited(f, lambda d: d["inputs"].update(checkpoint="0" * 64)), "contradicts itself"),
        (lambda f: edited(f, lambda d: proof(d).update(tuned_model=f"other@{'0' * 16}")), "contradicts itself"),
        (lambda f: edited(f, lambda d: told(d).update(model=f"python-docs@{'0' * 16}")), "contradicts itself"),
        (lambda f: edited(f, lambda d: told(d).update(schema_version=2)), "by another version"),
        (lambda f: edited(f, lambda d: told(d)["table"].update(auth="nobody")), "by another version"),
        (lambda f: edited(f, lambda d: told(d)["options"]["policy"].update(allowed=[[]])), "by another version"),
    ],
)
def test_a_folder_that_is_not_what_was_rendered_is_refused(folder, env, door, spoil, words):
    spoil(folder)
    for more in ([], ["--no-gate"], ["--dry-run"]):
        code, _, err = run(env, "push", folder, "--yes", *more)
        assert code == 2
        assert words in err
    assert door.asked == []
    assert not live.place(folder).exists()


def edited(folder, change):
    path = folder / "deployment.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def told(data):
    return data["settings"]["deployment"]


def proof(data):
    return told(data)["receipt"]


def of_date(folder, made):
    """The folder as if its report were of another date."""

    def change(data):
        proof(data)["created"] = made.isoformat()

    edited(folder, change)


@pytest.mark.parametrize(
    ("ago", "words"),
    [(timedelta(days=31), "31 days ago; [deploy] receipt_days = 30"), (timedelta(hours=-2), "still to come")],
)
def test_a_stale_receipt_is_refused_and_no_gate_is_recorded(folder, env, door, ago, words):
    of_date(folder, datetime.now(UTC) - ago)
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 2
    assert "D057" in err
    assert words in err
    assert door.asked == []
    assert run(env, "push", folder, "--yes", "--no-gate")[0] == 0
    assert words in record(folder)["releases"][0]["gate"]
    assert "NOT GATED" in run(env, "status", folder)[1]


def test_the_age_of_a_receipt(made):
    proof = folders.read(made).deployment.receipt
    then = datetime.fromisoformat(proof.created).replace(tzinfo=UTC)
    assert receipt.stale(proof, 30, then + timedelta(days=30)) == ""
    assert "31 days ago" in receipt.stale(proof, 30, then + timedelta(days=31))
    assert receipt.stale(proof, 30, then - timedelta(minutes=5)) == ""  # clocks differ
    assert "to come" in receipt.stale(proof, 30, then - timedelta(hours=1))
    naive = proof.model_copy(update={"created": "2026-11-01T00:00:00"})
    assert receipt.stale(naive, 30, datetime(2026, 11, 2, tzinfo=UTC)) == ""
    assert "is none" in receipt.stale(proof.model_copy(update={"created": "20266666-"}), 30)


def test_what_was_rendered_without_a_report_is_pushed_by_no_gate_alone(tmp_path, env, door):
    made = make_checkpoint(tmp_path / "merged")
    out, recipe = tmp_path / "ungated", Recipe.model_validate({"serve": {"max_model_len": 2048}})
    render.render("modal", recipe=recipe, checkpoint=made.folder, report=None, out=out, ungated="to be compared there")
    code, _, err = run(env, "push", out, "--yes")
    assert code == 2
    assert "D056" in err
    assert door.asked == []
    assert run(env, "push", out, "--yes", "--no-gate")[0] == 0
    assert record(out)["releases"][0]["gate"] == "none: to be compared there"


def test_compiled_code_that_was_not_rendered_is_not_pushed(folder, env, door):
    """A .pyc beside a module of the kit runs in its place where both lie in an image."""
    for place in (folder / "kit" / "serve", folder):
        (place / "__pycache__").mkdir()
        (place / "__pycache__" / "app.cpython-312.pyc").write_bytes(b"other code")
    look_for(env, folder, "test ! -e kit/serve/__pycache__ && test ! -e __pycache__")
    assert run(env, "push", folder, "--dry-run")[0] == 0
    assert (folder / "__pycache__").exists()  # a dry run touches nothing
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 0, err


def look_for(env, folder, command):
    """What the builder does."""
    (folder.parent / "bin" / "builder").write_text(f"#!/bin/sh\necho $@ >> {folder.parent}/built\n{command}\n")


def test_a_folder_that_is_edited_while_it_is_pushed_is_not_pushed_under_the_receipt(folder, env, door):
    before = (folder / "app.py").read_text()
    look_for(env, folder, "echo 1 >> app.py")
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 2
    assert "app.py is not the file" in err
    assert not record(folder)["releases"][0]["finished"]
    (folder / "app.py").write_text(before)
    look_for(env, folder, "true")
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 0, err
    assert len(built(folder)) == 2  # the image is not that of the edited file
    assert len(door.made()) == 1


# Faults on the way


def test_a_push_that_failed_tells_what_is_there_and_goes_on(folder, env, door):
    door.faults["POST *"] = [Fault(409, '{"message": "name is taken by the-platform-key-0123456789"}')]
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 2
    assert "image docker" in err or "  image python-docs:" in err
    assert "removed by: builder remove" in err
    assert f"go on: deploy push {folder}" in err
    assert "perhaps" not in err
    assert not record(folder)["releases"][0]["finished"]
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 0
    assert "build the image: done before" in err
    assert len(built(folder)) == 1
    assert len(record(folder)["releases"]) == 1


def test_a_made_thing_whose_answer_was_lost_is_found_by_the_next_push(folder, env, door):
    door.faults["POST *"] = [Fault(mode="drop", done=True)]
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 2
    assert "perhaps: endpoint <its id>" in err
    assert run(env, "push", folder, "--yes")[0] == 0
    assert len(door.made()) == 1


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_push_that_was_killed_is_taken_up_where_it_stopped(folder, env, door, sign):
    door.faults["POST *"] = [Fault(mode="hang")]
    with start(env, "push", folder, "--yes") as process:
        until(door.arrived.is_set)
        process.send_signal(sign)
        _, err = process.communicate(timeout=60)
    if sign != signal.SIGKILL:
        assert process.returncode == (130 if sign == signal.SIGINT else 143)
        assert "  image python-docs:" in err
        assert "perhaps: endpoint <its id>" in err
        assert f"go on: deploy push {folder}" in err
    assert [s["id"] for s in record(folder)["releases"][0]["steps"]] == ["image", "look"]
    assert run(env, "push", folder, "--yes")[0] == 0
    assert len(built(folder)) == 1
    assert record(folder)["releases"][0]["finished"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_push_that_is_stopped_leaves_no_process(folder, env, tmp_path, sign):
    child = tmp_path / "child"
    told = f"echo $! > {child}.part\nmv {child}.part {child}"  # whole once it is there
    (tmp_path / "bin" / "builder").write_text(f"#!/bin/sh\nsleep 60 &\n{told}\nwait\n")
    with start(env, "push", folder, "--yes") as process:
        until(child.exists)
        process.send_signal(sign)
        _, err = process.communicate(timeout=60)
    assert "perhaps: image python-docs:" in err
    until(lambda: not Path(f"/proc/{int(child.read_text())}/cmdline").exists() or ended(int(child.read_text())))


def test_a_push_that_is_killed_takes_its_command_with_it(folder, env, tmp_path):
    child = tmp_path / "child"
    (tmp_path / "bin" / "builder").write_text(
        f"#!/bin/sh\necho $$ > {child}.part\nmv {child}.part {child}\nexec sleep 60\n"
    )
    with start(env, "push", folder, "--yes") as process:
        until(child.exists)
        process.kill()
    until(lambda: not Path(f"/proc/{int(child.read_text())}/cmdline").exists() or ended(int(child.read_text())))


def ended(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_two_pushes_at_once_are_one(folder, env, door):
    door.faults["POST *"] = [Fault(mode="hang")]
    with start(env, "push", folder, "--yes") as first:
        until(door.arrived.is_set)
        code, _, err = run(env, "push", folder, "--yes")
        assert code == 2
        assert f"another run is writing {folder}" in err
        assert run(env, "destroy", folder, "--yes")[0] == 2
        (folder.parent / "other").symlink_to(folder)
        assert "another run is writing" in run(env, "push", folder.parent / "other", "--yes")[2]
        first.kill()
        first.communicate()


def test_a_record_that_cannot_be_kept_stops_before_anything_is_sent(folder, env, door):
    live.place(folder).mkdir()
    assert run(env, "push", folder, "--yes")[0] == 2
    assert door.asked == []
    assert built(folder) == []


def test_a_record_of_something_else_is_not_overwritten(folder, env, door):
    old = {"at": "2026-11-01T00:00:00+00:00", "model": f"other@{'0' * 16}", "folder_digest": "0" * 64, "gate": "none"}
    live.place(folder).write_text(json.dumps({"target": "runpod", "name": "other", "releases": [old]}))
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 2
    assert "is about other on runpod" in err
    assert f"fix: deploy destroy {folder} removes" in err
    code, _, err = run(env, "destroy", folder, "--yes")
    assert code == 2
    assert "no folder that was pushed is kept" in err
    assert f"then: rm {live.place(folder)}" in err
    live.place(folder).write_text('{"schema_version": 2, "target": "modal", "name": "python-docs"}')
    assert "is not a record" in run(env, "push", folder, "--yes")[2]
    live.place(folder).write_text('{"target": ')
    assert "is not a record" in run(env, "push", folder, "--yes")[2]
    assert door.asked == []


def test_no_secret_stands_in_a_list_of_processes_or_a_file(folder, env, door):
    door.faults["POST *"] = [Fault(mode="hang")]
    seen = set()
    with start(env, "push", folder, "--yes") as process:
        while not door.arrived.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue
        process.kill()
        process.communicate()
    assert any(b"platform_operator" in line for line in seen)
    files = [p for p in folder.parent.rglob("*") if p.is_file()]
    for value in SECRETS.values():
        assert not any(value.encode() in line for line in seen)
        assert not any(value.encode() in p.read_bytes() for p in files)


# The others


def test_status_says_what_runs(folder, env, door):
    code, out, _ = run(env, "status", folder)
    assert (code, out) == (0, "python-docs on modal: not pushed from here\nnot there\nlooked for in us-west-2\n")
    run(env, "push", folder, "--yes")
    code, out, _ = run(env, "status", folder)
    assert re.match(r"python-docs on modal: python-docs@[0-9a-f]{16}, pushed 20\S+\nstate READY\n", out)
    told = json.loads(run(env, "status", folder, "--json")[1])
    assert told["says"] == ["state READY", "looked for in us-west-2"]
    assert told["release"]["gate"].startswith("PASS ")
    assert len(record(folder)["releases"]) == 1


def test_logs_are_shown_without_secrets(folder, env):
    assert run(env, "logs", folder)[:2] == (0, "log with …\n")


def test_a_rollback_brings_the_release_before_back(folder, env, door):
    assert "no release to go back to" in run(env, "rollback", folder, "--yes")[2]
    pushed_twice(env, folder)
    code, out, err = run(env, "rollback", folder, "--yes")
    assert code == 0, err
    assert "back at python-docs@" in out
    found = record(folder)
    assert (len(found["releases"]), len(found["taken_back"])) == (1, 1)
    door.faults["PATCH *"] = [Fault(403)]
    run(env, "push", folder, "--yes")
    assert run(env, "rollback", folder, "--yes")[0] == 0


def test_a_rollback_says_what_differs_and_what_the_folder_holds(folder, env, door):
    run(env, "push", folder, "--yes")
    edited(folder, moved)
    run(env, "push", folder, "--yes")
    for more in (["--dry-run"], ["--yes"]):
        code, out, err = run(env, "rollback", folder, *more)
        assert code == 0, err
        assert re.search(r"back from \S+ of \S+ to \S+ of \S+, PASS \w+\n  region: eu-west-1 -> us-west-2\n", err)
    assert f"{folder} still holds the render that was taken back, of python-docs@" in out
    assert f": deploy push {folder} would send that\n" in out
    run(env, "push", folder, "--yes")
    edited(folder, lambda data: told(data).update(region="us-east-1"))
    assert "still holds another render" in run(env, "rollback", folder, "--yes")[1]
    run(env, "push", folder, "--yes")
    shutil.rmtree(folder.with_name(f".modal.{record(folder)['releases'][-1]['folder_digest'][:16]}"))
    edited(folder, lambda data: told(data).update(region="us-west-2"))
    code, out, err = run(env, "rollback", folder, "--yes")
    assert "what differs is not known" in err
    assert "still holds" not in out


def test_a_rollback_goes_by_the_folder_that_was_pushed_then(folder, env, door):
    """The folder holds another render by now; what was pushed is kept beside it, until all is removed."""
    run(env, "push", folder, "--yes")
    first = artefact.read(folder, "deployment", remake="").digest
    kept = folder.with_name(f".modal.{first[:16]}")
    of_date(folder, datetime.now(UTC) - timedelta(days=1))
    run(env, "push", folder, "--yes")
    assert artefact.read(kept, "deployment", remake="").digest == first
    assert run(env, "rollback", folder, "--dry-run")[1].startswith(f"# in {kept.resolve()}\n")
    code, _, err = run(env, "rollback", folder, "--yes")
    assert code == 0
    assert f"\n{kept.resolve()}\n" in err
    assert run(env, "client", folder)[0] == 0  # of what runs, which the folder is not
    run(env, "destroy", folder, "--yes")
    assert list(folder.parent.glob(".modal*")) == []


def pushed_twice(env, folder):
    """Two releases, of two renders."""
    run(env, "push", folder, "--yes")
    of_date(folder, datetime.now(UTC) - timedelta(days=1))
    run(env, "push", folder, "--yes")


def test_the_same_pushed_twice_is_nothing_to_go_back_to(folder, env, door):
    pushed_twice(env, folder)
    first = record(folder)["releases"][0]["folder_digest"]
    run(env, "push", folder, "--yes")  # once more what is there
    assert run(env, "rollback", folder, "--yes")[0] == 0
    found = record(folder)
    assert (len(found["releases"]), found["releases"][0]["folder_digest"]) == (1, first)
    run(env, "push", folder, "--yes")
    assert run(env, "rollback", folder, "--yes")[0] == 0
    assert "no release to go back to" in run(env, "rollback", folder, "--yes")[2]


def moved(data):
    told(data)["region"] = "eu-west-1"


def test_each_command_is_about_what_was_pushed_and_not_what_was_rendered_since(folder, env, door):
    run(env, "push", folder, "--yes")
    edited(folder, moved)
    assert "looked for in us-west-2" in run(env, "status", folder)[1]
    assert "https://us-west-2.platform" in run(env, "client", folder)[1]
    run(env, "push", folder, "--yes")
    assert "looked for in eu-west-1" in run(env, "status", folder)[1]
    assert run(env, "rollback", folder, "--yes")[0] == 0
    assert door.asked[-1].body["region"] == "us-west-2"
    assert "looked for in us-west-2" in run(env, "status", folder)[1]
    assert "https://us-west-2.platform" in run(env, "client", folder)[1]


def test_after_a_push_that_failed_status_and_client_are_about_the_one_before(folder, env, door):
    run(env, "push", folder, "--yes")
    (first,) = record(folder)["releases"]
    edited(folder, moved)
    door.faults["PATCH *"] = [Fault(403)]
    assert run(env, "push", folder, "--yes")[0] == 2
    begun = record(folder)["releases"][1]
    out = run(env, "status", folder)[1]
    assert "looked for in us-west-2" in out
    assert f"python-docs on modal: {first['model']}, pushed {first['at']}\n" in out
    was = f"a push of {begun['model']} was begun at {begun['at']} and not finished: deploy push {folder}"
    assert f"{was} goes on\n" in out
    told_too = json.loads(run(env, "status", folder, "--json")[1])
    assert told_too["release"]["folder_digest"] == first["folder_digest"]
    assert told_too["unfinished"]["folder_digest"] == begun["folder_digest"]
    edited(folder, lambda data: told(data).update(region="us-east-1"))  # rendered once more, and not pushed
    out = run(env, "status", folder)[1]
    assert "looked for in us-west-2" in out
    assert f"{was} sends what the folder holds now\n" in out
    assert "https://us-west-2.platform" in run(env, "client", folder)[1]
    run(env, "push", folder, "--yes")
    assert "not finished" not in run(env, "status", folder)[1]


def test_the_log_is_of_what_was_tried_last(folder, env, door, monkeypatch):
    def look(deployment, live):
        yield Step(id="logs", what="logs", action=Command(argv=("echo", deployment.region), shows=True), again=True)
        return (str(len(live.releases)),)

    run(env, "push", folder, "--yes")
    edited(folder, moved)
    door.faults["PATCH *"] = [Fault(403)]
    run(env, "push", folder, "--yes")
    monkeypatch.setattr(platform_operator, "logs", look)
    monkeypatch.setattr(platform_operator, "status", look)
    assert run(env, "logs", folder)[1] == "eu-west-1\n2\n"
    out = run(env, "status", folder)[1]
    assert out.startswith("us-west-2\n")
    assert out.endswith("\n1\n")


def test_a_client_goes_by_what_was_finished(folder, env, door, monkeypatch):
    """An address that a push told before it failed is not one of what answers."""
    seen = []

    def client(deployment, live):
        seen.append([r.finished for r in live.releases])
        return ClientInfo(base_url="https://a.example/v1", model=deployment.model)

    run(env, "push", folder, "--yes")
    edited(folder, moved)
    door.faults["PATCH *"] = [Fault(403)]
    run(env, "push", folder, "--yes")
    monkeypatch.setattr(platform_operator, "client", client)
    run(env, "client", folder)
    assert seen == [[True]]


def test_a_first_push_that_failed_is_what_status_is_about(folder, env, door):
    door.faults["POST *"] = [Fault(403)]
    run(env, "push", folder, "--yes")
    out = run(env, "status", folder)[1]
    assert ", not pushed to the end\na push of python-docs@" in out
    assert f"and not finished: deploy push {folder} goes on\n" in out


def test_a_push_is_of_when_it_was_finished(folder, env, door, monkeypatch):
    days = iter(f"2026-11-{day:02}T00:00:00+00:00" for day in range(1, 9))
    monkeypatch.setattr(pushing, "_now", lambda: next(days))
    door.faults["POST *"] = [Fault(403)]
    run(env, "push", folder, "--yes")
    assert record(folder)["releases"][0]["at"].startswith("2026-11-01")
    assert "begun at 2026-11-01" in run(env, "status", folder)[1]
    run(env, "push", folder, "--yes")
    assert "pushed 2026-11-02" in run(env, "status", folder)[1]


def test_destroy_goes_to_each_place_that_was_pushed_to(folder, env, door):
    run(env, "push", folder, "--yes")
    edited(folder, moved)
    run(env, "push", folder, "--yes")
    run(env, "rollback", folder, "--yes")
    edited(folder, lambda data: told(data).update(region="us-east-1"))
    code, out, err = run(env, "destroy", folder, "--yes")
    assert code == 0, err
    assert [region for region in ("us-west-2", "eu-west-1", "us-east-1") if f"removed in {region}" in out] == [
        "us-west-2",
        "eu-west-1",
    ]
    assert record(folder)["releases"] == []


def test_destroy_says_where_it_could_not_look(folder, env, door):
    run(env, "push", folder, "--yes")
    (kept,) = folder.parent.glob(".modal.*")
    shutil.rmtree(kept)
    edited(folder, moved)
    code, out, _ = run(env, "destroy", folder, "--yes")
    assert code == 0
    assert "removed in eu-west-1" in out
    assert "is not kept: if it was for another place, look there" in out


def test_after_a_destroy_there_is_nothing_left_to_look_for(folder, env, door):
    pushed_twice(env, folder)
    run(env, "rollback", folder, "--yes")
    run(env, "destroy", folder, "--yes")
    code, out, err = run(env, "destroy", folder, "--yes")
    assert code == 0
    assert "look there" not in out
    assert "pushes made" not in err


def test_a_push_that_failed_offers_to_remove_nothing_that_serves(folder, env, door):
    run(env, "push", folder, "--yes")
    edited(folder, moved)
    door.faults["PATCH *"] = [Fault(403)]
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 2
    assert "removed by" not in err
    assert "go on: deploy push" in err
    edited(folder, lambda data: told(data).update(image="ghcr.io/acme/other:1"))
    door.faults["PATCH *"] = [Fault(403)]
    _, _, err = run(env, "push", folder, "--yes")
    assert "image ghcr.io/acme/other:1    removed by: builder remove ghcr.io/acme/other:1" in err
    assert "endpoint id1    removed" not in err


def test_nor_what_may_be_there_since_it_serves(folder, env, door):
    run(env, "push", folder, "--yes")
    edited(folder, moved)
    (folder.parent / "bin" / "builder").write_text("#!/bin/sh\nexit 1\n")
    code, _, err = run(env, "push", folder, "--yes")
    assert (code, "perhaps: " in err) == (2, False)


def test_nor_does_a_rollback_that_failed(folder, env, door):
    pushed_twice(env, folder)
    door.faults["PATCH *"] = [Fault(403)]
    code, _, err = run(env, "rollback", folder, "--yes")
    assert (code, "removed by" in err) == (2, False)
    assert "go on: deploy rollback" in err


def test_what_pushes_made_that_never_came_to_their_end_is_listed(folder, env, door):
    door.faults["POST *"] = [Fault(403)]
    run(env, "push", folder, "--yes")
    edited(folder, moved)
    (folder.parent / "bin" / "builder").write_text("#!/bin/sh\nexit 1\n")
    code, _, err = run(env, "push", folder, "--yes")
    assert code == 2
    assert re.search(r"what was made is still there:\n  image \S+    removed by: builder remove", err)


def test_what_a_rollback_was_told_is_kept(folder, env, door):
    """An endpoint that was made anew meanwhile has another id and address."""
    pushed_twice(env, folder)
    run(env, "rollback", folder, "--yes")
    assert {"make", "back"} <= {step["id"] for step in record(folder)["releases"][-1]["steps"]}


@pytest.mark.parametrize(
    ("fault", "says"),
    [("gone", "is not kept"), ("edited", "its sha256 differs"), ("of another", "is of another render")],
)
def test_what_was_pushed_then_has_to_be_there_whole(folder, env, door, fault, says):
    pushed_twice(env, folder)
    kept = folder.with_name(f".modal.{record(folder)['releases'][0]['folder_digest'][:16]}")
    if fault == "gone":
        shutil.rmtree(kept)
    elif fault == "edited":
        (kept / "app.py").write_text("")
    else:
        edited(kept, moved)
    asked = len(door.asked)
    code, _, err = run(env, "rollback", folder, "--yes")
    assert code == 2
    assert says in err
    assert f"fix: deploy render modal --checkpoint CHECKPOINT --report REPORT --out {folder}, of python-docs@" in err
    assert f"then deploy push {folder}\n" in err
    assert len(door.asked) == asked
    assert len(record(folder)["releases"]) == 2


def test_a_rollback_to_what_was_not_gated_asks_again(folder, env, door):
    of_date(folder, datetime.now(UTC) - timedelta(days=31))
    run(env, "push", folder, "--yes", "--no-gate")
    of_date(folder, datetime.now(UTC))
    assert run(env, "push", folder, "--yes")[0] == 0
    asked = len(door.asked)
    for more in (["--yes"], ["--dry-run"]):
        code, _, err = run(env, "rollback", folder, *more)
        assert code == 2
        assert "D056" in err
        assert "31 days ago" in err
    assert len(door.asked) == asked
    assert run(env, "rollback", folder, "--dry-run", "--no-gate")[0] == 0
    assert run(env, "rollback", folder, "--yes", "--no-gate")[0] == 0
    assert "NOT GATED" in run(env, "status", folder)[1]


def test_a_rollback_passes_over_a_push_that_was_not_finished(folder, env, door):
    assert run(env, "push", folder, "--yes")[0] == 0
    first = record(folder)["releases"][0]["at"]
    door.faults["PATCH *"] = [Fault(403)]
    of_date(folder, datetime.now(UTC) - timedelta(days=1))
    assert run(env, "push", folder, "--yes")[0] == 2
    of_date(folder, datetime.now(UTC))
    assert run(env, "push", folder, "--yes")[0] == 0
    assert [r["finished"] for r in record(folder)["releases"]] == [True, False, True]
    code, _, err = run(env, "rollback", folder, "--yes")
    assert code == 0
    assert f"of {first}, PASS" in err
    found = record(folder)
    assert ([r["at"] for r in found["releases"]], len(found["taken_back"])) == ([first], 2)


def test_destroy_removes_and_forgets(folder, env, door):
    run(env, "push", folder, "--yes")
    code, out, err = run(env, "destroy", folder, "--yes")
    assert code == 0
    assert "but for what others may use, which is told at the end; pushes made:\n" in err
    assert "\n  endpoint id1\n" in err
    assert "the image stays" in out
    assert door.things == {}
    assert record(folder)["releases"] == []
    assert run(env, "destroy", folder, "--yes")[0] == 0  # what has gone is no error
    assert run(env, "status", folder)[1].startswith("python-docs on modal: not pushed from here")


def test_a_destroy_that_fails_forgets_nothing(folder, env, door):
    run(env, "push", folder, "--yes")
    door.faults["DELETE *"] = [Fault(403)]
    code, _, err = run(env, "destroy", folder, "--yes")
    assert code == 2
    assert f"go on: deploy destroy {folder}" in err
    assert len(record(folder)["releases"]) == 1


def test_looking_needs_no_whole_folder(folder, env, door):
    run(env, "push", folder, "--yes")
    (folder / "more").write_text("")
    assert run(env, "status", folder)[0] == 0
    assert run(env, "destroy", folder, "--yes")[0] == 0  # what costs money can always be stopped


# Clients


def test_client_prints_what_evalsuite_reads(folder, env):
    assert "was not pushed from here" in run(env, "client", folder)[2]
    run(env, "push", folder, "--yes")
    info = ClientInfo.model_validate_json(run(env, "client", folder, "--json")[1])
    assert info.base_url == "https://us-west-2.platform.example/v1"
    out = run(env, "client", folder)[1]
    assert "key       $PLATFORM_API_KEY" in out
    assert "OpenAI(" in run(env, "client", folder, "--python")[1]
    assert "curl" in run(env, "client", folder, "--curl")[1]


@pytest.mark.parametrize("wrong", [ValueError, KeyError, TypeError, AttributeError])
def test_a_record_that_says_nothing_of_an_address_is_an_error_in_words(folder, env, monkeypatch, wrong):
    def client(*_):
        raise wrong("…")

    run(env, "push", folder, "--yes")
    monkeypatch.setattr(platform_operator, "client", client)
    for command in ("client", "smoke"):
        code, _, err = run(env, command, folder)
        assert code == 2
        assert "does not say how python-docs is reached" in err


INFOS = [
    ClientInfo(base_url="https://a/v1", model="it's@1", key_env="PLATFORM_API_KEY"),
    ClientInfo(
        base_url="https://a/v1", model="m", headers={"Modal-Key": "HF_TOKEN", "Modal-Secret": "PLATFORM_API_KEY"}
    ),
    ClientInfo(base_url="https://a/v1", model="m", stream=True, patience_seconds=0),
]
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "it inserts"}}],
}
CHUNK = {
    "id": "1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "it inserts"}}],
}


@pytest.mark.parametrize("info", INFOS)
@pytest.mark.parametrize("language", ["python", "curl"])
def test_the_shown_client_reaches_the_endpoint(info, env, door, language):
    if language == "curl" and not shutil.which("curl"):
        pytest.skip("there is no curl")
    path = "/v1/chat/completions"
    text = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n" if info.stream else json.dumps(ANSWER)
    kind = "text/event-stream" if info.stream else "application/json"
    door.faults[f"POST {path}"] = [Fault(200, text, (("content-type", kind),))]
    told = getattr(reaching, language)(info.model_copy(update={"base_url": f"{door.url}/v1"}))
    assert not any(value in told for value in SECRETS.values())
    command = [sys.executable, "-c", told] if language == "python" else ["sh", "-c", told]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert "it inserts" in done.stdout, done.stderr
    (asked,) = door.asked
    assert asked.path == path
    assert asked.body["model"] == info.model
    if info.key_env:
        assert asked.key == f"Bearer {SECRETS[info.key_env]}"


def test_a_signed_endpoint_is_told_with_its_token(env):
    info = ClientInfo(
        base_url="https://a/v1", model="m", signed="sagemaker", region="us-east-1", stream=True, answer_seconds=480
    )
    assert "generate_token(region='us-east-1')" in reaching.python(info)
    compile(reaching.python(info), "shown", "exec")
    assert "signed with AWS credentials (us-east-1)" in reaching.words(info)
    assert "cut off   after 480 s" in reaching.words(info)


def test_what_a_push_costs_is_said_of_any_target(made):
    deployment = folders.read(made).deployment
    assert "3.95 USD an hour" in pushing.cost(deployment)
    assert "not known" in pushing.cost(deployment.model_copy(update={"gpu": "gone"}))
    assert "none while idle" in pushing.cost(deployment)
    pod = {"target": "runpod", "table": {"type": "pod"}}
    assert "for 1 always on" in pushing.cost(deployment.model_copy(update=pod))
