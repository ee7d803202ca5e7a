"""What is wrong with a checkpoint folder and with the options to serve it with, apart from any machine.

In: a checkpoint, Options. Out: all problems at once, the architecture, the stored tensors. The same for `serve
preflight`, for `deploy check` and in the container. The engine itself skips weights it has no name for, reads a shard
that nobody named, and shows the model whatever prompt it likes; each such silent failure is a check here. Reads
headers, never loads a tensor, and digests nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from serve.command import Options
from tune import checkpoint as checkpoints
from tune import harmony
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.weights import structure
from tune.weights.tensors import Shape, Tensor


class Problem(BaseModel):
    """One thing found. An error stops the start, a warning is told."""

    model_config = ConfigDict(frozen=True)

    level: Literal["error", "warning"]
    what: str
    why: str = ""
    fix: str = ""


class Contents(NamedTuple):
    """What was found. `shape` is None where config.json describes no GPT-OSS; `tensors` as their files' headers say."""

    problems: tuple[Problem, ...]
    shape: Shape | None
    tensors: Mapping[str, Tensor]


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
        why = "an adapter alone holds no model, and this engine has no adapter kernel for GPT-OSS experts on a CPU"
        problems.append(error(f"{folder} holds a LoRA adapter", why, "tune export --format merged"))
        return Contents(tuple(problems), None, {})
    try:
        checkpoints.canary(found)  # without it the engine's answers could not be proven at the start
    except UserError as e:
        problems.append(error(e.what, e.why, e.fix))
    inside = structure.look(folder, found.format)
    problems += [error(*fault) for fault in inside.faults]
    if inside.shape:
        problems += _limits(inside.shape, options)
    return Contents(tuple(problems), inside.shape, inside.stored)


def require(problems: Sequence[Problem], what: str) -> None:
    """Raise one UserError that lists every error among the problems."""
    errors = [p for p in problems if p.level == "error"]
    if len(errors) == 1:
        raise UserError(errors[0].what, why=errors[0].why, fix=errors[0].fix)
    if errors:
        lines = [f"{p.what}{f' ({p.why})' if p.why else ''}: {p.fix}" for p in errors]
        raise UserError(what, why="\n       ".join(lines))


def error(what: str, why: str = "", fix: str = "") -> Problem:
    """A problem that stops the start. Without a fix, the folder must be made again."""
    return Problem(level="error", what=what, why=why, fix=fix)


def _prompt(found: Checkpoint) -> Iterator[Problem]:
    if harmony.fingerprint(found.prompt_date) != found.prompt_fingerprint:
        why = f"rendered for {found.prompt_date}, this installation's prompt has another fingerprint"
        fix = "tune dataset, then tune train, then tune export" if found.base else ""
        yield error("the checkpoint was trained on another prompt than would be served", why, fix)


def _limits(shape: Shape, options: Options) -> Iterator[Problem]:
    """Whether the model holds what the options ask of it."""
    yield from _parallel(shape, options)
    longest = shape.max_position_embeddings
    if longest and options.max_model_len > longest:
        fix = f"[serve] max_model_len = {longest} in recipe.toml (serve run: or --max-model-len {longest})"
        yield error(f"max_model_len {options.max_model_len} is over the model's {longest}", "", fix)


def _parallel(shape: Shape, options: Options) -> Iterator[Problem]:
    """What the engine asserts of GPUs that share a model."""
    ways, stages = options.tuning.tensor_parallel, options.tuning.pipeline_parallel
    for name, count in (
        ("num_attention_heads", ways),
        ("num_key_value_heads", ways),
        ("vocab_size", ways),
        ("intermediate_size", ways * stages),
    ):
        if getattr(shape, name) % count:
            what = f"{name} {getattr(shape, name)} cannot be shared out among {count} GPUs"
            fix = "after the --: sizes that divide it, or neither of the two"
            yield error(what, "--tensor-parallel-size and --pipeline-parallel-size must divide it", fix)
    if stages > shape.num_hidden_layers:
        fix = f"after the --: --pipeline-parallel-size {shape.num_hidden_layers} or less"
        yield error(f"{shape.num_hidden_layers} layers make no {stages} stages", "", fix)
