"""`tune check`: whether a finished checkpoint is whole and what an engine will find in it. Reads; changes nothing.

Structure first, so that a damaged file is named as what it is, then the digest of every file. What is wrong with
config, tensors and tokenizer is structure.py's to say, as for `serve preflight`.
"""

from pathlib import Path

from tune import artefact, checkpoint, harmony
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.weights import lora, structure, tensors
from tune.weights.structure import Structure
from tune.weights.tensors import Fault
from tune.weights.values import Values, is_finite, is_scale


def check(folder: Path) -> list[str]:
    """What was found right, one line each.

    Raises UserError with everything that is wrong: files missing or damaged, tensors that an engine would miss, skip
    (vLLM passes over names it does not know without a word) or find in another shape, NaN or infinity anywhere in them,
    a tokenizer whose control ids are not harmony's, a changed prompt, a changed file.
    """
    made = artefact.read(folder, checkpoint.KIND, remake=checkpoint.EXPORT)
    found = checkpoint.of(folder, made)
    inside = structure.look(folder, found.format)
    faults = list(inside.faults)
    if found.prompt_fingerprint != harmony.fingerprint(found.prompt_date):
        why = "another version of the harmony library?"
        faults.append(Fault("prompts render otherwise than when it was trained", why))
    try:
        checkpoint.canary(found)
    except UserError as e:
        faults.append(Fault(e.what, e.why, e.fix))
    lines = _values(found, inside, faults)
    if faults:
        raise _wrong(found, faults)
    checkpoint.verify(folder, anew=True)
    ids = f"{len(harmony.CONTROL)} control ids as harmony has them"
    return [
        *lines,
        f"tokenizer: {ids}; prompts as at training, {found.prompt_date}",
        f"{len(made.files)} files have the digests of {checkpoint.KIND}.json: {found.served_name}",
    ]


def _values(found: Checkpoint, inside: Structure, faults: list[Fault]) -> list[str]:
    """What is right with the values, where nothing else is wrong; what is not is added to the faults."""
    if faults or inside.shape is None:
        return []
    if found.format == "lora":
        deltas = lora.read(found.folder)
        faults += map(Fault, lora.fits(deltas, tensors.tensors(inside.shape, "merged")))
        return [f"adapter: changes {len(deltas)} weights of its base, norm {lora.norm(deltas):.3g}"]
    stored = inside.stored
    with Values(found.folder, stored) as source:
        faults += [Fault(f"{name} holds {bad}") for name in stored if (bad := _bad_values(source, name))]
    total = sum(tensor.bytes for tensor in stored.values())
    read = "every value is a number"
    return [f"{len(stored)} tensors, {total / 1e9:.2f} GB, with the names and shapes of its config.json; {read}"]


def _bad_values(source: Values, name: str) -> str:
    """What of a tensor is no number, or an empty string. Every value is read, by its bits: blocks hold numbers only."""
    if name.endswith("_blocks"):
        return ""
    if name.endswith("_scales"):
        fine, held = all(map(is_scale, source.chunks(name))), "a scale byte over 252: 255 means NaN, others overflow"
    else:
        dtype = source.specs[name].dtype
        fine, held = all(is_finite(dtype, chunk) for chunk in source.chunks(name)), "NaN or infinity"
    return "" if fine else held


def _wrong(found: Checkpoint, faults: list[Fault]) -> UserError:
    more = [f"and {len(faults) - 8} more"] if len(faults) > 8 else []
    count = f"{len(faults)} problem{'s' if len(faults) > 1 else ''}"
    return UserError(
        f"{found.folder} is not a checkpoint that can be served: {count}",
        why="\n       ".join([*map(str, faults[:8]), *more]),
        fix=(faults[0].fix if len(faults) == 1 else "") or found.remake,
    )
