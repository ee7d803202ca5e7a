"""SkyPilot's task held to its own schemas (skypilot 0.14.1, Apache-2.0), and pushed to a stand-in for its commands."""

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from deployment import Project, carried_out, deployed, programs, read_once

from deploy import dryrun, sizing
from deploy.live import Live, Release
from deploy.targets.skypilot import CLOUDS, RUN, live
from tune.errors import UserError

DATA = Path(__file__).parent / "data"
TASK, SERVICE = (json.loads((DATA / f"skypilot_{name}.schema.json").read_text()) for name in ("task", "service"))
# sky.catalog.get_common_gpus of skypilot 0.14.1, as far as it has GPUs that we size.
COMMON = {"A10G", "A100-80GB", "B200", "H100", "H200", "L4", "L40S", "RTXPRO6000"}
NEW = Live(target="skypilot", name="python-docs")
ENGINE = f"vllm/vllm-openai:v0.32.0@sha256:{'0' * 64}"
GOOD = {
    "engine": ENGINE,
    "registry": "ghcr.io/acme",
    "min_replicas": 1,
    "secrets": {"VLLM_API_KEY": "vllm-key"},
    "skypilot": {"tls_key": "~/tls/key.pem", "tls_cert": "~/tls/cert.pem"},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with read_once():
        yield Project(tmp_path_factory.mktemp("skypilot"), "skypilot")


@pytest.fixture(scope="module")
def folder(project):
    return project.folder


def task(out):
    return yaml.safe_load((out / "service.yaml").read_text())


def problems(found):
    schemas = ((TASK, found), (SERVICE, found.get("service", {})))
    return [e.message for schema, it in schemas for e in jsonschema.Draft202012Validator(schema).iter_errors(it)]


@pytest.mark.parametrize(
    "deploy",
    [
        {"secrets": GOOD["secrets"]},
        {**GOOD, "min_replicas": 0, "max_replicas": 4},
        {**GOOD, "skypilot": {"clouds": list(CLOUDS), "weights": "bucket", "bucket": "s3://acme/models/docs"}},
        {**GOOD, "gpu": "RTX-PRO-6000", "skypilot": {"serve": False, "weights": "image"}},
    ],
)
def test_the_task_is_what_skypilot_reads(folder, deploy):
    assert problems(task(folder(**deploy))) == []


@pytest.mark.parametrize(
    "plant",
    [
        {"gpus": 1},
        {"resources": {"accelerator": {"H100": 1}}},
        {"resources": {"any_of": [{"infra": "gae"}]}},
        {"secrets": {"A": 1}},
        {"service": {"readiness_probe": {"initial_delay_seconds": 1}}},
        {"service": {"replica_policy": {"max_replicas": 1}}},
        {"service": {"replica_policy": {"min_replicas": 1, "target_ongoing": 3}}},
        {"service": {"ports": "8000"}},
    ],
)
def test_the_schemas_catch_a_wrong_task(folder, plant):
    assert problems({**task(folder(**GOOD)), **plant}) != []


def test_the_render(folder, golden):
    out = folder(**{**GOOD, "max_replicas": 3})
    golden("deploy/skypilot/service.yaml", (out / "service.yaml").read_text())
    golden("deploy/skypilot/README-service.md", (out / "README.md").read_text())


def test_what_the_service_is_told(folder):
    told = {**GOOD, "min_replicas": 0, "max_replicas": 4, "concurrency": 20, "startup_seconds": 900}
    told |= {"request_seconds": 500, "idle_seconds": 77, "skypilot": {"answer_seconds": 8, "clouds": ["gcp"]}}
    found = task(folder(**told))
    service = found["service"]
    assert service["replica_policy"] == {
        "min_replicas": 0,
        "max_replicas": 4,
        "target_qps_per_replica": 2.5,
        "downscale_delay_seconds": 77,
    }
    probe = service["readiness_probe"]
    assert probe["path"] == "/readyz"
    assert min(probe["initial_delay_seconds"], probe["consecutive_failure_threshold_timeout"]) > 900
    assert service["load_balancer"]["stream_timeout_seconds"] == 500  # SkyServe's own is 120
    assert found["resources"]["any_of"] == [{"infra": "gcp"}]
    assert found["resources"]["ports"] == service["ports"] == 8000
    assert found["secrets"] == {"VLLM_API_KEY": None}
    assert task(folder(**GOOD))["service"]["replica_policy"] == {"min_replicas": 1}
    assert task(folder(**GOOD))["service"]["tls"] == {"keyfile": "~/tls/key.pem", "certfile": "~/tls/cert.pem"}


def test_the_weights_come_as_the_recipe_says(folder):
    copied = folder(**GOOD)
    place = deployed(copied).model_path
    assert task(copied)["file_mounts"] == {place: "../../merged"}
    assert (copied / "../../merged/checkpoint.json").is_file()
    bucket = folder(**{**GOOD, "skypilot": {"weights": "bucket", "bucket": "gs://acme/docs"}})
    assert task(bucket)["file_mounts"] == {place: "gs://acme/docs"}
    baked = folder(**{**GOOD, "skypilot": {"weights": "image"}})
    assert "file_mounts" not in task(baked)
    assert f"COPY --from=checkpoint . {place}/" in (baked / "Dockerfile").read_text()
    assert "--from=checkpoint" not in (copied / "Dockerfile").read_text()


@pytest.mark.parametrize(
    "table", [{"tls_key": "a"}, {"weights": "bucket"}, {"bucket": "s3://acme/x"}, {"weights": "bucket", "bucket": "x"}]
)
def test_half_a_pair_is_refused(project, table):
    with pytest.raises(ValueError, match=r"go together|bucket"):
        project.recipe(skypilot=table)


def test_every_gpu_has_skypilots_own_name():
    lent = sizing.hardware().lent_by("skypilot")
    assert {gpu.skypilot.machine for gpu in lent.values()} == COMMON


def test_the_engines_own_python_runs_the_start(tmp_path):
    """Another python3 stands first in PATH, as in SkyPilot's environment."""
    for place, says in (("theirs", "theirs"), ("engines", "engine's")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "python3").write_text(f'#!/bin/sh\necho "{says} $PYTHONPATH $1"\n')
    (tmp_path / "theirs" / "vllm").write_text(f"#!{tmp_path}/engines/python3\n")
    for path in tmp_path.rglob("*"):
        path.chmod(0o755)
    env = {"PATH": f"{tmp_path}/theirs:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", RUN], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "engine's /opt/gptoss-kit /opt/gptoss-kit/start.py\n"


@pytest.mark.parametrize(
    ("id", "deploy"),
    [
        ("D051", {"engine": ""}),
        ("D052", {"engine": "vllm/vllm-openai:latest"}),
        ("D053", {"secrets": {}}),
        ("D094", {"skypilot": {}}),
        ("D096", {"skypilot": {**GOOD["skypilot"], "clouds": ["gae"]}}),
        ("D050", {"registry": ""}),
        ("D055", {"skypilot": {"serve": False}, "max_replicas": 2}),
        ("D023", {"skypilot": {"serve": False}, "min_replicas": 0}),
    ],
)
def test_each_rule_can_break_and_hold(project, id, deploy):
    assert id in project.ids(**{**GOOD, **deploy})
    assert project.ids(**GOOD) == set()


def test_a_dry_run_shows_what_a_push_and_a_destroy_would_send(folder):
    out = folder(**GOOD)
    d, pushed = deployed(out), Release(at="", model="m", folder_digest="", gate="", finished=True)

    def sent(flow, there):
        return [" ".join(s.action.argv[:3]) for s in dryrun.rehearse(lambda: flow, there=there)[0]]

    assert "sky serve up" in sent(live.push(d, out, NEW), there=False)
    again = NEW.model_copy(update={"releases": (pushed,)})
    assert "sky serve update" in sent(live.push(d, out, again), there=True)
    assert "sky serve down" in sent(live.destroy(d, again), there=True)


def test_the_internet_is_not_answered_without_a_key(project):
    with pytest.raises(UserError, match="D053 the endpoint answers everyone on the internet"):
        project.folder(**{**GOOD, "secrets": {"HF_TOKEN": "hf-token"}})


# SkyPilot's commands


@pytest.fixture
def sky(tmp_path, monkeypatch):
    root = tmp_path / "cluster"
    root.mkdir()
    monkeypatch.setenv("PATH", f"{programs(tmp_path, 'skypilot.py', 'sky', 'docker')}:/usr/bin:/bin")
    monkeypatch.setenv("CLUSTER", str(root))
    monkeypatch.setenv("VLLM_API_KEY", "a key of nobody")
    return root


def said(sky):
    return [" ".join(json.loads(line)) for line in (sky / "said").read_text().splitlines()]


def test_a_push_waits_until_the_service_is_ready_and_the_next_one_updates_it(folder, sky):
    out = folder(**GOOD)
    d = deployed(out)
    record, lines = carried_out(live.push(d, out, NEW), out, NEW)
    assert lines == (f"{d.model}: 1.2.3.4:30001",)
    assert "sky serve up service.yaml --service-name python-docs --secret VLLM_API_KEY --yes" in said(sky)
    assert sum(line == "sky serve status python-docs" for line in said(sky)) == 3
    client = live.client(d, record)
    assert (str(client.base_url), client.key_env) == ("https://1.2.3.4:30001/v1", "VLLM_API_KEY")
    record, _ = carried_out(live.push(d, out, record), out, record)
    update = "sky serve update python-docs service.yaml --mode rolling --secret VLLM_API_KEY --yes"
    assert update in said(sky)
    before = len(said(sky))
    _, lines = carried_out(live.rollback(d, out, record), out, record)
    assert lines == (f"{d.model}: 1.2.3.4:30001",)
    assert update in said(sky)[before:]
    assert not any("docker" in line for line in said(sky)[before:])
    assert "a key of nobody" not in "".join(said(sky)) + record.model_dump_json()


@pytest.mark.parametrize("state", ["FAILED", "CONTROLLER_FAILED"])
def test_a_service_that_failed_is_not_waited_for(folder, sky, state):
    (sky / "faults").write_text(state)
    out = folder(**GOOD)
    with pytest.raises(UserError, match=f"SkyServe says {state}"):
        carried_out(live.push(deployed(out), out, NEW), out, NEW)


def test_an_update_that_is_not_ready_in_time_is_said(folder, sky):
    (sky / "faults").write_text("REPLICA_INIT")
    out = folder(**{**GOOD, "startup_seconds": 100})
    d = deployed(out)
    flow, looks = live.push(d, out, NEW), 0

    def go_on():
        nonlocal looks
        step = next(flow)
        while True:
            looks += step.id == "ready"
            step = flow.send({"out": "python-docs 1 2m REPLICA_INIT", "code": 0})

    with pytest.raises(UserError, match="is not ready yet"):
        go_on()
    assert looks * live.LOOK_SECONDS > 100


def test_one_machine(folder, sky):
    out = folder(**{**GOOD, "skypilot": {"serve": False}})
    d = deployed(out)
    assert "service" not in task(out)
    record, lines = carried_out(live.push(d, out, NEW), out, NEW)
    launch = "sky launch service.yaml --cluster python-docs --detach-run --secret VLLM_API_KEY --yes"
    assert launch in said(sky)
    assert not any("cancel" in line for line in said(sky))
    assert "http://1.2.3.4:8000" in lines[0]
    assert str(live.client(d, record).base_url) == "http://1.2.3.4:8000/v1"
    carried_out(live.push(d, out, record), out, record)
    assert said(sky).index("sky cancel python-docs --all --yes") < len(said(sky)) - 2
    carried_out(live.logs(d, record), out, record)
    carried_out(live.destroy(d, record), out, record)
    assert json.loads((sky / "machines").read_text()) == {}


def test_status_logs_and_destroy(folder, sky):
    out = folder(**GOOD)
    d = deployed(out)
    record, _ = carried_out(live.push(d, out, NEW), out, NEW)
    _, lines = carried_out(live.status(d, record), out, record)
    assert lines[0] == "python-docs: 1.2.3.4:30001"
    assert "python-docs 1 2m 3s READY 1/1 1.2.3.4:30001" in lines[1]
    carried_out(live.logs(d, record), out, record)
    assert said(sky)[-1] == "sky serve logs python-docs 12 --no-follow --tail 200"
    _, lines = carried_out(live.destroy(d, record), out, record)
    assert "controller" in lines[1]
    carried_out(live.destroy(d, record), out, record)  # what has gone is no error
    assert said(sky)[-1] == "sky serve status --endpoint python-docs"
    carried_out(live.logs(d, record), out, record)
    assert "--controller" in said(sky)[-1]


def test_an_image_that_no_machine_can_pull_is_not_pushed(folder, sky):
    out = folder(**{**GOOD, "registry": ""})
    with pytest.raises(UserError, match="names no registry"):
        carried_out(live.push(deployed(out), out, NEW), out, NEW)
    assert not (sky / "said").exists()  # nothing was built, either


def test_the_weights_go_into_the_image_from_where_they_lie(folder, sky):
    out = folder(**{**GOOD, "skypilot": {"weights": "image"}})
    carried_out(live.push(deployed(out), out, NEW), out, NEW)
    assert "--build-context checkpoint=../../merged" in said(sky)[0]


@pytest.mark.parametrize("serve", [True, False])
def test_the_readme_says_the_words_that_a_push_says(folder, sky, serve):
    out = folder(**{**GOOD, "skypilot": {"serve": serve}})
    carried_out(live.push(deployed(out), out, NEW), out, NEW)
    readme = (out / "README.md").read_text()
    assert [line for line in said(sky) if line not in readme] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://1.2.3.4:8000", "http://1.2.3.4:8000"),
        ("\x1b[2mChecking\x1b[0m services\n\x1b[1mabc.elb.example.com\x1b[0m\n", "abc.elb.example.com"),
        ("No live services. (See: sky serve -h)", ""),
        ("services", ""),
        ("http://1.2.3.4:8000/$(id)", ""),
        ("", ""),
    ],
)
def test_an_address_is_known_from_words(text, found):
    assert live._found(text) == found
