"""The codec against the definition of the format, by exhaustive search and by properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tune.weights import mxfp4

finite = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.sampled_from([32, 96])),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),  # subnormal and huge
        st.floats(-8, 8, width=32),
        st.sampled_from([0.0, -0.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0, -7.0]),  # ties
    ),
)


def nearest(block: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """Reference: the closest grid value by looking at all of them, ties to the even code."""
    grid = mxfp4.GRID.astype(np.float64) * 2.0**exponent
    out = []
    for value in block:
        distance = np.abs(grid - abs(value))
        ties = np.flatnonzero(distance == distance.min())
        out.append(np.copysign(grid[next((c for c in ties if c % 2 == 0), ties[0])], value))
    return np.array(out)


@settings(max_examples=60, deadline=None)
@given(finite)
def test_requantizing_dequantized_values_is_bit_identical(weights: NDArray[np.float32]) -> None:
    blocks, scales = mxfp4.quantize(weights)
    again_blocks, again_scales = mxfp4.quantize(mxfp4.dequantize(blocks, scales))
    assert np.array_equal(blocks, again_blocks)
    assert np.array_equal(scales, again_scales)


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (2, 3, 16)), arrays(np.uint8, (2, 3), elements=st.integers(0, 252)))
def test_any_mxfp4_values_survive_exactly(blocks: NDArray[np.uint8], scales: NDArray[np.uint8]) -> None:
    values = mxfp4.dequantize(blocks, scales)
    assert values.tobytes() == mxfp4.dequantize(*mxfp4.quantize(values)).tobytes()  # signs of zero too


@settings(max_examples=30, deadline=None)
@given(finite)
def test_no_exponent_at_all_gives_a_smaller_error(weights: NDArray[np.float32]) -> None:
    ours = mxfp4.dequantize(*mxfp4.quantize(weights)).astype(np.float64).reshape(-1, 32)
    for block, values in zip(weights.astype(np.float64).reshape(-1, 32), ours, strict=True):
        unit = max(np.abs(block).max(), 2.0**-149)
        best = min(np.square((nearest(block, e) - block) / unit).sum() for e in range(mxfp4.LEAST, mxfp4.MOST + 1))
        assert np.square((values - block) / unit).sum() <= best * (1 + 1e-12)


def test_known_bytes_low_nibble_first() -> None:
    weights = np.zeros((1, 32), np.float32)
    weights[0, :4] = [6.0, -0.5, 1.0, -4.0]
    blocks, scales = mxfp4.quantize(weights)
    assert blocks[0, 0].tolist() == [0x97, 0xE2, *[0] * 14]
    assert scales.tolist() == [[127]]
    assert mxfp4.quantize(np.zeros((2, 64), np.float32))[1].tolist() == [[0, 0], [0, 0]]


def test_an_outlier_just_over_seven_takes_the_larger_scale() -> None:
    weights = np.full((1, 32), 6.0, np.float32)
    weights[0, 0] = 7.9
    blocks, scales = mxfp4.quantize(weights)
    assert scales.tolist() == [[128]]
    assert mxfp4.dequantize(blocks, scales)[0, :2].tolist() == [8.0, 6.0]


def test_many_small_values_take_the_smaller_scale() -> None:
    weights = np.full((1, 32), 0.25, np.float32)  # halfway between 0 and 0.5 at scale 1, exact at scale 1/2
    weights[0, 0] = 4.0
    blocks, scales = mxfp4.quantize(weights)
    assert scales.tolist() == [[126]]
    assert mxfp4.dequantize(blocks, scales)[0, :2].tolist() == [3.0, 0.25]


def test_gaussian_error_is_what_the_field_measures() -> None:
    weights = np.random.default_rng(0).standard_normal((64, 2880)).astype(np.float32)
    error, power = mxfp4.squared_error(weights, *mxfp4.quantize(weights))
    assert 0.108 < (error / power) ** 0.5 < 0.1125  # OCP's floor rule gives 0.1140, amax/6 0.1184


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -np.nan])
def test_what_is_no_number_is_refused(bad: float) -> None:
    weights = np.ones((2, 64), np.float32)
    weights[1, 40] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        mxfp4.quantize(weights)


def test_wrong_shapes_and_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks of 32"):
        mxfp4.quantize(np.ones((2, 40), np.float32))
    with pytest.raises(ValueError, match="do not belong"):
        mxfp4.dequantize(np.zeros((2, 3, 16), np.uint8), np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="scale byte 255"):
        mxfp4.dequantize(np.zeros((1, 16), np.uint8), np.full((1,), 255, np.uint8))


@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_quantized_stays_as_it_is(rows: int) -> None:
    weights = -np.ones((rows, 32), np.float32)
    mxfp4.requantize(weights, mxfp4.quantize(weights)[1])
    assert (weights == -1).all()
