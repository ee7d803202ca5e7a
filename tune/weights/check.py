"""`tune check`: whether a finished checkpoint is whole and what an engine will find in it. Reads; changes nothing.

Structure first, so that a damaged file is named as what it is, then the digest of every file.
"""

import json
from pathlib import Path
from typing import Any

from tune import artefact, checkpoint, harmony
from tune.checkpoint import Checkpoint
from tune.errors import UserError, reason
from tune.weights import lora, shards
from tune.weights.shards import Spec

CONTROL = {
    "<|start|>": harmony.START,
    "<|end|>": harmony.END,
    "<|message|>": harmony.MESSAGE,
    "<|channel|>": harmony.CHANNEL,
    "<|return|>": harmony.RETURN,
    "<|call|>": harmony.CALL,
    "<|endoftext|>": harmony.PAD,
}
SAMPLE = 1 << 16  # values looked at in a tensor: its beginning and its end


def check(folder: Path) -> list[str]:
    """What was found right, one line each.

    Raises UserError with everything that is wrong: files missing or damaged, tensors that an engine would miss, skip
    (vLLM passes over names it does not know without a word) or find in another shape, NaN or infinity in a sample of
    every tensor, a tokenizer whose control ids are not harmony's, a changed prompt, a changed file.
    """
    made = artefact.read(folder, checkpoint.KIND, remake=checkpoint.EXPORT)
    found = checkpoint.of(folder, made)
    config = shards.config(folder)
    lines = _adapter(found, config) if found.format == "lora" else _weights(found, config)
    problems = _tokenizer(folder, config)
    if found.prompt_fingerprint != harmony.fingerprint(found.prompt_date):
        problems.append("prompts render otherwise than when it was trained: another version of the harmony library?")
    if problems:
        raise _wrong(found, problems)
    checkpoint.verify(folder)
    return [
        *lines,
        f"tokenizer: {len(CONTROL)} control ids as harmony has them; prompts as at training, {found.prompt_date}",
        f"{len(made.files)} files have the digests of {checkpoint.KIND}.json: {found.served_name}",
    ]


def _weights(found: Checkpoint, config: dict[str, Any]) -> list[str]:
    folder, kind = found.folder, found.format
    specs = shards.headers(folder)
    problems = shards.differences(specs, shards.expected(config))
    if shards.is_mxfp4(config) != (kind == "mxfp4"):
        problems.append(f"the manifest says {kind}, config.json says otherwise")
    for name, spec in specs.items():
        wanted = "U8" if name.endswith(("_blocks", "_scales")) else "BF16"
        if spec.dtype != wanted:
            problems.append(f"{name} is {spec.dtype}, not {wanted}")
    if problems:
        raise _wrong(found, problems)
    problems = [f"{name} holds {bad}" for name in specs if (bad := _bad_values(folder, specs, name))]
    if problems:
        raise _wrong(found, problems)
    total = sum(spec.nbytes for spec in specs.values())
    return [f"{len(specs)} tensors, {total / 1e9:.2f} GB, with the names and shapes of its config.json; no NaN seen"]


def _adapter(found: Checkpoint, config: dict[str, Any]) -> list[str]:
    deltas = lora.read(found.folder)
    problems = lora.fits(deltas, shards.expected(config))
    if problems:
        raise _wrong(found, problems)
    return [f"adapter: changes {len(deltas)} weights of its base, norm {lora.norm(deltas):.3g}"]


def _bad_values(folder: Path, specs: dict[str, Spec], name: str) -> str:
    """What is no number in a sample of the tensor, or an empty string."""
    import torch

    flat = shards.tensor(folder, specs, name).flatten()
    sample = torch.cat([flat[:SAMPLE], flat[-SAMPLE:]])
    if name.endswith("_scales"):
        return "the scale 255, which means NaN" if bool((sample == 255).any()) else ""
    if sample.dtype == torch.uint8:
        return ""
    return "" if bool(torch.isfinite(sample).all()) else "NaN or infinity"


def _tokenizer(folder: Path, config: dict[str, Any]) -> list[str]:
    path = folder / "tokenizer.json"
    try:
        added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
        ids = {token["content"]: int(token["id"]) for token in added}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        return [f"{path.name} cannot be read: {reason(e)}"]
    problems = [
        f"{path.name}: {text} is {ids.get(text, 'absent')}, not {number}"
        for text, number in CONTROL.items()
        if ids.get(text) != number
    ]
    if max(CONTROL.values()) >= config["vocab_size"]:
        problems.append(f"vocab_size {config['vocab_size']} has no room for the control ids")
    return problems


def _wrong(found: Checkpoint, problems: list[str]) -> UserError:
    more = [f"and {len(problems) - 8} more"] if len(problems) > 8 else []
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return UserError(
        f"{found.folder} is not a checkpoint that can be served: {count}",
        why="\n       ".join([*problems[:8], *more]),
        fix=found.remake,
    )
