"""LoRA with TRL's SFTTrainer and PEFT: a loaded base and token ids in, adapter files and a loss history out.

Knows nothing of recipes, stages or the harmony format: rows carry the ids and the labels that are learned.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tune import artefact, terminal
from tune.data.row import Row
from tune.recipe import Train
from tune.weights import lora

LOGITS = 1 << 24  # computed at a time on a CPU
SAVE_SECONDS = 60  # work that a kill may lose
SHOWN = 25  # lines of progress in a run


class Fit(NamedTuple):
    """What training did. `history` has one entry an optimizer step: step, loss, lr, tokens (seen so far)."""

    history: list[dict[str, float]]
    eval_before: float | None
    eval_after: float | None
    trainable: int
    seconds: float
    resumed_from: int


def fit(
    model: Any,
    tokenizer: Any,
    rows: Mapping[str, Sequence[Row]],
    settings: Train,
    *,
    into: Path,
    state: Path,
    name: str,
    report: Callable[[str], None],
) -> Fit:
    """Train and write adapter_config.json and adapter_model.safetensors `into` a folder.

    `rows` has lists of "train" and "eval", used as they are: no template, no truncation, no
    packing (it leaks attention between rows on this architecture), no router loss (0.9 in OpenAI's config). `state`
    keeps what resumes a killed run; `name` is written as the adapter's base. Loss is nats a learned token; eval
    losses are means over batches, the first one of the untouched base. `seconds` are of this process alone.
    """
    import torch
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from peft import LoraConfig
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig

    gpu = torch.cuda.is_available()
    disable_progress_bar()  # our `report` speaks
    data = {
        part: Dataset.from_list([r.model_dump(include={"input_ids", "labels"}) for r in found])
        for part, found in rows.items()
        if found
    }
    trainer = _trainer_class(gpu)(
        model=model,
        processing_class=tokenizer,
        train_dataset=data["train"],
        eval_dataset=data.get("eval"),
        peft_config=LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=0.0,
            target_modules=list(lora.TARGETS),
            task_type="CAUSAL_LM",
        ),
        args=SFTConfig(
            output_dir=str(state),
            per_device_train_batch_size=settings.batch,
            per_device_eval_batch_size=settings.batch,
            gradient_accumulation_steps=settings.accumulate,
            learning_rate=settings.learning_rate,
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps,
            warmup_steps=settings.warmup_steps,
            lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
            seed=settings.seed,
            use_cpu=not gpu,
            bf16=gpu,
            gradient_checkpointing=gpu,
            router_aux_loss_coef=0.0,
            packing=False,
            max_length=None,
            prediction_loss_only=True,
            logging_steps=1,
            logging_first_step=True,
            include_num_input_tokens_seen="non_padding",
            eval_strategy="no",
            save_strategy="steps",
            save_steps=1_000_000_000,  # by the clock, in the callback
            save_total_limit=1,
            disable_tqdm=True,
            report_to="none",
            dataloader_pin_memory=gpu,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_progress(report))
    resume = _last_whole(state)
    before = _evaluated_before(trainer, state / "eval_before.json") if "eval" in data else None
    if resume:
        report(f"resuming at step {resume.name.removeprefix('checkpoint-')}")
    started = time.monotonic()
    if resume and _reached_the_end(trainer, resume):
        trainer.model.load_adapter(str(resume), "default", is_trainable=True)
    else:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    seconds = time.monotonic() - started
    after = float(trainer.evaluate()["eval_loss"]) if "eval" in data else None

    tuned = trainer.accelerator.unwrap_model(trainer.model)
    tuned.peft_config["default"].base_model_name_or_path = name  # a path would be this machine's
    tuned.save_pretrained(into, save_embedding_layers=False)
    (into / "README.md").unlink(missing_ok=True)  # a model card template, nothing in it
    return Fit(
        history=[
            {"step": e["step"], "loss": e["loss"], "lr": e["learning_rate"], "tokens": int(e["num_input_tokens_seen"])}
            for e in trainer.state.log_history
            if "loss" in e
        ],
        eval_before=before,
        eval_after=after,
        trainable=sum(p.numel() for p in tuned.parameters() if p.requires_grad),
        seconds=seconds,
        resumed_from=int(resume.name.removeprefix("checkpoint-")) if resume else 0,
    )


def _trainer_class(gpu: bool) -> Any:
    """SFTTrainer; on a CPU with a loss that runs there: TRL's own is a Triton kernel."""
    import torch
    from trl import SFTTrainer

    if gpu:
        return SFTTrainer

    class CpuTrainer(SFTTrainer):  # type: ignore[misc]
        head: Any = None

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if return_outputs:
                raise RuntimeError("the loss is computed without logits")
            causal = self.accelerator.unwrap_model(model).get_base_model()
            if self.head is None:
                self.head = Head(causal.lm_head.weight.detach())
            hidden = causal.model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            ).last_hidden_state[:, :-1]
            labels = inputs["labels"][:, 1:]
            learned = labels != -100
            total = self.head.loss(hidden[learned], labels[learned])
            return total / torch.as_tensor(learned.sum() if num_items_in_batch is None else num_items_in_batch).clamp(
                min=1
            )

    return CpuTrainer


