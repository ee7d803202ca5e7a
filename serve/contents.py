"""What is wrong with a checkpoint folder and with the options to serve it with, apart from any machine.

In: a checkpoint, Options. Out: all problems at once, the architecture, the stored tensors. The same for `serve
preflight`, for `deploy check` and in the container. The engine itself skips weights it has no name for, reads a shard
that nobody named, and shows the model whatever prompt it likes; each such silent failure is a check here. Reads
headers, never loads a tensor, and digests nothing.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from serve import memory
from serve.command import Options
from serve.memory import Tensor
from tune import checkpoint as checkpoints
from tune import harmony
from tune.checkpoint import Checkpoint
from tune.errors import UserError, reason

INDEX = "model.safetensors.index.json"
SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2}  # bytes of one value; 1 for the rest
LONGEST_HEADER = 100_000_000  # bytes; safetensors reads no longer one
STORED = {1: "U8", 2: "BF16"}  # what the engine serves as it is


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
    shape: memory.Shape | None
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
    problems += _tokens(folder)
    tensors, damage = _headers(folder)
    problems += damage
    config, bad = _json(folder / "config.json")
    problems += bad
    try:
        shape = memory.shape_of(config)
    except ValidationError as e:
        first = e.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        problems += [error(f"{folder}/config.json is no GPT-OSS architecture", why)] if not bad else []
        return Contents(tuple(problems), None, tensors)
    problems += _config(found, config, shape, options)
    problems += _parallel(shape, options)
    if not damage:
        problems += _tensors(folder, tensors, memory.tensors(shape, found.format))
    return Contents(tuple(problems), shape, tensors)


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


def _json(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as e:
        return {}, [error(f"{path} cannot be read", str(e))]
    return data, []


def _prompt(found: Checkpoint) -> Iterator[Problem]:
    if harmony.fingerprint(found.prompt_date) != found.prompt_fingerprint:
        why = f"rendered for {found.prompt_date}, this installation's prompt has another fingerprint"
        fix = "tune dataset, then tune train, then tune export" if found.base else ""
        yield error("the checkpoint was trained on another prompt than would be served", why, fix)


def _config(found: Checkpoint, config: dict[str, Any], shape: memory.Shape, options: Options) -> Iterator[Problem]:
    folder = found.folder
    if config.get("model_type") != "gpt_oss":
        yield error(f"{folder}/config.json has model_type {config.get('model_type')!r}, not gpt_oss")
    packed = config.get("quantization_config")
    method = packed.get("quant_method") if isinstance(packed, dict) else packed
    if method != ("mxfp4" if found.format == "mxfp4" else None):
        why = "the engine would read the experts with the wrong loader"
        yield error(f"{folder}/config.json says quant_method {method!r} of {found.format} weights", why)
    if shape.vocab_size != harmony.VOCABULARY:
        yield error(f"{folder}/config.json has vocab_size {shape.vocab_size}, harmony has {harmony.VOCABULARY}")
    longest = shape.max_position_embeddings
    if longest and options.max_model_len > longest:
        fix = f"[serve] max_model_len = {longest} in recipe.toml (serve run: or --max-model-len {longest})"
        yield error(f"max_model_len {options.max_model_len} is over the model's {longest}", "", fix)
    generation, bad = _json(folder / "generation_config.json")
    yield from bad
    ends = generation.get("eos_token_id")
    missing = [end for end in (harmony.RETURN, harmony.CALL) if end not in (ends if isinstance(ends, list) else [ends])]
    if missing and not bad:
        why = "without them an answer runs on to the token limit"
        yield error(f"{folder}/generation_config.json lacks end ids {missing}", why)


def _parallel(shape: memory.Shape, options: Options) -> Iterator[Problem]:
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


def _headers(folder: Path) -> tuple[dict[str, Tensor], list[Problem]]:
    """Every stored tensor, from the files' headers; damage as problems. The engine reads files that no index names."""
    placed: dict[str, str] = {}
    files = sorted(p.name for p in folder.glob("*.safetensors"))
    problems: list[Problem] = []
    if (folder / INDEX).is_file():
        data, problems = _json(folder / INDEX)
        placed, bad = _placed(data.get("weight_map"), folder / INDEX)
        problems += [] if problems else bad
        named = set(placed.values())
        if missing := sorted(named - set(files)):
            problems.append(error(f"{folder} lacks {', '.join(missing[:3])}", f"named in {INDEX}"))
        if strange := sorted(set(files) - named):
            why = "the engine may read it too, and serve what it holds in place of the checkpoint's"
            problems.append(error(f"{folder} holds {', '.join(strange[:3])}, which {INDEX} does not name", why))
    tensors: dict[str, Tensor] = {}
    for name in files:
        try:
            held = read_header(folder / name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as e:
            problems.append(error(f"{folder / name} is damaged", reason(e)))
            continue
        if twice := sorted(held.keys() & tensors.keys()):
            why = f"e.g. {twice[0]} is in {name} and in another file; the engine keeps the one it reads last"
            problems.append(error(f"{folder} holds {len(twice)} tensors twice", why))
        elsewhere = [t for t in held if placed.get(t, name) != name]
        if elsewhere:
            why = f"e.g. {elsewhere[0]} lies in {name}"
            problems.append(error(f"{folder / INDEX} places {len(elsewhere)} tensors in other files", why))
        tensors |= held
    if not files and not problems:
        problems.append(error(f"{folder} holds no .safetensors file"))
    return tensors, problems


def _placed(told: object, path: Path) -> tuple[dict[str, str], list[Problem]]:
    """The file of each tensor, as an index tells it."""
    if not isinstance(told, dict) or not all(isinstance(file, str) for file in told.values()):
        return {}, [error(f"{path} cannot be read", "its weight_map does not name a file for each tensor")]
    return told, []


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors that a file's header lists. Raises ValueError and its kin when it is cut short or none."""
    size = path.stat().st_size
    with path.open("rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        if length > min(size, LONGEST_HEADER):
            raise ValueError("its header is longer than the file, or than any that is read")
        header = json.loads(f.read(length))
    header.pop("__metadata__", None)
    end = 8 + length + max((t["data_offsets"][1] for t in header.values()), default=0)
    if end != size:
        raise ValueError(f"it has {size} bytes, its header describes {end}")
    for name, stored in header.items():
        if not all(type(n) is int and n >= 0 for n in stored["shape"]):
            raise ValueError(f"{name} has the shape {stored['shape']}")
    tensors = {n: Tensor(tuple(t["shape"]), SIZES.get(t["dtype"], 1), t["dtype"]) for n, t in header.items()}
    for name, tensor in tensors.items():
        begin, end = header[name]["data_offsets"]
        if end - begin != tensor.bytes:
            raise ValueError(f"{name} has {end - begin} bytes, its shape and dtype make {tensor.bytes}")
    return tensors


def _tensors(folder: Path, have: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[Problem]:
    unknown, missing = sorted(have.keys() - expected.keys()), sorted(expected.keys() - have.keys())
    if missing:
        why = f"e.g. {missing[0]}; the engine would start with whatever is in memory there"
        yield error(f"{folder} lacks {len(missing)} of {len(expected)} tensors", why)
    if unknown:
        why = f"e.g. {unknown[0]}; the engine would skip them without a word"
        yield error(f"{folder} holds {len(unknown)} tensors that GPT-OSS has no place for", why)
    both = sorted(have.keys() & expected.keys())
    if wrong := [n for n in both if have[n].shape != expected[n].shape]:
        why = f"e.g. {wrong[0]} is {list(have[wrong[0]].shape)}, config.json makes it {list(expected[wrong[0]].shape)}"
        yield error(f"{folder} has {len(wrong)} tensors of the wrong shape", why)
    if wrong := [n for n in both if have[n].dtype != STORED[expected[n].element]]:
        meant = STORED[expected[wrong[0]].element]
        why = f"e.g. {wrong[0]} is {have[wrong[0]].dtype}, not {meant}; the engine would round without a word"
        yield error(f"{folder} has {len(wrong)} tensors of the wrong dtype", why)


def _tokens(folder: Path) -> Iterator[Problem]:
    names = {
        "<|start|>": harmony.START,
        "<|end|>": harmony.END,
        "<|message|>": harmony.MESSAGE,
        "<|channel|>": harmony.CHANNEL,
        "<|return|>": harmony.RETURN,
        "<|call|>": harmony.CALL,
    }
    try:
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as e:  # noqa: BLE001 - the library raises bare Exception for every kind of damage
        yield error(f"{folder}/tokenizer.json cannot be read", str(e)[:200])
        return
    wrong = [n for n, i in names.items() if tokenizer.token_to_id(n) != i]
    if wrong:
        why = f"{wrong[0]} is {tokenizer.token_to_id(wrong[0])}, harmony has {names[wrong[0]]}"
        yield error(f"{folder}/tokenizer.json is not GPT-OSS's: {', '.join(wrong)} have other ids", why)
