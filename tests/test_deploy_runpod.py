"""RunPod's bodies against the schema of its REST v2, the rules, and the port that its load balancer asks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import jsonschema
import pytest
from click.testing import CliRunner
from deployment import make_checkpoint, make_report, read_once, rendered
from runpod_v2 import SCHEMA, problems
from runpod_worker import Quiet, free_port, listening

from deploy import checks, cli, sizing
from deploy.targets.runpod import balanced
from deploy.targets.runpod.body import GPUS, change
from tune.recipe import Recipe

STANDIN = Path(__file__).parent / "standin.py"
POD = {"runpod": {"type": "pod"}, "min_replicas": 1, "secrets": {"VLLM_API_KEY": "server-key"}}
BALANCED = {"min_replicas": 1, "max_replicas": 4}
VOLUME = {"type": "auto", "weights": "volume", "volume": "agv6w2qcg7", "datacenter": "EU-RO-1"}


def body(tmp_path, name="endpoint.json", **deploy):
    return json.loads((rendered(tmp_path, "runpod", **deploy) / name).read_text())


def found(tmp_path, **deploy):
    """Ids of the broken rules, and the texts."""
    made = make_checkpoint(tmp_path / "merged")
    recipe = Recipe.model_validate({"deploy": deploy, "serve": {"max_model_len": 2048}})
    with read_once():
        proof = make_report(tmp_path / "report.json", made)
        told = checks.examine(recipe, made.folder, proof, "runpod").findings
    return {f.id for f in told}, "\n".join(map(str, told))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "deploy",
    [
        {},
        BALANCED,
        {"registry": "docker.io/acme", **BALANCED, "secrets": {"HF_TOKEN": "hf_read"}},
        {"gpu": "L4", "idle_seconds": 3600, "request_seconds": 330},
        {"runpod": VOLUME},
        {"runpod": {"type": "queue", "flashboot": False, "credential": "reg1", "datacenter": "US-KS-2"}},
    ],
)
def test_the_body_is_what_the_api_takes(tmp_path, deploy):
    made = body(tmp_path, **deploy)
    assert problems("CreateEndpointRequest", made) == []
    assert problems("UpdateEndpointRequest", change(made)) == []


@pytest.mark.parametrize("more", [{}, {"gpu": "B200"}, {"runpod": {**VOLUME, "type": "pod"}}])
def test_the_pod_is_what_the_api_takes(tmp_path, more):
    made = body(tmp_path, "pod.json", **{**POD, **more})
    assert problems("CreatePodRequest", made) == []
    assert problems("UpdatePodRequest", change(made)) == []


@pytest.mark.parametrize(
    ("name", "file", "deploy"),
    [
        ("endpoint.json", "endpoint.json", {}),
        ("balanced.json", "endpoint.json", {**BALANCED, "runpod": {"datacenter": "US-KS-2"}}),
        ("pod.json", "pod.json", {**POD, "runpod": {**VOLUME, "type": "pod"}}),
        ("README-balanced.md", "README.md", BALANCED),
        ("README-pod.md", "README.md", {**POD, "runpod": {**VOLUME, "type": "pod"}}),
        ("Dockerfile-balanced", "Dockerfile", BALANCED),
        ("Dockerfile-pod", "Dockerfile", {**POD, "runpod": {**VOLUME, "type": "pod"}}),
    ],
)
def test_what_is_rendered(tmp_path, golden, name, file, deploy):
    golden(f"deploy/runpod/{name}", (rendered(tmp_path, "runpod", **deploy) / file).read_text())


def test_a_secret_is_a_reference(tmp_path):
    assert body(tmp_path, secrets={"HF_TOKEN": "hf_read"})["env"]["HF_TOKEN"] == "{{ RUNPOD_SECRET_hf_read }}"


def test_auto_is_a_queue_only_while_it_may_scale_to_zero(tmp_path):
    assert body(tmp_path / "a")["type"] == "QUEUE"
    made = body(tmp_path / "b", **BALANCED)
    assert (made["type"], made["scaling"]) == ("LOAD_BALANCER", {"type": "REQUEST_COUNT", "requestCount": 16})


def test_only_who_must_reach_the_server_can(tmp_path):
    def served(**deploy):
        out = rendered(tmp_path / str(len(deploy)), "runpod", **deploy)
        told = json.loads((out / "deployment.json").read_text())["settings"]["deployment"]
        return told["options"]["host"], told["options"]["key_env"], told["args"]

    queue, balanced, pod = served(), served(**BALANCED), served(**POD)
    assert queue[:2] == ("127.0.0.1", "")
    assert balanced[:2] == ("0.0.0.0", "")
    assert pod[:2] == ("0.0.0.0", "VLLM_API_KEY")


def test_the_load_balancer_asks_the_ports_that_the_container_has(tmp_path):
    out = rendered(tmp_path, "runpod", **BALANCED)
    made = json.loads((out / "endpoint.json").read_text())
    args = json.loads((out / "deployment.json").read_text())["settings"]["deployment"]["args"]
    assert made["env"]["PORT"] == args[args.index("--port") + 1]
    assert made["ports"] == [f"{made['env'][k]}/http" for k in ("PORT", "PORT_HEALTH")]
    assert "balanced.py" in (out / "Dockerfile").read_text()


def test_weights_on_a_volume_are_not_in_the_image(tmp_path):
    out = rendered(tmp_path, "runpod", runpod=VOLUME)
    made = json.loads((out / "endpoint.json").read_text())
    told = json.loads((out / "deployment.json").read_text())["settings"]["deployment"]
    assert (made["networkVolumes"], made["dataCenterIds"]) == (["agv6w2qcg7"], ["EU-RO-1"])
    assert told["model_path"].startswith("/runpod-volume/python-docs-")
    assert told["model_path"] in told["args"]
    assert "--from=checkpoint" not in (out / "Dockerfile").read_text()
    readme = (out / "README.md").read_text()
    assert f"s3://agv6w2qcg7/{told['model_path'].removeprefix('/runpod-volume/')}/" in readme
    assert "--build-context" not in readme
    assert made["disk"] == 20


@pytest.mark.parametrize(
    ("rule", "deploy"),
    [
        ("D020", {**BALANCED, "request_seconds": 331}),
        ("D022", {"runpod": {"type": "load-balancer"}}),
        ("D050", {}),
        ("D086", {**POD, "secrets": {}}),
        ("D087", {"request_seconds": 86_400 - 1800 + 1}),
        ("D087", {"request_seconds": 4}),
        ("D088", {"runpod": {"weights": "volume"}}),
        ("D088", {"runpod": {"weights": "volume", "volume": "agv6w2qcg7"}}),
        ("D088", {"runpod": {"volume": "agv6w2qcg7"}}),
        ("D089", {**POD, "min_replicas": 0}),
        ("D089", {**POD, "max_replicas": 2}),
    ],
)
def test_each_rule_sees_its_fault(tmp_path, rule, deploy):
    assert rule in found(tmp_path, **deploy)[0]


@pytest.mark.parametrize(
    "deploy",
    [
        {"request_seconds": 600},
        {**BALANCED, "request_seconds": 330},
        POD,
        {"runpod": VOLUME},
    ],
)
def test_no_rule_sees_a_fault_where_none_is(tmp_path, deploy):
    ids, texts = found(tmp_path, registry="docker.io/acme", **deploy)
    assert not ids & {"D020", "D022", "D050", "D086", "D087", "D088", "D089"}, texts


def test_every_gpu_that_runpod_lends_has_a_name_for_pods():
    assert GPUS.keys() == sizing.hardware().lent_by("runpod").keys()


@pytest.mark.parametrize(
    "fault",
    [
        {"scalerValue": 4},
        {"type": "LOADBALANCER"},
        {"scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}},
        {"scaling": {"type": "REQUEST_COUNT", "value": 4}},
        {"workers": {"min": 0, "max": 1, "idleTimeout": 3601}},
        {"workers": {"min": -1}},
        {"gpu": {"pools": []}},
        {"gpu": {"pools": ["ADA_24"], "minCudaVersion": 13.0}},
        {"gpu": {"ids": ["ADA_24"]}},
        {"env": {"PORT": 8000}},
        {"disk": 0},
        {"name": ""},
        {"timeout": 1.5},
    ],
)
def test_the_schema_catches_a_wrong_body(tmp_path, fault):
    assert problems("CreateEndpointRequest", {**body(tmp_path, **BALANCED), **fault}) != []


def test_a_recipe_with_an_unknown_type_is_refused(tmp_path):
    (tmp_path / "recipe.toml").write_text('[deploy.runpod]\ntype = "serverless"\n')
    arguments = ["--checkpoint", "x", "--report", "y", "--recipe", str(tmp_path / "recipe.toml")]
    assert CliRunner().invoke(cli.main, ["check", "runpod", *arguments]).exit_code == 2


class Said(Quiet):
    """A server that says of itself what it is told to."""

    def do_GET(self):
        self.whole(*self.server.says)


@pytest.mark.parametrize(
    ("says", "status"),
    [
        ((200, {"status": "ready", "state": "ready"}), 200),
        ((503, {"error": {}, "state": "starting"}), 204),
        ((503, {"error": {}, "state": "restarting"}), 204),
        ((503, {"error": {}, "state": "draining"}), 503),
        ((503, {"status": "unready", "state": "ready"}), 503),
        ((503, b"no JSON"), 503),
        ((503, []), 503),
    ],
)
def test_the_load_balancer_hears_how_the_server_is(says, status):
    with listening(Said, says=says) as server:
        health = balanced.listen(0, "/ping", server.server_port)
        try:
            told = httpx.get(f"http://127.0.0.1:{health.server_port}/ping", trust_env=False)
            other = httpx.get(f"http://127.0.0.1:{health.server_port}/v1/models", trust_env=False)
        finally:
            health.shutdown()
            health.server_close()
        assert (told.status_code, told.content, other.status_code) == (status, b"", 404)


@pytest.mark.parametrize(("was_ready", "status"), [(False, 204), (True, 503)])
def test_one_that_cannot_be_heard_is_starting_until_it_was_ready(was_ready, status):
    class Gone(Quiet):
        def do_GET(self):
            self.close_connection = True

    with listening(Gone, says=None) as server:
        assert balanced.health(server.server_port, was_ready=was_ready) == status


@pytest.mark.parametrize(("told", "refused"), [({}, True), (BALANCED, True), (POD, False)], ids=["queue", "lb", "pod"])
def test_a_key_of_the_server_s_own_is_refused_where_runpod_asks(tmp_path, told, refused):
    """vLLM reads the variable by itself, and would refuse the supervisor's own questions."""
    made = make_checkpoint(tmp_path / "merged")
    proof = make_report(tmp_path / "report.json", made)
    given = {**told, "registry": "docker.io/acme", "secrets": {"VLLM_API_KEY": "vllm-key", "HF_TOKEN": "hf-read"}}
    recipe = Recipe.model_validate({"deploy": given, "serve": {"max_model_len": 2048}})
    found = {f.id: f for f in checks.examine(recipe, made.folder, proof, "runpod").findings}
    assert ("D082" in found) == refused
    if refused:
        assert found["D082"].fix == '[deploy.runpod] secrets = { HF_TOKEN = "hf-read" }'


