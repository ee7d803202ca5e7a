"""The MXFP4 codec: float32 arrays to blocks and scales, and back (OCP Microscaling Formats 1.0: E2M1 with E8M0).

Pure numpy; knows no files, no tensor names and no torch. 32 consecutive values of the last axis share one scale.
"""

import numpy as np
from numpy.typing import NDArray

from tune.weights import tensors

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = tensors.MXFP4_BLOCK
GRID = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], np.float32)  # E2M1 magnitudes by code; code 8 is the sign
BIAS = 127  # of the E8M0 scale byte
LEAST, MOST = -127, 125  # exponents: 6 * 2**125 is the largest multiple of 6 below float32's end
ROW_STRIDE, COLUMN_STRIDE = 0xC13FA9A9, 0x9E3779B9  # of `threshold`: 2**32 by the plastic and by the golden ratio
_POWERS = np.ldexp(np.float32(1), np.arange(255, dtype=np.int32) - BIAS)  # by scale byte
_CHUNK = 4096  # blocks at a time: the temporaries stay in a core's cache
_INFINITY = 0x7F800000
_DOUBT = np.float32(1e-4)  # relative; 32 squares summed in float32 are within 1e-5
_PAIRS = np.stack(
    [
        np.concatenate([GRID, -GRID])[np.arange(256) & 15],  # the low nibble is the earlier value
        np.concatenate([GRID, -GRID])[np.arange(256) >> 4],
    ],
    axis=1,
)
_TWO = np.ascontiguousarray(_PAIRS).view(np.uint64).ravel()  # two values moved as one


