"""TRL's SFTTrainer over rows of token ids: the same loop for every backend whose model we load ourselves.

In: a model with its LoRA, rows, settings. Out: a trainer. Our loss never waits for the GPU inside a step; TRL's own
reads figures back three times a micro-batch. Knows no recipe, no stage and no file but its state folder.
"""

import functools
import importlib.util
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tune.errors import UserError
from tune.recipe import Train
from tune.training.loss import CpuHead, GpuHead
from tune.training.machine.need import world
from tune.training.saving import saving

NEVER = 1_000_000_000
SAVE_STEPS = 50  # of several processes, whose clocks may differ
PAD = 64  # rows are padded to a multiple of it on a GPU: few lengths, few kernels


def arguments(settings: Train, state: Path, *, gpu: bool, steps: int = NEVER) -> dict[str, Any]:
    """SFTConfig's arguments, for every backend.

    No packing (it leaks attention between rows on this architecture), no truncation, no router loss (0.9 in OpenAI's
    config), nothing filtered out of the loss: what is not finite is to be seen.
    """
    return {
        "output_dir": str(state),
        "per_device_train_batch_size": settings.batch,
        "per_device_eval_batch_size": settings.batch,
        "gradient_accumulation_steps": settings.accumulate,
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "warmup_steps": min(settings.warmup_steps, steps // 2),  # the first step of a warm-up learns nothing
        "lr_scheduler_type": "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        "optim": _optimizer(settings),
        "seed": settings.seed,
        "use_cpu": not gpu,
        "bf16": False,  # the model's own dtypes hold: no autocast
        "gradient_checkpointing": False,
        "router_aux_loss_coef": 0.0,
        "packing": False,
        "max_length": None,
        "prediction_loss_only": True,
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if settings.eval_every else "no",
        "eval_steps": settings.eval_every or None,
        "save_strategy": "steps",
        "save_steps": settings.save_every or (SAVE_STEPS if world(settings) > 1 else NEVER),  # or by the clock: watch
        "save_total_limit": 1,
        "disable_tqdm": True,
        "report_to": _reporters(),
        "dataloader_pin_memory": gpu,
        "ddp_find_unused_parameters": False,
        "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }


def _reporters() -> list[str]:
    """TensorBoard where it is installed, W&B where the environment asks for it too: it wants an account."""
    found = ["tensorboard"] if importlib.util.find_spec("tensorboard") else []
    asked = {"WANDB_API_KEY", "WANDB_MODE"} & os.environ.keys()
    return found + (["wandb"] if asked and importlib.util.find_spec("wandb") else [])


def collate(rows: Sequence[dict[str, list[int]]], *, pad: int, multiple: int) -> dict[str, Any]:
    """One batch, padded on the right: input_ids, attention_mask and labels [B, S]; `learned` [n], the flat positions
    whose next token is learned, and `targets` [n], those tokens. Counted here, where nothing has to wait for a GPU."""
    import torch

    length = -(-max(len(row["input_ids"]) for row in rows) // multiple) * multiple
    shape = (len(rows), length)
    ids, mask, labels = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long), torch.full(shape, -100)
    for n, row in enumerate(rows):
        size = len(row["input_ids"])
        ids[n, :size] = torch.tensor(row["input_ids"])
        mask[n, :size] = 1
        labels[n, :size] = torch.tensor(row["labels"])
    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100).flatten()
    learned = (following != -100).nonzero()[:, 0]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "learned": learned,
        "targets": following[learned],
        "tokens": int(mask.sum()),
    }


def _optimizer(settings: Train) -> str:
    if settings.optimizer == "adamw":
        return "adamw_torch_fused"
    if importlib.util.find_spec("bitsandbytes"):
        return "adamw_8bit"
    raise UserError(
        'train.optimizer = "adamw_8bit" needs bitsandbytes', why="it is not installed", fix='set it to "adamw"'
    )


def of_all(made: Any, value: Any) -> list[Any]:
    """Every process's value, in every process of the run."""
    if made.accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    return list(gather_object([value]))


def same_everywhere(made: Any, value: Any) -> Any:
    """The first process's value, in every process of the run."""
    if made.accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def with_our_loss() -> Any:
    """SFTTrainer with a loss that waits for nothing, for a model that PEFT has wrapped."""
    import torch

    class Trainer(_watched()):  # type: ignore[misc]
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            _answer_with_loss(self.model.get_base_model())

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if return_outputs:
                raise RuntimeError("the loss is computed without logits")
            self.count(inputs)
            asked = ("input_ids", "attention_mask", "learned", "targets")
            total = model(**{key: inputs[key] for key in asked})
            if num_items_in_batch is None:
                return total / max(1, len(inputs["targets"]))
            share = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            return total * share / torch.as_tensor(num_items_in_batch).clamp(min=1)

    return Trainer


def with_its_loss() -> Any:
    """SFTTrainer with the loss that it has, or that Unsloth gave it: compute_loss is not ours, for Unsloth's is fused
    only where nobody stands in between."""

    class Trainer(_watched()):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            self.unreported += inputs["tokens"]
            return super().training_step(model, _plain(inputs), *given, **named)

        def prediction_step(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            return super().prediction_step(model, _plain(inputs), *given, **named)

    return Trainer


def _plain(inputs: Any) -> dict[str, Any]:
    return {key: inputs[key] for key in ("input_ids", "attention_mask", "labels")}


def _watched() -> Any:
    """SFTTrainer with our figures in its log, and an end where a gradient is no number."""
    import torch
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc]
        started, unreported = 0.0, 0

        def count(self, inputs: Any) -> None:
            if self.model.training:
                self.unreported += inputs["tokens"]

        def _save_checkpoint(self, *given: Any, **named: Any) -> None:
            with saving(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"):
                super()._save_checkpoint(*given, **named)

        def _get_grad_norm(self, *given: Any, **named: Any) -> Any:
            norm = super()._get_grad_norm(*given, **named)
            if norm is not None and not math.isfinite(norm):
                raise UserError(
                    f"the gradient of step {self.state.global_step + 1} is {float(norm)}: nothing was changed by it",
                    why="training diverged, or the base holds what is no number",
                    fix=f"lower train.learning_rate (it is {self.args.learning_rate:g}), then: tune train",
                )
            return norm

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                seen = torch.tensor(self.unreported, device=self.args.device)
                self.state.num_input_tokens_seen += int(self.accelerator.reduce(seen, "sum"))
                self.unreported = 0
                logs |= {
                    "tokens": int(self.state.num_input_tokens_seen),
                    "seconds": round(time.monotonic() - self.started, 3),
                    "memory": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
                }
            super().log(logs, start_time)

        def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002 - a walk over all tensors, for a figure unused
            return 0

    return Trainer


def _answer_with_loss(causal: Any) -> None:
    """Let the model answer `targets` with their summed loss. It is asked through its wrappers (PEFT's, and those of
    several GPUs, which exchange gradients only of what went through them)."""
    weight, plain = causal.lm_head.weight.detach(), causal.forward
    head = GpuHead(weight) if weight.is_cuda else CpuHead(weight)

    @functools.wraps(plain)
    def forward(*given: Any, learned: Any = None, targets: Any = None, **named: Any) -> Any:
        if targets is None:
            return plain(*given, **named)
        hidden = causal.model(*given, use_cache=False, **named).last_hidden_state
        return head.loss(hidden.flatten(0, 1)[learned], targets)

    causal.forward = forward
