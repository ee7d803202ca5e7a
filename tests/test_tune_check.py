"""`tune check` on a whole checkpoint, and on the same one damaged in each way that used to pass in silence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tiny_gptoss import edit_config, make_adapter, make_base, recipe, replace, tensors_of

from tune import artefact, checkpoint, cli, digests, harmony
from tune.errors import UserError
from tune.weights import check, export, files, lora
from tune.weights.base_model import base_of

ROUTER = "model.layers.0.mlp.router.weight"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """work/ with a merged checkpoint in shards, an mxfp4 one and a lora one, with harmony's control ids."""
    root = tmp_path_factory.mktemp("check")
    make_base(root / "base", vocabulary=harmony.VOCABULARY)
    ends = {"eos_token_id": [harmony.RETURN, harmony.CALL]}
    (root / "base" / "generation_config.json").write_text(json.dumps(ends))
    made = recipe(root)
    make_adapter(made, base_of(made).digest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "SHARD_BYTES", 26_000_000)
        for kind in ("merged", "mxfp4", "lora"):
            export.export(made.model_copy(update={"export": made.export.model_copy(update={"format": kind})}))
    return made.work


def refinish(folder: Path) -> None:
    """A manifest that agrees with the damaged files: the damage was done before it was written."""
    made = artefact.Artefact.model_validate_json((folder / "checkpoint.json").read_bytes())
    artefact.finish(folder, "checkpoint", inputs=made.inputs, settings=made.settings, figures=made.figures)


@pytest.fixture
def merged(checkpoints: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints / "merged", tmp_path / "merged"))


@pytest.mark.parametrize(
    ("kind", "first"), [("merged", "37 tensors"), ("mxfp4", "41 tensors"), ("lora", "changes 8 weights")]
)
def test_a_whole_checkpoint_passes(checkpoints: Path, kind: str, first: str) -> None:
    lines = check.check(checkpoints / kind)
    assert first in lines[0]
    assert "7 control ids" in lines[1]
    assert "python-docs@" in lines[2]


def test_a_script_reads_findings_and_problems_off_one_stream(checkpoints: Path, tmp_path: Path) -> None:
    out = CliRunner().invoke(cli.main, ["check", str(checkpoints / "merged"), "--json"])
    assert (out.exit_code, len(json.loads(out.stdout)["findings"]), json.loads(out.stdout)["problems"]) == (0, 3, [])
    out = CliRunner().invoke(cli.main, ["check", str(checkpoints / "adapter"), "--json"])
    (problem,) = json.loads(out.stdout)["problems"]
    assert (out.exit_code, problem["severity"], problem["fix"]) == (2, "error", "tune export")
    assert "holds a finished adapter, not a checkpoint" in problem["what"]


def test_what_makes_it_again_is_named_for_its_kind(checkpoints: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints / "mxfp4", tmp_path / "mxfp4"))
    (folder / "tokenizer.json").write_text("3")
    refinish(folder)
    with pytest.raises(UserError) as caught:
        check.check(folder)
    assert caught.value.fix == "tune export --format mxfp4"


def test_every_file_is_read_whatever_is_remembered_of_it(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "RACY", -(10**15))  # as if it had been there for long
    checkpoint.verify(merged)
    config = merged / "config.json"
    config.write_text(config.read_text() + " ")
    (place,) = (tmp_path / "cache/gptoss-kit/digests").iterdir()
    memory, s = json.loads(place.read_text()), config.stat()
    memory["files"]["config.json"] |= {"size": s.st_size, "mtime_ns": s.st_mtime_ns, "ctime_ns": s.st_ctime_ns}
    place.write_text(json.dumps(memory))  # as a file system would have it whose times can be set
    checkpoint.verify(merged)
    with pytest.raises(UserError, match=r"config\.json is not the file"):
        check.check(merged)


def test_what_a_server_refuses_is_found_here(merged: Path) -> None:
    """The ends of an answer, and what an engine is held against."""
    (merged / "generation_config.json").write_text(json.dumps({"eos_token_id": 200002}))
    (merged / checkpoint.CANARY).unlink()
    refinish(merged)
    with pytest.raises(UserError, match=r"generation_config\.json lacks end ids \[200012\]") as caught:
        check.check(merged)
    assert "it has no canary.json" in caught.value.why


def test_a_missing_shard(merged: Path) -> None:
    next(merged.glob("model-00002*")).unlink()
    with pytest.raises(UserError, match="lacks model-00002"):
        check.check(merged)


def test_a_renamed_router(merged: Path) -> None:
    tensors = tensors_of(merged)
    for path in merged.glob("model*"):
        path.unlink()
    replace(merged, {name.replace("router", "gate") if name == ROUTER else name: t for name, t in tensors.items()})
    refinish(merged)
    with pytest.raises(UserError, match=r"2 problems") as caught:
        check.check(merged)
    missing, unknown = caught.value.why.splitlines()
    assert f"lacks 1 of 37 tensors (e.g. {ROUTER};" in missing
    assert f"no place for (e.g. {ROUTER.replace('router', 'gate')};" in unknown


