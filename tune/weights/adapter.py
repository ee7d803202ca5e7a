"""An adapter as vLLM serves it beside its base: PEFT's files in, the same in the one layout that the engine reads out.

vLLM 0.32 (`vllm/lora/model_manager.py`, `_stack_moe_lora_weights`) takes experts of GPT-OSS as PEFT's nested wrappers:
`experts.base_layer` is gate_up_proj and `experts` is down_proj, A [experts * rank, in] with a block of rows an expert,
B [out, rank * experts] with the expert as the fastest index; both or neither in a layer.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune.weights import lora
from tune.weights.lora import FILES, TARGETS, Delta

_EXPERTS = (("gate_up_proj", ".base_layer"), ("down_proj", ""))


def unservable(deltas: Mapping[str, Delta]) -> str:
    """What of an adapter vLLM does not serve, or ""."""
    odd = [
        n for n, d in deltas.items() if not d.is_experts and n.removesuffix(".weight").rpartition(".")[2] not in TARGETS
    ]
    if odd:
        return f"{odd[0]} is no attention projection and no expert"
    stems = {name.rsplit(".", 1)[0] for name, delta in deltas.items() if delta.is_experts}
    lone = sorted(s for s in stems if not all(f"{s}.{name}" in deltas for name, _ in _EXPERTS))
    return f"{lone[0]} has a change of only one of gate_up_proj and down_proj" if lone else ""


def write(fresh: Path, source: Path, deltas: Mapping[str, Delta], *, name: str) -> None:
    """Write the adapter's two files; its tensors as they are, where they lie in that layout already."""
    settings = json.loads((source / FILES[0]).read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = name
    settings.setdefault("target_modules", [])  # the engine asks for the key
    if _is_served(source, deltas):
        shutil.copyfile(source / FILES[1], fresh / FILES[1])
    else:
        _rewrite(fresh / FILES[1], deltas)
        settings["target_modules"] = sorted({n.split(".")[-2] for n, d in deltas.items() if not d.is_experts})
        settings["target_parameters"] = [f"mlp.experts.{projection}" for projection, _ in _EXPERTS]
    (fresh / FILES[0]).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _is_served(source: Path, deltas: Mapping[str, Delta]) -> bool:
    """Whether the names in the file are those that the engine looks for, with gate_up_proj inside."""
    from safetensors import safe_open

    wanted = {f"{stem}.lora_{part}.weight": delta for stem, delta in _named(deltas).items() for part in "AB"}
    with safe_open(source / FILES[1], "pt") as f:
        if wanted.keys() != set(f.keys()):
            return False
        shapes = {key: f.get_slice(key).get_shape() for key in wanted}
    return all(
        shapes[key]
        == (
            [len(d.a) * d.a.shape[1], d.a.shape[2]]
            if key.endswith("A.weight")
            else [d.b.shape[1], len(d.b) * d.b.shape[2]]
        )
        for key, d in wanted.items()
        if d.is_experts
    )


def _rewrite(path: Path, deltas: Mapping[str, Delta]) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    for stem, delta in _named(deltas).items():
        a, b = delta.a, delta.b
        if delta.is_experts:
            a, b = a.reshape(-1, a.shape[-1]), b.permute(1, 2, 0).reshape(b.shape[1], -1)
        tensors |= {f"{stem}.lora_A.weight": a.contiguous(), f"{stem}.lora_B.weight": b.contiguous()}
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _named(deltas: Mapping[str, Delta]) -> dict[str, Delta]:
    """Changes by the name that the engine reads them under, without .lora_A.weight."""
    inner = dict(_EXPERTS)
    found = {}
    for name, delta in deltas.items():
        stem, _, last = name.rpartition(".")
        found[f"{lora.PREFIX}{stem}{inner[last] if delta.is_experts else ''}"] = delta
    return found
