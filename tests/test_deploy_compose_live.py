"""What compose's flows have done: each command that is yielded, for every answer that Docker gives."""

import shutil
import subprocess

import pytest
from deployment import make_checkpoint, rendered

from deploy import rehearsing
from deploy.live import Done, Live, Release
from deploy.targets.compose import live
from tune import checkpoint
from tune.errors import UserError

SECRETS = {"VLLM_API_KEY": "MY_KEY"}


def driven(flow, answers):
    """The steps of a flow whose actions give `answers` by step id, and what it returns."""
    steps, result = [], None
    try:
        while True:
            steps.append(flow.send(result) if steps else next(flow))
            result = answers.get(steps[-1].id, {"out": "", "code": 0})
    except StopIteration as end:
        return steps, end.value


RUNNING = '{"Name":"x","State":"running","Health":"healthy","Image":"python-docs:1"}\n'


@pytest.fixture
def host(tmp_path):
    """A rendered folder, its deployment, and what this host answers about its weights."""
    folder = rendered(tmp_path, "compose", secrets=SECRETS, startup_seconds=120)
    manifest = (tmp_path / "merged" / "checkpoint.json").read_text()
    return (
        folder,
        rehearsing.opened(folder),
        {"weights": {"out": manifest, "code": 0}, "look": {"out": RUNNING, "code": 0}},
    )


def nothing(deployment):
    return Live(target="compose", name=deployment.name)


def released(deployment, steps, image="", finished=True):
    done = tuple(Done(id=s.id, what=s.what, action=s.action, makes=s.makes, remove=s.remove) for s in steps)
    return Release(at="2026-11-28T00:00:00Z", model=deployment.model, folder_digest="0" * 64, gate="PASS",
                   finished=finished, steps=done)  # fmt: skip


def test_push_builds_then_starts_and_waits(host):
    folder, deployment, answers = host
    steps, told = driven(live.push(deployment, folder, nothing(deployment)), answers)
    assert [s.id for s in steps] == ["weights", "build", "up", "look"]
    build, up = steps[1].action.argv, steps[2].action
    assert build[1] == up.argv[1]
    assert build[1] == f"GPTOSS_IMAGE={deployment.image}"
    assert up.argv[up.argv.index("--wait-timeout") + 1] == "120"
    assert "--no-build" in up.argv
    assert up.needs == ("MY_KEY",)
    assert all(s.remove for s in steps if s.makes)
    assert told == ("python-docs: running (healthy), python-docs:1", "http://localhost:8000/v1")


@pytest.mark.parametrize("there", ["", "{}", "other"])
def test_push_without_the_weights_on_the_host_builds_nothing(host, tmp_path, there):
    folder, deployment, answers = host
    if there == "other":
        there = (make_checkpoint(tmp_path / "o", name="other").folder / "checkpoint.json").read_text()
    answers["weights"] = {"out": there, "code": 1}
    with pytest.raises(UserError, match=r"checkpoint\.json is "):
        driven(live.push(deployment, folder, nothing(deployment)), answers)


def test_a_release_with_another_recipe_has_an_image_of_its_own(tmp_path):
    chosen = set()
    for side, drain in (("a", 3), ("b", 4)):
        folder = rendered(tmp_path / side, "compose", serve={"drain": drain})
        deployment = rehearsing.opened(folder)
        manifest = {"weights": {"out": (tmp_path / side / "merged" / "checkpoint.json").read_text(), "code": 0}}
        steps, _ = driven(live.push(deployment, folder, nothing(deployment)), manifest)
        chosen.add(steps[1].action.argv[1])
    assert len(chosen) == 2


