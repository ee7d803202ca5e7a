"""What a server is told to serve beside its base: a checkpoint and options in; adapters, room and findings out.

Looks at folders. Loads nothing into an engine.
"""

from pathlib import Path
from typing import NamedTuple

from serve import adapters, memory
from serve.adapters import Adapter, Room
from serve.command import Options, served_names
from serve.findings import Finding, finding, of_error
from serve.machine import Machine
from serve.memory import Tuning
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.weights.tensors import Shape


class Beside(NamedTuple):
    """What was found."""

    adapters: tuple[Adapter, ...] = ()
    room: Room | None = None
    problems: tuple[Finding, ...] = ()


def look(base: Checkpoint, shape: Shape, options: Options, machine: Machine) -> Beside:
    """Every adapter of the options, and what is wrong with each. Raises nothing that a user could cause."""
    if not (options.adapters or options.adapter_rank or options.adapter_slots):
        return Beside()
    problems: list[Finding] = []
    if machine.device == "cpu" and base.format == "mxfp4":
        why = "vLLM's CPU engine has no kernel for MXFP4 experts that it takes beside adapters"
        fix = "the base in bf16, or a GPU; or tune export --format merged, which puts an adapter into the weights"
        problems.append(finding("S065", "no adapter can lie beside this base here", why=why, fix=fix))
    found: list[Adapter] = []
    taken = {*served_names(base, options)}
    for name, folder in options.adapters.items():
        try:
            adapters.require_name(name, taken)
        except UserError as e:
            problems.append(of_error("S045", e))
        try:
            found.append(adapters.read(name, Path(folder), base, shape, machine.device))
        except UserError as e:
            problems.append(of_error("S046", e))
        taken.add(name)
    digests = [a.digest for a in found]
    for twice in sorted({d for d in digests if digests.count(d) > 1}):
        names = " and ".join(a.name for a in found if a.digest == twice)
        problems.append(finding("S045", f"{names} are the same adapter", fix="name it once"))
    try:
        room = adapters.room(found, options.adapter_rank, options.adapter_slots, experts=options.adapter_experts)
    except UserError as e:
        return Beside(tuple(found), None, (*problems, of_error("S045", e)))
    if room and room.experts and (wrong := _misapplied(base, shape, options.tuning)):
        fix = "tune export --format mxfp4, which puts the adapter into the weights; or an adapter of attention alone"
        problems.append(finding("S066", "adapters of experts would be applied wrongly here", why=wrong, fix=fix))
    return Beside(tuple(found), room, tuple(problems))


def _misapplied(base: Checkpoint, shape: Shape, tuning: Tuning) -> str:
    """What vLLM 0.32 does, with no error, to an adapter of experts that several GPUs share; empty where it is right.

    Columns are taken by the padded width for the adapter (lora/layers/fused_moe.py:539) and by its own for the weights
    (models/gpt_oss.py:582). Experts are shown every group's tokens (fused_moe/all2all_utils.py:210), and which
    adapter a token has is known of a group's own alone.
    """
    if tuning.data_parallel > 1:
        return "experts see the requests of all groups, and the engine knows the adapters of one group's alone"
    if base.format != "mxfp4" or tuning.expert_parallel or tuning.tensor_parallel == 1:
        return ""
    width, padded = memory.experts_width(shape, tuning.tensor_parallel)
    if width == padded:
        return ""
    return f"each GPU holds {width} columns of an expert, and the engine gives it the adapter's by steps of {padded}"
