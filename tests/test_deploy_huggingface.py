"""Hugging Face Inference Endpoints: what is rendered, what the library sends of it, and the life of an endpoint at an
API on this machine that can fail."""

import json

import hub_socket
import pytest
from deployment import make_checkpoint, needed, rendered
from hub_client import tune
from huggingface_hub import HfApi, constants
from stand_ins import hf_endpoints
from test_deploy_checks import CHOSEN, examine, ids

from deploy import dryrun, kept, render, running, sizing
from deploy import folder as folders
from deploy.hands import Hands
from deploy.live import Live, Release
from deploy.spec import Deployment
from deploy.targets import huggingface as target
from deploy.targets import start as entry
from deploy.targets.huggingface import live as hf
from tune import artefact
from tune.errors import UserError
from tune.recipe import Recipe

TOKEN = "hf_" + "NeverSeen" * 3
URL = "https://abc.us-east-1.aws.endpoints.huggingface.cloud"
REPOSITORY = needed("huggingface")["huggingface"]
FULL = {"maxAccelerators": 2, "usedAccelerators": 2}


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hf_endpoints.serve() as found:
        monkeypatch.setattr(constants, "INFERENCE_ENDPOINTS_ENDPOINT", found.url)
        found.hardware = [hf_endpoints.lent("gcp", "us-east4", "nvidia-h100", "x1")]
        yield found


def test_the_body_is_what_the_library_sends(tmp_path, api, golden):
    out = rendered(tmp_path, "huggingface", max_replicas=3, concurrency=9, idle_seconds=1000)
    text = (out / "endpoint.json").read_text()
    golden("deploy/huggingface/endpoint.json", text)
    HfApi(token=TOKEN).create_inference_endpoint(**target.arguments(json.loads(text)), namespace="acme")
    assert api.bodies == [json.loads(text)]
    assert json.dumps(api.bodies[0]["model"]["image"]["custom"]["url"]) in text


@pytest.mark.parametrize(
    ("least", "idle", "minutes"), [(0, 2, 15), (0, 900, 15), (0, 901, 16), (0, 3600, 60), (1, 300, None)]
)
def test_idle_seconds_become_minutes_that_it_takes(tmp_path, least, idle, minutes):
    told = examine(tmp_path, "huggingface", **needed("huggingface"), min_replicas=least, idle_seconds=idle).deployment
    assert target.body(told)["compute"]["scaling"]["scaleToZeroTimeout"] == minutes