def test_rollback_starts_that_folders_image_with_its_own_weights(host):
    folder, deployment, answers = host
    record = nothing(deployment)
    first, _ = driven(live.push(deployment, folder, record), answers)
    answers["image"] = {"out": "0123456789ab\n", "code": 0}
    steps, told = driven(live.rollback(deployment, folder, record), answers)
    assert [s.id for s in steps] == ["image", "weights", "up", "look"]
    assert steps[2].action == first[2].action
    assert told[0].startswith("python-docs: running")
    with pytest.raises(UserError, match="has gone"):
        driven(live.rollback(deployment, folder, record), answers | {"image": {"out": "\n", "code": 0}})
    with pytest.raises(UserError, match="weights are bound"):
        driven(live.rollback(deployment, folder, record), answers | {"weights": {"out": "", "code": 1}})


def test_destroy_removes_the_image_of_every_release(host):
    folder, deployment, answers = host
    record = nothing(deployment)
    first, _ = driven(live.push(deployment, folder, record), answers)
    other = first[1].model_copy(update={"makes": "the image later"})
    update = {"releases": (released(deployment, first), released(deployment, [other]))}
    steps, told = driven(live.destroy(deployment, record.model_copy(update=update)), {})
    assert [s.action.argv[-1] for s in steps[1:]] == [first[1].action.argv[1].partition("=")[2], "later"]
    assert steps[0].action.argv == ("docker", "compose", "down", "--volumes", "--remove-orphans")
    assert "weights" in told[0]


@pytest.mark.parametrize(
    ("out", "says"),
    [
        (RUNNING, "python-docs: running (healthy), python-docs:1"),
        (f"[{RUNNING.strip()}]", "python-docs: running (healthy), python-docs:1"),  # Compose until 2.20
        ('{"State":"exited","Health":"","Image":"i","ExitCode":2}', "python-docs: exited, i"),
        ("", "python-docs: no container"),
        ("nonsense\n[1, null]\n7", "python-docs: no container"),
        ('{"State":"\\u001b[2Jrunning\\nx"}', "python-docs: \\x1b[2Jrunning x, "),
    ],
)
def test_status_tells_what_docker_says(host, out, says):
    _, deployment, _ = host
    _, told = driven(live.status(deployment, nothing(deployment)), {"look": {"out": out, "code": 0}})
    assert told[0] == says
    assert told[1:] == ("http://localhost:8000/v1", "cost: 1 x H100 of this host, whether it answers or not")


def test_a_client_asks_with_the_host_s_key(host):
    _, deployment, _ = host
    info = live.client(deployment, nothing(deployment))
    assert (info.base_url, info.key_env, info.model) == ("http://localhost:8000/v1", "MY_KEY", deployment.model)
    assert info.patience_seconds == deployment.limits.startup_seconds


def test_a_compose_yaml_that_was_written_over_is_refused(tmp_path):
    for text in ("", "[", "services: {}", "services: {server: {volumes: []}}"):
        (tmp_path / "compose.yaml").write_text(text)
        with pytest.raises(UserError, match="is not what was rendered"):
            live.source(tmp_path)


def test_docker_compose_has_each_flag(host):
    """Docker's own program, where there is one; it needs no daemon to read its flags."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose on PATH")
    folder, deployment, answers = host
    flows = (live.push(deployment, folder, nothing(deployment)), live.status(deployment, nothing(deployment)),
             live.logs(deployment, nothing(deployment)), live.destroy(deployment, nothing(deployment)))  # fmt: skip
    for flow in flows:
        for argv in (step.action.argv for step in driven(flow, answers)[0]):
            if "compose" in argv:
                words = argv[argv.index("compose") + 1 :]
                subprocess.run([program, *words, "--help"], check=True, capture_output=True, cwd=folder)


def test_no_flow_makes_a_secret_or_an_account(host):
    folder, deployment, answers = host
    flows = (live.push(deployment, folder, nothing(deployment)), live.status(deployment, nothing(deployment)),
             live.logs(deployment, nothing(deployment)), live.destroy(deployment, nothing(deployment)))  # fmt: skip
    for flow in flows:
        for step in driven(flow, answers)[0]:
            assert step.action.argv[0] in {"docker", "cat", "env"}
            assert "login" not in step.action.argv
    assert checkpoint.read(folder.parent.parent / "merged").digest == deployment.digest
