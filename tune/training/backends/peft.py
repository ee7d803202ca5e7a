"""A base in 16 bits (32 on a CPU) under PEFT: the backend of every base whose experts are not packed."""

from pathlib import Path
from typing import Any

from tune.recipe import Train
from tune.training import loading, trainer
from tune.training.fit import Kind, wrap


def load(folder: Path, settings: Train, *, gpu: bool) -> tuple[Any, Kind]:
    """The model with its LoRA, and how it is trained: on a GPU with flex attention, and layers are recomputed."""
    import torch

    if not gpu:
        return wrap(loading.load(folder, dtype=torch.float32), settings), Kind(trainer.with_our_loss, {})
    model = loading.load(folder, dtype=torch.bfloat16, device="cuda", attention="flex_attention")
    return wrap(model, settings), Kind(trainer.with_our_loss, {"bf16": True, "gradient_checkpointing": True})
