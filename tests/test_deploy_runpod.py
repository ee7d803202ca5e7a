"""RunPod's create-endpoint body against the schema of its REST v2, and faults that the schema must catch."""

import json
from pathlib import Path

import jsonschema
import pytest
from deployment import rendered

SCHEMA = json.loads((Path(__file__).parent / "data" / "runpod_create_endpoint.schema.json").read_text())


def problems(body):
    return [e.message for e in jsonschema.Draft202012Validator(SCHEMA).iter_errors(body)]


def body(tmp_path, **deploy):
    return json.loads((rendered(tmp_path, "runpod", **deploy) / "endpoint.json").read_text())


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "deploy",
    [
        {},
        {"registry": "docker.io/acme", "min_replicas": 1, "max_replicas": 4, "secrets": {"HF_TOKEN": "hf_read"}},
        {"gpu": "L4", "idle_seconds": 3600, "request_seconds": 330},
    ],
)
def test_the_body_is_what_the_api_takes(tmp_path, deploy):
    assert problems(body(tmp_path, **deploy)) == []


def test_the_body(tmp_path, golden):
    golden("deploy/runpod/endpoint.json", (rendered(tmp_path, "runpod") / "endpoint.json").read_text())


def test_a_secret_is_a_reference(tmp_path):
    assert body(tmp_path, secrets={"HF_TOKEN": "hf_read"})["env"]["HF_TOKEN"] == "{{ RUNPOD_SECRET_hf_read }}"


def test_the_load_balancer_asks_the_port_that_the_server_has(tmp_path):
    out = rendered(tmp_path, "runpod")
    env = json.loads((out / "endpoint.json").read_text())["env"]
    args = json.loads((out / "deployment.json").read_text())["settings"]["deployment"]["args"]
    assert env["PORT"] == env["PORT_HEALTH"] == args[args.index("--port") + 1]


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
    assert problems({**body(tmp_path), **fault}) != []
