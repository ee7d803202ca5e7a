"""What is wrong with a checkpoint folder and with the options to serve it with, apart from any machine.

In: a checkpoint, Options. Out: all problems at once, the architecture, the stored tensors. The same for `serve
preflight`, for `deploy check` and in the container. The engine itself skips weights it has no name for, reads a shard
that nobody named, and shows the model whatever prompt it likes; each such silent failure is a check here. Reads
headers, never loads a tensor, and digests nothing.
"""

import json
from collections.abc import Iterator, Mapping
from math import gcd
from pathlib import Path
from typing import NamedTuple

from serve.command import Options
from serve.findings import Finding, finding, of_error, of_fault
from tune import checkpoint as checkpoints
from tune import harmony
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.weights import structure
from tune.weights.tensors import Shape, Tensor, shape_of


class Contents(NamedTuple):
    """What was found. `shape` is None where config.json describes no GPT-OSS; `tensors` as their files' headers say."""

    problems: tuple[Finding, ...]
    shape: Shape | None
    tensors: Mapping[str, Tensor]


def shape(folder: Path) -> Shape:
    """The architecture of a checkpoint that was looked at before."""
    return shape_of(json.loads((folder / "config.json").read_bytes()))


def look(found: Checkpoint, options: Options, *, remake: str = "") -> Contents:
    """Every problem of a checkpoint with these options. Raises nothing that a user could cause.

    `remake` is the fix of a damaged folder; not given, it is the command that makes such a checkpoint.
    """
    inside = _look(found, options)
    mended = (p if p.fix else p.model_copy(update={"fix": remake or found.remake}) for p in inside.problems)
    return inside._replace(problems=tuple(mended))


def _look(found: Checkpoint, options: Options) -> Contents:
    folder = found.folder
    problems = list(_prompt(found))
    if found.format == "lora":
        fix = f"serve run BASE --adapter {found.name}={folder}; or tune export --format merged"
        why = "an adapter alone holds no model"
        problems.append(finding("S003", f"{folder} holds a LoRA adapter", why=why, fix=fix))
        return Contents(tuple(problems), None, {})
    try:
        checkpoints.canary(found)  # without it the engine's answers could not be proven at the start
    except UserError as e:
        problems.append(of_error("S004", e))
    inside = structure.look(folder, found.format)
    problems += map(of_fault, inside.faults)
    if inside.shape:
        problems += _limits(inside.shape, options)
    return Contents(tuple(problems), inside.shape, inside.stored)


def _prompt(found: Checkpoint) -> Iterator[Finding]:
    if harmony.fingerprint(found.prompt_date) != found.prompt_fingerprint:
        why = f"rendered for {found.prompt_date}, this installation's prompt has another fingerprint"
        fix = "tune dataset, then tune train, then tune export" if found.base else ""
        yield finding("S002", "the checkpoint was trained on another prompt than would be served", why=why, fix=fix)


def _limits(shape: Shape, options: Options) -> Iterator[Finding]:
    """Whether the model holds what the options ask of it."""
    yield from _parallel(shape, options)
    longest = shape.max_position_embeddings
    if longest and options.max_model_len > longest:
        fix = f"[serve] max_model_len = {longest} in recipe.toml (serve run: or --max-model-len {longest})"
        yield finding("S040", f"max_model_len {options.max_model_len} is over the model's {longest}", fix=fix)


def _parallel(shape: Shape, options: Options) -> Iterator[Finding]:
    """What the engine asserts of GPUs that share a model."""
    ways, stages, models = (options.tuning.model_dump()[f"{kind}_parallel"] for kind in ("tensor", "pipeline", "data"))
    shared = {"num_attention_heads": ways, "num_key_value_heads": ways, "vocab_size": ways}
    shared["intermediate_size"] = ways * stages * models  # the experts are shared by data-parallel GPUs, too
    sizes = {name: getattr(shape, name) for name in shared}
    fix = f"--tensor-parallel {gcd(ways, *sizes.values())}" + " --data-parallel 1" * (models > 1)
    fix += ", and no --pipeline-parallel-size" * (stages > 1)
    for name, count in shared.items():
        if sizes[name] % count:
            what = f"{name} {sizes[name]} cannot be shared out among {count} GPUs"
            why = "tensor, pipeline and data parallel sizes must divide it"
            yield finding("S041", what, why=why, fix=fix)
    if stages > shape.num_hidden_layers:
        fix = f"-- --pipeline-parallel-size {shape.num_hidden_layers}, or fewer"
        yield finding("S041", f"{shape.num_hidden_layers} layers make no {stages} stages", fix=fix)
