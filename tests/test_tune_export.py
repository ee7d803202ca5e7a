"""Export against independent oracles: PEFT's own merge, and stock transformers reading the MXFP4 files."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_gptoss import (
    VOCABULARY,
    edit_config,
    make_adapter,
    make_base,
    make_dataset,
    make_native,
    recipe,
    replace,
    tensors_of,
)

from tune import artefact, checkpoint, harmony
from tune.errors import UserError
from tune.recipe import Recipe
from tune.training import loading
from tune.weights import export, files, mxfp4, shards, tensors
from tune.weights.base_model import base_of

EXPERTS = [f"model.layers.{i}.mlp.experts.{name}" for i in range(2) for name in ("gate_up_proj", "down_proj")]
ATTENTION = [f"model.layers.{i}.self_attn.{x}_proj.weight" for i in range(2) for x in "qkvo"]


def project(
    root: Path, kind: str, *, native: bool = False, size: float = 0.02, vocabulary: int = harmony.VOCABULARY
) -> tuple[Recipe, dict[str, torch.Tensor]]:
    """A recipe with a base and an adapter, and what PEFT merges them to, in float32."""
    (make_native if native else make_base)(root / "base", vocabulary=vocabulary)
    made = recipe(root, export={"format": kind})
    merged = make_adapter(made, base_of(made).digest, size=size)
    return made, merged.state_dict()


def assert_companions(folder: Path, base: Path) -> None:
    """What transformers wrote beside the base's weights lies beside the checkpoint's, byte for byte."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes(), name


def test_merged_is_peft_s_own_merge(tmp_path: Path) -> None:
    made, oracle = project(tmp_path, "merged")
    checkpoint = export.export(made)
    ours, base = tensors_of(checkpoint.folder), tensors_of(tmp_path / "base")
    assert ours.keys() == base.keys() == oracle.keys()
    for name in ours:
        if name in ATTENTION:
            assert not torch.equal(ours[name], base[name])
            torch.testing.assert_close(ours[name], oracle[name].bfloat16(), rtol=2**-7, atol=1e-6)  # one bf16 step
            assert (ours[name] == oracle[name].bfloat16()).float().mean() > 0.999
        else:
            assert torch.equal(ours[name], base[name])
    assert loading.load(checkpoint.folder, dtype=torch.float32) is not None
    assert checkpoint.served_name == f"python-docs@{checkpoint.digest[:16]}"
    assert checkpoint.prompt_fingerprint == harmony.fingerprint("2026-01-01")
    figures = artefact.read(checkpoint.folder, "checkpoint", remake="").figures
    assert figures["changed_tensors"] == len(ATTENTION)
    assert_companions(checkpoint.folder, tmp_path / "base")


def test_transformers_reads_mxfp4_as_the_codec_says(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "mxfp4")
    checkpoint = export.export(made)
    ours, base = tensors_of(checkpoint.folder), tensors_of(tmp_path / "base")
    loaded = loading.load(checkpoint.folder, dtype=torch.bfloat16).state_dict()  # every name known to transformers
    for name in EXPERTS:
        blocks, scales = ours[f"{name}_blocks"].numpy(), ours[f"{name}_scales"].numpy()
        values = mxfp4.dequantize(blocks, scales)
        assert np.array_equal(loaded[name].float().transpose(1, 2).numpy(), values)
        wanted = mxfp4.quantize(base[name].float().transpose(1, 2).contiguous().numpy())
        assert np.array_equal(blocks, wanted[0])
        assert np.array_equal(scales, wanted[1])
    config = shards.config(checkpoint.folder)
    assert config["quantization_config"]["quant_method"] == "mxfp4"
    assert {n: tuple(t.shape) for n, t in ours.items()} == {n: t.shape for n, t in tensors.expected(config).items()}
    rmse = artefact.read(checkpoint.folder, "checkpoint", remake="").figures["mxfp4_relative_rmse"]
    whole = torch.cat([base[n].float().flatten() for n in EXPERTS if n.endswith("down_proj")])
    read = torch.cat([loaded[n].float().flatten() for n in EXPERTS if n.endswith("down_proj")])
    assert rmse["down_proj"] == pytest.approx(float((read - whole).norm() / whole.norm()), rel=1e-4)
    assert 0.08 < rmse["gate_up_proj"] < 0.13


def test_a_native_base_keeps_its_experts_byte_for_byte(tmp_path: Path) -> None:
    made, oracle = project(tmp_path, "mxfp4", native=True)
    checkpoint = export.export(made)
    ours, base = tensors_of(checkpoint.folder), tensors_of(tmp_path / "base")
    assert ours.keys() == base.keys()
    assert [n for n in base if not torch.equal(base[n], ours[n])] == [n for n in base if n in ATTENTION]
    assert shards.config(checkpoint.folder)["quantization_config"]["modules_to_not_convert"] == ["lm_head"]

    merged = export.export(made.model_copy(update={"export": made.export.model_copy(update={"format": "merged"})}))
    dense = tensors_of(merged.folder)
    assert not tensors.is_mxfp4(shards.config(merged.folder))
    assert all(torch.equal(dense[n].float(), oracle[n].bfloat16().float()) for n in EXPERTS)  # transformers dequantized


def test_many_shards_are_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = project(tmp_path, "merged")
    whole = tensors_of(export.export(made).folder)
    monkeypatch.setattr(files, "SHARD_BYTES", 60_000)
    (made.work / "merged" / "checkpoint.json").unlink()
    folder = export.export(made).folder
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    parts = tensors_of(folder)
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[n], whole[n]) for n in whole)
    assert loading.load(folder, dtype=torch.bfloat16) is not None
    next(folder.glob("model-00002*")).unlink()
    with pytest.raises(UserError, match=r"lacks model-00002-of-\d+\.safetensors\n  why: named in"):
        shards.headers(folder)


