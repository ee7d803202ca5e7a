"""An adapter's adapter_config.json: the scale of its changes, and whether they are plain products that can be added.

Every key of PEFT 0.21's LoraConfig is honoured, harmless, or refused by name; a key that PEFT did not have then is
refused unless it is empty. Knows no tensors.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune.errors import UserError

FILE = "adapter_config.json"
HONOURED = {"peft_type", "r", "lora_alpha", "use_rslora", "target_parameters"}
HARMLESS = {
    # where it came from, and what was trained: the tensors say that themselves
    *("auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    # training alone: dropout, activations packed for the backward pass, where tensors lay
    *("lora_dropout", "velora_config", "runtime_config"),
    # details of what another key turns on, which is refused there
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "megatron_core"),
    "ensure_weight_tying",  # of whole modules saved, which are refused
}
REFUSED = {
    "fan_in_fan_out": "stores its weights transposed",
    "bias": "trains biases",
    "modules_to_save": "replaces whole modules",
    "rank_pattern": "gives modules ranks of their own",
    "alpha_pattern": "gives modules scales of their own",
    "megatron_config": "is of Megatron's layers",
    "trainable_token_indices": "trains rows of the embedding",
    "use_dora": "scales each row's length too (DoRA)",
    "alora_invocation_tokens": "acts after certain tokens only (aLoRA)",
    "use_qalora": "pools its inputs (QALoRA)",
    "monteclora_config": "is sampled, not one product (MonteCLoRA)",
    "layer_replication": "is of a deeper model with repeated layers",
    "lora_bias": "adds biases",
    "use_bdlora": "is block-diagonal (BD-LoRA)",
    "arrow_config": "routes between adapters (Arrow)",
    "kasa_config": "cuts the base's own singular values (KaSA)",
}
INITS = (True, False, "gaussian", "eva", "orthogonal")  # the others change the base's weights, or are variants
KEYS = HONOURED | HARMLESS | REFUSED.keys() | {"init_lora_weights"}
_OFF: tuple[object, ...] = (None, False, "none", "", [], {})


def read(folder: Path) -> dict[str, Any]:
    """The settings. Raises UserError when they cannot be read or are not of an adapter that can be added exactly."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"{FILE} is not an object")
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{folder} holds no readable adapter", why=str(e), fix="tune train") from None
    if wrong := problem(found):
        raise UserError(f"the adapter in {folder} cannot be merged", why=wrong, fix="tune train")
    return found


def scale(settings: Mapping[str, Any]) -> float:
    """What B·A is multiplied by: alpha / rank, or with rsLoRA alpha / sqrt(rank)."""
    rank = settings["r"]
    return float(settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def problem(settings: Mapping[str, Any]) -> str:
    """Why these settings are not of a plain product, naming each key, or ""."""
    if settings.get("peft_type") != "LORA":
        return f"{FILE} has the peft_type {settings.get('peft_type')!r}, not LORA"
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        return f"{FILE} has r {rank!r}, not a whole number" if "r" in settings else f"{FILE} lacks r"
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        return (
            f"{FILE} has lora_alpha {alpha!r}, not a number" if "lora_alpha" in settings else f"{FILE} lacks lora_alpha"
        )
    found = [f"{key}: it {why}" for key, why in REFUSED.items() if _is_set(key, settings.get(key))]
    init = settings.get("init_lora_weights", True)
    if not any(init is known or (isinstance(init, str) and init == known) for known in INITS):
        found.append(f"init_lora_weights {init!r}: such an adapter belongs to a base that was changed for it")
    if not isinstance(settings.get("use_rslora", False), bool):
        found.append(f"use_rslora {settings['use_rslora']!r}: it is true or false")
    unknown = [key for key, value in settings.items() if key not in KEYS and not any(value == off for off in _OFF)]
    found += [f"{key}: it is not known here" for key in unknown]
    return f"{FILE} sets {'; '.join(found)}" if found else ""


def _is_set(key: str, value: object) -> bool:
    if key == "alora_invocation_tokens":
        return value is not None  # PEFT turns it on even with no tokens
    return not any(value is off or value == off for off in _OFF)
