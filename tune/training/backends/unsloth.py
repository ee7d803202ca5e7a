"""Unsloth on an MXFP4 folder, behind proofs: what it loaded is held against the files before anything is trained.

Unsloth keeps such experts packed. Its own guard against weights that were not in the files looks for a message that
transformers 5 no longer writes, so the load report is read here.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.errors import UserError
from tune.recipe import Train
from tune.weights import lora, shards
from tune.weights.tensors import Tensor

if TYPE_CHECKING:
    from tune.training.fit import Kind

SLACK = 1.03  # of the files' bytes: what the GPU may hold after loading
SCALES = "mxfp4_scales"  # where unsloth_zoo's Mxfp4ExpertParam, itself the blocks, keeps the scales


def start() -> None:
    """Import Unsloth, which has to come before transformers. Raises UserError when it is not installed."""
    if not importlib.util.find_spec("unsloth"):
        raise UserError(
            'train.backend = "unsloth" needs Unsloth',
            why="it is not installed",
            fix="pip install 'gptoss-kit[gpu]', or set train.backend = \"auto\"",
        )
    import unsloth  # noqa: F401


def load(folder: Path, settings: Train, *, longest: int) -> "tuple[Any, Kind]":
    """The model with its LoRA, proven, and how it is trained; `longest` is the dataset's longest row."""
    import torch
    from unsloth import FastLanguageModel

    from tune.training import trainer
    from tune.training.fit import Kind

    specs = shards.headers(folder)
    before = torch.cuda.memory_allocated()
    with _load_report() as reported:
        model, _ = FastLanguageModel.from_pretrained(
            str(folder.absolute()),
            max_seq_length=longest,
            load_in_4bit=False,  # of MXFP4 it changes nothing; a folder of another kind it would ruin
            use_exact_model_name=True,  # a Hub name would become a 4-bit copy of another author
        )
    prove(model, folder, specs, reported, torch.cuda.memory_allocated() - before)
    tuned = FastLanguageModel.get_peft_model(
        model,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0,
        bias="none",
        target_modules=list(lora.TARGETS),
        use_gradient_checkpointing="unsloth",
        random_state=settings.seed,
    )
    return tuned, Kind(trainer.with_its_loss, {"bf16": True, "gradient_checkpointing": True})


def prove(
    model: Any, folder: Path, specs: Mapping[str, Tensor], reported: list[dict[str, list[str]]], allocated: int
) -> None:
    """Raise UserError unless every expert's and router's bytes, blocks and scales, are the file's and nothing was left
    out or made up."""
    if not reported:
        raise _unproven(folder, "transformers gave no load report: this version writes it elsewhere")
    if odd := [f"{kind} {', '.join(names[:3])}" for found in reported for kind, names in found.items() if names]:
        raise _unproven(folder, "; ".join(odd))
    for name in specs:
        if name.endswith("_blocks"):
            stem = name.removesuffix("_blocks")
            packed = _place(model, folder, stem)
            _same(folder, specs, name, packed)
            _same(folder, specs, f"{stem}_scales", getattr(packed, SCALES, None))
        elif ".mlp.router." in name:
            _same(folder, specs, name, _place(model, folder, name))
    total = sum(spec.bytes for spec in specs.values())
    if allocated > SLACK * total:
        raise _unproven(folder, f"it takes {allocated / 1e9:.2f} GB of the GPU, its files are {total / 1e9:.2f} GB")


def _place(model: Any, folder: Path, name: str) -> Any:
    owner, _, leaf = name.rpartition(".")
    try:
        return getattr(model.get_submodule(owner), leaf)
    except AttributeError:
        raise _unproven(folder, f"it has no {name}") from None


def _same(folder: Path, specs: Mapping[str, Tensor], name: str, found: Any) -> None:
    import torch

    if not isinstance(found, torch.Tensor):
        raise _unproven(folder, f"{name} is not to be found in it")
    wanted = shards.tensor(folder, specs, name)
    plain = found.detach().as_subclass(torch.Tensor).cpu()
    if plain.dtype != wanted.dtype or plain.shape != wanted.shape or not torch.equal(plain, wanted):
        raise _unproven(folder, f"{name} is {plain.dtype} {list(plain.shape)} and not what the file holds")


@contextmanager
def _load_report() -> Iterator[list[dict[str, list[str]]]]:
    """What transformers reports of every load inside: by kind, the names that were missing, unexpected or odd."""
    from transformers import modeling_utils

    plain, found = modeling_utils.log_state_dict_report, []
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")

    def report(*given: Any, **named: Any) -> Any:
        info = next((v for v in [*named.values(), *given] if hasattr(v, "missing_keys")), None)
        if info is not None:
            found.append({kind: sorted(map(str, getattr(info, kind))) for kind in kinds})
        return plain(*given, **named)

    modeling_utils.log_state_dict_report = report
    try:
        yield found
    finally:
        modeling_utils.log_state_dict_report = plain


def _unproven(folder: Path, why: str) -> UserError:
    return UserError(
        f"what Unsloth made of {folder} is not what the files hold", why=why, fix='set train.backend = "packed"'
    )
