"""Safetensors shards of a GPT-OSS: which tensors there must be, reading their headers, writing them as a stream.

In: a config or a folder. Out: names, dtypes and shapes, and shard files with their index. Knows nothing of training.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from tune.errors import UserError, reason

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"  # the one file of a model without an index
SIZES = {"F32": 4, "BF16": 2, "F16": 2, "U8": 1}  # bytes a value of the dtypes that a GPT-OSS checkpoint may hold
_WHICH = "move the file that is not the model's out of the folder"
# The numbers of a config that sizes follow from, and more than any model has of each.
_SIZES = dict.fromkeys(("hidden_size", "intermediate_size", "num_local_experts", "vocab_size", "head_dim"), 2**31)
_SIZES |= dict.fromkeys(("num_attention_heads", "num_key_value_heads"), 2**31) | {"num_hidden_layers": 1024}
PROJECTIONS = ("gate_up_proj", "down_proj")


class Spec(NamedTuple):
    """One tensor: its dtype as safetensors names it, its shape, and the file it lies in."""

    dtype: str
    shape: tuple[int, ...]
    file: str = ""

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * SIZES[self.dtype]


class Item(NamedTuple):
    """Tensors that are made together: what they will be, and the function that makes them."""

    specs: dict[str, Spec]
    make: Callable[[], Mapping[str, Any]]


def is_mxfp4(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes expert weights in MXFP4."""
    return _method(config) == "mxfp4"


