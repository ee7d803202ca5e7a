"""A LoRA adapter as weights: read PEFT's files, measure what they change, add them to a base's weights.

Attention's matrices, and experts in both layouts: PEFT's `target_parameters` (all experts in one pair of matrices)
and Unsloth's (a pair an expert). Everything that cannot be added exactly is refused. Knows no training and no
checkpoint.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tune.errors import UserError
from tune.weights import peft_config
from tune.weights.tensors import MXFP4_BLOCK, PROJECTIONS, Tensor

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
FILES = (peft_config.FILE, "adapter_model.safetensors")
PREFIX = "base_model.model."
_FUSED = re.compile(r"(.*\.mlp\.experts)(\.base_layer)?")
_ONE_EACH = re.compile(r"(.*\.mlp\.experts\.(?:gate_up|down)_proj)s\.(\d+)")


class Delta(NamedTuple):
    """One weight's change, `scale * b @ a`: a is [rank, in], b is [out, rank], in the dtype of the adapter.

    Of experts: a is [experts, rank, in], b is [experts, out, rank].
    """

    a: Any
    b: Any
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """As the base has it in bf16: [out, in], or [experts, in, out]."""
        if self.is_experts:
            return len(self.a), self.a.shape[2], self.b.shape[1]
        return self.b.shape[0], self.a.shape[1]

    @property
    def is_experts(self) -> bool:
        return bool(self.a.ndim == 3)

    def expert(self, number: int) -> "Delta":
        """The change of one expert."""
        return Delta(self.a[number], self.b[number], self.scale)

    def product(self) -> Any:
        """The change of a matrix, float32 [out, in]."""
        return self.scale * (self.b.float() @ self.a.float())


def read(folder: Path) -> dict[str, Delta]:
    """Changes by the name of the base's weight: `model.layers.0.self_attn.q_proj.weight`, of experts
    `model.layers.0.mlp.experts.down_proj`.

    Raises UserError on missing or damaged files, on settings that peft_config refuses, on tensors left over, on NaN or
    infinity, and when every change is zero.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    settings = peft_config.read(folder)
    try:
        tensors = load_file(folder / FILES[1])
    except (OSError, ValueError, SafetensorError) as e:
        raise UserError(f"{folder} holds no readable adapter", why=str(e), fix="tune train") from None
    pairs = {}
    for key in [k for k in tensors if k.endswith(".lora_A.weight")]:
        stem = key.removesuffix(".lora_A.weight")
        a, b = tensors.pop(key), tensors.pop(f"{stem}.lora_B.weight", None)
        if b is None or not (a.ndim == b.ndim == 2) or a.shape[0] != b.shape[1] or a.shape[0] % settings["r"]:
            raise UserError(f"{folder}: {stem} has no lora_B that fits its lora_A", fix="tune train")
        pairs[stem.removeprefix(PREFIX)] = (a, b)
    if tensors:
        raise UserError(
            f"the adapter in {folder} cannot be merged",
            why=f"{len(tensors)} tensors are no part of a LoRA pair: {', '.join(list(tensors)[:3])}",
            fix="tune train",
        )
    if not all(bool(torch.isfinite(m).all()) for pair in pairs.values() for m in pair):
        raise UserError(
            f"the adapter in {folder} holds NaN or infinity", why="training diverged", fix="lower train.learning_rate"
        )
    try:
        deltas = dict(_deltas(pairs, settings))
    except ValueError as e:
        raise UserError(f"the adapter in {folder} cannot be merged", why=str(e), fix="tune train") from None
    if norm(deltas) == 0:
        raise unchanged(folder, "every lora_B is zero")
    return deltas


