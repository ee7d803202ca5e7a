"""Safetensors files written as a stream: sizes are known before, so the header comes first, then tensor by tensor.

In: items that announce their tensors and then yield the bytes. Out: shards, their index, and the sha256 of each file,
taken while it is written. Byte for byte what `safetensors.torch.save_file` writes of the same tensors. A value that is
no number stops the writing, by the tensor's name. Knows nothing of models.
"""

import errno
import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tune.artefact import write_text
from tune.errors import UserError
from tune.weights import shards, values
from tune.weights.tensors import Tensor
from tune.weights.values import Values

PART = ".part"  # a file that is being written
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Item(NamedTuple):
    """Tensors that are made together. `make` yields (name, bytes), a tensor after the other as `specs` has them.

    `copied`: they are the source's own bytes, and are held against them once they are written.
    """

    specs: dict[str, Tensor]
    make: Callable[[], Iterable[tuple[str, Any]]]
    copied: bool = False


class Shard(NamedTuple):
    """One file to be: its name and what it holds."""

    file: str
    items: list[Item]


def split(items: Iterable[Item], shard_bytes: int) -> list[Shard]:
    """The items in order, in shards of at most `shard_bytes` (one item may exceed it)."""
    parts: list[list[Item]] = [[]]
    size = 0
    for item in items:
        more = sum(s.bytes for s in item.specs.values())
        if parts[-1] and size + more > shard_bytes:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += more
    count = len(parts)
    names = [shards.WHOLE] if count == 1 else [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    return [Shard(name, sorted(part, key=_place)) for name, part in zip(names, parts, strict=True)]


def write_index(folder: Path, parts: Sequence[Shard]) -> list[str]:
    """Write the index of several shards. Returns the names of what was written: no file for one shard."""
    if len(parts) == 1:
        return []
    planned = {name: (part.file, spec) for part in parts for item in part.items for name, spec in item.specs.items()}
    total = {"total_size": sum(spec.bytes for _, spec in planned.values())}
    weight_map = {name: file for name, (file, _) in planned.items()}
    write_text(folder / shards.INDEX, json.dumps({"metadata": total, "weight_map": weight_map}, indent=1) + "\n")
    return [shards.INDEX]


def write(folder: Path, shard: Shard) -> str:
    """Make one file and return its sha256. At most two chunks of its bytes are in memory.

    Hashing runs beside the writing, in a thread of its own. Raises UserError at a NaN, an infinity or a scale byte that
    is no number, and OSError as the disk does; then nothing is left of the file.
    """
    path, part = folder / shard.file, folder / (shard.file + PART)
    header = _header(shard.items)
    try:
        with part.open("wb", buffering=0) as f, ThreadPoolExecutor(1) as beside:
            digest = hashlib.sha256()
            hashed: Future[None] = beside.submit(digest.update, header)
            f.write(header)
            for item in shard.items:
                left = {name: spec.bytes for name, spec in item.specs.items()}
                order = iter(left)
                name = next(order)
                for of, chunk in item.make():
                    view = memoryview(chunk).cast("B")
                    while not left[name] and of != name:
                        name = next(order)
                    if of != name or len(view) > left[name]:
                        raise RuntimeError(f"{of} was made where {left[name]} bytes of {name} are due")  # a bug of ours
                    left[name] -= len(view)
                    hashed.result()
                    hashed = beside.submit(digest.update, view)
                    _require_numbers(name, item.specs[name].dtype, view)
                    while len(view):
                        view = view[f.write(view[: values.CHUNK]) :]
                if any(left.values()):
                    raise RuntimeError(f"{left} bytes were announced and not made")  # a bug of ours
            hashed.result()
        part.chmod(0o644)  # containers run as another user
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest()


def require_copied(folder: Path, shard: Shard, source: Values) -> int:
    """Hold every tensor that was copied against the source's, both read anew, each where its own file's header has it.

    So a byte that went wrong on the way, a wrong place and a wrong tensor all show. Returns the bytes compared; raises
    UserError naming the tensor.
    """
    compared = 0
    with Values(folder, shards.read_header(folder / shard.file)) as written:
        for name in (name for item in shard.items if item.copied for name in item.specs):
            pairs = zip(written.chunks(name), source.chunks(name), strict=True)
            if written.specs[name][:2] != source.specs[name][:2] or not all(_same(a, b) for a, b in pairs):
                raise UserError(
                    f"{folder / shard.file}: {name} is not what {source.folder} holds",
                    why="it was copied byte for byte, and other bytes are read back: disk or memory is failing",
                    fix=f"rm -r {folder}, then the same command on another disk",
                )
            compared += written.specs[name].bytes
    return compared


def _same(one: memoryview, other: memoryview) -> bool:
    """Whether two chunks hold the same bytes: by words of eight where they can be, many times faster than views do."""
    word = np.uint64 if len(one) == len(other) and not len(one) % 8 else np.uint8
    return np.array_equal(np.frombuffer(one, word), np.frombuffer(other, word))


def is_full(e: OSError) -> bool:
    """Whether the disk, a quota or a limit on files had no room."""
    return e.errno in _FULL


def _require_numbers(name: str, dtype: str, view: memoryview) -> None:
    fine = values.is_scale(view) if name.endswith("_scales") else values.is_finite(dtype, view)
    if not fine:
        held = "a scale byte over 252, which is past float32 or NaN" if name.endswith("_scales") else "NaN or infinity"
        why = f"{name} holds {held}, in the base or with the adapter's change"
        raise UserError(f"{name} cannot be written", why=why, fix="another copy of the base, or tune train again")


def _place(item: Item) -> tuple[bool, str]:
    """Where safetensors puts it in a file: wider dtypes first, then by name."""
    name, spec = next(iter(item.specs.items()))
    return spec.dtype != "BF16", name


def _header(items: Sequence[Item]) -> bytes:
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, spec in ((name, spec) for item in items for name, spec in item.specs.items()):
        described[name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": [end, end := end + spec.bytes]}
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
