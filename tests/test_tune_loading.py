"""Finding and loading a base: a weight that is not from its file is an error, never a random number."""

import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import write_tokenizer
from tiny_gptoss import edit_config, make_base, make_native, replace, tensors_of

from tune import checkpoint, harmony
from tune.errors import UserError
from tune.recipe import Recipe
from tune.training import loading
from tune.weights import shards, tensors
from tune.weights.base_model import base_of

EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
ROUTER = "model.layers.1.mlp.router.weight"


def table(folder: Path) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.expected(shards.config(folder)).items()}


def test_every_weight_is_the_file_s(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    state = loading.load(base, dtype=torch.float32).state_dict()
    stored = tensors_of(base)
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], stored[name].float()) for name in stored)
    assert {n: tuple(t.shape) for n, t in stored.items()} == table(base)


def test_made_up_weights_are_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    whole = tensors_of(base)
    for name, change in (
        ("missing", {k: v for k, v in whole.items() if k != ROUTER}),
        ("unexpected", {k.replace("1.mlp.router.weight", "1.mlp.gate.weight"): v for k, v in whole.items()}),
        ("mismatched", {**whole, ROUTER: whole[ROUTER][:3]}),
    ):
        replace(base, change)
        with pytest.raises(UserError, match=rf"(?s)not the model.*{name}.*layers\.1\.mlp\.(router|gate)\.weight"):
            loading.load(base, dtype=torch.float32)


def test_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    shard = base / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        loading.load(base, dtype=torch.float32)
    edit_config(base, model_type="llama")
    with pytest.raises(UserError, match="not of a GPT-OSS"):
        loading.load(base, dtype=torch.float32)
    with pytest.raises(UserError, match="no config"):
        loading.load(tmp_path / "nowhere", dtype=torch.float32)


def test_a_native_mxfp4_base_loads_dequantized(tmp_path: Path) -> None:
    base = make_native(tmp_path / "base")
    state = loading.load(base, dtype=torch.bfloat16).state_dict()
    assert {n: tuple(t.shape) for n, t in tensors_of(base).items()} == table(base)
    assert state["model.layers.0.mlp.experts.gate_up_proj"].shape == (4, 64, 192)
    assert {t.dtype for t in state.values()} == {torch.bfloat16}


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_processor_that_emulates_bfloat16_is_asked_in_float32(
    has: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    assert loading.arithmetic("cpu") == dtype
    assert loading.arithmetic("cuda") == torch.bfloat16


def test_a_base_is_named_by_what_it_holds(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    recipe = Recipe(folder=tmp_path, base={"model": "base"})
    before = base_of(recipe)
    assert before.name == f"gpt-oss@{before.digest[:16]}"
    tensors = tensors_of(tmp_path / "base")
    tensors[ROUTER][0, 0] += 1
    replace(tmp_path / "base", tensors)
    assert base_of(recipe).digest != before.digest


def test_every_file_that_is_used_or_copied_names_the_base(tmp_path: Path) -> None:
    base, other = make_base(tmp_path / "base"), tmp_path / "elsewhere" / "renamed"
    names = {name.replace("*", ".json") for name in checkpoint.COMPANIONS} | {"tokenizer_config.json", "config.json"}
    for name in names:
        if not (base / name).is_file():
            (base / name).write_text("{}")
    (base / "README.md").write_text("of no use to a model")
    recipe = Recipe(folder=tmp_path, base={"model": "base"})
    first = base_of(recipe)
    shutil.copytree(base, other)
    moved = base_of(Recipe(folder=tmp_path, base={"model": str(other)}))
    assert (moved.digest, moved.name) == (first.digest, first.name)  # where it lies is no part of it
    for name in sorted(names):
        with (base / name).open("a") as f:
            f.write(" ")
        assert base_of(recipe).digest != first.digest, name
        shutil.copyfile(other / name, base / name)
    (base / "README.md").unlink()
    assert base_of(recipe).digest == first.digest


def test_a_base_of_gpt_oss_s_vocabulary_has_its_tokenizer(tmp_path: Path) -> None:
    base, recipe = make_base(tmp_path / "base"), Recipe(folder=tmp_path, base={"model": "base"})
    base_of(recipe)  # of 512 words: a test's
    vocabulary = harmony.VOCABULARY
    table = {name: torch.zeros(vocabulary, 64, dtype=torch.bfloat16) for name in EMBEDDINGS}
    replace(base, {**tensors_of(base), **table})
    edit_config(base, vocab_size=vocabulary)
    with pytest.raises(UserError, match=r"tokenizer\.json is not GPT-OSS's") as caught:
        base_of(recipe)
    assert caught.value.fix == "copy the model again, with its tokenizer"
    write_tokenizer(base / "tokenizer.json")
    base_of(recipe)


def test_an_edited_nano_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "nano"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    facts = {"name": "nano", "base": "", "format": "merged", "prompt_date": "2026-01-01"}
    made = checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})  # type: ignore[arg-type]
    assert base_of(Recipe(folder=tmp_path)).digest == made.digest
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json is not the file") as caught:
        base_of(Recipe(folder=tmp_path))
    assert caught.value.fix == "tune nano"


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"model": "nano"}, "tune nano"),
        ({"model": "openai/gpt-oss-20b"}, "needs base.revision"),
        ({"model": "openai/gpt-oss-20b", "revision": "main"}, "needs base.revision"),
        ({"model": "no such/folder/here"}, "no model folder"),
    ],
)
def test_a_base_that_is_not_there_says_what_to_do(tmp_path: Path, base: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        base_of(Recipe(folder=tmp_path, base=base))
