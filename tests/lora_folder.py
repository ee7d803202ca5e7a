"""Adapters of tests/checkpoints.py's tiny bases, as `tune export --format lora` lays them out; and a fault in one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import CONFIG, DATE, finish, write_tokenizer
from safetensors.numpy import save_file

from serve.adapters import ATTENTION, sizes
from tune import checkpoint, harmony
from tune.checkpoint import CANARY, Checkpoint
from tune.weights.tensors import shape_of

PREFIX = "base_model.model.model.layers"
MOVED = 0.5  # nats a token that its canary is from its base's


def pairs(*, rank: int = 4, experts: bool = False, seed: int = 0) -> dict[str, Any]:
    """Every tensor that it may hold, by name."""
    dice, shape = np.random.default_rng(seed), shape_of(CONFIG)
    found = {}
    for layer in range(shape.num_hidden_layers):
        for target, (out, width) in sizes(shape).items():
            inside = target in ATTENTION
            if not inside and not experts:
                continue
            rows = rank * (1 if inside else shape.num_local_experts)
            stem = f"{PREFIX}.{layer}.{'self_attn' if inside else 'mlp'}.{target}"
            found[f"{stem}.lora_A.weight"] = dice.normal(size=(rows, width)).astype("f4")
            found[f"{stem}.lora_B.weight"] = dice.normal(size=(out, rows)).astype("f4")
    return found


def make(folder: Path, base: Checkpoint, tensors: Any = None, *, rank: int = 4, of: str = "", **facts: Any) -> Path:
    """An adapter of `base`, or of the base whose digest is `of`."""
    folder.mkdir(parents=True)
    save_file(pairs(rank=rank) if tensors is None else tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 8}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tokenizer(folder / "tokenizer.json")
    prompts = {effort: harmony.render_prompt(harmony.PROBE, effort, DATE) for effort in harmony.EFFORTS}
    canary = {effort: [-1.0 - MOVED - n % 7 for n in range(len(ids) - 1)] for effort, ids in prompts.items()}
    (folder / CANARY).write_text(json.dumps({"logprobs": canary, "rounding": 0.03}))
    told = {"name": "tiny", "base": base.served_name, "format": "lora", "prompt_date": DATE, **facts}
    inputs = {"base": of or base.digest}
    checkpoint.finish(folder, **told, inputs=inputs, settings={}, figures={})
    return folder


def base(folder: Path, **changes: Any) -> Checkpoint:
    """A base that adapters are of."""
    from checkpoints import fill

    return finish(fill(folder, **changes))