def test_the_container_tells_204_and_then_200_until_a_stop(tmp_path):
    out = rendered(tmp_path, "runpod", **BALANCED)
    root, port, health = tmp_path / "image", free_port(), free_port()
    shutil.copytree(out / "kit", root)
    for name in ("start.py", "balanced.py"):
        shutil.copy(out / name, root)
    manifest = json.loads((out / "deployment.json").read_text())
    model = str(tmp_path / "merged")
    manifest["settings"]["deployment"] |= {"model_path": model, "port": port}
    manifest["settings"]["deployment"]["args"] = [sys.executable, str(STANDIN), model, str(tmp_path / "loaded")]
    (root / "deployment.json").write_text(json.dumps(manifest))
    told = json.loads((out / "endpoint.json").read_text())["env"]
    env = {**told, "PATH": os.environ["PATH"], "PORT": str(port), "PORT_HEALTH": str(health), "PYTHONPATH": str(root)}
    process = subprocess.Popen([sys.executable, root / "balanced.py"], env=env, stdout=-1, stderr=-1, text=True)
    heard = []
    try:
        while heard[-1:] != [200]:
            assert process.poll() is None, process.communicate()[1]
            try:
                status = httpx.get(f"http://127.0.0.1:{health}/ping", trust_env=False).status_code
            except httpx.TransportError:
                continue
            heard += [status] if heard[-1:] != [status] else []
            (tmp_path / "loaded").touch()
        assert httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False).status_code == 200
    finally:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert heard == [204, 200], err


def test_a_pod_without_its_key_does_not_start(tmp_path):
    out = rendered(tmp_path, "runpod", **POD)
    root = tmp_path / "image"
    shutil.copytree(out / "kit", root)
    for name in ("start.py", "deployment.json"):
        shutil.copy(out / name, root)
    manifest = json.loads((root / "deployment.json").read_text())
    manifest["settings"]["deployment"]["model_path"] = str(tmp_path / "merged")
    (root / "deployment.json").write_text(json.dumps(manifest))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "VLLM_API_KEY": ""}
    done = subprocess.run([sys.executable, root / "start.py"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "VLLM_API_KEY is empty" in done.stderr
