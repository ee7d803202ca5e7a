"""Which backend trains a base, and why: [train], a config.json and this machine in, a name and a sentence out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tune.errors import UserError
from tune.recipe import Train
from tune.training.machine.need import Backend
from tune.weights import tensors


class Choice(NamedTuple):
    name: Backend
    reason: str


def choose(settings: Train, config: Mapping[str, Any], *, gpu: bool) -> Choice:
    """The backend that [train] names, or the one that `auto` means for this base.

    Raises UserError for one that would not load this base right: packed and unsloth need experts in MXFP4 (of a bf16
    folder Unsloth makes a model with random experts and router, without a word), unsloth a GPU; and for targets that
    a backend would not train.
    """
    packed = tensors.is_mxfp4(config)
    if settings.backend == "auto":
        if packed:
            return Choice("packed", "the base's experts stay MXFP4 in memory, the bytes that are served")
        return Choice("peft", "the base's experts are stored in bf16")
    if settings.backend == "peft":
        return Choice("peft", "as [train] says" + ("; the experts are decoded to 16 or 32 bits" if packed else ""))
    if not packed:
        why = {
            "packed": "it trains through MXFP4 bytes",
            "unsloth": "Unsloth would start with random experts and a random router, without a word",
        }[settings.backend]
        raise UserError(
            f'train.backend = "{settings.backend}" does not take a base with experts in bf16',
            why=why,
            fix='set train.backend = "peft", or take the model\'s MXFP4 release as base',
        )
    if settings.backend == "unsloth" and not gpu:
        raise UserError(
            'train.backend = "unsloth" needs a GPU', why="there is none here", fix='set train.backend = "auto"'
        )
    if settings.backend == "unsloth" and settings.targets == "all":
        raise UserError(
            'train.backend = "unsloth" trains attention alone, and train.targets is "all"',
            why="its packed experts take no change",
            fix='set train.backend = "packed", or train.targets = "attention"',
        )
    return Choice(settings.backend, "as [train] says")