def test_lora_carries_the_adapter_and_names_its_base(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "lora")
    folder = export.export(made).folder
    adapter = made.work / "adapter" / "adapter_model.safetensors"
    assert (folder / "adapter_model.safetensors").read_bytes() == adapter.read_bytes()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert not list(folder.glob("model*.safetensors"))
    merged = export.export(recipe(tmp_path, export={"format": "merged"}))
    assert checkpoint.canary(checkpoint.read(folder)) == checkpoint.canary(merged)  # base and adapter, said once
    assert_companions(folder, tmp_path / "base")


@pytest.mark.parametrize("kind", ["merged", "mxfp4", "lora"])
@pytest.mark.parametrize(("size", "why"), [(0.0, "every lora_B is zero"), (1e-9, "equals the base's")])
def test_an_adapter_that_changes_nothing_is_refused(tmp_path: Path, kind: str, size: float, why: str) -> None:
    made, _ = project(tmp_path, kind, size=size, vocabulary=VOCABULARY)
    with pytest.raises(UserError, match=rf"changes nothing\n  why: .*{why}"):
        export.export(made)
    assert not (made.work / kind).exists()


def test_an_export_is_kept_until_its_inputs_change(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "merged")
    said: list[str] = []
    first = export.export(made)
    assert export.export(made, said.append) == first
    assert said == [f"merged: {first.served_name} is there already"]
    shard = first.folder / "model.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert export.export(made) == first
    assert shard.read_bytes() == whole
    renamed = made.model_copy(update={"project": made.project.model_copy(update={"name": "other"})})
    assert export.export(renamed, said.append).name == "other"
    assert export.export(made, said.append) == first
    base = tensors_of(tmp_path / "base")
    base["model.norm.weight"] += 1
    replace(tmp_path / "base", base)
    with pytest.raises(UserError, match="of another base"):
        export.export(made)


def test_an_adapter_of_another_dataset_is_refused(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "merged")
    make_dataset(made)
    with pytest.raises(UserError, match="trained on another dataset") as caught:
        export.export(made)
    assert caught.value.fix == "tune train"
    inputs = {
        "base": base_of(made).digest,
        "dataset": artefact.read(made.work / "dataset", "dataset", remake="").digest,
    }
    artefact.finish(made.work / "adapter", "adapter", inputs=inputs)
    export.export(made)
    other = made.model_copy(update={"dataset": made.dataset.model_copy(update={"max_tokens": 99})})
    with pytest.raises(UserError, match="not the dataset of this recipe"):
        export.export(other)


def test_weights_can_be_read_by_another_user(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "merged")
    (made.work / "adapter" / "adapter_model.safetensors").chmod(0o600)  # as PEFT leaves it
    for kind, file in (("merged", "model.safetensors"), ("lora", "adapter_model.safetensors")):
        of_kind = made.model_copy(update={"export": made.export.model_copy(update={"format": kind})})
        assert (export.export(of_kind).folder / file).stat().st_mode & 0o777 == 0o644


def test_what_does_not_fit_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = project(tmp_path, "mxfp4", vocabulary=VOCABULARY)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(UserError, match=r"not enough disk .*\n  why: 0\.\d+ GB are needed, 0\.0 GB are free"):
            export.export(made)
    edited = made.model_copy(update={"dataset": made.dataset.model_copy(update={"date": "2030-01-01"})})
    with pytest.raises(UserError, match="another date"):
        export.export(edited)
    adapter = made.work / "adapter" / "adapter_config.json"
    adapter.write_text(adapter.read_text().replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(UserError, match="is not the file that adapter"):
        export.export(made)
    artefact.finish(
        made.work / "adapter", "adapter", inputs={"base": base_of(made).digest}, settings={"date": "2026-01-01"}
    )
    with pytest.raises(UserError, match=r"cannot be merged\n  why: adapter_config\.json sets use_dora"):
        export.export(made)
    edit_config(tmp_path / "base", num_hidden_layers=3, layer_types=None)
    artefact.finish(made.work / "adapter", "adapter", inputs={"base": base_of(made).digest})
    adapter.write_text(adapter.read_text().replace('"use_dora": true', '"use_dora": false'))
    artefact.finish(made.work / "adapter", "adapter", inputs={"base": base_of(made).digest})
    with pytest.raises(
        UserError, match=r"do not fit together\n  why: .* lacks 17 of 54 tensors \(e\.g\. model\.layers\.2\."
    ):
        export.export(made)
    assert not (made.work / "mxfp4").exists()


def test_an_export_of_an_older_version_is_made_again_with_its_canary(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "merged")
    first = export.export(made)
    (first.folder / checkpoint.CANARY).unlink()
    settings = artefact.Artefact.model_validate_json((first.folder / "checkpoint.json").read_bytes())
    artefact.finish(first.folder, "checkpoint", inputs=settings.inputs, settings=settings.settings)
    assert export.export(made) == first
    assert checkpoint.canary(first).logprobs.keys() == set(harmony.EFFORTS)


def test_a_stray_file_does_not_make_an_export_be_made_again(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "merged")
    first = export.export(made)
    (first.folder / "notes.txt").write_text("mine")
    said: list[str] = []
    assert export.export(made, said.append) == first
    assert (first.folder / "notes.txt").read_text() == "mine"
