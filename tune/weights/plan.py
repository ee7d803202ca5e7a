"""Which tensors a checkpoint of a kind holds and how each is made of the base's: copied, merged, cast, decoded, packed.

In: the base's values with the adapter's changes, and a kind. Out: items for stream.py, in order; making them fills a
tally of what the changes did. An expert at a time is in memory, never a stack of them.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Self

import numpy as np

from tune.errors import UserError
from tune.weights import mxfp4, tensors
from tune.weights.mxfp4 import Bytes, Floats
from tune.weights.stream import Item
from tune.weights.tensors import Tensor, Weights
from tune.weights.values import Values

AT_ONCE = 64 << 20  # bytes of a matrix in float32; attention's are under it


@dataclasses.dataclass
class Tally:
    """What was written: values changed by tensor; by projection the squared error and square of what was quantized
    anew, and of experts that an adapter changes <moved, delta>, <delta, delta> and |moved - delta|²."""

    changed: dict[str, int] = dataclasses.field(default_factory=dict)
    errors: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    deltas: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def count(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def add(self, counted: Mapping[str, Any]) -> Self:
        """Take in what another tally counted of other tensors."""
        self.changed |= counted["changed"]
        for mine, theirs in ((self.errors, counted["errors"]), (self.deltas, counted["deltas"])):
            for name, sums in theirs.items():
                _sum(mine, name, sums)
        return self

    def figures(self) -> dict[str, Any]:
        """`survival`: <written - base, delta> / <delta, delta>, 1 when all of the change was written; `lost`:
        |written - base - delta| / |delta|; both by projection, over all experts."""
        rmse = {name: (e / s) ** 0.5 if s else 0.0 for name, (e, s) in self.errors.items()}
        survival = {n: {"survival": m / d, "lost": (r / d) ** 0.5} for n, (m, d, r) in self.deltas.items() if d}
        return {
            "changed_tensors": sum(n > 0 for n in self.changed.values()),
            "changed_values": sum(self.changed.values()),
            **({"mxfp4_relative_rmse": rmse} if rmse else {}),
            **({"expert_deltas": survival} if survival else {}),
        }

    @property
    def survival(self) -> float:
        """The least of all projections; 1 where no adapter changes experts."""
        return min((m / d for m, d, _ in self.deltas.values() if d), default=1.0)


def plan(source: Values, config: Mapping[str, Any], kind: Weights, tally: Tally) -> list[Item]:
    """The checkpoint's tensors, in the base's order. Making the items fills `tally`."""
    wanted = tensors.tensors(tensors.shape_of(config), kind)
    items: list[Item] = []
    for name, spec in source.specs.items():
        stem = name.removesuffix("_blocks")
        experts = stem.endswith(tensors.PROJECTIONS)
        pair = {n: wanted[n] for n in (f"{stem}_blocks", f"{stem}_scales") if n in wanted}
        if name.endswith(tuple(f"{p}_scales" for p in tensors.PROJECTIONS)):
            continue  # goes with its blocks
        if experts and kind == "mxfp4":
            untouched = name != stem and stem not in source.deltas
            made = partial(_copied, source, [*pair]) if untouched else partial(_packed, source, stem, tally)
            items.append(Item(pair, made, copied=untouched))
        elif experts and (name != stem or stem in source.deltas):
            items.append(Item({stem: wanted[stem]}, partial(_dense, source, stem, tally)))
        elif name in source.deltas:
            items.append(Item({name: wanted[name]}, partial(_merged, source, name, tally)))
        elif spec.dtype == wanted[name].dtype:
            items.append(Item({name: wanted[name]}, partial(_copied, source, [name]), copied=True))
        else:
            items.append(Item({name: wanted[name]}, partial(_cast, source, name)))
    return items


def moves(source: Values) -> dict[str, int]:
    """How many bf16 values each change moves, without writing them; of experts, those of the first expert that moves:
    enough to tell a change from none, in a second instead of minutes."""
    found = {}
    for name, delta in source.deltas.items():
        if delta.is_experts:
            counts = (source.merged_expert(name, n)[1] for n in range(len(delta.a)))
            found[name] = next((count for count in counts if count), 0)
        else:
            tally = Tally()
            for _ in _merged(source, name, tally):
                pass
            found |= tally.changed
    return found


def _copied(source: Values, names: list[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        for chunk in source.chunks(name):
            yield name, chunk


def _cast(source: Values, name: str) -> Iterator[tuple[str, Any]]:
    spec = source.specs[name]
    rows = max(1, AT_ONCE // max(1, spec.bytes // spec.shape[0]))
    for first in range(0, spec.shape[0], rows):
        yield name, _bytes(source.rows(name, first, min(rows, spec.shape[0] - first)))


def _merged(source: Values, name: str, tally: Tally) -> Iterator[tuple[str, Any]]:
    """A matrix with its change; that of the head is added some rows at a time."""
    from tune.weights import lora

    delta, height = source.deltas[name], source.specs[name].shape[0]
    rows = max(1, AT_ONCE // (4 * delta.shape[1]))
    for first in range(0, height, rows):
        part = delta._replace(b=delta.b[first : first + rows])
        made, changed = lora.merge(source.rows(name, first, min(rows, height - first)), part)
        tally.changed[name] = tally.changed.get(name, 0) + changed
        yield name, _bytes(made)


def _dense(source: Values, stem: str, tally: Tally) -> Iterator[tuple[str, Any]]:
    """bf16 experts [E, in, out] with their changes, of a base in either layout."""
    for number in range(_experts(source, stem)):
        made, changed = source.merged_expert(stem, number)
        if stem in source.deltas:
            tally.changed[stem] = tally.changed.get(stem, 0) + changed
        yield stem, _bytes(made)


def _packed(source: Values, stem: str, tally: Tally) -> Iterator[tuple[str, Any]]:
    """Blocks [E, out, in/32, 16], then scales, of experts with their changes.

    Those of a packed base keep its scales (`mxfp4.requantize`), so a weight without a change keeps its code; those of
    a bf16 base take the scales with the least error (`mxfp4.quantize`).
    """
    kept: list[Bytes] = []
    for number in range(_experts(source, stem)):
        before, change = source.expert(stem, number), source.change(stem, number)
        wanted = before if change is None else before + change
        try:
            if source.is_packed(stem):
                codes, scale = source.codes(stem, number)
                blocks = mxfp4.requantize(wanted, scale)
                tally.changed[stem] = tally.changed.get(stem, 0) + _differing(codes, blocks)
            else:
                blocks, scale = mxfp4.quantize(wanted)
                _sum(tally.errors, _projection(stem), mxfp4.squared_error(wanted, blocks, scale))
        except ValueError as e:
            raise UserError(
                f"{stem}, expert {number}, cannot be quantized", why=str(e), fix="another copy of the base"
            ) from None
        if change is not None:
            _survived(tally, stem, mxfp4.dequantize(blocks, scale) - before, change)
        kept.append(scale)
        yield f"{stem}_blocks", blocks
    for scale in kept:
        yield f"{stem}_scales", scale


def _survived(tally: Tally, stem: str, moved: Floats, change: Floats) -> None:
    apart = moved - change
    products = [(moved, change), (change, change), (apart, apart)]
    _sum(tally.deltas, _projection(stem), [float(np.einsum("oi,oi->", a, b, dtype=np.float64)) for a, b in products])


def _differing(before: Bytes, after: Bytes) -> int:
    """Codes that differ, two a byte; a zero that lost its sign is the same value and is none."""
    moved = before ^ after
    low = ((moved & 15) != 0) & ~(((before & 7) == 0) & ((after & 7) == 0))
    high = ((moved >> 4) != 0) & ~(((before & 112) == 0) & ((after & 112) == 0))
    return int(low.sum() + high.sum())


def _experts(source: Values, stem: str) -> int:
    found: Tensor = source.specs.get(f"{stem}_blocks") or source.specs[stem]
    return found.shape[0]


def _projection(stem: str) -> str:
    return stem.rsplit(".", 1)[1]


def _sum(sums: dict[str, list[float]], name: str, more: Any) -> None:
    sums[name] = [a + b for a, b in zip(sums.get(name, [0.0] * len(more)), more, strict=True)]


def _bytes(tensor: Any) -> Any:
    """A torch tensor's bytes in bf16."""
    import torch

    return tensor.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