def test_a_truncated_shard(merged: Path) -> None:
    shard = next(merged.glob("model-00001*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model-00001-of-\d+\.safetensors is damaged"):
        check.check(merged)


def test_an_edited_config(merged: Path) -> None:
    edit_config(merged, hidden_size=96)
    with pytest.raises(
        UserError, match=r"model\.embed_tokens\.weight is \[201088, 64\], config\.json makes it \[201088, 96\]"
    ):
        check.check(merged)
    edit_config(merged, hidden_size=64, sliding_window=4096)  # no shape depends on it
    with pytest.raises(UserError, match=r"config\.json is not the file that checkpoint\.json describes"):
        check.check(merged)


def test_an_index_that_names_other_files(merged: Path) -> None:
    path = merged / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["lm_head.weight"]
    path.write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"beside its model's: model-00001.*\n.*lacks 1 of 37 tensors \(e\.g\. lm_head"):
        check.check(merged)


def test_nan_and_foreign_dtypes(merged: Path) -> None:
    tensors = tensors_of(merged)
    for path in merged.glob("model*"):
        path.unlink()
    tensors["lm_head.weight"][-1, -1] = float("nan")
    replace(merged, tensors)
    refinish(merged)
    with pytest.raises(UserError, match=r"1 problem\n  why: lm_head\.weight holds NaN"):
        check.check(merged)
    replace(merged, {**tensors, "lm_head.weight": torch.zeros(harmony.VOCABULARY, 64, dtype=torch.float16)})
    refinish(merged)
    with pytest.raises(UserError, match=r"lm_head\.weight is F16, not BF16"):
        check.check(merged)


def test_a_tokenizer_with_other_control_ids(merged: Path) -> None:
    path = merged / "tokenizer.json"
    text = path.read_text().replace('"<|start|>"', '"<|was|>"').replace('"<|message|>"', '"<|start|>"')
    path.write_text(text.replace('"<|was|>"', '"<|message|>"'))
    refinish(merged)
    with pytest.raises(UserError, match=r"other ids \(<\|start\|> is 200008, harmony has 200006"):
        check.check(merged)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", '{"added_tokens": 3}', '{"added_tokens": ["x"]}'])
def test_a_tokenizer_that_is_none(merged: Path, text: str) -> None:
    (merged / "tokenizer.json").write_text(text)
    refinish(merged)
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        check.check(merged)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", "{", '"r"'])
def test_an_adapter_whose_settings_are_none(checkpoints: Path, tmp_path: Path, text: str) -> None:
    folder = Path(shutil.copytree(checkpoints / "lora", tmp_path / "lora"))
    (folder / lora.FILES[0]).write_text(text)
    refinish(folder)
    with pytest.raises(UserError, match="holds no readable adapter"):
        check.check(folder)


def test_a_prompt_that_renders_otherwise(merged: Path) -> None:
    path = merged / "checkpoint.json"
    path.write_text(path.read_text().replace(harmony.fingerprint("2026-01-01"), "0" * 64))
    with pytest.raises(UserError, match="prompts render otherwise"):
        check.check(merged)


def test_an_adapter_of_another_shape(checkpoints: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints / "lora", tmp_path / "lora"))
    edit_config(folder, num_attention_heads=8)
    with pytest.raises(UserError, match=r"q_proj\.weight is \[128, 64\] in the base, \[64, 64\] in the adapter"):
        check.check(folder)


def test_a_second_shard_beside_a_whole_checkpoint(merged: Path) -> None:
    save_file({"model.norm.weight": torch.zeros(64)}, merged / "model-00009.safetensors")
    with pytest.raises(
        UserError,
        match=r"1 problem\n  why: .*beside its model's: model-00009\.safetensors .*index\.json does not name it",
    ):
        check.check(merged)


def test_a_file_that_the_manifest_does_not_name(merged: Path) -> None:
    (merged / "modeling_gpt_oss.py").write_text("print('hello')")
    with pytest.raises(UserError, match=r"does not name: modeling_gpt_oss\.py"):
        check.check(merged)


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_one_value_in_the_middle_of_a_large_tensor_is_seen(merged: Path, bad: float) -> None:
    tensors = tensors_of(merged)
    for path in merged.glob("model*"):
        path.unlink()
    tensors["lm_head.weight"].view(-1)[6_000_000] = bad
    replace(merged, tensors)
    refinish(merged)
    with pytest.raises(UserError, match=r"1 problem\n  why: lm_head\.weight holds NaN or infinity"):
        check.check(merged)


def test_one_scale_in_the_middle_is_seen(checkpoints: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints / "mxfp4", tmp_path / "mxfp4"))
    name = "model.layers.1.mlp.experts.down_proj_scales"
    (path,) = (p for p in folder.glob("model*.safetensors") if name in load_file(p))
    tensors = load_file(path)
    tensors[name][2, 30, 1] = 255
    save_file(tensors, path, metadata={"format": "pt"})
    refinish(folder)
    with pytest.raises(UserError, match=r"down_proj_scales holds a scale byte over 252"):
        check.check(folder)
