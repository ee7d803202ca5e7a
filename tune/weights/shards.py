"""Safetensors shards of a GPT-OSS: reading its config and its files' headers.

In: a folder. Out: the stored tensors and what is wrong with the files. Which tensors there must be is tensors.py's to
say. Reading headers needs no torch.
"""

import json
import shutil
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from tune.errors import UserError, reason
from tune.weights.tensors import BITS, Fault, Tensor, packing

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"  # the one file of a model without an index
LONGEST_HEADER = 100_000_000  # bytes; safetensors reads no longer one
AGAIN = "copy the model again"
_WHICH = "move the file that is not the model's out of the folder"
_FOREIGN = {  # by quant_method: the layout that people have by this name, and what to take for it
    "bitsandbytes": (
        "it is laid out as Unsloth's 4-bit copies (unsloth/gpt-oss-20b-unsloth-bnb-4bit): each expert by itself, its"
        " MXFP4 rounded again",
        'set base.model = "openai/gpt-oss-20b" (MXFP4) or "unsloth/gpt-oss-20b-BF16", and base.revision to its commit',
    ),
}


def read_config(folder: Path) -> tuple[dict[str, Any], list[Fault]]:
    """config.json, {} when it cannot be read, and why it is none of a GPT-OSS."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except FileNotFoundError:
        return {}, [Fault(f"{folder} holds no model", "it has no config.json")]
    except (ValueError, OSError, RecursionError) as e:
        return {}, [Fault(f"{path} cannot be read", reason(e))]
    kind = found.get("model_type")
    return found, [] if kind == "gpt_oss" else [Fault(f"{path} is not of a GPT-OSS", f"its model_type is {kind!r}")]


def config(folder: Path) -> dict[str, Any]:
    """config.json of a GPT-OSS. Raises UserError when it is missing, not JSON, or of another model."""
    found, faults = read_config(folder)
    if faults:
        raise faults[0].error("check base.model")
    if packing(found) not in (None, "mxfp4"):
        what = f"{folder}/config.json: weights in {packing(found)!r} are not read"
        why, fix = _FOREIGN.get(str(packing(found)), ("", "take the model's bf16 or MXFP4 release"))
        raise UserError(what, why=why, fix=fix)
    return found


def headers(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the model in the folder, by its files' headers. Raises UserError when `survey` finds a fault."""
    found, faults = survey(folder)
    if faults:
        raise faults[0].error(AGAIN)
    return found


def survey(folder: Path) -> tuple[dict[str, Tensor], list[Fault]]:
    """Every tensor that can be read of the model in the folder, and all that is wrong with its files.

    Missing and damaged files, an index that does not name what is there, tensors that are there twice, and weights
    beside those of the model: engines load every .safetensors file, and of two tensors of a name the last.
    """
    placed, faults = _index(folder)
    if faults:
        return {}, faults
    there = {p.name for p in folder.glob("*.safetensors")}
    own = {WHOLE} if placed is None else set(placed.values())
    if placed is None and WHOLE not in there:
        return {}, [Fault(f"{folder} holds no weights", f"no {WHOLE}, and no {INDEX} that names its parts")]
    if unread := sorted(own - there):
        faults.append(Fault(f"{folder} lacks {', '.join(unread[:3])}", f"named in {INDEX}"))
    if extra := sorted(there - own):
        why = f"{WHOLE} is the whole model" if placed is None else f"{INDEX} does not name it"
        faults.append(Fault(f"{folder} holds weights beside its model's: {', '.join(extra[:3])}", why, _WHICH))
    found: dict[str, Tensor] = {}
    for file in sorted(own & there):
        try:
            held = read_header(folder / file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as e:
            faults.append(Fault(f"{folder / file} is damaged", reason(e)))
            unread.append(file)
            continue
        if twice := sorted(held.keys() & found.keys()):
            why = f"e.g. {twice[0]}, in {found[twice[0]].file} and {file}; an engine keeps the one that it reads last"
            faults.append(Fault(f"{folder} holds {len(twice)} tensors twice", why))
        found |= held
    if placed is not None:
        names = found.keys() | {name for name, file in placed.items() if file not in unread}
        if wrong := sorted(n for n in names if n not in found or placed.get(n) != found[n].file):
            why = f"{len(wrong)} names differ: {', '.join(wrong[:3])}"
            faults.append(Fault(f"{folder / INDEX} does not match the shards", why))
    return found, faults


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors that a file's header lists. Raises ValueError and its kin where safetensors would refuse the file."""
    size = path.stat().st_size
    with path.open("rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        if length > min(size, LONGEST_HEADER):
            raise ValueError("its header is longer than the file, or than any that is read")
        header = json.loads(f.read(length).decode())
    if not all(isinstance(text, str) for text in (header.pop("__metadata__", None) or {}).values()):
        raise ValueError("its metadata is no text")
    tensors, places = {}, {}
    for name, stored in header.items():
        shape, dtype, (begin, end) = stored["shape"], stored["dtype"], stored["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"{name} has the shape {shape}")
        if dtype not in BITS:
            raise ValueError(f"{name} has the dtype {dtype!r}")
        if not all(type(n) is int and n >= 0 for n in (begin, end)):
            raise ValueError(f"{name} lies from {begin} to {end}")
        tensors[name] = Tensor(tuple(shape), dtype, path.name, 8 + length + begin)
        places[name] = begin, end
    at = 0
    for name, (begin, end) in sorted(places.items(), key=lambda item: item[1]):
        if begin != at:
            raise ValueError(f"{name} begins at {begin}, where the tensor before it ends at {at}")
        if 8 * (end - begin) != prod(tensors[name].shape) * BITS[tensors[name].dtype]:
            raise ValueError(f"{name} has {end - begin} bytes, its shape and dtype make {tensors[name].bytes}")
        at = end
    if 8 + length + at != size:
        raise ValueError(f"it has {size} bytes, its header describes {8 + length + at}")
    return tensors


def tensor(folder: Path, specs: Mapping[str, Tensor], name: str) -> Any:
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


def _index(folder: Path) -> tuple[dict[str, str] | None, list[Fault]]:
    """The file of each tensor as the index tells it, None without an index."""
    path = folder / INDEX
    if not path.is_file():
        return None, []
    try:
        names = json.loads(path.read_bytes())["weight_map"]
        if not isinstance(names, dict) or not names or not all(isinstance(file, str) for file in names.values()):
            raise ValueError("its weight_map does not name a file for each tensor")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        return None, [Fault(f"{path} cannot be read", reason(e))]
    return names, []
