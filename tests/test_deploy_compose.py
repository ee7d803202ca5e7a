"""compose.yaml, its Dockerfile and its rules: held to the Compose format and to hadolint, and run as it would be."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from deployment import make_checkpoint, make_report, rendered

from deploy import checks, rehearsing
from deploy.targets import image
from deploy.targets.compose import findings, live
from tune.errors import UserError
from tune.recipe import Recipe

SCHEMA = json.loads((Path(__file__).parent / "data" / "compose.schema.json").read_text())
HADOLINT = Path(sys.executable).parent / "hadolint"
SECRETS = {"VLLM_API_KEY": "MY_KEY"}


def yaml_of(folder):
    return yaml.safe_load((folder / "compose.yaml").read_text())


def problems(data):
    return [e.message for e in jsonschema.Draft202012Validator(SCHEMA).iter_errors(data)]


def service(folder):
    return yaml_of(folder)["services"]["server"]


@pytest.mark.parametrize(
    ("serve", "deploy"),
    [
        ({}, {}),
        ({"drain": 120}, {"secrets": SECRETS, "compose": {"bind": "0.0.0.0", "port": 9000}}),
        ({"data_parallel": 4}, {"gpu": "L4", "registry": "localhost:5000/acme", "startup_seconds": 3600}),
    ],
)
def test_compose_yaml_keeps_the_format(tmp_path, serve, deploy):
    folder = rendered(tmp_path, "compose", serve=serve, **deploy)
    assert problems(yaml_of(folder)) == []
    if program := shutil.which("docker-compose"):  # Docker's own reading of it, where there is one: it needs no daemon
        subprocess.run([program, "config", "--quiet"], cwd=folder, check=True, env={"PATH": os.environ["PATH"]})


@pytest.mark.parametrize(
    "fault",
    [
        {"readonly": True},
        {"stop_grace_period": 30},
        {"shm_size": "1 gigabyte"},
        {"restart": "sometimes"},
        {"ports": [{"target": "8000"}]},
        {"deploy": {"resources": {"reservations": {"devices": [{"count": 1}]}}}},
        {"volumes": [{"type": "bind", "source": "x", "target": "models"}]},
        {"environment": {"A": ["b"]}},
    ],
)
def test_the_schema_catches(tmp_path, fault):
    data = yaml_of(rendered(tmp_path, "compose"))
    data["services"]["server"] |= fault
    assert problems(data)


def test_the_files(tmp_path, golden):
    folder = rendered(tmp_path, "compose", secrets=SECRETS)
    golden("deploy/compose/compose.yaml", (folder / "compose.yaml").read_text())


@pytest.mark.parametrize("target", ["compose", "runpod", "sagemaker"])
def test_hadolint_finds_nothing(tmp_path, target):
    folder = rendered(tmp_path, target)
    out = subprocess.run([HADOLINT, folder / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (out.returncode, out.stdout) == (0, "")
    bad = (folder / "Dockerfile").read_text().replace("vllm-openai:v0.32.0", "vllm-openai:latest")
    out = subprocess.run([HADOLINT, "-"], input=bad, capture_output=True, text=True, check=False)
    assert "DL3007" in out.stdout


def test_the_container_can_do_as_little_as_it_can(tmp_path):
    folder = rendered(tmp_path, "compose", serve={"drain": 120})
    told = service(folder)
    assert told["user"].split(":")[0] != "0"
    assert (told["read_only"], told["cap_drop"], told["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    (weights,) = [v for v in told["volumes"] if v["type"] == "bind"]
    assert weights["read_only"]
    assert (folder / live.source(folder)).resolve() == tmp_path / "merged"
    assert int(told["stop_grace_period"].removesuffix("s")) >= 120 + 9  # of the engine: serve.processes
    dockerfile = (folder / "Dockerfile").read_text()
    assert f"\nUSER {told['user']}\n" in dockerfile
    written = re.findall(r"(?:HOME|CACHE_ROOT|CACHE_DIR|CONFIG_HOME)=(\S+)", dockerfile)
    assert len(written) == 6
    assert all(Path(place).is_relative_to("/cache") for place in written)
    assert "/cache" in [v["target"] for v in told["volumes"]]
    assert [t.partition(":")[2].split(",")[0] for t in told["tmpfs"]] == ["exec"]  # kernels are loaded from there


def test_the_health_check_asks_as_the_container_would(tmp_path):
    """Its program against a server that is starting, one that is ready, and none."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    text = (rendered(tmp_path, "compose") / "Dockerfile").read_text()
    (words,) = re.findall(r"CMD (\[[^\]]*\])", text)
    _, *program = json.loads(words.replace("\\\n", ""))
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        codes = []
        for server.status in (503, 200):
            asked = [p.replace("8000", str(server.server_port)) for p in program]
            codes.append(subprocess.run([sys.executable, *asked], check=False, stderr=-1).returncode)
        server.shutdown()
    codes.append(subprocess.run([sys.executable, *asked], check=False, stderr=-1).returncode)
    assert [bool(code) for code in codes] == [True, False, True]


