"""Which files are a model's weights, and which only lie beside them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_gptoss import make_base, tensors_of

from tune import weights
from tune.errors import UserError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "extra.safetensors", "adapter_model.safetensors"])
@pytest.mark.parametrize("tensor", ["model.norm.weight", "model.other"])
def test_weights_beside_a_model_of_one_file_are_refused(base: Path, name: str, tensor: str) -> None:
    save_file({tensor: torch.zeros(64)}, base / name)
    with pytest.raises(UserError, match=rf"{name}") as caught:
        weights.headers(base)
    assert caught.value.fix == "move the file that is not the model's out of the folder"


@pytest.mark.parametrize(("tensor", "words"), [("model.norm.weight", "two of"), ("model.other", "does not match")])
def test_weights_beside_an_indexed_model_are_refused(base: Path, tensor: str, words: str) -> None:
    whole = tensors_of(base)
    (base / weights.WHOLE).unlink()
    items = [
        weights.Item({name: weights.Spec("BF16", tuple(t.shape))}, lambda name=name, t=t: {name: t})
        for name, t in whole.items()
    ]
    written = weights.write(base, items, shard_bytes=60_000, report=lambda _: None)
    assert weights.headers(base) == written
    save_file({tensor: torch.zeros(64)}, base / "model-00099-of-00099.safetensors")
    with pytest.raises(UserError, match=words):
        weights.headers(base)


def test_shards_without_their_index_are_no_model(base: Path) -> None:
    (base / weights.WHOLE).rename(base / "model-00001-of-00001.safetensors")
    with pytest.raises(UserError, match=r"holds no weights\n  why: no model\.safetensors"):
        weights.headers(base)