def _deltas(pairs: dict[str, tuple[Any, Any]], settings: Mapping[str, Any]) -> Iterator[tuple[str, Delta]]:
    """Changes by weight. Raises ValueError where the pairs of experts do not belong together."""
    import torch

    scale, rank = peft_config.scale(settings), settings["r"]
    fused: dict[str, dict[bool, Delta]] = {}  # by layer: of the inner wrapper, and of the outer one
    single: dict[str, dict[int, tuple[Any, Any]]] = {}
    for name, (a, b) in pairs.items():
        if found := _FUSED.fullmatch(name):
            experts = a.shape[0] // rank
            of_each = Delta(
                a.reshape(experts, rank, -1), b.reshape(len(b), rank, experts).permute(2, 0, 1).contiguous(), scale
            )
            fused.setdefault(found[1], {})[bool(found[2])] = of_each
        elif a.shape[0] != rank:
            raise ValueError(f"{name} has the rank {a.shape[0]}, {FILES[0]} says {rank}")
        elif found := _ONE_EACH.fullmatch(name):
            single.setdefault(found[1], {})[int(found[2])] = (a, b)
        else:
            yield f"{name}.weight", Delta(a, b, scale)
    for stem, layers in fused.items():
        yield from _named(stem, layers, settings)
    for weight, of in single.items():
        if sorted(of) != list(range(len(of))):
            raise ValueError(f"{weight} has changes of the experts {sorted(of)[:4]}…, not of every one")
        a, b = (torch.stack([of[n][part] for n in range(len(of))]) for part in (0, 1))
        yield weight, Delta(a, b, scale)


def _named(stem: str, wrappers: dict[bool, Delta], settings: Mapping[str, Any]) -> Iterator[tuple[str, Delta]]:
    """Which weight each of PEFT's nested wrappers is of. Both there, their sizes say it: gate_up_proj is [H, 2I] and
    down_proj [I, H]; one alone is of the parameter that the settings name."""
    if len(wrappers) == 2:
        for inner in (True, False):  # PEFT wraps gate_up_proj first; the sizes decide
            up, down = wrappers[inner], wrappers[not inner]
            if up.shape[2] == 2 * down.shape[1] and down.shape[2] == up.shape[1]:
                yield f"{stem}.gate_up_proj", up
                yield f"{stem}.down_proj", down
                return
        raise ValueError(f"{stem} has two changes whose sizes are not of gate_up_proj and down_proj")
    named = {p for p in PROJECTIONS for target in settings.get("target_parameters") or [] if str(target).endswith(p)}
    if len(named) != 1:
        raise ValueError(f"{stem} has one change, and target_parameters does not say of which weight")
    yield f"{stem}.{named.pop()}", next(iter(wrappers.values()))


def norm(deltas: Mapping[str, Delta]) -> float:
    """Frobenius norm of all changes together, by trace((BᵀB)(AAᵀ)): no change is ever multiplied out."""
    total = 0.0
    for d in deltas.values():
        for one in map(d.expert, range(len(d.a))) if d.is_experts else [d]:
            a, b = one.a.float(), one.b.float()
            total += d.scale**2 * float(((b.T @ b).double() * (a @ a.T).double()).sum())
    return float(max(total, 0.0) ** 0.5)


def merge(weight: Any, delta: Delta) -> tuple[Any, int]:
    """The weight [out, in] with its change, summed in float32 and rounded to bf16, and how many values that moved."""
    import torch

    merged = (weight.float() + delta.product()).to(torch.bfloat16)
    return merged, int((merged != weight.to(torch.bfloat16)).sum())


def fits(deltas: Mapping[str, Delta], base: Mapping[str, Tensor]) -> list[str]:
    """What keeps the changes from being added to these weights, one line each."""
    found = {name: _shape(base, name) for name in deltas}
    return [
        f"{name} is {list(shape) if shape else 'not'} in the base, {list(delta.shape)} in the adapter"
        for name, delta in deltas.items()
        if (shape := found[name]) != delta.shape
    ]


def _shape(base: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    """A weight's shape in bf16, of packed experts too."""
    if (packed := base.get(f"{name}_blocks")) and len(packed.shape) == 4:
        experts, out, groups, _ = packed.shape
        return experts, groups * MXFP4_BLOCK, out
    return base[name].shape if name in base else None


def unchanged(folder: Path, why: str) -> UserError:
    """The error of an adapter that changes nothing."""
    return UserError(
        f"the adapter in {folder} changes nothing",
        why=why,
        fix="raise train.learning_rate or train.max_steps, then: tune train",
    )