def test_no_value_of_a_key_stands_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-value-of-the-host")
    folder = rendered(tmp_path, "compose", secrets=SECRETS)
    assert not [p for p in folder.rglob("*") if p.is_file() and "sk-value" in p.read_text()]
    assert service(folder)["environment"] == {"VLLM_API_KEY": "${MY_KEY:-}"}
    assert rehearsing.opened(folder).options.key_env == "VLLM_API_KEY"


def test_a_path_is_taken_as_it_is(tmp_path):
    made = make_checkpoint(tmp_path / "a $HOME b")
    proof = make_report(tmp_path / "report.json", made)
    from deploy import render

    def out(checkpoint):
        render.render("compose", recipe=Recipe(), checkpoint=checkpoint, report=proof, out=tmp_path / "out")
        return tmp_path / "out"

    folder = out(made.folder)
    assert live.source(folder) == "../a $HOME b"
    assert "$$HOME" in service(folder)["volumes"][1]["source"]
    with pytest.raises(UserError, match="brace"):
        out(made.folder.rename(tmp_path / "b}"))


# --- the rules


@pytest.fixture(scope="module")
def proven(tmp_path_factory):
    """A checkpoint and its report."""
    folder = tmp_path_factory.mktemp("proven")
    made = make_checkpoint(folder / "merged")
    return made, make_report(folder / "report.json", made)


def ids(proven, target="compose", **deploy):
    made, proof = proven
    recipe = Recipe.model_validate({"deploy": deploy, "serve": {"max_model_len": 2048}})
    return {f.id: f for f in checks.examine(recipe, made.folder, proof, target).findings}


DIGEST = "@sha256:" + "0a" * 32


def test_an_engine_by_its_tag_alone_is_a_warning_with_the_command_that_tells_its_digest(proven):
    found = ids(proven)["D051"]
    assert found.severity == "warning"
    assert "docker buildx imagetools inspect vllm/vllm-openai:v0.32.0" in found.fix
    for engine in (f"vllm/vllm-openai:v0.32.0{DIGEST}", f"vllm/vllm-openai{DIGEST}"):
        assert not {"D051", "D052"} & ids(proven, engine=engine).keys()


@pytest.mark.parametrize(
    ("engine", "bad"),
    [
        ("vllm/vllm-openai:latest", True),
        ("vllm/vllm-openai", True),
        ("vllm/vllm-openai:v0.32", True),
        ("vllm/vllm-openai:nightly" + DIGEST, True),
        ("vllm/vllm-openai:v0.31.0", True),
        ("vllm/vllm-openai:v0.31.2" + DIGEST, True),
        ("localhost:5000/vllm-openai", True),
        ("localhost:5000/vllm-openai:0.32.1", False),
        ("vllm/vllm-openai:v0.32.0-cu130", False),
    ],
)
def test_an_engine_of_no_exact_version_or_another_is_an_error(proven, engine, bad):
    for target in ("compose", "modal"):
        assert ("D052" in ids(proven, target, engine=engine)) == bad


def test_the_known_engine_is_the_one_that_the_launcher_takes():
    from serve.launcher import KNOWN

    assert KNOWN[0] <= image.KNOWN < KNOWN[1]


def test_an_open_endpoint_that_asks_for_no_key_is_an_error(proven):
    opened = {"bind": "0.0.0.0"}
    assert ids(proven, compose=opened)["D053"].severity == "error"
    assert "D053" in ids(proven, compose=opened, secrets={"HF_TOKEN": "HF_TOKEN"})
    assert "D053" not in ids(proven, compose=opened, secrets=SECRETS)
    assert "D053" not in ids(proven)


@pytest.mark.parametrize(("name", "may"), [("my-key", "MY_KEY"), ("my_key", "MY_KEY"), ("9KEY", "KEY_9KEY")])
def test_a_secret_that_no_environment_can_hold_is_an_error(proven, name, may):
    found = ids(proven, secrets={"VLLM_API_KEY": name, "HF_TOKEN": "HUB"})
    assert found["D054"].severity == "error"
    assert found["D054"].fix == f'[deploy.compose] secrets = {{ VLLM_API_KEY = "{may}", HF_TOKEN = "HUB" }}'
    told = tomllib.loads(found["D054"].fix.replace("] ", "]\n", 1))["deploy"]
    assert "D054" not in ids(proven, **told)
    assert "D054" not in ids(proven, secrets={"VLLM_API_KEY": "MY_KEY"})


def test_replicas_that_a_host_does_not_run_are_a_warning(proven):
    assert ids(proven, max_replicas=3)["D055"].severity == "warning"
    assert "D055" not in ids(proven)


def test_a_sound_recipe_has_no_findings(tmp_path):
    folder = rendered(tmp_path, "compose", engine=f"vllm/vllm-openai:v0.32.0{DIGEST}", secrets=SECRETS)
    assert findings(rehearsing.opened(folder)) == []
