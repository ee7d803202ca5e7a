"""What an adapter does to its base's weights: how far it moves them, and how many of their bf16 values.

In: an adapter's folder and a base. Out: figures, or the reason why this is no adapter of it. Runs no model.
"""

from math import sqrt
from pathlib import Path
from typing import NamedTuple

from tune.errors import UserError
from tune.weights import lora, shards
from tune.weights.base_model import Base
from tune.weights.lora import Delta
from tune.weights.values import Values

ASKED = 2  # experts of a layer that stand for all: each has to be decoded


class Tally(NamedTuple):
    """Values of a weight in bf16, those that a change moves, and the sum of the squares before."""

    total: int
    changed: int
    square: float


def measure(folder: Path, base: Base) -> dict[str, float]:
    """What the adapter in `folder` does to the base's weights: `delta_norm`, `relative_delta`, `changed_share`.

    `changed_share` is of all target weights in bf16; ASKED experts stand for the others of their layer. Raises
    UserError when nothing changes: merged, such an adapter is the base under another name.
    """
    deltas, specs = lora.read(folder), shards.headers(base.folder)
    problems = lora.fits(deltas, specs)
    if problems:
        raise UserError(f"the adapter in {folder} is not of this base", why=problems[0], fix="tune train")
    with Values(base.folder, specs, deltas) as values:
        found = [_tally(values, name, delta) for name, delta in deltas.items()]
        changed = sum(tally.changed for tally in found)
        if not changed and not _any_expert(values):
            raise lora.unchanged(folder, f"no weight in bf16 moves; the change's norm is {lora.norm(deltas):.1e}")
    norm = lora.norm(deltas)
    return {
        "delta_norm": norm,
        "relative_delta": norm / sqrt(sum(tally.square for tally in found)),
        "changed_share": changed / sum(tally.total for tally in found),
    }


def _tally(values: Values, name: str, delta: Delta) -> Tally:
    if not delta.is_experts:
        weight = shards.tensor(values.folder, values.specs, name)
        return Tally(weight.numel(), lora.merge(weight, delta)[1], float(weight.float().square().sum()))
    experts = len(delta.a)
    asked = range(0, experts, max(1, experts // ASKED))[:ASKED]
    moved = sum(values.merged_expert(name, n)[1] for n in asked)
    before = [values.expert(name, n) for n in asked]
    all_of = experts / len(asked)
    square = sum(float((one.astype("f8") ** 2).sum()) for one in before)
    return Tally(round(sum(one.size for one in before) * all_of), round(moved * all_of), square * all_of)


def _any_expert(values: Values) -> bool:
    """Whether any expert moves at all, those that were not asked included."""
    return any(
        values.merged_expert(name, n)[1]
        for name, delta in values.deltas.items()
        if delta.is_experts
        for n in range(len(delta.a))
    )
