"""Whether the files of a checkpoint are a whole GPT-OSS: the checks that `tune check` and serving have in common.

In: a folder, the format that its manifest names. Out: architecture, stored tensors, and all that is wrong. Reads
headers and the tokenizer, never a tensor.
"""

import json
from pathlib import Path
from typing import NamedTuple

from tune import harmony
from tune.checkpoint import Format
from tune.errors import UserError, reason
from tune.weights import architecture, shards, tensors, tokenizer
from tune.weights.tensors import Fault, Kind, Shape, Tensor


class Structure(NamedTuple):
    """What was found. `shape` is None where config.json describes no GPT-OSS; `stored` as the files' headers say."""

    shape: Shape | None
    stored: dict[str, Tensor]
    faults: list[Fault]


def look(folder: Path, format: Format) -> Structure:
    """All that is wrong with config, weights, tokenizer and ends. An adapter's base and weights are not looked at."""
    config, faults = shards.read_config(folder)
    faults += _of("tokenizer", tokenizer.faults(folder))
    faults += _of("ends", [] if format == "lora" else _ends(folder))
    stored, damage = ({}, []) if format == "lora" else shards.survey(folder)
    faults += _of("files", damage)
    try:
        shape = tensors.shape_of(config) if config else None
    except UserError as e:
        return Structure(None, stored, [*faults, Fault(e.what, e.why)])
    if shape is None:
        return Structure(None, stored, faults)
    faults += architecture.unservable(folder / "config.json", config, shape, format)
    unread = any(not fault.fix for fault in damage)  # what only lies beside the model has one, and hides nothing
    if format != "lora" and not unread:
        try:
            faults += tensors.differences(folder, stored, tensors.tensors(shape, format))
        except UserError as e:
            faults.append(Fault(e.what, e.why))
    return Structure(shape, stored, faults)


def _of(kind: Kind, faults: list[Fault]) -> list[Fault]:
    return [fault._replace(kind=kind) for fault in faults]


def _ends(folder: Path) -> list[Fault]:
    """Whether generation_config.json tells an engine where an answer ends."""
    path = folder / "generation_config.json"
    try:
        told = json.loads(path.read_bytes())
        if not isinstance(told, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as e:
        return [Fault(f"{path} cannot be read", reason(e))]
    ends = told.get("eos_token_id")
    missing = [end for end in (harmony.RETURN, harmony.CALL) if end not in (ends if isinstance(ends, list) else [ends])]
    why = "without them an answer runs on to the token limit"
    return [Fault(f"{path} lacks end ids {missing}", why)] if missing else []
