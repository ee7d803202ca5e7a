"""A LoRA adapter as weights: read PEFT's files, measure what they change, add them to a base's weights.

Everything it cannot add exactly is refused. Knows no training and no checkpoint.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tune.errors import UserError
from tune.weights.tensors import Tensor

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
FILES = ("adapter_config.json", "adapter_model.safetensors")
_PREFIX = "base_model.model."
_PLAIN = ("use_dora", "use_rslora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias")


class Delta(NamedTuple):
    """One weight's change, `scale * b @ a`: a is float32 [rank, in], b is float32 [out, rank]."""

    a: Any
    b: Any
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.b.shape[0], self.a.shape[1]


def read(folder: Path) -> dict[str, Delta]:
    """Changes by the name of the base's weight, `model.layers.0.self_attn.q_proj.weight`.

    Raises UserError on missing or damaged files, on variants of LoRA that are not a plain product (DoRA, patterns,
    saved modules), on tensors left over, on NaN or infinity, and when every change is zero.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        settings = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError(f"{FILES[0]} is not an object")
        tensors = load_file(folder / FILES[1])
    except (OSError, ValueError, RecursionError, SafetensorError) as e:
        raise UserError(f"{folder} holds no readable adapter", why=str(e), fix="tune train") from None
    odd = [key for key in _PLAIN if settings.get(key)]
    if odd or settings.get("peft_type") != "LORA" or settings.get("bias", "none") != "none":
        why = f"adapter_config.json sets {', '.join(odd) or 'a type or bias other than plain LoRA'}"
        raise UserError(f"the adapter in {folder} cannot be merged", why=why, fix="tune train")
    deltas = {}
    for key in [k for k in tensors if k.endswith(".lora_A.weight")]:
        stem = key.removesuffix(".lora_A.weight")
        a, b = tensors.pop(key).float(), tensors.pop(f"{stem}.lora_B.weight", None)
        if b is None or a.shape[0] != b.shape[1]:
            raise UserError(f"{folder}: {stem} has no lora_B that fits its lora_A", fix="tune train")
        deltas[stem.removeprefix(_PREFIX) + ".weight"] = Delta(a, b.float(), settings["lora_alpha"] / settings["r"])
    if tensors:
        raise UserError(
            f"the adapter in {folder} cannot be merged",
            why=f"{len(tensors)} tensors are no part of a LoRA pair: {', '.join(list(tensors)[:3])}",
            fix="tune train",
        )
    if not all(bool(torch.isfinite(d.a).all() and torch.isfinite(d.b).all()) for d in deltas.values()):
        raise UserError(
            f"the adapter in {folder} holds NaN or infinity", why="training diverged", fix="lower train.learning_rate"
        )
    if norm(deltas) == 0:
        raise unchanged(folder, "every lora_B is zero")
    return deltas


def norm(deltas: Mapping[str, Delta]) -> float:
    """Frobenius norm of all changes together, by trace((BᵀB)(AAᵀ)): no change is ever multiplied out."""
    squares = [d.scale**2 * float(((d.b.T @ d.b).double() * (d.a @ d.a.T).double()).sum()) for d in deltas.values()]
    return float(max(sum(squares), 0.0) ** 0.5)


def merge(weight: Any, delta: Delta) -> tuple[Any, int]:
    """The weight with its change, summed in float32 and rounded to bf16, and how many bf16 values it changed."""
    import torch

    merged = (weight.float() + delta.scale * (delta.b @ delta.a)).to(torch.bfloat16)
    return merged, int((merged != weight.to(torch.bfloat16)).sum())


def fits(deltas: Mapping[str, Delta], base: Mapping[str, Tensor]) -> list[str]:
    """What keeps the changes from being added to these weights, one line each."""
    return [
        f"{name} is {list(base[name].shape) if name in base else 'not'} in the base, {list(delta.shape)} in the adapter"
        for name, delta in deltas.items()
        if name not in base or base[name].shape != delta.shape
    ]


def unchanged(folder: Path, why: str) -> UserError:
    """The error of an adapter that changes nothing."""
    return UserError(
        f"the adapter in {folder} changes nothing",
        why=why,
        fix="raise train.learning_rate or train.max_steps, then: tune train",
    )
