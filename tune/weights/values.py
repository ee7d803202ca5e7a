"""A GPT-OSS's weights as numbers: a tensor, some rows or one expert at a time, an adapter's changes added on asking.

In: a folder, the headers of its files, and changes. Out: the bytes as they lie there, torch tensors, arrays of one
expert. At most one tensor that is no expert is in memory. Knows nothing of what is made from them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tune.errors import UserError
from tune.weights import lora, mxfp4, shards
from tune.weights.lora import Delta
from tune.weights.mxfp4 import Bytes, Floats
from tune.weights.tensors import Tensor

CHUNK = 1 << 20  # bytes read and written at a time: they stay in a core's cache; eight times more is far slower
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "U8": "uint8"}


class Values:
    """The weights in `folder`. `deltas` are added where the methods say so; a context manager that closes its files."""

    def __init__(
        self, folder: Path, specs: Mapping[str, Tensor] | None = None, deltas: Mapping[str, Delta] | None = None
    ) -> None:
        self.folder, self.deltas = folder, dict(deltas or {})
        self.specs = dict(shards.headers(folder) if specs is None else specs)
        self._files: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def chunks(self, name: str, *, step: int = CHUNK) -> Iterator[memoryview]:
        """A tensor's bytes in order. A chunk is good until the one after the next is asked for."""
        spec, at = self.specs[name], 0
        step = min(step, max(spec.bytes, 1))
        buffers = bytearray(step), bytearray(step if step < spec.bytes else 0)
        while at < spec.bytes:
            view = memoryview(buffers[at // step % 2])[: min(step, spec.bytes - at)]
            self._read(spec, at, view)
            yield view
            at += len(view)

    def tensor(self, name: str) -> Any:
        """One tensor that is no expert: as stored, or in bf16 with its change."""
        spec = self.specs[name]
        found = self._torch(name, 0, spec.shape)
        return lora.merge(found, self.deltas[name])[0] if name in self.deltas else found

    def rows(self, name: str, first: int, count: int) -> Any:
        """Rows of a matrix, as stored: a change is not added."""
        spec = self.specs[name]
        row = spec.bytes // spec.shape[0]
        return self._torch(name, first * row, (count, *spec.shape[1:]))

    def take(self, name: str, rows: Sequence[int]) -> Any:
        """Rows of a matrix by their numbers, float32."""
        import torch

        return torch.cat([self.rows(name, n, 1) for n in rows]).float()

    def is_packed(self, stem: str) -> bool:
        """Whether experts lie there as blocks and scales."""
        return f"{stem}_blocks" in self.specs

    def codes(self, stem: str, number: int) -> tuple[Bytes, Bytes]:
        """Blocks [out, in/32, 16] and scales [out, in/32] of one packed expert."""
        blocks, scales = (self._slice(f"{stem}_{part}", number) for part in ("blocks", "scales"))
        return blocks.numpy(), scales.numpy()

    def expert(self, stem: str, number: int) -> Floats:
        """One expert as float32 [out, in], exactly as stored. Raises UserError where it holds no number."""
        if not self.is_packed(stem):
            found: Floats = self._slice(stem, number).float().T.contiguous().numpy()
            return found
        try:
            return mxfp4.dequantize(*self.codes(stem, number))
        except ValueError as e:
            raise UserError(
                f"{stem}, expert {number}, cannot be decoded", why=str(e), fix="another copy of the base"
            ) from None

    def change(self, stem: str, number: int) -> Floats | None:
        """What the adapter adds to one expert, float32 [out, in]; None when nothing."""
        delta = self.deltas.get(stem)
        if delta is None:
            return None
        found: Floats = delta.expert(number).product().numpy()
        return found

    def merged_expert(self, stem: str, number: int) -> tuple[Any, int]:
        """One expert with its change in bf16 [in, out], and how many values in bf16 the change moved."""
        import torch

        before, change = self.expert(stem, number), self.change(stem, number)
        plain = torch.from_numpy(before).to(torch.bfloat16)
        if change is None:
            return plain.T, 0
        after = torch.from_numpy(before + change).to(torch.bfloat16)
        return after.T, int((after != plain).sum())

    def _slice(self, name: str, number: int) -> Any:
        spec = self.specs[name]
        return self._torch(name, number * (spec.bytes // spec.shape[0]), spec.shape[1:])

    def _torch(self, name: str, begin: int, shape: tuple[int, ...]) -> Any:
        import torch

        spec = self.specs[name]
        part = Tensor(shape, spec.dtype)
        if spec.dtype not in _DTYPES:
            raise UserError(f"{name} is {spec.dtype}, which is not read", fix="take the model's bf16 or MXFP4 release")
        buffer = bytearray(part.bytes)
        self._read(spec, begin, memoryview(buffer))
        return torch.frombuffer(buffer, dtype=getattr(torch, _DTYPES[spec.dtype])).reshape(shape)

    def _read(self, spec: Tensor, at: int, into: memoryview) -> None:
        if spec.file not in self._files:
            self._files[spec.file] = os.open(self.folder / spec.file, os.O_RDONLY)
        got = 0
        while got < len(into):
            more = os.preadv(self._files[spec.file], [into[got:]], spec.begin + at + got)
            if not more:
                why = "it is shorter than its header says"
                raise UserError(f"{self.folder / spec.file} was changed while it was read", why=why, fix=shards.AGAIN)
            got += more


def is_finite(dtype: str, view: memoryview) -> bool:
    """Whether bytes of bf16 values hold no NaN and no infinity, by their exponents' bits; other dtypes are not read."""
    if dtype != "BF16":
        return True
    bits = np.frombuffer(view, np.uint16)
    return not len(bits) or int((bits << 1).max()) < 0xFF00  # the sign is shifted out; an exponent of ones is none


def is_scale(view: memoryview) -> bool:
    """Whether scale bytes are all ones that the codec decodes: 253 and 254 are past float32, 255 means NaN."""
    return not len(view) or int(np.frombuffer(view, np.uint8).max()) <= mxfp4.MOST + mxfp4.BIAS
