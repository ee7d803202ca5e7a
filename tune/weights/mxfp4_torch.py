"""MXFP4 bytes to values inside torch, on any device and exactly; and a change put back on the bytes' own grid.

The codec of files is `tune.weights.mxfp4`; this is its twin where the bytes already lie in a GPU's memory. There
each is one fused kernel, made at its first call.
"""

from functools import cache
from typing import Any

from tune.weights import mxfp4


def decode(blocks: Any, scales: Any, dtype: Any) -> Any:
    """Values [..., K] in `dtype` (bfloat16 holds every one) of blocks uint8 [..., K/32, 16], scales uint8 [..., K/32].

    Scale bytes must be under 253: loading refuses others.
    """
    return (_fused(_decode) if blocks.is_cuda else _decode)(blocks, scales, dtype)


def redecode(blocks: Any, scales: Any, a: Any, b: Any, at: tuple[int, int], dtype: Any) -> Any:
    """The values after a change by b @ a, put back on the grid: what decoding would give of `mxfp4.requantize`'s bytes.

    blocks [E, out, K/32, 16], scales [E, out, K/32], a float32 [E, rank, K], b float32 [E, out, rank]; `at` is where
    the matrix begins in the whole one, (row, column): the rounding of a value depends on its place.
    """
    rows, columns = blocks.shape[1], a.shape[2]
    function = _fused(_redecode) if blocks.is_cuda else _redecode
    return function(blocks, scales, a, b, *_places(rows, columns, at, blocks.device), dtype)


@cache
def _fused(function: Any) -> Any:
    import torch

    return torch.compile(function, dynamic=False)


def _places(rows: int, columns: int, at: tuple[int, int], device: Any) -> tuple[Any, Any]:
    """The two halves of `mxfp4.threshold`: int64 [rows, 1] and [columns]."""
    import torch

    row = torch.arange(at[0], at[0] + rows, device=device) * mxfp4.ROW_STRIDE
    column = torch.arange(at[1], at[1] + columns, device=device) * mxfp4.COLUMN_STRIDE
    return row[:, None], column


def _redecode(blocks: Any, scales: Any, a: Any, b: Any, row: Any, column: Any, dtype: Any) -> Any:
    import torch

    values = _decode(blocks, scales, torch.float32)
    change = b[..., 0, None] * a[:, 0, None]
    for n in range(1, a.shape[1]):
        change = change + b[..., n, None] * a[:, n, None]
    moved, unit = values + change, _units(scales).repeat_interleave(mxfp4.BLOCK, -1)
    per_unit = _units(2 * mxfp4.BIAS - scales.to(torch.int32)).repeat_interleave(mxfp4.BLOCK, -1)
    size = (moved.abs() * per_unit).clamp(max=6)
    # Products with powers of two are exact on every device; quotients may not be.
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    steps = size * torch.where(size < 2, 2.0, torch.where(size < 4, 1.0, 0.5))
    below = torch.floor(steps)
    limit = (((row + column) & 0xFFFFFFFF) >> 8).to(torch.float32) * 2.0**-24
    rounded = (below + (steps - below > limit).to(torch.float32)) * step
    return torch.copysign(rounded * unit, moved).to(dtype)


def _decode(blocks: Any, scales: Any, dtype: Any) -> Any:
    """A code's three magnitude bits, put where float32 has its last exponent bit and its first fraction bit, read
    as float32 are the code's value / 2**126, subnormal codes included; the sign bit moves to the top."""
    import torch

    b = blocks.to(torch.int32)
    low = ((b & 0x08) << 28) | ((b & 0x07) << 22)
    high = ((b & 0x80) << 24) | ((b & 0x70) << 18)
    values = torch.stack((low, high), -1).view(torch.float32) * 2.0**126 * _units(scales)[..., None, None]
    return values.to(dtype).flatten(-3)


def _units(scales: Any) -> Any:
    """2**(s - 127) float32 of scale bytes; that of s = 0 is subnormal."""
    import torch

    s = scales.to(torch.int32)
    return ((s << 23) | ((s == 0).to(torch.int32) << 22)).view(torch.float32)
