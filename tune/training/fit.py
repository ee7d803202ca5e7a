"""One LoRA training run: a loaded model and token ids in, adapter files and a loss history out.

Rehearses the longest batch first, halves what does not fit, resumes what was killed, keeps the best look at held-out
rows. Knows nothing of recipes, stages or how the model was loaded.
"""

import json
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tune.data.row import Row
from tune.recipe import Train
from tune.training import memory, trainer
from tune.training.machine import need
from tune.training.machine.need import world
from tune.training.processes import worker
from tune.training.saving import saving
from tune.training.watch import Before, Watch
from tune.weights import lora
from tune.weights.tensors import PROJECTIONS

Report = Callable[[str], None]
Rows = Mapping[str, Sequence[Row]]


class Fit(NamedTuple):
    """What training did. `history` has one entry an optimizer step (step, loss, lr, tokens seen so far, grad_norm,
    seconds since this process began training, memory in bytes of the GPU) and one a look (step, eval_loss)."""

    history: list[dict[str, float]]
    eval_before: float | None
    eval_after: float | None
    trainable: int
    seconds: float
    resumed_from: int
    best_step: int | None
    left_out: int
    batch: int
    accumulate: int
    peak_memory: int


class Kind(NamedTuple):
    """What differs between backends: the trainer's class and the arguments that it adds to SFTConfig's."""

    trainer: Callable[[], Any]
    arguments: dict[str, Any]


def wrap(model: Any, settings: Train) -> Any:
    """The model with its LoRA, initialised from the seed: on attention, or on the experts too ([train] targets)."""
    import torch
    from peft import LoraConfig, get_peft_model

    from tune.training.packed import tuned
    from tune.training.packed.experts import PackedExperts

    torch.manual_seed(settings.seed)
    experts = [f"mlp.experts.{name}" for name in PROJECTIONS] if settings.targets == "all" else None
    packed = isinstance(model.model.layers[0].mlp.experts, PackedExperts)
    if packed and experts:
        tuned.add_lora(model, settings.rank, settings.alpha)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=list(lora.TARGETS),
        target_parameters=None if packed else experts,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", tuned.AGAIN)
        wrapped = get_peft_model(model, config)
    wrapped.peft_config["default"].target_parameters = experts  # packed ones have theirs already
    return wrapped


def fit(
    model: Any,
    kind: Kind,
    tokenizer: Any,
    rows: Rows,
    settings: Train,
    *,
    into: Path,
    state: Path,
    name: str,
    report: Report,
) -> Fit:
    """Train `model`, which carries its LoRA, and write adapter_config.json and adapter_model.safetensors into `into`.

    `rows` has lists of "train" and "eval", used as they are. `state` keeps what resumes a killed run; `name` is written
    as the adapter's base. Loss is nats a learned token; eval losses are means over all of their learned tokens, the
    first one of the untouched base. `seconds` are of this process alone. Raises UserError when not even one short row
    fits into memory, and when a gradient is not finite.
    """
    fresh = {n: p.detach().cpu().clone() for n, p in model.named_parameters() if p.requires_grad}
    room = memory.Room(settings.batch, settings.accumulate)
    if world(settings) == 1:  # several find it again in the rehearsal, each host by itself
        room = memory.remembered(state, room)
    while True:
        now = settings.model_copy(update={"batch": room.batch, "accumulate": room.accumulate})
        made = _trainer(model, kind, tokenizer, kept := room.of(rows), now, state)
        try:
            _rehearse(made, kept, now, report)
            if made.is_world_process_zero():
                memory.remember(state, room)
            left_out = len(rows["train"]) - len(kept["train"])
            return _run(made, now, left_out=left_out, into=into, state=state, name=name, report=report)
        except memory.out_of_memory() as e:
            if made.started and world(settings) > 1:
                raise memory.of_several(e, now) from e
            room = memory.smaller(rows, room, e, report, at_least=now.batch * now.accumulate * world(now))
        made.model.zero_grad(set_to_none=True)
        del made
        memory.release()
        for n, p in model.named_parameters():
            if n in fresh:
                p.data.copy_(fresh[n])


