"""Values put back on a given grid by an even dither: against its definition in integers and float64, and in torch."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tune.weights import mxfp4, mxfp4_torch

STEPS = np.array([0.5, 0.5, 0.5, 0.5, 1, 1, 2], np.float64)  # from each code to the next
finite = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.sampled_from([32, 96])),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),  # subnormal and huge
        st.floats(-8, 8, width=32),
        st.sampled_from([0.0, -0.0, 0.25, 1.25, 2.5, 3.5, 5.0, 6.0, 7.0, -7.0]),
    ),
)


def place(row: int, column: int) -> float:
    """The definition, in Python's integers: 2**32 by the plastic and by the golden ratio, a step each."""
    return ((row * 3242174889 + column * 2654435769) % 2**32 // 2**8) / 2**24


def places(rows: int, columns: int) -> NDArray[np.float64]:
    return np.array([[place(r, c) for c in range(columns)] for r in range(rows)])


def codes_of(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes [..., K] of blocks [..., K/32, 16]."""
    return np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-2], -1)


def reference(values: NDArray[np.float32], scales: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes [out, K]. Every step is exact in float64, but that what underflows float32 in units of its scale does."""
    unit = np.ldexp(1.0, scales.astype(int) - 127).repeat(32, axis=1)
    with np.errstate(over="ignore", under="ignore"):
        x = np.minimum((np.abs(values).astype(np.float64) / unit).astype(np.float32), 6).astype(np.float64)
    below = np.minimum(np.searchsorted(mxfp4.GRID, x, side="right") - 1, 7)
    step = STEPS[np.minimum(below, 6)]
    up = (x - mxfp4.GRID[below]) / step > places(*values.shape)
    return (below + (up & (below < 7))).astype(np.uint8) | np.signbit(values).astype(np.uint8) << 3


def test_the_strides_are_of_the_golden_and_the_plastic_ratio() -> None:
    golden, plastic = mxfp4.COLUMN_STRIDE / 2**32, 2**32 / mxfp4.ROW_STRIDE
    assert golden**2 + golden == pytest.approx(1, abs=2**-30)
    assert plastic**3 - plastic == pytest.approx(1, abs=2**-29)
    assert mxfp4.COLUMN_STRIDE % 2 == mxfp4.ROW_STRIDE % 2 == 1  # so that every residue comes


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 70))
def test_the_threshold_is_its_definition_from_any_row_on(first: int, rows: int, columns: int) -> None:
    found = mxfp4.threshold(rows, columns, first)
    assert found.dtype == np.float32
    assert found.tolist() == [[place(first + r, c) for c in range(columns)] for r in range(rows)]
    assert 0 <= found.min() <= found.max() < 1


def test_the_threshold_is_even_along_rows_and_columns() -> None:
    for lines in (mxfp4.threshold(40, 2880), mxfp4.threshold(2880, 40).T):
        for line in lines:
            assert np.abs(np.sort(line) - (np.arange(2880) + 0.5) / 2880).max() < 0.003  # chance: 0.02


@settings(max_examples=100, deadline=None)
@given(finite, st.data())
def test_every_value_is_what_the_definition_says(weights: NDArray[np.float32], data: st.DataObject) -> None:
    shape = (weights.shape[0], weights.shape[1] // 32)
    scales = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 252) | st.integers(120, 130)))
    assert np.array_equal(codes_of(mxfp4.requantize(weights, scales)), reference(weights, scales))


@pytest.mark.parametrize("code", range(7))
def test_just_under_at_and_just_over_the_threshold(code: int) -> None:
    turn = (mxfp4.GRID[code] + STEPS[code] * places(64, 96)).astype(np.float32)
    for values in (turn, np.nextafter(turn, np.float32(0)), np.nextafter(turn, np.float32(9))):
        for scale, sign in ((127, 1), (0, -1), (252, 1)):
            with np.errstate(under="ignore"):
                moved = sign * np.ldexp(values, scale - 127)
            scales = np.full((64, 3), scale, np.uint8)
            assert np.array_equal(codes_of(mxfp4.requantize(moved, scales)), reference(moved, scales))


