"""MXFP4 bytes to values inside torch, on any device and exactly: what the packed experts multiply with.

The codec of files is `tune.weights.mxfp4`; this is its reading half where the bytes already lie in a GPU's memory.
"""

from functools import cache
from typing import Any


def decode(blocks: Any, scales: Any, dtype: Any) -> Any:
    """Values [..., K] in `dtype` (bfloat16 holds every one) of blocks uint8 [..., K/32, 16], scales uint8 [..., K/32].

    Scale bytes must be under 253: loading refuses others. On a GPU it is one fused kernel, made at the first call.
    """
    return (_fused() if blocks.is_cuda else _decode)(blocks, scales, dtype)


@cache
def _fused() -> Any:
    import torch

    return torch.compile(_decode, dynamic=False)


def _decode(blocks: Any, scales: Any, dtype: Any) -> Any:
    """A code's three magnitude bits, put where float32 has its last exponent bit and its first fraction bit, read
    as float32 are the code's value / 2**126, subnormal codes included; the sign bit moves to the top."""
    import torch

    b = blocks.to(torch.int32)
    low = ((b & 0x08) << 28) | ((b & 0x07) << 22)
    high = ((b & 0x80) << 24) | ((b & 0x70) << 18)
    s = scales.to(torch.int32)
    unit = ((s << 23) | ((s == 0).to(torch.int32) << 22)).view(torch.float32)  # 2**(s - 127); s = 0 is subnormal
    values = torch.stack((low, high), -1).view(torch.float32) * 2.0**126 * unit[..., None, None]
    return values.to(dtype).flatten(-3)