def _rehearse(made: Any, rows: Rows, settings: Train, report: Report) -> None:
    """Rehearse in every process. Raises torch's OutOfMemoryError in all of them when it was raised in one."""
    import torch

    worker.require_world(settings, made.accelerator.num_processes)
    found, error = None, None
    try:
        found = memory.rehearse(made, rows["train"], settings)
    except memory.out_of_memory() as e:
        error = str(e)
    if errors := [said for said in trainer.of_all(made, error) if said]:
        raise memory.out_of_memory()(errors[0])
    if found:
        report(memory.told(found, rows, settings))
        total = torch.cuda.get_device_properties(0).total_memory if found.most else 0
        if hint := memory.roomier(found, settings, total):
            report(hint)


def _trainer(model: Any, kind: Kind, tokenizer: Any, rows: Rows, settings: Train, state: Path) -> Any:
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig

    disable_progress_bar()  # our `report` speaks
    data = {
        part: Dataset.from_list([r.model_dump(include={"input_ids", "labels"}) for r in found])
        for part, found in rows.items()
        if found
    }
    gpu = next(model.parameters()).is_cuda
    steps = need.steps(len(rows["train"]), settings)
    given = trainer.arguments(settings, state, gpu=gpu, steps=steps) | kind.arguments
    if "eval" not in data:
        given["eval_strategy"] = "no"
    made = kind.trainer()(
        model=model,
        processing_class=tokenizer,
        train_dataset=data["train"],
        eval_dataset=data.get("eval"),
        data_collator=partial(trainer.collate, pad=tokenizer.pad_token_id or 0, multiple=trainer.PAD if gpu else 1),
        args=SFTConfig(**given),
    )
    made.remove_callback(PrinterCallback)
    return made


def _run(made: Any, settings: Train, *, left_out: int, into: Path, state: Path, name: str, report: Report) -> Fit:
    main, evaluates = made.is_world_process_zero(), made.eval_dataset is not None
    resume = _last_whole(state) if main else None
    resume = trainer.same_everywhere(made, resume)
    before, watch = Before(made, state / memory.BASE_LOSS), Watch(made, state, settings, report)
    if evaluates:
        made.add_callback(before)
    made.add_callback(watch)
    if resume:
        report(f"resuming at step {resume.name.removeprefix('checkpoint-')}")
    made.started, made.unreported = (started := time.monotonic()), 0  # a rehearsal counted its tokens
    if resume and _reached_the_end(made, resume):
        made.model.load_adapter(str(resume), "default", is_trainable=True)
    else:
        made.train(resume_from_checkpoint=str(resume) if resume else None)
    seconds = time.monotonic() - started
    tuned = made.accelerator.unwrap_model(made.model)
    after = watch.loss_now() if evaluates else None
    best = watch.best
    if best and after is not None and not after <= best.loss:
        report(f"step {best.step} had the best loss on held-out rows, {best.loss:.3f}: its adapter is kept")
        if main:  # the others' ends with them
            tuned.load_adapter(str(state / f"{memory.BEST}-{best.step}"), "default", is_trainable=True)
        after = best.loss
    if main:
        tuned.peft_config["default"].base_model_name_or_path = name  # a path would be this machine's
        with saving(into):
            tuned.save_pretrained(into, save_embedding_layers=False)
        (into / "README.md").unlink(missing_ok=True)  # a model card template, nothing in it
    return Fit(
        history=history(made.state.log_history),
        eval_before=before.loss,
        eval_after=after,
        trainable=sum(p.numel() for p in tuned.parameters() if p.requires_grad),
        seconds=seconds,
        resumed_from=int(resume.name.removeprefix("checkpoint-")) if resume else 0,
        best_step=best.step if best else None,
        left_out=left_out,
        batch=settings.batch,
        accumulate=settings.accumulate,
        peak_memory=memory.peak(),
    )


def history(logged: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Trainer's log as `Fit.history` has it."""
    out: list[dict[str, float]] = []
    for entry in logged:
        if "loss" in entry:
            names = ("step", "loss", "tokens", "grad_norm", "seconds", "memory")
            out.append({key: entry[key] for key in names if key in entry} | {"lr": entry["learning_rate"]})
        elif (
            "eval_loss" in entry
            and entry["step"]
            and out[-1] != (look := {"step": entry["step"], "eval_loss": entry["eval_loss"]})
        ):
            out.append(look)
    return out


def _reached_the_end(made: Any, resume: Path) -> bool:
    """Whether the checkpoint is of the last step; then its state is taken. The trainer would do one step more."""
    from transformers import TrainerState

    state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return False
    made.state = state
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
