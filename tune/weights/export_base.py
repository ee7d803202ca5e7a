"""The recipe's base as a checkpoint: [base] in, work/base with manifest and canary out, which `serve run` serves.

So that base and tuned go through the same door, and adapters lie beside the base that they were trained on. Weights are
written as the tuned export writes those that no adapter changes: in the base's own layout, floats in bf16.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tune import artefact, checkpoint
from tune.checkpoint import Checkpoint, Facts
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import canary, files, resume, shards, tensors
from tune.weights.base_model import Base, base_of
from tune.weights.tensors import Weights
from tune.weights.values import Values

KIND = "base"  # its folder below work


def export(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Checkpoint:
    """Make work/base, or keep it when it is of the same base and prompt date. Figures: tensors, bytes.

    Raises UserError when the recipe's base is a nano, which is a checkpoint already, or is not whole; on values that
    are no number; and on a disk that is too small, where the next run goes on.
    """
    base = base_of(recipe)
    if base.reference == "nano":
        raise UserError("a nano is a checkpoint already", fix=f"serve run {base.folder}")
    specs, config = shards.headers(base.folder), shards.config(base.folder)
    kind: Weights = "mxfp4" if tensors.is_mxfp4(config) else "merged"
    folder, part = recipe.work / KIND, recipe.work / f"{KIND}.part"
    inputs, settings = {"base": base.digest}, {"export": {"format": KIND}}
    facts = Facts(name=_name(base), base=base.name, format=kind, prompt_date=recipe.dataset.date)
    stated, needed = checkpoint.stated(settings, facts), [checkpoint.CANARY]
    if artefact.is_current(folder, checkpoint.KIND, inputs=inputs, settings=stated, files=needed):
        shutil.rmtree(part, ignore_errors=True)
        current = checkpoint.read(folder)
        report(f"{KIND}: {current.served_name} is there already")
        return current
    if faults := tensors.differences(base.folder, specs, tensors.expected(config), dtypes=False):
        raise UserError(f"{base.folder} is no whole GPT-OSS", why=str(faults[0]), fix="copy the model again")

    def fill(fresh: Path) -> None:
        key = {"inputs": inputs, "format": KIND, "version": artefact.VERSION, "shard_bytes": files.SHARD_BYTES}
        state = resume.open_part(part, key)
        with Values(base.folder, specs, {}) as values:
            made = files.write(state, values, config, kind, report)
        report(f"{KIND}: asking the weights about a fixed prompt, to compare with what an engine makes of them")
        canary.write(state.folder, recipe.dataset.date)
        state.place([*made.names, checkpoint.CANARY], fresh)
        figures = {name: made.figures[name] for name in ("tensors", "bytes")}
        checkpoint.finish(fresh, **facts, inputs=inputs, settings=settings, figures=figures, known=made.written)

    artefact.remake_folder(folder, checkpoint.KIND, fill)
    shutil.rmtree(part, ignore_errors=True)
    return checkpoint.read(folder)


def _name(base: Base) -> str:
    """What clients call it: the last part of a Hub id, as far as a name may hold it."""
    plain = base.name.partition("@")[0].rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9.-]+", "-", plain).strip(".-")[:41] or "base"