def test_a_place_has_its_threshold_in_whatever_parts_the_work_is_done() -> None:
    rng = np.random.default_rng(1)  # 96 columns: several parts of rows
    values, scales = rng.standard_normal((3000, 96)).astype(np.float32), np.full((3000, 3), 126, np.uint8)
    assert np.array_equal(codes_of(mxfp4.requantize(values, scales)), reference(values, scales))
    assert np.array_equal(mxfp4.requantize(np.asfortranarray(values), scales), mxfp4.requantize(values, scales))


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (2, 3, 16)), arrays(np.uint8, (2, 3), elements=st.integers(0, 252)))
def test_values_on_the_grid_keep_their_codes(blocks: NDArray[np.uint8], scales: NDArray[np.uint8]) -> None:
    values = mxfp4.dequantize(blocks, scales)
    assert np.array_equal(mxfp4.requantize(values, scales), blocks)  # the sign of zero too


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 0.04))
def test_a_small_change_survives_that_the_nearest_code_would_undo(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    blocks, scales = mxfp4.quantize(rng.standard_normal((512, 2880), np.float32))
    before = mxfp4.dequantize(blocks, scales)
    change = np.float32(size) * rng.uniform(-1, 1, before.shape).astype(np.float32)
    moved = mxfp4.dequantize(mxfp4.requantize(before + change, scales), scales) - before
    assert 0.95 < np.vdot(moved, change) / np.vdot(change, change) < 1.05
    unit = np.ldexp(np.float32(1), scales.astype(np.int32) - 127).repeat(32, axis=1)
    nearest = ((before + change) / unit).astype(ml_dtypes.float4_e2m1fn).astype(np.float32) * unit
    assert np.abs(nearest - before).max() == 0


def test_what_cannot_be_requantized_is_refused() -> None:
    fine = np.ones((2, 64), np.float32)
    for wrong in ((2, 3), (3, 2), (2, 2, 1)):
        with pytest.raises(ValueError, match="do not belong"):
            mxfp4.requantize(fine, np.zeros(wrong, np.uint8))
    with pytest.raises(ValueError, match="scale byte 253"):
        mxfp4.requantize(fine, np.full((2, 2), 253, np.uint8))
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        fine[1, 3] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            mxfp4.requantize(fine, np.full((2, 2), 127, np.uint8))


powers = st.builds(lambda sign, power: np.float32(sign * 2.0**power), st.sampled_from([1, -1]), st.integers(-65, 60))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_torch_gives_the_values_of_the_bytes_that_an_export_writes(data: st.DataObject) -> None:
    """Changes by powers of two: their products are exact, so both sides round the same sums."""
    blocks = data.draw(arrays(np.uint8, (2, 5, 3, 16)))
    scales = data.draw(arrays(np.uint8, (2, 5, 3), elements=st.integers(0, 252) | st.integers(120, 130)))
    near = st.sampled_from([np.float32(s * 2.0**p) for s in (1, -1) for p in range(-5, 2)])
    a, b = (data.draw(arrays(np.float32, shape, elements=powers | near)) for shape in ((2, 2, 96), (2, 5, 2)))
    change = b[..., 0, None] * a[:, 0, None] + b[..., 1, None] * a[:, 1, None]
    before = mxfp4.dequantize(blocks, scales)
    pairs = zip(before + change, scales, strict=True)
    wanted = np.stack([mxfp4.dequantize(mxfp4.requantize(values, scale), scale) for values, scale in pairs])
    given_ = [torch.from_numpy(part) for part in (blocks, scales, a, b)]
    got = mxfp4_torch.redecode(*given_, (0, 0), torch.float32)
    assert got.numpy().tobytes() == wanted.tobytes()  # the sign of zero too
    rounded = mxfp4_torch.redecode(*given_, (0, 0), torch.bfloat16)
    assert torch.equal(rounded.float(), got)  # bf16 holds every one
    row, group = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 2))
    part = [np.ascontiguousarray(p) for p in (blocks[:, row:, group:], scales[:, row:, group:], a[..., 32 * group :])]
    cut = [*map(torch.from_numpy, part), given_[3][:, row:]]
    assert torch.equal(
        mxfp4_torch.redecode(*cut, (row, 32 * group), torch.float32), got[:, row:, 32 * group :].contiguous()
    )


def test_torch_leaves_what_is_not_changed() -> None:
    rng = np.random.default_rng(0)
    blocks, scales = rng.integers(0, 256, (1, 253, 2, 16), np.uint8), np.arange(253, dtype=np.uint8).repeat(2)
    none = -torch.zeros(1, 1, 64), torch.zeros(1, 253, 1)
    given_ = torch.from_numpy(blocks), torch.from_numpy(scales.reshape(1, 253, 2))
    got = mxfp4_torch.redecode(*given_, *none, (7, 0), torch.float32)
    assert got.numpy().tobytes() == mxfp4_torch.decode(*given_, torch.float32).numpy().tobytes()
