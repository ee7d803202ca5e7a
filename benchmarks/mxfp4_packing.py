"""How many weights a second one core packs to MXFP4: python benchmarks/mxfp4_packing.py

Random normal weights of one gpt-oss-20b expert, in bf16 as a base has them. Each figure is the best of five, by
processor time.
"""

import time
from collections.abc import Callable

import numpy as np

from tune.weights import mxfp4

OUT, IN = 5760, 2880


def rate(count: int, work: Callable[[], object]) -> float:
    """Millions a second."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return count / 1e6 / best


def main() -> None:
    values = np.random.default_rng(0).standard_normal((OUT, IN), np.float32)
    values = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    blocks, scales = mxfp4.quantize(values)
    moved = mxfp4.dequantize(blocks, scales) + np.float32(0.01) * values
    for name, work in (
        ("quantize", lambda: mxfp4.quantize(values)),
        ("requantize", lambda: mxfp4.requantize(moved, scales)),
        ("threshold", lambda: mxfp4.threshold(OUT, IN)),
        ("dequantize", lambda: mxfp4.dequantize(blocks, scales)),
        ("squared_error", lambda: mxfp4.squared_error(values, blocks, scales)),
    ):
        print(f"{name:14} {rate(values.size, work):7.0f} M weights/s")


if __name__ == "__main__":
    main()