def config(folder: Path) -> dict[str, Any]:
    """config.json of a GPT-OSS. Raises UserError when it is missing, not JSON, or of another model."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no model", why="it has no config.json", fix="check base.model") from None
    except (ValueError, OSError, RecursionError) as e:
        raise UserError(f"{path} cannot be read", why=str(e), fix="restore the model's files") from None
    kind = found.get("model_type") if isinstance(found, dict) else None
    if kind != "gpt_oss":
        raise UserError(f"{path} is not of a GPT-OSS", why=f"its model_type is {kind!r}", fix="check base.model")
    method = _method(found)
    if method not in (None, "mxfp4"):
        raise UserError(f"{path}: weights in {method!r} are not read", fix="take the model's bf16 or MXFP4 release")
    return dict(found)


def _method(config: Mapping[str, Any]) -> object:
    """How a config.json says that weights are packed; None: not at all."""
    packed = config.get("quantization_config")
    return packed.get("quant_method") if isinstance(packed, dict) else packed or None


def expected(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor's name and shape, as transformers and vLLM read them, for bf16 and for MXFP4 experts.

    bf16 experts are [expert, in, out]; MXFP4 experts are the transpose in blocks, [expert, out, in/32, 16].
    Raises UserError naming the key that a config lacks or that holds no size, or sizes that MXFP4 cannot hold.
    """
    for key in _SIZES:
        if key in config and (type(config[key]) is not int or not 0 < config[key] <= _SIZES[key]):
            raise UserError(f"config.json has {key} {config[key]!r}", fix="restore the model's config.json")
    try:
        hidden, inner, experts = (config[k] for k in ("hidden_size", "intermediate_size", "num_local_experts"))
        vocabulary, layers, dim = (config[k] for k in ("vocab_size", "num_hidden_layers", "head_dim"))
        heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    except KeyError as e:
        raise UserError(f"config.json lacks {e.args[0]}", fix="restore the model's config.json") from None
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for i in range(layers):
        layer = f"model.layers.{i}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{norm}.weight"] = (hidden,)
        for name, out in (("q", heads * dim), ("k", kv * dim), ("v", kv * dim), ("o", hidden)):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (out, heads * dim if name == "o" else hidden)
            if config.get("attention_bias", True):
                shapes[f"{layer}.self_attn.{name}_proj.bias"] = (out,)
        shapes[f"{layer}.self_attn.sinks"] = (heads,)
        shapes[f"{layer}.mlp.router.weight"] = (experts, hidden)
        shapes[f"{layer}.mlp.router.bias"] = (experts,)
        for name, fan_in, out in (("gate_up_proj", hidden, 2 * inner), ("down_proj", inner, hidden)):
            stem = f"{layer}.mlp.experts.{name}"
            shapes[f"{stem}_bias"] = (experts, out)
            if not is_mxfp4(config):
                shapes[stem] = (experts, fan_in, out)
                continue
            if fan_in % 32:
                raise UserError(
                    f"{stem} does not fit MXFP4",
                    why=f"{fan_in} inputs are no multiple of 32",
                    fix='set export.format = "merged"',
                )
            shapes[f"{stem}_blocks"] = (experts, out, fan_in // 32, 16)
            shapes[f"{stem}_scales"] = (experts, out, fan_in // 32)
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = (vocabulary, hidden)
    return shapes


def headers(folder: Path) -> dict[str, Spec]:
    """Every tensor in the folder's shards, from their headers alone.

    Raises UserError on a missing, truncated or foreign file, on an index that does not name what is there, and on
    weights beside those of the model: engines load every .safetensors file, and of two tensors of a name the last.
    """
    from safetensors import SafetensorError, safe_open

    named = _index(folder)
    own = set(named.values()) or {WHOLE}
    files = sorted(own | {p.name for p in folder.glob("*.safetensors")})
    if not named and not (folder / WHOLE).is_file():
        why = f"no {WHOLE}, and no {INDEX} that names its parts"
        raise UserError(f"{folder} holds no weights", why=why, fix="copy the model again")
    found: dict[str, Spec] = {}
    for file in files:
        try:
            with safe_open(folder / file, "pt") as f:
                for name in f.keys():  # noqa: SIM118 - not a dict
                    if name in found:
                        where = f"{found[name].file} and {file}"
                        raise UserError(f"{folder} holds two of {name}", why=f"in {where}", fix=_WHICH)
                    part = f.get_slice(name)
                    found[name] = Spec(part.get_dtype(), tuple(part.get_shape()), file)
        except FileNotFoundError:
            raise UserError(
                f"{folder / file} is missing", why=f"{INDEX} names it", fix="copy the model again"
            ) from None
        except (SafetensorError, OSError) as e:
            raise UserError(f"{folder / file} is damaged", why=str(e), fix="copy the model again") from None
    wrong = sorted(n for n in named.keys() | found.keys() if named.get(n) != found.get(n, Spec("", ())).file)
    if named and wrong:
        raise UserError(
            f"{folder / INDEX} does not match the shards",
            why=f"{len(wrong)} names differ: {', '.join(wrong[:3])}",
            fix="copy the model again",
        )
    if extra := sorted(set(files) - own):
        why = f"{INDEX} does not name it" if named else f"{WHOLE} is the whole model"
        raise UserError(f"{folder} holds weights beside its model's: {', '.join(extra[:3])}", why=why, fix=_WHICH)
    return found


def differences(found: Mapping[str, Spec], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is wrong with the tensors found, one line each: missing, not known, or of another shape."""
    lines = [f"{name} is missing" for name in shapes if name not in found]
    lines += [f"{name} is not a tensor of this model" for name in found if name not in shapes]
    return lines + [
        f"{name} is {list(found[name].shape)}, not {list(shape)}"
        for name, shape in shapes.items()
        if name in found and found[name].shape != shape
    ]


def tensor(folder: Path, specs: Mapping[str, Spec], name: str) -> Any:
    """One torch tensor, read from its shard."""
    from safetensors import safe_open

    with safe_open(folder / specs[name].file, "pt") as f:
        return f.get_tensor(name)


def require_space(folder: Path, needed: int) -> None:
    """Raise UserError when the disk under `folder` has not `needed` bytes free."""
    free = shutil.disk_usage(next(p for p in [folder, *folder.absolute().parents] if p.exists())).free
    if needed > free:
        raise UserError(
            f"not enough disk under {folder}",
            why=f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free",
            fix="free some space, or set project.work to a larger disk",
        )


def write(folder: Path, items: Sequence[Item], *, shard_bytes: int, report: Callable[[str], None]) -> dict[str, Spec]:
    """Make and write the items in order, in shards of at most `shard_bytes` (one item may exceed it).

    At most one shard is in memory. Returns what the files' headers say afterwards; raises RuntimeError when that is
    not what the items announced.
    """
    from safetensors.torch import save_file

    shards = _split(items, shard_bytes)
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = WHOLE if len(shards) == 1 else f"model-{i:05}-of-{len(shards):05}.safetensors"
        report(f"writing {file}, {i} of {len(shards)}")
        made = {name: value.contiguous() for item in shard for name, value in item.make().items()}
        save_file(made, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)  # safetensors writes 0600; containers run as another user
        weight_map |= dict.fromkeys(made, file)
    planned = {name: spec for item in items for name, spec in item.specs.items()}
    if len(shards) > 1:
        total = {"total_size": sum(s.nbytes for s in planned.values())}
        (folder / INDEX).write_text(json.dumps({"metadata": total, "weight_map": weight_map}, indent=1) + "\n")
    written = headers(folder)
    if {n: s[:2] for n, s in written.items()} != {n: s[:2] for n, s in planned.items()}:
        raise RuntimeError("the shards written are not those planned")  # a bug of ours
    return written


def _split(items: Iterable[Item], shard_bytes: int) -> list[list[Item]]:
    shards: list[list[Item]] = [[]]
    size = 0
    for item in items:
        more = sum(s.nbytes for s in item.specs.values())
        if shards[-1] and size + more > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += more
    return shards


def _index(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        names: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
            raise ValueError("its weight_map does not name a file for each tensor")
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(f"{path} cannot be read", why=reason(e), fix="copy the model again") from None
    return names
