"""The train stage: work/dataset and the base -> work/adapter, a LoRA adapter with its loss curve, adapter.json last.

Knows stages and figures; how training is done is the backend's. Refuses a base that does not load whole, rows that
are not what the dataset stage writes, and an adapter that changes nothing.
"""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune import artefact
from tune.artefact import Artefact
from tune.data import dataset, row
from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Recipe
from tune.terminal import quiet
from tune.training import fitting, hardware, loading
from tune.training.backends import choice, unsloth
from tune.training.backends.choice import Choice
from tune.weights import lora, shards, tensors
from tune.weights.base_model import Base, base_of

if TYPE_CHECKING:
    from tune.training.fit import Fit

KIND = "adapter"
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


def train(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Artefact:
    """Make work/adapter, or keep it when its inputs and settings are the same; a killed run resumes.

    Figures: steps, tokens, tokens_per_second, seconds and resumed_from of this run, first and last train loss, eval
    loss of the base and of the adapter (nats a token), trainable parameters and their share, the norm of the change,
    the share of target weights that it changes in bf16, backend, peak memory of the GPU, hardware and library
    versions. Raises UserError when the dataset is not of this recipe.
    """
    folder, source = recipe.work / KIND, recipe.work / "dataset"
    found = dataset.read(recipe)
    base = base_of(recipe)
    inputs = {"dataset": found.digest, "base": base.digest}
    settings = {"train": recipe.train.model_dump(mode="json"), "base": base.name, "date": recipe.dataset.date}
    if current := artefact.is_current(folder, KIND, inputs=inputs, settings=settings):
        report(f"adapter: {current.figures['steps']} steps are done already")
        return current

    artefact.verify(source, found, remake="tune dataset")
    config = shards.config(base.folder)
    vocabulary = tensors.shape_of(config).vocab_size
    rows = {part: row.read(source / f"{part}.jsonl", vocabulary) for part in ("train", "eval")}
    rows["eval"] = rows["eval"][:: max(1, len(rows["eval"]) // recipe.train.eval_rows)][: recipe.train.eval_rows]
    if not rows["train"]:
        raise UserError(f"{source}/train.jsonl is empty", fix="widen [collect] in the recipe, then: tune dataset")
    machine = hardware.here()
    chosen = choice.choose(recipe.train, config, gpu=bool(machine.gpus))
    if chosen.name == "unsloth":
        unsloth.start()
    longest = max(len(one.input_ids) for part in rows.values() for one in part)
    wanted = fitting.require(machine, config, recipe.train, longest, backend=chosen.name)
    report(f"adapter: {len(rows['train'])} rows on {machine.trains_on}, about {wanted.total / 1e9:.1f} GB")
    report(f"adapter: backend {chosen.name}: {chosen.reason}")
    state = _state(recipe.work / f"{KIND}.part", {**inputs, **settings})

    def fill(fresh: Path) -> None:
        made = _fit(fresh, state, recipe, base, rows, chosen, longest, machine, report)
        _finish(fresh, made, base, (inputs, settings), chosen, machine)

    artefact.remake_folder(folder, KIND, fill)
    shutil.rmtree(state)
    return artefact.read(folder, KIND, remake="tune train")


def measure(folder: Path, base: Base) -> dict[str, float]:
    """What the adapter in `folder` does to the base's weights: `delta_norm`, `relative_delta`, `changed_share`.

    `changed_share` is of all target weights in bf16. Raises UserError when that is none: merged, such an adapter
    is the base under another name.
    """
    deltas, specs = lora.read(folder), shards.headers(base.folder)
    problems = lora.fits(deltas, specs)
    if problems:
        raise UserError(f"the adapter in {folder} is not of this base", why=problems[0], fix="tune train")
    changed, total, square = 0, 0, 0.0
    for name, delta in deltas.items():
        weight = shards.tensor(base.folder, specs, name)
        changed += lora.merge(weight, delta)[1]
        total += weight.numel()
        square += float(weight.float().square().sum())
    if not changed:
        raise lora.unchanged(folder, f"no weight in bf16 moves; the change's norm is {lora.norm(deltas):.1e}")
    norm = lora.norm(deltas)
    return {"delta_norm": norm, "relative_delta": norm / square**0.5, "changed_share": changed / total}


def _state(folder: Path, key: dict[str, Any]) -> Path:
    """The folder that resumes a killed run: emptied unless it belongs to the same inputs, settings and versions."""
    key = {**key, "versions": _versions()}
    note = folder / "run.json"
    if not note.is_file() or json.loads(note.read_text()) != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        artefact.write_text(note, json.dumps(key))
    return folder


def _fit(
    fresh: Path,
    state: Path,
    recipe: Recipe,
    base: Base,
    rows: dict[str, list[Row]],
    chosen: Choice,
    longest: int,
    machine: hardware.Hardware,
    report: Callable[[str], None],
) -> "Fit":
    from tune.training import fit, memory

    gpu = bool(machine.gpus)
    report(f"adapter: loading {base.name}")
    with quiet():
        if chosen.name == "unsloth":
            model, kind = unsloth.load(base.folder, recipe.train, longest=longest)
        elif chosen.name == "packed":
            from tune.training.backends import packed

            model, kind = packed.load(base.folder, recipe.train, gpu=gpu)
        else:
            from tune.training.backends import peft

            model, kind = peft.load(base.folder, recipe.train, gpu=gpu)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(
            prod(t.shape) for t in tensors.tensors(tensors.shape_of(shards.config(base.folder)), "merged").values()
        )
        if loading_took := memory.start_over():
            report(f"adapter: loading took {loading_took / 1e9:.1f} GB of the GPU at most")
        report(f"adapter: trains {trained:,} parameters, {trained / (total + trained):.3%} of {total + trained:,}")
        return fit.fit(
            model,
            kind,
            loading.tokenizer(base.folder),
            rows,
            recipe.train,
            into=fresh,
            state=state,
            name=base.reference,
            report=report,
        )


def _finish(
    fresh: Path,
    made: "Fit",
    base: Base,
    made_from: tuple[dict[str, str], dict[str, Any]],
    chosen: Choice,
    machine: hardware.Hardware,
) -> None:
    change = measure(fresh, base)
    (fresh / "loss.jsonl").write_text("".join(json.dumps(e) + "\n" for e in made.history))
    steps = [e for e in made.history if "loss" in e]
    tokens = int(steps[-1]["tokens"])
    before = next((int(e["tokens"]) for e in reversed(steps) if e["step"] <= made.resumed_from), 0)
    artefact.finish(
        fresh,
        KIND,
        inputs=made_from[0],
        settings=made_from[1],
        figures={
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
            "backend": chosen.name,
            "batch": made.batch,
            "accumulate": made.accumulate,
            "peak_gpu_bytes": made.peak_memory,
            "hardware": machine.trains_on,
            "versions": _versions(),
        },
    )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
