"""Which files are a model's weights, and which only lie beside them."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tiny_gptoss import edit_config, make_base, tensors_of

from tune.errors import UserError
from tune.weights import shards, stream, tensors
from tune.weights.tensors import BITS, Tensor


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


@pytest.mark.parametrize("tensor", ["model.norm.weight", "model.other"])
def test_weights_beside_an_indexed_model_are_refused(base: Path, tensor: str) -> None:
    whole = tensors_of(base)
    (base / shards.WHOLE).unlink()
    items = [
        stream.Item(
            {name: Tensor(tuple(t.shape), "BF16")}, lambda name=name, t=t: [(name, t.view(torch.uint8).numpy())]
        )
        for name, t in whole.items()
    ]
    parts = stream.split(items, 60_000)
    for part in parts:
        stream.write(base, part)
    assert stream.write_index(base, parts) == [shards.INDEX]
    assert {name: spec.shape for name, spec in shards.headers(base).items()} == {n: t.shape for n, t in whole.items()}
    save_file({tensor: torch.zeros(64)}, base / "model-00099-of-00099.safetensors")
    with pytest.raises(UserError, match=rf"beside its model's: model-00099.*\n  why: {shards.INDEX} does not name it"):
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
    for odd in (["mxfp4"], 3, "", []):
        edit_config(base, quantization_config=odd)
        with pytest.raises(UserError, match="are not read"):
            shards.config(base)
    for plain in (None, {}, {"quant_method": "mxfp4"}):
        edit_config(base, quantization_config=plain)
        assert tensors.is_mxfp4(shards.config(base)) == bool(plain)
    (base / "config.json").write_text(DEEP)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        shards.config(base)


def shard(text: str, body: int = 0) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode() + bytes(body)


def entry(dtype: str = "BF16", shape: object = (2,), at: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": at}


def told(body: int = 4, **tensors: object) -> bytes:
    return shard(json.dumps(tensors), body)


@pytest.mark.parametrize(
    "data",
    [
        told(a=entry()),
        told(a=entry(), __metadata__={"format": "pt"}),
        told(a=entry(), __metadata__={"format": 3}),
        told(0),
        told(a=entry(shape=[], at=[0, 2]), b=entry(shape=[1], at=[2, 4])),
        told(b=entry(shape=[1], at=[2, 4]), a=entry(shape=[], at=[0, 2])),
        told(a=entry(), b=entry()),  # two in one place
        told(a=entry(at=[2, 6]), body=6),  # a hole
        told(a=entry(), body=5),
        told(a=entry(), body=3),
        told(a=entry(at=[4, 0])),
        told(a=entry(at=[0])),
        told(a=entry(at=[0, "4"])),
        told(a=entry(shape=[2.0])),
        told(a=entry(shape=[-2])),
        told(a=entry(shape=[True, 2])),
        told(a=entry(shape=2)),
        told(a=entry(shape=[3])),
        told(0, a=entry(shape=[0], at=[0, 0])),
        told(a={"dtype": "BF16"}),
        told(a=3),
        shard("[]"),
        shard("{"),
        shard("[" * 100_000),
        shard('{"a": 3}')[:-1],
        b"",
        b"x",
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", 2) + b"\xff\xfe",
        struct.pack("<Q", 6) + "{}\n".encode("utf-16-le"),
        *(told(16 * BITS[dtype] // 8, a=entry(dtype, [16], [0, 2 * BITS[dtype]])) for dtype in BITS),
        *(told(4 * BITS[dtype], a=entry(dtype, [16], [0, 4 * BITS[dtype]])) for dtype in BITS),
        told(0, a=entry("F4", [1], [0, 0])),
        told(1, a=entry("F4", [1], [0, 1])),
        told(8, a=entry("C128", [1], [0, 8])),
    ],
)
def test_a_header_is_read_where_safetensors_reads_it_and_as_it_does(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / shards.WHOLE
    path.write_bytes(data)
    try:
        with safe_open(path, "np") as f:
            parts = {name: f.get_slice(name) for name in f.keys()}  # noqa: SIM118 - not a dict
            real = {name: Tensor(tuple(p.get_shape()), p.get_dtype(), path.name) for name, p in parts.items()}
            begin = {name: spec.begin for name, spec in shards.survey(tmp_path)[0].items()}
            real = {name: spec._replace(begin=begin.get(name, -1)) for name, spec in real.items()}
    except SafetensorError:
        assert "is damaged" in shards.survey(tmp_path)[1][0].what
    else:
        assert shards.survey(tmp_path) == (real, [])