class Head:
    """The frozen output head with equal rows held once: the same loss at the cost of the rows that differ.

    n rows that share logit z count as one row with logit z + log n in the softmax's sum, and each has the
    group's probability / n. A nano base has one row for all the tokens it never saw.
    """

    def __init__(self, weight: Any) -> None:
        """`weight` is float [vocabulary, hidden]."""
        import numpy as np
        import torch

        rows = np.ascontiguousarray(weight.float().numpy())
        _, first, group, count = np.unique(
            rows.view(np.dtype((np.void, rows.shape[1] * 4))).ravel(),
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        self.rows = weight[torch.from_numpy(first)]
        self.group = torch.from_numpy(group)
        self.log_count = torch.from_numpy(np.log(count)).float()

    def loss(self, hidden: Any, labels: Any) -> Any:
        """Summed cross entropy over the whole vocabulary: hidden [n, hidden], labels [n]; logits a part at a time."""
        import torch
        from torch.utils.checkpoint import checkpoint

        step = max(1, LOGITS // len(self.rows))
        if len(hidden) <= step:
            return self._loss(hidden, labels)
        parts = zip(hidden.split(step), labels.split(step), strict=True)
        return torch.stack([checkpoint(self._loss, h, y, use_reentrant=False) for h, y in parts]).sum()

    def _loss(self, hidden: Any, labels: Any) -> Any:
        from torch.nn.functional import cross_entropy

        group = self.group[labels]
        logits = (hidden @ self.rows.T).float() + self.log_count
        return cross_entropy(logits, group, reduction="sum") + self.log_count[group].sum()


def _progress(report: Callable[[str], None]) -> Any:
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        saved = time.monotonic()

        def on_step_end(self, *at: Any, **_: Any) -> None:
            if time.monotonic() - self.saved > SAVE_SECONDS:
                at[2].should_save = True  # (args, state, control)

        def on_save(self, *_at: Any, **_: Any) -> None:
            self.saved = time.monotonic()

        def on_log(self, *at: Any, logs: Any = None, **_: Any) -> None:
            step, steps = at[1].global_step, at[1].max_steps
            if logs and "loss" in logs and (step % max(1, steps // SHOWN) == 0 or step == steps):
                report(f"{terminal.bar(step, steps)} step {step} of {steps}, loss {logs['loss']:.3f}")

    return Progress()


def _evaluated_before(trainer: Any, path: Path) -> float:
    """The base's eval loss: measured before the first step, remembered for a resumed run."""
    if not path.is_file():
        loss = float(trainer.evaluate()["eval_loss"])
        path.parent.mkdir(parents=True, exist_ok=True)
        artefact.write_text(path, json.dumps(loss))
    return float(json.loads(path.read_text()))


def _reached_the_end(trainer: Any, resume: Path) -> bool:
    """Whether the checkpoint is of the last step; then its state is taken. The trainer would do one step more."""
    from transformers import TrainerState

    state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return False
    trainer.state = state
    return True


def _last_whole(state: Path) -> Path | None:
    """The newest checkpoint whose state file, written last, is whole; others are removed."""
    found = sorted(state.glob("checkpoint-*"), key=lambda p: int(p.name.removeprefix("checkpoint-")))
    while found:
        newest = found.pop()
        try:
            json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(newest)
            continue
        return newest
    return None
