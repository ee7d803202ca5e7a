"""What this machine has, what training a base's LoRA needs, and what to change when it does not fit.

In: a config.json and [train] settings. Out: bytes, estimated before anything large is loaded. Loads no model.
"""

import os
import platform
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from tune import ram
from tune.errors import UserError
from tune.recipe import Train
from tune.training.loss import LOGITS
from tune.weights import lora, tensors

GB = 1_000_000_000
LIBRARIES = 800_000_000  # a process with torch and transformers imported


class Gpu(NamedTuple):
    name: str
    free_bytes: int


class Hardware(NamedTuple):
    """`free_bytes` is RAM that can be had now; `amx` is what vLLM's MXFP4 kernels on CPU ask for."""

    processor: str
    cores: int
    free_bytes: int
    amx: bool
    gpus: tuple[Gpu, ...]

    @property
    def trains_on(self) -> str:
        return f"{self.gpus[0].name} GPU" if self.gpus else f"CPU, {self.cores} cores"


class Need(NamedTuple):
    """Bytes that LoRA training holds at its peak."""

    weights: int
    adapter: int
    activations: int

    @property
    def total(self) -> int:
        return LIBRARIES + self.weights + self.adapter + self.activations


def here() -> Hardware:
    """This machine, as torch sees it."""
    import torch

    gpus = tuple(
        Gpu(torch.cuda.get_device_name(i), torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count())
    )
    flags = _lines("/proc/cpuinfo")
    name = next((line.split(":")[1].strip() for line in flags if line.startswith("model name")), platform.processor())
    amx = any("amx_tile" in line for line in flags if line.startswith("flags"))
    return Hardware(name, len(os.sched_getaffinity(0)), ram.free(), amx, gpus)


def need(config: Mapping[str, Any], settings: Train, max_tokens: int, *, gpu: bool) -> Need:
    """An estimate. Weights: bf16 on a GPU, float32 on a CPU, MXFP4 dequantized.

    Adapter: float32 value, gradient and Adam's two moments. Activations: what one layer keeps for the backward pass,
    for every layer (one layer and each layer's input on a GPU, where they are recomputed), and the logits at
    hand with their softmax and gradient.
    """
    size = 2 if gpu else 4
    shapes = {name: t.shape for name, t in tensors.tensors(tensors.shape_of(config), "merged").items()}
    targets = [s for name, s in shapes.items() if name.split(".")[-2] in lora.TARGETS and name.endswith("weight")]
    tokens = settings.batch * max_tokens
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    attention = 4 * heads * config["head_dim"] + 4 * heads * max_tokens  # projections; scores, mask, softmax, dropout
    experts = config.get("num_experts_per_tok", 4) * (6 * config["intermediate_size"] + 2 * hidden)
    layer = tokens * (8 * hidden + attention + experts) * size
    layers = config["num_hidden_layers"]
    kept = layer + layers * tokens * hidden * size if gpu else layer * layers
    return Need(
        weights=sum(prod(s) for s in shapes.values()) * size,
        adapter=sum(settings.rank * sum(s) for s in targets) * 16,
        activations=kept + 4 * 4 * min(LOGITS, tokens * config["vocab_size"]),
    )


def require(machine: Hardware, config: Mapping[str, Any], settings: Train, max_tokens: int) -> Need:
    """What training needs, when this machine has it; else UserError with both figures and what to change."""
    if len(machine.gpus) > 1:
        raise UserError(
            f"{len(machine.gpus)} GPUs are visible, and one process trains on one",
            why="TRL refuses to spread one process over several",
            fix="CUDA_VISIBLE_DEVICES=0 tune train",
        )
    gpu = bool(machine.gpus)
    wanted = need(config, settings, max_tokens, gpu=gpu)
    free = machine.gpus[0].free_bytes if gpu else machine.free_bytes
    if wanted.total <= free:
        return wanted
    why = (
        f"it needs about {wanted.total / GB:.1f} GB ({wanted.weights / GB:.1f} of weights,"
        f" {wanted.activations / GB:.1f} for {settings.batch} rows at a time); {free / GB:.1f} GB are free"
    )
    if wanted.weights + wanted.adapter < 0.9 * free and settings.batch > 1:
        fix = f"set train.batch = 1 and train.accumulate = {settings.batch * settings.accumulate}"
    elif wanted.weights + wanted.adapter < 0.9 * free:
        fix = "lower dataset.max_tokens"
    else:
        on_gpu = need(config, settings, max_tokens, gpu=True).total / GB
        fix = f'set base.model = "nano", or train on a GPU with {on_gpu:.0f} GB'
    raise UserError(f"this base does not fit for training on this machine ({machine.trains_on})", why=why, fix=fix)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
