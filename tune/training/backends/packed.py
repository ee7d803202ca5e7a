"""A base in MXFP4 under PEFT with its experts as they are stored: what is trained on is what is served."""

from pathlib import Path
from typing import Any

from tune.recipe import Train
from tune.training import trainer
from tune.training.fit import Kind, wrap
from tune.training.packed import model


def load(folder: Path, settings: Train, *, gpu: bool) -> tuple[Any, Kind]:
    """The model with its LoRA, and how it is trained. Layers recompute what they need by themselves."""
    base = model.load(folder, device="cuda" if gpu else "cpu", host_embedding=gpu)
    return wrap(base, settings), Kind(trainer.with_our_loss, {})
