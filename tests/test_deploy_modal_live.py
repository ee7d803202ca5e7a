"""Modal, live: its flows against a `modal` on PATH that parses as the real program does and keeps an account."""

import re
import shlex
import shutil

import click
import pytest
from deployment import rendered
from stand_ins import modal_cli

from deploy import dryrun, hands, kept, render, running
from deploy import folder as folders
from deploy.hands import Hands
from deploy.live import Live, Release
from deploy.spec import Deployment
from deploy.targets.modal import live as modal
from tune import artefact
from tune.errors import UserError
from tune.recipe import Recipe

URL = "https://me--python-docs-server.us-east.modal.direct"


class Project:
    """The rendered folder, what was done with it, and the account where it was done."""

    def __init__(self, folder, account):
        self.folder, self.account = folder, account
        self.live = Live(target="modal", name="python-docs")
        self.said, self.shown = [], []

    @property
    def deployment(self):
        made = artefact.read(self.folder, "deployment", remake="")
        return Deployment.model_validate(made.settings["deployment"])

    def asked(self):
        """The commands since it was asked last."""
        asked, self.account.asked = self.account.asked, []
        return asked

    def push(self, *, done=()):
        made = artefact.read(self.folder, "deployment", remake="")
        steps = list(done)
        try:
            return running.drive(
                modal.push(self.deployment, self.folder, self.live),
                Hands(self.folder),
                done=done,
                keep=steps.append,
                say=self.said.append,
            )
        finally:
            release = Release(at="t", model=self.deployment.model, folder_digest=made.digest, gate="", steps=steps)
            self.live = self.live.model_copy(update={"releases": (*self.live.releases, release)})
            kept.keep(folders.read(self.folder))

    def drive(self, command, **more):
        flow, where = None, self.folder
        if command == "rollback":
            old = kept.of(self.folder, self.live.releases[-2])
            flow, where = modal.rollback(old.deployment, old.folder, self.live), old.folder
        flow = flow or getattr(modal, command)(self.deployment, self.live)
        return running.drive(flow, Hands(where, show=self.shown.append), say=self.said.append, **more)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with modal_cli.program(tmp_path / "bin") as account:
        yield Project(rendered(tmp_path, "modal"), account)


def again(project, tmp_path, **deploy):
    """Render the same checkpoint by another recipe, into the same folder."""
    recipe = Recipe.model_validate({"deploy": deploy, "serve": {"max_model_len": 2048}})
    inputs = {"checkpoint": tmp_path / "merged", "report": tmp_path / "report.json", "out": project.folder}
    render.render("modal", recipe=recipe, **inputs)


def test_a_first_push_makes_all_and_a_second_one_only_what_is_new(project):
    digest = project.deployment.digest[:16]
    whole = artefact.read(project.folder, "deployment", remake="").digest
    says = project.push()
    assert project.asked() == [
        "volume list --json",
        "volume create python-docs-models",
        "volume create python-docs-cache",
        f"volume ls python-docs-models /python-docs-{digest} --json",
        f"volume put python-docs-models ../../merged /python-docs-{digest}",
        f"deploy app.py --strategy rolling --tag {digest}-{whole[:8]}",
        "server info python-docs/Server --json",
    ]
    assert says[0] == f"{project.deployment.model} is deployed on Modal: {URL}"
    sent = project.account.volumes["python-docs-models"]
    assert f"python-docs-{digest}/checkpoint.json" in sent
    assert f"python-docs-{digest}/model.safetensors" in sent
    makes = {d.makes: d.remove for d in project.live.releases[0].steps if d.makes}
    assert makes["Modal app python-docs"] == "modal app stop python-docs --yes"
    assert makes["Modal Volume python-docs-models"] == "modal volume delete python-docs-models --yes"
    project.push()
    assert [words.split()[:2] for words in project.asked()] == [
        ["volume", "list"],
        ["volume", "ls"],
        ["deploy", "app.py"],
        ["server", "info"],
    ]


def test_every_removal_is_one_that_modal_takes(project):
    project.push()
    removals = [shlex.split(done.remove) for done in project.live.releases[0].steps if done.remove]
    assert [modal_cli.parsed(words[1:])[0] for words in removals] == [
        "volume delete",
        "volume delete",
        "volume rm",
        "app stop",
    ]
    assert {words[0] for words in removals} == {"modal"}
    with pytest.raises(click.UsageError, match="No such option"):
        modal_cli.parsed(["app", "stop", "x", "--never"])


def test_a_push_that_broke_off_goes_on_and_says_what_is_there(project):
    project.account.faults = {"deploy": "image build failed: no space left; quota"}
    with pytest.raises(UserError) as e:
        project.push()
    assert "quota" in e.value.message
    told = "\n".join(project.said)
    assert "Modal Volume python-docs-cache    removed by: modal volume delete python-docs-cache --yes" in told
    assert "perhaps: Modal app python-docs    removed by: modal app stop python-docs --yes" in told
    project.account.faults = {}
    project.asked()
    project.push(done=project.live.releases[0].steps)
    assert [w.split()[0] for w in project.asked()] == ["volume", "volume", "deploy", "server"]


def test_no_token_is_an_error_and_not_an_empty_account(project):
    project.account.faults = {"volume list": "Token missing. Could not authenticate client."}
    with pytest.raises(UserError, match="modal failed") as e:
        project.push()
    assert e.value.fix == hands.MODAL_KEY
    for command in re.findall(r"modal (token \w+)", e.value.fix):
        modal_cli.parsed(command.split())
    assert len(project.asked()) == 1


