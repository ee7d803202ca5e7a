"""The export stage: adapter + base -> a checkpoint in work/merged, work/mxfp4 or work/lora, checkpoint.json last.

Weights are streamed into work/<format>.part, which a killed run leaves and the next one takes up. How each tensor is
made is plan.py's, the arithmetic lora's and mxfp4's, what engines take of an adapter adapter.py's. Refuses an adapter
of another base, one that changes nothing, one that MXFP4 would erase, and a disk that is too small.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tune import artefact, checkpoint
from tune.artefact import Artefact
from tune.checkpoint import Checkpoint, Facts, Format
from tune.data import dataset, row
from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import adapter, canary, files, held_out, lora, resume, shards, tensors
from tune.weights.base_model import Base, base_of, require_own
from tune.weights.plan import Tally, moves
from tune.weights.values import Values

SURVIVES = 0.9  # of what an adapter does to experts: less is refused
ASKED = 16  # held-out rows, spread over all pages; held_out.TOKENS bounds them further


def export(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Checkpoint:
    """Make work/<format>, or keep it when its inputs and facts are the same.

    Figures: tensors, bytes, values changed in bf16; for experts quantized here the relative RMSE by projection, for
    experts that the adapter changes how much of it was written (`expert_deltas`), for both how far that moves the model
    on held-out rows (`held_out`). Raises UserError as the module says, on values that are no number, and when the
    adapter or the base is missing, unfinished or was changed.
    """
    if recipe.export.format == "gguf":
        raise RuntimeError("gguf is weights/gguf.py's to make")  # a bug of ours
    kind: Format = recipe.export.format
    folder, source, part = recipe.work / kind, recipe.work / "adapter", recipe.work / f"{kind}.part"
    trained = artefact.read(source, "adapter", remake="tune train")
    base = base_of(recipe)
    require_own(trained, base, recipe.dataset.date)
    if (recipe.work / dataset.KIND).exists() and trained.inputs.get("dataset") != dataset.read(recipe).digest:
        raise UserError("the adapter in work/adapter was trained on another dataset", fix="tune train")
    inputs = {"adapter": trained.digest, "base": base.digest}
    settings = {"export": recipe.export.model_dump(mode="json", exclude_defaults=True) | {"format": kind}}
    facts = Facts(name=recipe.project.name, base=base.name, format=kind, prompt_date=recipe.dataset.date)
    stated, needed = checkpoint.stated(settings, facts), [checkpoint.CANARY]
    if artefact.is_current(folder, checkpoint.KIND, inputs=inputs, settings=stated, files=needed):
        shutil.rmtree(part, ignore_errors=True)  # of other inputs
        current = checkpoint.read(folder)
        report(f"{kind}: {current.served_name} is there already")
        return current
    artefact.verify(source, trained, remake="tune train")

    if kind != "mxfp4" and trained.figures.get("quantized"):
        report(f"{kind}: it was trained through MXFP4 rounding, and only --format mxfp4 is what was trained")
    deltas = lora.read(source)
    specs, config = shards.headers(base.folder), shards.config(base.folder)
    faults = tensors.differences(base.folder, specs, tensors.expected(config), dtypes=False)  # they become bf16
    problems = [*map(str, faults), *lora.fits(deltas, specs)]
    if problems:
        raise UserError(
            f"{base.folder} and the adapter do not fit together", why="; ".join(problems[:3]), fix="tune train"
        )

    def fill(fresh: Path) -> None:
        written: dict[str, artefact.Written] = {}
        with Values(base.folder, specs, deltas) as values:
            if kind == "lora":
                figures = _adapter(fresh, source, base, values)
                report(f"{kind}: asking the weights about a fixed prompt, to compare with what an engine makes of them")
                canary.write(fresh, recipe.dataset.date, values)
            else:
                key = {"inputs": inputs, "format": kind, "version": artefact.VERSION, "shard_bytes": files.SHARD_BYTES}
                state = resume.open_part(part, key)
                made = files.write(state, values, config, kind, report)
                tally, written, figures = made.tally, made.written, made.figures | made.tally.figures()
                if not any(tally.changed.values()):
                    raise lora.unchanged(source, "every weight in bf16 equals the base's")
                _require_survival(recipe, trained, tally, figures)
                if kind == "mxfp4" and (tally.errors or tally.deltas) and (rows := _rows(recipe, config)):
                    report(f"{kind}: asking both models about held-out rows, to see what quantization did")
                    with Values(state.folder) as packed, Values(base.folder, specs) as plain:
                        figures["held_out"] = held_out.figures(plain, values, packed, rows)
                    _require_nearer(recipe, figures)
                report(f"{kind}: asking the weights about a fixed prompt, to compare with what an engine makes of them")
                canary.write(state.folder, recipe.dataset.date)
                state.place([*made.names, checkpoint.CANARY], fresh)
        checkpoint.finish(fresh, **facts, inputs=inputs, settings=settings, figures=figures, known=written)

    try:
        artefact.remake_folder(folder, checkpoint.KIND, fill)
    except files.Unfinished:
        raise
    except UserError:
        shutil.rmtree(part, ignore_errors=True)  # the same command would end the same way
        raise
    shutil.rmtree(part, ignore_errors=True)
    return checkpoint.read(folder)


def _require_survival(recipe: Recipe, trained: Artefact, tally: Tally, figures: dict[str, Any]) -> None:
    """Raise UserError when MXFP4 would erase what the adapter does to experts.

    Trained through the quantizer, what is written is what was trained, whatever the first figure says.
    """
    if not tally.deltas:
        return
    through = trained.figures.get("quantized") is True
    figures["quantized_in_training"] = through
    if tally.survival >= SURVIVES or through or recipe.export.allow_lossy:
        return
    raise UserError(
        f"MXFP4 would keep {max(tally.survival, 0):.0%} of what the adapter does to the experts",
        why="a change that is small beside the steps between FP4 values is rounded away",
        fix="tune export --format merged, or --format lora; or --allow-lossy to write it all the same",
    )


def _require_nearer(recipe: Recipe, figures: Mapping[str, Any]) -> None:
    """Raise UserError when rounding moves the model further on held-out rows than the adapter does.

    Of experts whose change was rounded afterwards: what survives of it on average may still drown in the noise.
    """
    by_rounding, by_adapter = (figures["held_out"][f"kl_by_{what}"] for what in ("quantization", "adapter"))
    if figures.get("quantized_in_training", True) or by_rounding < by_adapter or recipe.export.allow_lossy:
        return
    raise UserError(
        "MXFP4 would move the model further than the adapter does",
        why=f"on held-out rows rounding costs {by_rounding:.3g} nats a token, the adapter moves {by_adapter:.3g}",
        fix="tune export --format merged, or --format lora; or --allow-lossy to write it all the same",
    )


def _rows(recipe: Recipe, config: Mapping[str, Any]) -> list[Row]:
    """Held-out rows of the recipe's dataset, [] when there is none."""
    path = recipe.work / dataset.KIND / "eval.jsonl"
    rows = row.read(path, tensors.shape_of(config).vocab_size) if path.is_file() else []
    return held_out.chosen(rows[:: max(1, len(rows) // ASKED)])


def _adapter(fresh: Path, source: Path, base: Base, values: Values) -> dict[str, Any]:
    """The adapter beside the base's config and tokenizer; the base itself stays where it is."""
    if wrong := adapter.unservable(values.deltas):
        raise UserError(
            "an engine cannot serve this adapter beside its base", why=wrong, fix="tune export --format merged"
        )
    changed = moves(values)
    if not any(changed.values()):
        raise lora.unchanged(source, "every weight in bf16 equals the base's")
    companions = [base.folder / "config.json", *files.companions(base.folder)]
    size = (source / lora.FILES[1]).stat().st_size
    shards.require_space(fresh, size + sum(p.stat().st_size for p in companions))
    for path in companions[1:]:
        shutil.copyfile(path, fresh / path.name)  # not its mode: safetensors makes files that only their owner reads
    config = shards.config(base.folder)
    settings = {**config, "transformers_version": files.transformers_version(config)}
    (fresh / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    adapter.write(fresh, source, values.deltas, name="../nano" if base.reference == "nano" else base.reference)
    whole = not any(delta.is_experts for delta in values.deltas.values())
    return {
        "tensors": 2 * len(values.deltas),
        "bytes": (fresh / lora.FILES[1]).stat().st_size,
        "changed_tensors": sum(n > 0 for n in changed.values()),
        **({"changed_values": sum(changed.values())} if whole else {}),
    }
