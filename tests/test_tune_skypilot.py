"""`tune launch` against SkyPilot's own schema of a task (skypilot 0.14.1, Apache-2.0)."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from tiny_gptoss import make_base, make_dataset, recipe

from tune import cli
from tune.errors import UserError
from tune.recipe import Deploy
from tune.training.processes import skypilot

SCHEMA = json.loads((Path(__file__).parent / "data" / "skypilot_task.schema.json").read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("sky")
    make_base(root / "base")
    make_dataset(recipe(root))
    (root / "recipe.toml").write_text('[base]\nmodel = "base"\n[train]\ngpus = 4\nhosts = ["10.0.0.1", "10.0.0.2"]\n')
    return root


def problems(task):
    return [e.message for e in jsonschema.Draft202012Validator(SCHEMA).iter_errors(task)]


def test_a_recipe_becomes_a_task_that_skypilot_reads(project):
    out = project / "sky.yaml"
    done = CliRunner().invoke(cli.main, ["launch", "--recipe", str(project / "recipe.toml"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"next: sky launch -c tune-python-docs {out} --dryrun" in done.output
    task = yaml.safe_load(out.read_text())
    assert problems(task) == []
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (2, {"H100": 4})
    assert task["file_mounts"] == {
        "~/gptoss/tune": str(Path(cli.__file__).resolve().parent),
        "~/gptoss/recipe.toml": str(project / "recipe.toml"),
        "~/gptoss/work/dataset": str(project / "work" / "dataset"),
        "~/gptoss/base": str(project / "base"),
    }
    assert '--hosts "$(echo "$SKYPILOT_NODE_IPS" | paste -sd, -)" --host-rank "$SKYPILOT_NODE_RANK"' in task["run"]
    assert "torch==2.13.0" in task["setup"]
    assert "vllm" not in task["setup"]
    assert problems({**task, "gpus": 4}) != []


def test_a_base_of_the_hub_needs_a_token_by_name_alone(project, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub = recipe(project).model_copy(update={"deploy": Deploy(gpu="RTX-PRO-6000")})
    hub = hub.model_copy(update={"base": hub.base.model_copy(update={"model": "openai/gpt-oss-20b"})})
    text = skypilot.render(project / "recipe.toml", hub)
    task = yaml.safe_load(text)
    assert problems(task) == []
    assert task["secrets"] == {"HF_TOKEN": None}
    assert "hf_secret" not in text
    assert "--secret HF_TOKEN" in skypilot.next_command(Path("sky.yaml"), hub)
    assert task["resources"]["accelerators"] == {"RTXPRO6000": 1}
    assert "--hosts" not in task["run"]


def test_what_a_node_would_not_find_is_said_before(project, tmp_path):
    with pytest.raises(UserError, match="tune dataset"):
        skypilot.render(tmp_path / "recipe.toml", recipe(tmp_path))
    make_dataset(recipe(tmp_path))
    outside = recipe(tmp_path).model_copy(
        update={"base": recipe(tmp_path).base.model_copy(update={"model": str(project / "base")})}
    )
    with pytest.raises(UserError, match="outside the recipe's folder"):
        skypilot.render(tmp_path / "recipe.toml", outside)