def test_a_secret_that_modal_lacks_is_named_before_anything_is_made(project, tmp_path):
    again(project, tmp_path, secrets={"HF_TOKEN": "hub"})
    with pytest.raises(UserError, match="Modal has no secret hub") as e:
        project.push()
    assert "modal secret create hub HF_TOKEN=- (it opens an editor)" in e.value.fix
    assert project.account.volumes == {}
    project.account.secrets = ["hub"]
    project.push()
    assert project.account.apps["python-docs"]["state"] == "deployed"


def test_a_checkpoint_that_was_made_again_is_not_sent(project, tmp_path):
    merged = tmp_path / "merged"
    (merged / "config.json").write_text((merged / "config.json").read_text() + " ")
    with pytest.raises(UserError, match=r"config\.json is not the file"):
        project.push()
    made = artefact.read(merged, "checkpoint", remake="")
    artefact.finish(merged, "checkpoint", inputs=made.inputs, settings=made.settings)
    with pytest.raises(UserError, match="this deployment is of python-docs@") as e:
        project.push()
    assert e.value.why == "it was made again since"
    assert not any("put" in words for words in project.asked())


def test_weights_that_are_there_are_not_needed_here(project, tmp_path):
    project.push()
    shutil.rmtree(tmp_path / "merged")
    project.asked()
    project.push()
    assert project.asked()[-2].startswith("deploy ")


def test_a_dry_run_touches_nothing_and_shows_each_command(project):
    steps, _ = dryrun.rehearse(lambda: modal.push(project.deployment, project.folder, project.live))
    told = "\n".join(line for step in steps for line in dryrun.shown(step))
    for words in ("volume create python-docs-models", "volume put python-docs-models ../../merged", "deploy app.py"):
        assert f"$ modal {words}" in told
    assert project.asked() == []
    for command in ("status", "logs", "destroy"):
        assert dryrun.rehearse(lambda c=command: getattr(modal, c)(project.deployment, project.live))[0]
    assert project.asked() == []


def test_status_says_what_runs_and_what_it_costs(project, tmp_path):
    assert project.drive("status") == ("python-docs does not run on Modal",)
    again(project, tmp_path, modal={"region": "eu"})
    project.push()
    says = project.drive("status")
    assert says[0] == "python-docs is deployed: v1, now"
    assert says[3] == f"URL: {URL}"
    assert "3.95 USD an hour" in says[4]
    assert "times 1.5 for the region" in says[4]
    project.drive("destroy")
    assert project.drive("status") == ("python-docs does not run on Modal: it is stopped",)


def test_logs_come_without_keys(project):
    project.push()
    project.drive("logs")
    assert project.shown == ["2026-11-28 ready", "key …"]


def test_a_rollback_goes_to_the_release_before_by_its_own_tag(project, tmp_path):
    project.push()
    again(project, tmp_path, idle_seconds=77)
    project.push()
    project.asked()
    project.drive("rollback")
    assert project.asked() == ["app history python-docs --json", "app rollback python-docs v1 --strategy rolling"]
    project.live = project.live.model_copy(update={"releases": project.live.releases[:1]})
    again(project, tmp_path, idle_seconds=99)
    project.push()
    project.drive("rollback")
    assert project.asked()[-1].startswith("app rollback python-docs v1 ")  # never v2, which was taken back
    assert project.account.apps["python-docs"]["versions"][-1]["server"]["scaledown_window"] == 300
    versions = [{**v, "tag": "gone"} for v in project.account.apps["python-docs"]["versions"]]
    project.account.apps = {"python-docs": {"state": "deployed", "versions": versions}}
    first = project.live.releases[0].folder_digest
    project.drive("rollback")  # from the folder of then
    assert project.asked()[-1].startswith(
        f"deploy app.py --strategy rolling --tag {project.deployment.digest[:16]}-{first[:8]}"
    )
    assert project.account.apps["python-docs"]["versions"][0]["server"]["scaledown_window"] == 300
    project.asked()
    assert "still" in project.drive("rollback")[0]
    assert project.asked() == ["app history python-docs --json"]


def test_destroy_stops_the_app_says_what_stays_and_can_be_repeated(project):
    project.push()
    says = project.drive("destroy")
    assert project.account.apps["python-docs"]["state"] == "stopped"
    assert "python-docs-models and python-docs-cache stay: modal volume delete" in says[1]
    assert project.account.volumes["python-docs-models"]
    project.asked()
    assert project.drive("destroy") == ("python-docs does not run on Modal", says[1])
    assert project.asked() == ["app list --json"]


def test_the_client_shows_modals_tokens_or_our_key(project, tmp_path):
    with pytest.raises(UserError, match="no URL"):
        modal.client(project.deployment, project.live)
    project.push()
    info = modal.client(project.deployment, project.live)
    assert (info.base_url, info.model) == (f"{URL}/v1", project.deployment.model)
    assert (info.headers, info.key_env) == ({"Modal-Key": "MODAL_KEY", "Modal-Secret": "MODAL_SECRET"}, "")
    again(project, tmp_path, modal={"auth": "key"}, secrets={"VLLM_API_KEY": "front-door"})
    info = modal.client(project.deployment, project.live)
    assert (info.headers, info.key_env) == ({}, "VLLM_API_KEY")
