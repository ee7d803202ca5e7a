"""The train stage: work/dataset and the base -> work/adapter, a LoRA adapter with its loss curve, adapter.json last.

Knows stages and figures; how training is done is the backend's. Refuses a base that does not load whole, rows that
are not what the dataset stage writes, and an adapter that changes nothing.
"""

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tune import artefact, harmony
from tune.artefact import Artefact
from tune.data import dataset, mask, row
from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Recipe, Train
from tune.terminal import quiet
from tune.training import loading
from tune.training.backends import choice, unsloth
from tune.training.backends.choice import Choice
from tune.training.change import measure
from tune.training.machine import fitting, hardware, need
from tune.training.processes import worker
from tune.training.views import advice, curves
from tune.weights import resume, shards, tensors
from tune.weights.base_model import Base, base_of

if TYPE_CHECKING:
    from tune.training.fit import Fit

KIND = "adapter"
EVENTS = "runs"  # where transformers has TensorBoard write; the state folder goes when training is done
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


def train(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Artefact:
    """Make work/adapter, or keep it when its inputs and settings are the same; a killed run resumes.

    Figures: steps, tokens, tokens_per_second, seconds and resumed_from of this run, first and last train loss, eval
    loss of the base and of the adapter (nats a token), trainable parameters, the norm of the change, the share of
    target weights that it changes in bf16, backend, rows at a time as they were in the end, bytes of the GPU, hardware
    and library versions. Raises UserError when the dataset is not of this recipe, when its rows would teach what they
    should not, and when training does not fit this machine. One of several workers that is not the first returns
    nothing: it ends.
    """
    with artefact.writing(recipe.work / KIND, KIND) if worker.is_main() else nullcontext():
        return _train(recipe, report)


def _train(recipe: Recipe, report: Callable[[str], None]) -> Artefact:
    folder, source = recipe.work / KIND, recipe.work / "dataset"
    found, base = dataset.read(recipe), base_of(recipe)
    inputs = {"dataset": found.digest, "base": base.digest}
    settings = {"train": recipe.train.about_adapter, "base": base.name, "date": recipe.dataset.date}
    if current := artefact.is_current(folder, KIND, inputs=inputs, settings=settings):
        report(f"adapter: {current.figures['steps']} steps are done already")
        return current

    artefact.verify(source, found, remake="tune dataset")
    config = shards.config(base.folder)
    rows = _rows(source, recipe.train, tensors.shape_of(config).vocab_size)
    machine = hardware.here()
    report(hardware.table(machine))
    chosen = choice.choose(recipe.train, config, gpu=bool(machine.gpus))
    report(f"backend {chosen.name}: {chosen.reason}")
    if chosen.name == "unsloth":
        unsloth.start()
    longest = max(len(one.input_ids) for part in rows.values() for one in part)
    processes = need.world(recipe.train) if worker.sharded() else 1
    wanted = fitting.require(machine, config, recipe.train, longest, backend=chosen.name, shards=processes)
    steps = need.steps(len(rows["train"]), recipe.train)
    report(
        f"{len(rows['train'])} rows of at most {longest} tokens, {steps} steps;"
        f" about {wanted.total / 1e9:.1f} GB ({wanted.weights / 1e9:.1f} of weights) on {machine.trains_on}"
    )
    run = Run(recipe, base, rows, chosen, longest, machine, report)
    state = recipe.work / f"{KIND}.part"
    if not worker.is_main():
        _fit(run, state / "unused", state)
        sys.exit(0)
    resume.open_part(state, {**inputs, **settings, "versions": _versions()})

    def fill(fresh: Path) -> None:
        made, loading_took = _fit(run, fresh, state)
        if (state / EVENTS).is_dir():
            shutil.copytree(state / EVENTS, fresh / EVENTS)
        _finish(run, fresh, made, loading_took, inputs, settings)

    artefact.remake_folder(folder, KIND, fill)
    shutil.rmtree(state)
    return artefact.read(folder, KIND, remake="tune train")


def _rows(source: Path, settings: Train, vocabulary: int) -> dict[str, list[Row]]:
    """The rows to learn from, and some held-out ones of all pages. Raises UserError on rows that would teach wrong."""
    rows = {part: row.read(source / f"{part}.jsonl", vocabulary) for part in ("train", "eval")}
    rows["eval"] = rows["eval"][:: max(1, len(rows["eval"]) // settings.eval_rows)][: settings.eval_rows]
    if not rows["train"]:
        raise UserError(f"{source}/train.jsonl is empty", fix="widen [collect] in the recipe, then: tune dataset")
    faults = mask.mask_faults(rows["train"]) if vocabulary >= harmony.VOCABULARY else []
    if faults:
        more = f"\n       and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(
            f"{source}/train.jsonl trains on what it should not, or not on what it should",
            why="\n       ".join(faults[:3]) + more,
            fix="tune check --rows shows it; then: tune dataset",
        )
    return rows


class Run(NamedTuple):
    """What one training is given."""

    recipe: Recipe
    base: Base
    rows: dict[str, list[Row]]
    chosen: Choice
    longest: int
    machine: hardware.Hardware
    report: Callable[[str], None]


def _fit(run: Run, into: Path, state: Path) -> "tuple[Fit, int]":
    """The fit, and the bytes of the GPU that loading took."""
    with quiet():
        from tune.training import fit, memory

    settings, gpu = run.recipe.train, bool(run.machine.gpus)
    run.report(f"loading {run.base.name}")
    with quiet():
        model, kind = _load(run, gpu=gpu)
        loading_took = memory.start_over()
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = trained + sum(prod(t.shape) for t in tensors.tensors(_shape(run.base), "merged").values())
        run.report(f"trains {trained:,} parameters, {trained / total:.3%} of {total:,}")
        tokenizer = loading.tokenizer(run.base.folder)
        made = fit.fit(
            model,
            kind,
            tokenizer,
            run.rows,
            settings,
            into=into,
            state=state,
            name=run.base.reference,
            report=run.report,
        )
    return made, loading_took


def _load(run: Run, *, gpu: bool) -> Any:
    """The model with its LoRA and how it is trained, by the backend that was chosen."""
    folder, settings = run.base.folder, run.recipe.train
    if run.chosen.name == "unsloth":
        return unsloth.load(folder, settings, longest=run.longest)
    if run.chosen.name == "packed":
        from tune.training.backends import packed

        return packed.load(folder, settings, gpu=gpu)
    from tune.training.backends import peft

    return peft.load(folder, settings, gpu=gpu)


def _shape(base: Base) -> tensors.Shape:
    return tensors.shape_of(shards.config(base.folder))


def _finish(
    run: Run, fresh: Path, made: "Fit", loading_took: int, inputs: dict[str, str], settings: dict[str, Any]
) -> None:
    change = measure(fresh, run.base)
    steps = [e for e in made.history if "loss" in e]
    tokens = int(steps[-1]["tokens"])
    before = next((int(e["tokens"]) for e in reversed(steps) if e["step"] <= made.resumed_from), 0)
    figures = {
        "steps": int(steps[-1]["step"]),
        "tokens": tokens,
        "seconds": round(made.seconds, 2),
        "tokens_per_second": round((tokens - before) / made.seconds, 1),
        "resumed_from": made.resumed_from,
        "first_loss": steps[0]["loss"],
        "last_loss": steps[-1]["loss"],
        "eval_loss_base": made.eval_before,
        "eval_loss": made.eval_after,
        "best_step": made.best_step,
        "trainable_parameters": made.trainable,
        **change,
        "backend": run.chosen.name,
        "quantized": run.chosen.name == "packed" and run.recipe.train.targets == "all",
        "batch": made.batch,
        "accumulate": made.accumulate,
        **({"rows_left_out": made.left_out} if made.left_out else {}),
        "gpu_bytes": {"loading": loading_took, "training": made.peak_memory},
        "hardware": run.machine.trains_on,
        "versions": _versions(),
    }
    (fresh / "loss.jsonl").write_text("".join(json.dumps(e) + "\n" for e in made.history))
    page = curves.page(
        made.history,
        title=f"Training {run.recipe.project.name} on {run.base.name}",
        settings=settings,
        figures=figures,
        base_eval=made.eval_before,
    )
    (fresh / "training.html").write_text(page, encoding="utf-8")
    for sentence in advice.advice(made.history, made.eval_before):
        run.report(f"advice: {sentence}")
    artefact.finish(fresh, KIND, inputs=inputs, settings=settings, figures=figures)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