def quantize(weights: Floats) -> tuple[Bytes, Bytes]:
    """Nearest MXFP4 of `weights` float32 [..., K], K a multiple of 32.

    Returns blocks uint8 [..., K/32, 16], two codes a byte, low nibble first, and scales uint8 [..., K/32].
    Values round to the nearest code, ties to the even one. The scale is the one with the least squared error among
    all exponents, found with two candidates a block: with e = floor(log2(max)) - 2, so max/2**e in [4, 8), a larger
    scale can only win when max/2**e > 7 (below, its grid is a part of e's), and a smaller one only when
    (max/2**e - 3)**2, what clipping costs, is under the 31 * 0.25**2 that the finer steps can save. Ties keep e, so
    quantizing dequantized values gives the same bytes.
    Raises ValueError on NaN, infinity or a wrong K.
    """
    if weights.ndim == 0 or weights.shape[-1] % BLOCK or not weights.size:
        raise ValueError(f"the last axis must hold blocks of {BLOCK} values, not {weights.shape}")
    rows = np.ascontiguousarray(weights, np.float32).reshape(-1, BLOCK)
    blocks, scales = np.empty((len(rows), BLOCK // 2), np.uint8), np.empty(len(rows), np.uint8)
    for i in range(0, len(rows), _CHUNK):
        codes, exponents = _quantize(rows[i : i + _CHUNK])
        blocks[i : i + _CHUNK] = (codes[0::2] | (codes[1::2] << 4)).T
        scales[i : i + _CHUNK] = exponents + BIAS
    prefix = (*weights.shape[:-1], weights.shape[-1] // BLOCK)
    return blocks.reshape(*prefix, BLOCK // 2), scales.reshape(prefix)


def dequantize(blocks: Bytes, scales: Bytes) -> Floats:
    """Exact float32 values [..., K] of blocks uint8 [..., K/32, 16] and scales uint8 [..., K/32].

    Raises ValueError on shapes that do not belong together and on scales past float32 (253 and up; 255 means NaN).
    """
    if blocks.shape != (*scales.shape, BLOCK // 2):
        raise ValueError(f"blocks {blocks.shape} do not belong to scales {scales.shape}")
    if scales.size and int(scales.max()) > MOST + BIAS:
        raise ValueError(f"scale byte {int(scales.max())}: its values are past float32, or NaN")
    values: Floats = _TWO.take(blocks).view(np.float32).reshape(*scales.shape, BLOCK)
    values *= _POWERS[scales][..., None]
    return values.reshape(*scales.shape[:-1], -1)


def requantize(values: Floats, scales: Bytes) -> Bytes:
    """Blocks uint8 [out, K/32, 16] of `values` float32 [out, K] under given scales uint8 [out, K/32], which stay.

    The definition that training through the quantizer shares. With x = |v| / 2**(scale - 127), at most 6, between the
    grid's neighbours g <= x < h: h if (x - g) / (h - g) is over the place's `threshold`, else g. A value on the grid
    stays; one beside it goes to either side as often as it is near. So a change that is small beside the grid's steps
    is kept on average, where the nearest neighbour would undo all of it. The code has the sign bit of v, of a zero too.
    Raises ValueError on NaN, infinity, shapes that do not belong together and scales past 252.
    """
    if values.ndim != 2 or values.shape != (*scales.shape[:-1], scales.shape[-1] * BLOCK):
        raise ValueError(f"values {values.shape} do not belong to scales {scales.shape}")
    if scales.size and int(scales.max()) > MOST + BIAS:
        raise ValueError(f"scale byte {int(scales.max())}: its values are past float32, or NaN")
    if values.size and np.abs(values).view(np.int32).max() >= _INFINITY:
        raise ValueError("weights hold NaN or infinity")
    columns, blocks = values.shape[1], np.empty((*scales.shape, BLOCK // 2), np.uint8)
    at_once = max(1, _CHUNK * BLOCK // max(columns, 1))
    for first in range(0, len(values), at_once):
        part = np.ascontiguousarray(values[first : first + at_once], np.float32)
        per_unit = _POWERS[2 * BIAS - scales[first : first + at_once]].repeat(BLOCK, axis=1)
        with np.errstate(over="ignore", under="ignore"):
            x = np.minimum(np.abs(part) * per_unit, np.float32(6))
        # In steps of 0.5 to 2, of 1 to 4, of 2 to 6: exact, as the part over the step below is.
        over_two, over_four = x >= 2, x >= 4
        steps = x * np.where(over_four, np.float32(0.5), np.where(over_two, np.float32(1), np.float32(2)))
        below = steps.astype(np.uint8)
        codes = below + ((over_two.view(np.uint8) + over_four.view(np.uint8)) << 1)
        codes += steps - below > threshold(len(part), columns, first)
        codes |= np.signbit(part).view(np.uint8) << 3
        blocks[first : first + at_once] = (codes[:, 0::2] | (codes[:, 1::2] << 4)).reshape(len(part), -1, BLOCK // 2)
    return blocks


def threshold(rows: int, columns: int, first: int = 0) -> Floats:
    """Float32 [rows, columns] in [0, 1), evenly spread along each row and each column: where a value's rounding turns.

    Multiples of the golden ratio along a row, of the plastic ratio from row to row, modulo 1, in 2**-24: neighbours
    round apart, so that a sum over many of them comes out nearly right. `first` is the first row's number.
    """
    row = (np.arange(first, first + rows, dtype=np.uint64) * ROW_STRIDE)[:, None]
    column = np.arange(columns, dtype=np.uint64) * COLUMN_STRIDE
    bits = (row + column).astype(np.uint32) >> 8
    found: Floats = bits.astype(np.float32) * np.float32(2.0**-24)
    return found


def squared_error(weights: Floats, blocks: Bytes, scales: Bytes) -> tuple[float, float]:
    """Sums over all values of (dequantized - weight)**2 and weight**2, in float64: they add up over parts.

    The relative RMSE of the whole is the square root of their ratio.
    """
    error = dequantize(blocks, scales).astype(np.float64) - weights
    return float(np.vdot(error, error)), float(np.square(weights, dtype=np.float64).sum())


def _quantize(rows: Floats) -> tuple[Bytes, NDArray[np.int32]]:
    """Codes uint8 [32, n] and exponents int32 [n] of rows float32 [n, 32].

    Turned round, since arithmetic along blocks is several times faster than along the 32 values of one.
    """
    turned = rows.T.copy()  # of one row alone, a transposed array would be the caller's own
    signs = np.signbit(turned).view(np.uint8) << 3
    magnitudes = np.abs(turned, out=turned)
    largest = magnitudes.max(axis=0)
    bits = largest.view(np.int32)
    if bits.max() >= _INFINITY:  # a NaN goes through max, and is above infinity as an integer
        raise ValueError("weights hold NaN or infinity")
    exponents = np.clip((bits >> 23) - 127 - 2, LEAST, MOST)
    x = magnitudes * _power(-exponents)
    codes, top = _codes(x), x.max(axis=0)
    other = np.where(top > 7, exponents + 1, exponents - 1)
    rival = np.flatnonzero(((top > 7) & (other <= MOST)) | ((top >= 4) & (top < 4.4) & (other >= LEAST)))
    if rival.size:
        candidate, better = _contest(x[:, rival], codes[:, rival], other[rival] - exponents[rival])
        doubt = np.flatnonzero(better < 0)
        if doubt.size:
            few = rival[doubt]
            mine, theirs = (
                _error(np.abs(rows[few]), c.T, e)
                for c, e in ((codes[:, few], exponents[few]), (candidate[:, doubt], other[few]))
            )
            better[doubt] = theirs < mine
        won = better == 1
        codes[:, rival[won]], exponents[rival[won]] = candidate[:, won], other[rival[won]]
    codes |= signs
    return codes, exponents


def _contest(x: Floats, codes: Bytes, step: NDArray[np.int32]) -> tuple[Bytes, NDArray[np.int8]]:
    """Codes uint8 [32, n] of x / 2**step, and whether they are better than `codes` of x: 1, 0, or -1 when it is close.

    Differences to the nearest grid value are exact in float32; only their sums of squares are rounded.
    """
    unit = _power(step)
    candidate = _codes(x * _power(-step))
    mine, theirs = (np.square(GRID.take(c) * u - x).sum(axis=0) for c, u in ((codes, np.float32(1)), (candidate, unit)))
    clear = np.abs(theirs - mine) > _DOUBT * np.maximum(theirs, mine) + np.float32(1e-30)
    return candidate, np.where(clear, theirs < mine, -1).astype(np.int8)


def _codes(x: Floats) -> Bytes:
    """Codes 0..7 of magnitudes in units of their scale: nearest, ties to even, 6 when larger."""
    codes = (x > 0.25).view(np.uint8)
    for at, up in ((0.75, True), (1.25, False), (1.75, True), (2.5, False), (3.5, True), (5.0, False)):
        codes += (x >= at if up else x > at).view(np.uint8)
    return codes


def _error(magnitudes: Floats, codes: Bytes, exponents: NDArray[np.int32]) -> Floats:
    """Squared error a block, in units of the block's largest value, so that nothing over- or underflows."""
    unit = np.ldexp(np.float64(1), exponents)[:, None]
    largest = magnitudes.max(axis=1, keepdims=True).astype(np.float64)
    difference = (GRID[codes] * unit - magnitudes) / largest
    error: Floats = np.einsum("nk,nk->n", difference, difference)
    return error


def _power(exponents: NDArray[np.int32]) -> Floats:
    """2**exponents of -127 to 127, from a table."""
    return _POWERS[exponents + BIAS]
