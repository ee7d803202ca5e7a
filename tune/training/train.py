"""The train stage: work/dataset and the base -> work/adapter, a LoRA adapter with its loss curve, adapter.json last.

Knows stages and figures; how training is done is the backend's. Refuses a base that does not load whole, rows that
are not what the dataset stage writes, and an adapter that changes nothing.
"""

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tune import artefact
from tune.artefact import Artefact
from tune.data import dataset, row
from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Recipe
from tune.terminal import quiet
from tune.training import fitting, hardware, loading
from tune.weights import lora, shards, tensors
from tune.weights.base_model import Base, base_of

KIND = "adapter"
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


def train(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Artefact:
    """Make work/adapter, or keep it when its inputs and settings are the same; a killed run resumes.

    Figures: steps, tokens, tokens_per_second, seconds and resumed_from of this run, first and last train loss, eval
    loss of the base and of the adapter (nats a token), trainable parameters, the norm of the change, the share of
    target weights that it changes in bf16, hardware and library versions. Raises UserError when the dataset is not
    of this recipe.
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
    longest = max(len(one.input_ids) for part in rows.values() for one in part)
    wanted = fitting.require(machine, config, recipe.train, longest, backend="peft")
    report(f"adapter: {len(rows['train'])} rows on {machine.trains_on}, about {wanted.total / 1e9:.1f} GB")
    state = _state(recipe.work / f"{KIND}.part", {**inputs, **settings})

    def fill(fresh: Path) -> None:
        _fill(fresh, state, recipe, base, rows, (inputs, settings), machine, report)

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


def curve(history: Sequence[dict[str, float]], *, width: int = 640, height: int = 240) -> str:
    """The train loss by step as one SVG: a polyline, the extremes written at the axes."""
    losses, steps = [e["loss"] for e in history], [e["step"] for e in history]
    low, high = min(losses), max(losses)
    left, top, right, bottom = 52, 16, width - 16, height - 32
    points = " ".join(
        f"{left + (right - left) * (step - steps[0]) / max(steps[-1] - steps[0], 1):.1f},"
        f"{bottom - (bottom - top) * (loss - low) / max(high - low, 1e-9):.1f}"
        for step, loss in zip(steps, losses, strict=True)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
 font-family="sans-serif" font-size="12" fill="#555">
<title>Train loss by step, from {losses[0]:.3f} to {losses[-1]:.3f}</title>
<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#bbb"/>
<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5" stroke-linejoin="round"/>
<text x="{left - 6}" y="{top + 4}" text-anchor="end">{high:.2f}</text>
<text x="{left - 6}" y="{bottom}" text-anchor="end">{low:.2f}</text>
<text x="{left}" y="{height - 12}">step {steps[0]}</text>
<text x="{right}" y="{height - 12}" text-anchor="end">step {steps[-1]}</text>
<text x="{(left + right) / 2}" y="{height - 12}" text-anchor="middle">loss, nats a learned token</text>
</svg>
"""


def _state(folder: Path, key: dict[str, Any]) -> Path:
    """The folder that resumes a killed run: emptied unless it belongs to the same inputs, settings and versions."""
    key = {**key, "versions": _versions()}
    note = folder / "run.json"
    if not note.is_file() or json.loads(note.read_text()) != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        artefact.write_text(note, json.dumps(key))
    return folder


def _fill(
    fresh: Path,
    state: Path,
    recipe: Recipe,
    base: Base,
    rows: dict[str, list[Row]],
    made_from: tuple[dict[str, str], dict[str, Any]],
    machine: hardware.Hardware,
    report: Callable[[str], None],
) -> None:
    import torch

    from tune.training.backends import peft

    report(f"adapter: loading {base.name}")
    model = loading.load(base.folder, dtype=torch.bfloat16 if machine.gpus else torch.float32)
    tokenizer = loading.tokenizer(base.folder)
    with quiet():
        fit = peft.fit(
            model, tokenizer, rows, recipe.train, into=fresh, state=state, name=base.reference, report=report
        )
    change = measure(fresh, base)
    (fresh / "loss.jsonl").write_text("".join(json.dumps(e) + "\n" for e in fit.history))
    (fresh / "loss.svg").write_text(curve(fit.history), encoding="utf-8")
    tokens = int(fit.history[-1]["tokens"])
    before = next((int(e["tokens"]) for e in reversed(fit.history) if e["step"] <= fit.resumed_from), 0)
    artefact.finish(
        fresh,
        KIND,
        inputs=made_from[0],
        settings=made_from[1],
        figures={
            "steps": int(fit.history[-1]["step"]),
            "tokens": tokens,
            "seconds": round(fit.seconds, 2),
            "tokens_per_second": round((tokens - before) / fit.seconds, 1),
            "resumed_from": fit.resumed_from,
            "first_loss": fit.history[0]["loss"],
            "last_loss": fit.history[-1]["loss"],
            "eval_loss_base": fit.eval_before,
            "eval_loss": fit.eval_after,
            "trainable_parameters": fit.trainable,
            **change,
            "hardware": machine.trains_on,
            "versions": _versions(),
        },
    )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
