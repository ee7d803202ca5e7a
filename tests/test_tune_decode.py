"""MXFP4 bytes to values in torch: every byte there is against two other decoders, and the values after a change."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tune.weights import mxfp4
from tune.weights.mxfp4_torch import decode, redecode

WORDS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}
SCALES = mxfp4.MOST + mxfp4.BIAS + 1  # scale bytes that mean a number float32 holds


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(values: torch.Tensor) -> torch.Tensor:
    """As integers: the sign of zero counts too."""
    return values.contiguous().view(WORDS[values.dtype])


def theirs(blocks: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """transformers' decoder, which returns experts with their inputs first."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    return convert_moe_packed_tensors(blocks, scales, dtype=dtype).transpose(1, 2)


def same_three_times(blocks: torch.Tensor, scales: torch.Tensor) -> None:
    for dtype in WORDS:
        ours = decode(blocks, scales, dtype)
        assert ours.dtype == dtype
        assert torch.equal(bits(ours), bits(theirs(blocks, scales, dtype))), dtype
        exact = torch.from_numpy(mxfp4.dequantize(blocks.numpy(), scales.numpy()))
        assert torch.equal(bits(ours.float()), bits(exact)), dtype  # bf16 loses nothing


def test_every_code_under_every_scale() -> None:
    blocks = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, SCALES, 16, 16).contiguous()
    scales = torch.arange(SCALES, dtype=torch.uint8).view(1, SCALES, 1).expand(1, SCALES, 16).contiguous()
    same_three_times(blocks, scales)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_any_bytes_in_any_shape(data: st.DataObject, experts: int, rows: int, groups: int) -> None:
    blocks = data.draw(arrays(np.uint8, (experts, rows, groups, 16)))
    scales = data.draw(arrays(np.uint8, (experts, rows, groups), elements=st.integers(0, SCALES - 1)))
    same_three_times(torch.from_numpy(blocks), torch.from_numpy(scales))


def test_a_part_that_is_no_block_of_memory_decodes_as_in_the_whole() -> None:
    blocks = torch.randint(0, 256, (2, 6, 4, 16), dtype=torch.uint8, generator=seeded())
    scales = torch.randint(110, 130, (2, 6, 4), dtype=torch.uint8, generator=seeded())
    whole = decode(blocks, scales, torch.float32)
    assert torch.equal(decode(blocks[:, 1:4], scales[:, 1:4], torch.float32), whole[:, 1:4])
    assert torch.equal(decode(blocks[:, :, 1:3], scales[:, :, 1:3], torch.float32), whole[:, :, 32:96])


def trained(seed: int = 0, *, experts: int = 2, out: int = 512, size: int = 1024) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks and scales of Gaussian weights, as those of a model are."""
    weights: NDArray[np.float32] = np.random.default_rng(seed).standard_normal((experts, out, size)).astype(np.float32)
    blocks, scales = mxfp4.quantize(0.05 * weights)
    return torch.from_numpy(blocks), torch.from_numpy(scales)


def change(blocks: torch.Tensor, relative: float, rank: int = 4, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """a and b whose product is `relative` times as large as `trained`'s weights."""
    experts, out, groups, _ = blocks.shape
    a = torch.randn(experts, rank, 32 * groups, generator=seeded(seed))
    b = torch.randn(experts, out, rank, generator=seeded(seed + 1))
    return a, b * (0.05 * relative / (b @ a).square().mean().sqrt())


def survival(blocks: torch.Tensor, scales: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> float:
    """How much of a change is left of it on the grid: 1 when nothing is lost on average."""
    before, wanted = decode(blocks, scales, torch.float32), (b @ a).double()
    after = redecode(blocks, scales, a, b, (0, 0), torch.float32)
    return float(((after - before).double() * wanted).sum() / wanted.square().sum())


@pytest.mark.parametrize("dtype", list(WORDS))
def test_no_change_decodes_as_it_was(dtype: torch.dtype) -> None:
    blocks = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, SCALES, 16, 16).contiguous()
    scales = torch.arange(SCALES, dtype=torch.uint8).view(1, SCALES, 1).expand(1, SCALES, 16).contiguous()
    a, b = torch.randn(1, 3, 512, generator=seeded()), torch.zeros(1, SCALES, 3)
    assert torch.equal(redecode(blocks, scales, a, b, (7, 96), dtype), decode(blocks, scales, dtype))


@pytest.mark.parametrize("relative", [0.01, 0.3, 30.0])
def test_a_changed_value_is_on_its_block_s_grid_beside_the_wanted_one(relative: float) -> None:
    blocks, scales = trained(out=64, size=256)
    a, b = change(blocks, relative)
    unit = torch.exp2(scales.double() - mxfp4.BIAS).repeat_interleave(mxfp4.BLOCK, -1)
    wanted = (decode(blocks, scales, torch.float32).double() + (b @ a).double()) / unit
    found = redecode(blocks, scales, a, b, (0, 0), torch.float32).double() / unit
    grid = torch.from_numpy(mxfp4.GRID).double()
    assert bool(torch.isin(found.abs(), grid).all())
    inside = wanted.clamp(-6, 6)
    above = torch.searchsorted(grid, inside.abs().contiguous()).clamp(max=7)
    step = grid[above] - grid[(above - 1).clamp(min=0)]
    assert bool(((found - inside).abs() <= step * 1.0001 + 1e-5).all())  # one of its two neighbours
    assert bool((found[wanted.abs() > 6.001].abs() == 6).all())


@pytest.mark.parametrize("relative", [0.003, 0.01, 0.03])
@pytest.mark.parametrize("seed", [0, 10])
def test_a_small_change_survives_on_average(relative: float, seed: int) -> None:
    blocks, scales = trained(seed)
    assert survival(blocks, scales, *change(blocks, relative, seed=seed + 1)) == pytest.approx(1, abs=0.05)


def test_no_row_and_no_column_is_rounded_one_way() -> None:
    """The same fraction everywhere: each row's and each column's mean is kept, not only the whole's."""
    blocks = torch.full((1, 256, 8, 16), 0x22, dtype=torch.uint8)  # every value is 1
    scales = torch.full((1, 256, 8), mxfp4.BIAS, dtype=torch.uint8)
    for fraction in (0.1, 0.25, 0.5, 0.83):
        a, b = torch.ones(1, 1, 256), torch.full((1, 256, 1), 0.5 * fraction)
        up = (redecode(blocks, scales, a, b, (0, 0), torch.float32) - 1) / 0.5
        assert set(up.unique().tolist()) == {0.0, 1.0}
        assert (up.mean(1) - fraction).abs().max() < 0.05
        assert (up.mean(2) - fraction).abs().max() < 0.05


def test_parts_by_themselves_are_those_of_the_whole() -> None:
    blocks, scales = trained(out=64, size=256)
    a, b = change(blocks, 0.02)
    whole = redecode(blocks, scales, a, b, (0, 0), torch.float32)
    rows, columns = slice(16, 40), slice(64, 192)
    groups = slice(2, 6)
    lower = redecode(blocks[:, rows], scales[:, rows], a, b[:, rows], (16, 0), torch.float32)
    assert torch.equal(lower, whole[:, rows])
    right = redecode(blocks[:, :, groups], scales[:, :, groups], a[..., columns], b, (0, 64), torch.float32)
    assert torch.equal(right, whole[..., columns])
    assert not torch.equal(
        redecode(blocks[:, rows], scales[:, rows], a, b[:, rows], (0, 0), torch.float32), whole[:, rows]
    )  # the place decides
