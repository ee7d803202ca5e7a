"""The recipe's base as a checkpoint that can be served, and beside which adapters lie that were trained on it."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tiny_gptoss import make_adapter, make_base, make_native, recipe, tensors_of

from deploy import receipt
from serve import adapters
from tune import artefact, checkpoint, harmony, status
from tune.cli import main
from tune.errors import UserError
from tune.recipe import Base, Recipe
from tune.weights import export, export_base, shards, tensors
from tune.weights.base_model import base_of


def project(root: Path, *, native: bool = False) -> Recipe:
    (make_native if native else make_base)(root / "base", vocabulary=harmony.VOCABULARY)
    return recipe(root, export={"format": "lora"})


@pytest.mark.parametrize("native", [False, True])
def test_it_holds_the_base_s_own_weights_and_a_canary(tmp_path: Path, native: bool) -> None:
    made = project(tmp_path, native=native)
    found = export_base.export(made)
    ours, base = tensors_of(found.folder), tensors_of(tmp_path / "base")
    assert ours.keys() == base.keys()
    assert all(torch.equal(ours[name], base[name]) for name in base)
    assert (found.format, found.name, found.tuned) == ("mxfp4" if native else "merged", "gpt-oss", False)
    assert found.base_digest == base_of(made).digest
    assert checkpoint.canary(found).logprobs.keys() == {"low", "medium", "high"}
    assert checkpoint.verify(found.folder, anew=True).digest == found.digest
    assert found.remake == "tune export --format base"


def test_an_adapter_of_the_base_lies_beside_it(tmp_path: Path) -> None:
    made = project(tmp_path)
    make_adapter(made, base_of(made).digest)
    lora, base = export.export(made), export_base.export(made)
    assert lora.base_digest in checkpoint.bases(base)
    shape = tensors.shape_of(shards.config(base.folder))
    assert adapters.read("mine", lora.folder, base, shape, "cpu").served_name == f"mine@{lora.digest[:16]}"


def test_an_adapter_of_a_base_on_the_hub_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of such a base is its commit, which is in no file."""
    commit = "ab" * 20
    made = project(tmp_path)
    made = made.model_copy(update={"base": Base(model="openai/GPT_OSS-20b", revision=commit)})
    monkeypatch.setattr("tune.weights.base_model._from_hub", lambda *_: tmp_path / "base")
    make_adapter(made, commit)
    lora, base = export.export(made), export_base.export(made)
    assert base.name == "gpt-oss-20b"
    assert lora.base_digest == commit
    assert commit in checkpoint.bases(base)


@pytest.mark.parametrize("hub", [False, True])
def test_a_report_against_it_is_against_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: bool) -> None:
    made = project(tmp_path)
    if hub:
        made = made.model_copy(update={"base": Base(model="openai/gpt-oss-20b", revision="ab" * 20)})
        monkeypatch.setattr("tune.weights.base_model._from_hub", lambda *_: tmp_path / "base")
    make_adapter(made, base_of(made).digest)
    tuned = export.export(made.model_copy(update={"export": made.export.model_copy(update={"format": "merged"})}))
    base = export_base.export(made)

    def told(digest: str) -> Any:
        servers = {"base": SimpleNamespace(header=digest)}
        return SimpleNamespace(base_model=f"gpt@{digest[:16]}", asked=SimpleNamespace(servers=servers))

    path = made.work / "report.json"
    assert receipt._base_known_by(tuned, told(base.digest), path) == "digest"
    with pytest.raises(UserError, match="not against the base this checkpoint was made from"):
        receipt._base_known_by(tuned, told("f" * 64), path)
    shutil.rmtree(base.folder)
    with pytest.raises(UserError, match="not against the base"):
        receipt._base_known_by(tuned, told(base.digest), path)


def test_what_a_tuned_checkpoint_was_made_of_is_no_base_that_it_is(tmp_path: Path) -> None:
    made = project(tmp_path)
    digest = base_of(made).digest
    make_adapter(made, digest)
    merged = export.export(made.model_copy(update={"export": made.export.model_copy(update={"format": "merged"})}))
    assert merged.tuned
    assert digest not in checkpoint.bases(merged)


def test_it_is_kept_until_the_base_or_the_date_is_another(tmp_path: Path) -> None:
    made, said = project(tmp_path), list[str]()
    first = export_base.export(made)
    assert export_base.export(made, said.append) == first
    assert said == [f"base: {first.served_name} is there already"]
    (first.folder / "canary.json").unlink()
    assert export_base.export(made).digest == first.digest
    assert "stale" not in _figures(made)
    dated = made.model_copy(update={"dataset": made.dataset.model_copy(update={"date": "2026-02-02"})})
    assert "prompt_date was 2026-01-01, is 2026-02-02; tune export --format base" in _figures(dated)
    assert export_base.export(dated).prompt_date == "2026-02-02"
    shutil.rmtree(tmp_path / "base")
    make_base(tmp_path / "base", vocabulary=harmony.VOCABULARY, seed=1)
    assert export_base.export(made).digest != first.digest


def test_a_nano_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(tmp_path).model_copy(update={"base": Base(model="nano")})
    with pytest.raises(UserError) as told:
        export_base.export(made)
    assert told.value.fix == "tune nano"  # there is none yet

    make_base(made.work / "nano")
    artefact.finish(made.work / "nano", "checkpoint", inputs={}, settings={"checkpoint": _facts()}, figures={})
    with pytest.raises(UserError, match="a nano is a checkpoint already") as told:
        export_base.export(made)
    assert told.value.fix == f"serve run {made.work / 'nano'}"


def test_the_command_says_how_to_serve_it(tmp_path: Path) -> None:
    made = project(tmp_path)
    (tmp_path / "recipe.toml").write_text('[base]\nmodel = "base"\n[export]\nformat = "gguf"\n')
    done = CliRunner().invoke(main, ["export", "--format", "base", "--recipe", str(tmp_path / "recipe.toml")])
    assert done.exit_code == 0, done.output
    assert f"next: serve run {made.work / 'base'}" in done.output


def _figures(made: Recipe) -> str:
    """What `tune status` says of it."""
    return next(row.figures for row in status.status(made).rows if row.what == "base")


def _facts() -> dict[str, str]:
    return {"name": "nano", "base": "", "format": "merged", "prompt_date": "2026-01-01", "prompt_fingerprint": "f"}