@pytest.mark.parametrize(
    ("gpu", "table", "gpus", "where"),
    [
        ("H100", {}, 1, ("gcp", "us-east4")),
        ("L4", {}, 1, ("aws", "us-east-1")),
        ("L4", {"vendor": "gcp"}, 1, ("gcp", "us-east4")),
        ("L4", {"region": "eu-west-1"}, 4, ("aws", "eu-west-1")),
        ("H100", {"vendor": "aws"}, 1, None),
        ("A10G", {"vendor": "gcp"}, 1, None),
        ("L4", {"vendor": "azure"}, 1, None),
        ("L4", {"region": "eu-west-9"}, 1, None),
        ("L40S", {"region": "us-east4"}, 1, None),
    ],
)
def test_where_a_gpu_is_lent_is_known(tmp_path, gpu, table, gpus, where):
    deploy = {**needed("huggingface"), "gpu": gpu, "huggingface": {**REPOSITORY, **table}}
    config = {"num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 512}
    serve = {**CHOSEN, "tensor_parallel": gpus}
    found = examine(tmp_path, "huggingface", serve=serve, config=config, **deploy)
    assert ("D083" in ids(found)) == (where is None)
    assert target.place(found.deployment) == where
    assert found.deployment.machine.endswith(f" x{gpus}")


def test_every_gpu_of_the_table_is_lent_somewhere():
    for name, gpu in sizing.hardware().lent_by("huggingface").items():
        for count in range(1, 9):
            if offer := gpu.offer("huggingface", count):
                type, size = offer.machine.split(" ")
                assert size == f"x{count}", name
                assert any(size in lent.get(type, ()) for _, lent in target.LENT.values()), offer.machine


@pytest.mark.parametrize(
    ("change", "id"),
    [
        ({"huggingface": {**REPOSITORY, "revision": ""}}, "D084"),
        ({"huggingface": {**REPOSITORY, "repository": ""}}, "D084"),
        ({"registry": ""}, "D085"),
        ({"huggingface": {**REPOSITORY, "private": False}}, "D082"),
        ({"secrets": {"WANDB_API_KEY": "wandb"}}, "D031"),
    ],
)
def test_each_rule_of_hugging_face_can_break_and_hold(tmp_path, change, id):
    found = examine(tmp_path / "bad", "huggingface", **{**needed("huggingface"), **change})
    assert [f.id for f in found.errors] == [id]
    assert examine(tmp_path / "good", "huggingface", **needed("huggingface")).errors == ()


@pytest.mark.parametrize("length", [32, 33, 41])
def test_a_long_name_is_cut_to_one_that_it_takes(tmp_path, length):
    told = examine(tmp_path, "huggingface", **needed("huggingface")).deployment
    names = {target.name(told.model_copy(update={"name": "n" * (length - 1) + end})) for end in "ab"}
    assert len(names) == 2
    assert {len(name) for name in names} == {32}


class Project:
    """A rendered folder, what was done with it, and a docker that notes what it is told."""

    def __init__(self, tmp_path):
        self.folder, self.live = rendered(tmp_path, "huggingface"), Live(target="huggingface", name="python-docs")
        self.root, self.docker, self.said = tmp_path, tmp_path / "docker.txt", []

    @property
    def made(self):
        return artefact.read(self.folder, "deployment", remake="")

    @property
    def deployment(self):
        return Deployment.model_validate(self.made.settings["deployment"])

    def again(self, **deploy):
        recipe = Recipe.model_validate({"deploy": {**needed("huggingface"), **deploy}, "serve": CHOSEN})
        inputs = {"checkpoint": self.root / "merged", "report": self.root / "report.json", "out": self.folder}
        render.render("huggingface", recipe=recipe, **inputs)

    def push(self, *, done=()):
        steps = list(done)
        try:
            flow = hf.push(self.deployment, self.folder, self.live)
            hands = Hands(self.folder, patience=0)
            return running.drive(flow, hands, done=done, keep=steps.append, say=self.said.append)
        finally:
            now = Release(
                at="t", model=self.deployment.model, folder_digest=self.made.digest, gate="", steps=tuple(steps)
            )
            self.live = self.live.model_copy(update={"releases": (*self.live.releases, now)})
            kept.keep(folders.read(self.folder))
            assert TOKEN not in self.live.model_dump_json() + "".join(self.said)

    def drive(self, command, **more):
        if command == "rollback":
            old = kept.of(self.folder, self.live.releases[-2])
            flow = hf.rollback(old.deployment, old.folder, self.live)
        else:
            flow = getattr(hf, command)(self.deployment, self.live)
        return running.drive(flow, Hands(self.folder, patience=0), say=self.said.append, **more)


@pytest.fixture
def project(tmp_path, api, monkeypatch):
    monkeypatch.setattr(running, "LOOK_AGAIN", 0)
    path = tmp_path / "bin"
    path.mkdir()
    (path / "docker").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/docker.txt\n')
    (path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    return Project(tmp_path)


def test_the_life_of_an_endpoint(project, api):
    says = project.push()
    assert says[0] == f"{project.deployment.model} is running on Hugging Face: {URL}"
    image = project.deployment.image
    assert project.docker.read_text() == f"build --platform linux/amd64 --tag {image} .\npush {image}\n"
    assert api.bodies == [json.loads((project.folder / "endpoint.json").read_text())]
    assert api.asked == [
        "GET /v2/endpoint/acme/python-docs",
        "GET /v2/provider/acme",
        "POST /v2/endpoint/acme",
        *["GET /v2/endpoint/acme/python-docs"] * 3,
    ]
    assert api.tokens == {f"Bearer {TOKEN}"}
    (made,) = [d for d in project.live.releases[0].steps if d.id == "create"]
    assert made.makes == "Hugging Face endpoint python-docs, 9.50 USD an hour now for each replica"
    assert made.remove == "hf endpoints delete python-docs --namespace acme --yes"

    HfApi(token=TOKEN).scale_to_zero_inference_endpoint("python-docs", namespace="acme")
    says = project.drive("status")
    assert says[0] == "python-docs: scaledToZero, Endpoint is ready"
    assert says[1] == f"image: {image}"
    assert "replicas: 1 ready of 1 wanted, 0 to 1 allowed" in says
    assert hf.client(project.deployment, project.live).retry == (429, 502, 503)

    project.again(max_replicas=4, startup_seconds=1700)
    project.push()
    there = api.endpoints["acme/python-docs"]
    assert there["compute"]["scaling"]["maxReplica"] == 4
    assert there["model"]["image"]["custom"]["url"] == project.deployment.image != image
    assert not {"name", "provider", "type"} & api.bodies[-1].keys()  # a PUT must not name what cannot change

    project.drive("rollback")
    assert api.endpoints["acme/python-docs"]["compute"]["scaling"]["maxReplica"] == 1
    assert api.endpoints["acme/python-docs"]["model"]["image"]["custom"]["url"] == image
    project.live = project.live.model_copy(update={"releases": project.live.releases[:1]})
    assert "(pushed from here: " in project.drive("status")[1]

    HfApi(token=TOKEN).pause_inference_endpoint("python-docs", namespace="acme")
    project.push()
    assert "POST /v2/endpoint/acme/python-docs/resume" in api.asked
    assert "running" in project.drive("status")[0]

    says = project.drive("destroy")
    assert api.endpoints == {}
    assert project.drive("destroy") == says
    assert "acme/python-docs stay" in says[1]
    assert project.drive("status") == ("there is no endpoint python-docs of acme",)


@pytest.mark.parametrize(
    ("status", "said", "tells"),
    [
        (401, "Invalid token", "refuses the key"),
        (402, "Payment required", "asks for money first"),
        (403, "Forbidden: no right to create", "does not allow it"),
        (409, "exists already", "is there already"),
        (429, "slow down", "is asked too often"),
        (429, "Quota exceeded for nvidia-h100", "has reached your quota"),
        (500, f"oops {TOKEN}\n<b>", "has a fault of its own"),
        (400, "No available capacity in us-east4", "has no capacity"),
    ],
)
def test_a_refusal_is_told_and_a_push_goes_on(project, api, status, said, tells):
    api.faults = {"POST": [(status, said)]}
    with pytest.raises(UserError) as e:
        project.push()
    assert tells in e.value.message
    assert TOKEN not in e.value.message
    unsure = any("perhaps: Hugging Face endpoint python-docs" in line for line in project.said)
    assert unsure == (status == 500)  # the others are refusals: nothing was made
    project.push(done=project.live.releases[0].steps)
    assert api.endpoints["acme/python-docs"]["status"]["state"] == "running"
    assert project.docker.read_text().count("build") == 1


def test_a_create_whose_answer_was_lost_is_found_again(project, api):
    api.faults = {"POST": [(500, "lost")]}
    with pytest.raises(UserError):
        project.push()
    api.create("acme", json.loads((project.folder / "endpoint.json").read_text()))
    assert project.push()[0].endswith(URL)
    assert [a for a in api.asked if a.startswith("PUT")] == ["PUT /v2/endpoint/acme/python-docs"]


@pytest.mark.parametrize(
    ("lent", "tells"),
    [
        ([], "not in its list"),
        ([hf_endpoints.lent("gcp", "us-east4", "nvidia-h100", "x1", status="deprecated")], "it is deprecated"),
        ([hf_endpoints.lent("gcp", "us-east4", "nvidia-h100", "x2")], "not in its list"),
        ([hf_endpoints.lent("gcp", "us-east4", "nvidia-h100", "x1", quota=FULL)], "may run 0 more"),
    ],
)
def test_what_is_not_lent_now_is_told_before_anything_is_made(project, api, lent, tells):
    api.hardware = lent
    with pytest.raises(UserError) as e:
        project.push()
    assert tells in e.value.message
    assert not project.docker.exists()
    assert not any(asked.startswith("POST") for asked in api.asked)


def test_a_rollback_that_does_not_start_is_an_error(project, api):
    project.push()
    project.again(max_replicas=4)
    project.push()
    api.states = ("pending", "initializing", "failed")
    with pytest.raises(UserError, match="its state is failed"):
        project.drive("rollback")


def test_an_endpoint_that_fails_to_start_is_an_error_with_its_reason(project, api):
    api.states, api.message = ("pending", "initializing", "failed"), "start.py: python-docs is another\ncheckpoint"
    with pytest.raises(UserError, match="its state is failed") as e:
        project.push()
    assert e.value.why == "start.py: python-docs is another checkpoint"
    assert "hf endpoints delete python-docs --namespace acme --yes" in e.value.fix
    assert project.drive("logs")[0] == "python-docs says: start.py: python-docs is another checkpoint"
    assert "hf endpoints delete python-docs" in "\n".join(project.said)


def test_an_endpoint_that_never_gets_ready_is_not_waited_for_for_ever(project, api):
    project.again(startup_seconds=100)
    api.states = ("pending", *["initializing"] * 50)
    with pytest.raises(UserError, match="not ready in time") as e:
        project.push()
    assert "startup_seconds is 100" in e.value.why
    assert api.asked.count("GET /v2/endpoint/acme/python-docs") == 1 + 21


def test_an_endpoint_elsewhere_is_not_taken_for_this_one(project, api):
    project.push()
    project.again(gpu="A100-80GB")
    with pytest.raises(UserError, match="the endpoint python-docs is there, with provider") as e:
        project.push()
    assert "us-east4" in e.value.message
    assert "deploy destroy FOLDER, then deploy push FOLDER" in e.value.fix


def test_without_a_token_nobody_is_asked_and_nothing_is_built(project, api, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(project.root / "none"))
    with pytest.raises(UserError, match="there is no Hugging Face token") as e:
        project.push()
    assert e.value.fix.startswith("hf auth login, or export HF_TOKEN=")
    assert (api.asked, project.docker.exists()) == ([], False)


def test_a_dry_run_asks_nobody(project, api):
    steps, _ = dryrun.rehearse(lambda: hf.push(project.deployment, project.folder, project.live))
    for command in ("status", "logs", "destroy"):
        assert dryrun.rehearse(lambda c=command: getattr(hf, c)(project.deployment, project.live))[0]
    assert api.asked == []
    assert not project.docker.exists()
    told = "\n".join(line for step in steps for line in dryrun.shown(step))
    assert "create_inference_endpoint" in told
    assert '"instance_type": "nvidia-h100"' in told


def test_there_is_no_client_before_a_url_is_known(project, api):
    with pytest.raises(UserError, match="no URL"):
        hf.client(project.deployment, project.live)
    project.push()
    info = hf.client(project.deployment, project.live)
    assert (info.base_url, info.key_env, info.headers) == (f"{URL}/v1", "HF_TOKEN", {})


def test_a_folder_whose_request_was_edited_is_refused(project):
    for text in ("", "[]", "{}"):
        (project.folder / "endpoint.json").write_text(text)
        with pytest.raises(UserError, match="is not what deploy render wrote"):
            hf.push(project.deployment, project.folder, project.live).send(None)


def test_what_tune_push_left_is_what_the_container_proves(tmp_path):
    made = make_checkpoint(tmp_path / "work/merged")
    with hub_socket.running() as hub:
        code, _, said = tune(hub, tmp_path, "push", "work/merged", "--to", "me/docs-20b")
        assert code == 0, said
        repo = hub.repos["model", "me/docs-20b"]
        files = repo.commits[repo.branches["main"]]
    repository = tmp_path / "repository"
    for name, data in files.items():  # as Hugging Face puts it at /repository: all of it
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_bytes(data)
    assert {".gitattributes", "README.md"} < {p.name for p in repository.iterdir()}
    out = rendered(tmp_path / "other", "huggingface")
    told = json.loads((out / "deployment.json").read_text())["settings"]["deployment"]
    assert told["model_path"] == "/repository"
    told |= {"model_path": str(repository), "digest": made.digest, "model": made.served_name}
    entry.job(told).proof()
    (repository / "model-00009.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="does not name: model-00009"):
        entry.job(told)
