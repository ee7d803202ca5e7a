"""The codec against ml_dtypes, whose float4_e2m1fn and float8_e8m0fnu others wrote from the same standard."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tune.weights import mxfp4

BYTES = np.arange(256, dtype=np.uint8)
LAST = mxfp4.MOST + mxfp4.BIAS


def values_of(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    return codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def scale_of(scales: NDArray[np.uint8]) -> NDArray[np.float64]:
    return scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)


def codes_of(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes [..., 32] of blocks [..., 16]: the low nibble is the earlier value."""
    return np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], mxfp4.BLOCK)


def test_every_byte_under_every_scale_decodes_to_the_same_bits() -> None:
    scales = np.repeat(BYTES[: LAST + 1], 16)
    blocks = np.tile(BYTES.reshape(16, 16), (LAST + 1, 1))
    with np.errstate(under="ignore"):
        wanted = (values_of(codes_of(blocks)) * scale_of(scales)[:, None]).astype(np.float32)
    assert mxfp4.dequantize(blocks, scales).tobytes() == wanted.tobytes()  # signs of zero, and subnormals


@pytest.mark.parametrize("scale", range(LAST + 1, 256))
def test_what_is_past_float32_or_no_number_is_refused(scale: int) -> None:
    scales = np.array([scale], np.uint8)
    assert not 6 * scale_of(scales)[0] <= np.finfo(np.float32).max  # 255 is NaN
    with pytest.raises(ValueError, match=f"scale byte {scale}"):
        mxfp4.dequantize(np.zeros((1, 16), np.uint8), scales)


TIES = [sign * tie for tie in (0.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0) for sign in (1, -1)]
blocks_of_floats = arrays(
    np.float32,
    (4, mxfp4.BLOCK),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    | st.floats(-8, 8, width=32)
    | st.sampled_from(TIES),
)


@settings(max_examples=200, deadline=None)
@given(blocks_of_floats, st.integers(-140, 120))
def test_every_value_takes_the_code_that_ml_dtypes_rounds_to(weights: NDArray[np.float32], power: int) -> None:
    with np.errstate(over="ignore", under="ignore"):
        moved = np.ldexp(weights, power)
    for rows in (weights, moved[np.isfinite(moved).all(axis=1)]):
        if not rows.size:
            continue
        blocks, scales = mxfp4.quantize(rows)
        nearest = rows.astype(np.float64) / scale_of(scales.reshape(-1))[:, None]  # exact: a power of two
        assert np.array_equal(
            codes_of(blocks).reshape(rows.shape), nearest.astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
        )


@settings(max_examples=200, deadline=None)
@given(blocks_of_floats, arrays(np.uint8, (4,), elements=st.integers(0, LAST)))
def test_under_given_scales_every_value_goes_to_one_of_its_neighbours(
    weights: NDArray[np.float32], scales: NDArray[np.uint8]
) -> None:
    inside = np.clip(weights.astype(np.float64) / scale_of(scales)[:, None], -6, 6)  # past it, ml_dtypes saturates too
    nearest = inside.astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    got = codes_of(mxfp4.requantize(weights, scales[:, None])).reshape(weights.shape)
    assert np.array_equal(np.signbit(values_of(got)), np.signbit(weights))
    away = np.sign(np.abs(inside) - np.abs(values_of(nearest)))  # towards its other neighbour; 0 on the grid
    assert ((got == nearest) | (got == nearest + away)).all()
    assert np.abs(values_of(got)).max() <= 6
