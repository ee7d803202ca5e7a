"""Which files are a model's weights, and which only lie beside them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_gptoss import edit_config, make_base, tensors_of

from tune.errors import UserError
from tune.weights import shards


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "extra.safetensors", "adapter_model.safetensors"])
@pytest.mark.parametrize("tensor", ["model.norm.weight", "model.other"])
def test_weights_beside_a_model_of_one_file_are_refused(base: Path, name: str, tensor: str) -> None:
    save_file({tensor: torch.zeros(64)}, base / name)
    with pytest.raises(UserError, match=rf"{name}") as caught:
        shards.headers(base)
    assert caught.value.fix == "move the file that is not the model's out of the folder"


@pytest.mark.parametrize(("tensor", "words"), [("model.norm.weight", "two of"), ("model.other", "does not match")])
def test_weights_beside_an_indexed_model_are_refused(base: Path, tensor: str, words: str) -> None:
    whole = tensors_of(base)
    (base / shards.WHOLE).unlink()
    items = [
        shards.Item({name: shards.Spec("BF16", tuple(t.shape))}, lambda name=name, t=t: {name: t})
        for name, t in whole.items()
    ]
    written = shards.write(base, items, shard_bytes=60_000, report=lambda _: None)
    assert shards.headers(base) == written
    save_file({tensor: torch.zeros(64)}, base / "model-00099-of-00099.safetensors")
    with pytest.raises(UserError, match=words):
        shards.headers(base)


def test_shards_without_their_index_are_no_model(base: Path) -> None:
    (base / shards.WHOLE).rename(base / "model-00001-of-00001.safetensors")
    with pytest.raises(UserError, match=r"holds no weights\n  why: no model\.safetensors"):
        shards.headers(base)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text", [DEEP, "[]", *(json.dumps({"weight_map": m}) for m in (["x"], {"x": ["y"]}, {"x": 3}, {"x": None}, None))]
)
def test_an_index_that_is_none_is_refused(base: Path, text: str) -> None:
    (base / shards.INDEX).write_text(text)
    with pytest.raises(UserError, match=rf"{shards.INDEX} cannot be read"):
        shards.headers(base)


def test_a_config_that_is_none_is_refused(base: Path) -> None:
    edit_config(base, quantization_config="fp8")
    with pytest.raises(UserError, match="weights in 'fp8' are not read"):
        shards.config(base)
    for odd in (["mxfp4"], 3):
        edit_config(base, quantization_config=odd)
        with pytest.raises(UserError, match="are not read"):
            shards.config(base)
    for plain in (None, {}, {"quant_method": "mxfp4"}):
        edit_config(base, quantization_config=plain)
        assert shards.is_mxfp4(shards.config(base)) == bool(plain)
    (base / "config.json").write_text(DEEP)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        shards.config(base)


SIZES = ["hidden_size", "intermediate_size", "num_local_experts", "vocab_size", "num_hidden_layers", "head_dim"]
SIZES += ["num_attention_heads", "num_key_value_heads"]


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("value", ["x", 0, -1, 2.0, True, None, [1], 10**12])
def test_a_size_that_is_none_is_refused(base: Path, key: str, value: object) -> None:
    edit_config(base, **{key: value})
    with pytest.raises(UserError, match=f"config.json has {key} "):
        shards.expected(shards.config(base))
