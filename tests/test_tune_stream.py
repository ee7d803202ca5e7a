"""Streamed safetensors files against the safetensors library, and what the writing itself must notice."""

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tune.errors import UserError
from tune.weights import shards, stream
from tune.weights.stream import Item
from tune.weights.tensors import Tensor
from tune.weights.values import Values, is_finite


def bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().view(torch.uint8).numpy()


def items_of(tensors: dict[str, torch.Tensor]) -> list[Item]:
    names = {torch.bfloat16: "BF16", torch.uint8: "U8"}
    return [
        Item({n: Tensor(tuple(t.shape), names[t.dtype])}, lambda n=n, t=t: [(n, bits(t))]) for n, t in tensors.items()
    ]


@pytest.mark.parametrize("names", [["b", "a", "ä", "c.weight"], ["only"], [f"n{i}" for i in range(23)]])
def test_the_file_is_byte_for_byte_what_safetensors_writes(tmp_path: Path, names: list[str]) -> None:
    torch.manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for i, name in enumerate(names):
        bytes_ = torch.randint(0, 250, (i + 1, 3), dtype=torch.uint8)
        tensors[name] = bytes_ if i % 3 == 1 else torch.randn(2, i + 1).bfloat16()
    (shard,) = stream.split(items_of(tensors), 10**9)
    digest = stream.write(tmp_path, shard)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    ours = (tmp_path / shard.file).read_bytes()
    assert ours == (tmp_path / "theirs").read_bytes()
    assert digest == hashlib.sha256(ours).hexdigest()
    assert all(torch.equal(load_file(tmp_path / shard.file)[n], t) for n, t in tensors.items())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), -float("nan")])
@pytest.mark.parametrize("place", [0, 999, 1999])
def test_a_value_that_is_no_number_stops_the_writing_by_name(tmp_path: Path, bad: float, place: int) -> None:
    values = torch.full((2000,), 3e38).bfloat16()  # the largest numbers are numbers
    values[place] = bad
    (shard,) = stream.split(items_of({"fine": torch.ones(4).bfloat16(), "model.odd": values}), 10**9)
    with pytest.raises(UserError, match=r"model\.odd cannot be written\n  why: model\.odd holds NaN or infinity"):
        stream.write(tmp_path, shard)
    assert list(tmp_path.iterdir()) == []


def test_numbers_are_told_from_what_is_none_for_every_16_bits() -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    wanted = torch.isfinite(torch.from_numpy(every.view(np.int16)).view(torch.bfloat16)).numpy()
    assert [is_finite("BF16", memoryview(every[i : i + 1])) for i in range(1 << 16)] == wanted.tolist()


@pytest.mark.parametrize("scale", [253, 254, 255])
def test_a_scale_that_is_no_number_stops_the_writing(tmp_path: Path, scale: int) -> None:
    scales = torch.full((40,), 252, dtype=torch.uint8)
    (fine,) = stream.split(items_of({"x_scales": scales, "x_blocks": torch.full((40,), 255, dtype=torch.uint8)}), 10**9)
    stream.write(tmp_path, fine)
    scales[17] = scale
    with pytest.raises(UserError, match="x_scales holds a scale byte over 252"):
        stream.write(tmp_path, fine)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> object:
        yield "a", bits(torch.ones(8).bfloat16())[:8]
        raise OSError(errno.ENOSPC, "No space left on device")

    shard = stream.Shard("model.safetensors", [Item({"a": Tensor((8,), "BF16")}, full)])
    with pytest.raises(OSError, match="No space") as caught:
        stream.write(tmp_path, shard)
    assert stream.is_full(caught.value)
    assert not stream.is_full(OSError(errno.EACCES, "no"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "made", [[("a", b"x" * 6)], [("a", b"x" * 10)], [("b", b"x" * 8)], [("a", b"x" * 8), ("c", b"x")]]
)
def test_other_bytes_than_announced_are_a_bug(tmp_path: Path, made: list[tuple[str, bytes]]) -> None:
    shard = stream.Shard("model.safetensors", [Item({"a": Tensor((8,), "U8"), "b": Tensor((0,), "U8")}, lambda: made)])
    with pytest.raises((RuntimeError, StopIteration)):
        stream.write(tmp_path, shard)


class TestCopies:
    """What was copied is held against its source, each read where its own header has it."""

    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        (tmp_path / "base").mkdir()
        torch.manual_seed(0)
        tensors = {f"t{i}": torch.randint(0, 200, (50, 8), dtype=torch.uint8) for i in range(3)}
        save_file(tensors, tmp_path / "base" / shards.WHOLE, metadata={"format": "pt"})
        return tmp_path / "base"

    def written(self, base: Path, make) -> int:
        with Values(base) as source:
            items = [Item({n: spec}, lambda n=n: make(source, n), copied=True) for n, spec in source.specs.items()]
            (shard,) = stream.split(items, 10**9)
            stream.write(base.parent, shard)
            return stream.require_copied(base.parent, shard, source)

    def test_a_true_copy_is_counted(self, base: Path) -> None:
        assert self.written(base, honest) == 1200

    def test_a_flipped_bit_is_found(self, base: Path) -> None:
        def flip(source: Values, name: str):
            for of, chunk in honest(source, name):
                if name == "t1":
                    chunk[133] ^= 1
                yield of, chunk

        with pytest.raises(UserError, match=r"t1 is not what .*base holds"):
            self.written(base, flip)

    def test_another_place_is_found(self, base: Path) -> None:
        def shifted(source: Values, name: str):
            source.specs[name] = source.specs[name]._replace(begin=source.specs[name].begin + (name == "t1"))
            yield from honest(source, name)
            source.specs[name] = source.specs[name]._replace(begin=source.specs[name].begin - (name == "t1"))

        with pytest.raises(UserError, match="t1 is not what"):
            self.written(base, shifted)

    def test_another_tensor_is_found(self, base: Path) -> None:
        with pytest.raises(UserError, match="t0 is not what"):
            self.written(base, lambda source, n: ((n, c) for c in source.chunks({"t0": "t2", "t2": "t0"}.get(n, n))))


def honest(source: Values, name: str):
    for chunk in source.chunks(name):
        yield name, chunk


def test_a_source_that_is_cut_short_is_told(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(64, dtype=torch.uint8)}, tmp_path / shards.WHOLE)
    with Values(tmp_path) as source:
        whole = (tmp_path / shards.WHOLE).read_bytes()
        (tmp_path / shards.WHOLE).write_bytes(whole[:-3])
        with pytest.raises(UserError, match="was changed while it was read"):
            list(source.chunks("a"))


def test_chunks_are_the_tensor(tmp_path: Path) -> None:
    values = torch.arange(200, dtype=torch.uint8)
    save_file({"a": values, "b": values + 7}, tmp_path / shards.WHOLE)
    with Values(tmp_path) as source:
        assert b"".join(bytes(c) for c in source.chunks("b", step=64)) == bytes((values + 7).tolist())
