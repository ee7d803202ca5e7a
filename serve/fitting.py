"""Whether a machine holds a model: what was found of both in, findings about memory out, and figures beside them.

What takes how much is serve.memory's; what can be done about it is said here. Looks at no file and no machine.
"""

from collections.abc import Iterator, Mapping
from math import gcd

from serve import memory
from serve.adapters import Room
from serve.command import Options
from serve.findings import Finding, finding
from serve.last_words import INSTALL_CPU
from serve.machine import Machine, kernel, sizes
from serve.memory import GIB, Fit, Tuning
from tune.weights.tensors import Shape, Tensor


def on_cpu(
    shape: Shape,
    tensors: Mapping[str, Tensor],
    options: Options,
    machine: Machine,
    figures: dict[str, int],
    room: Room | None,
) -> Iterator[Finding]:
    """Whether the machine's memory holds the model. Adds to `figures` what it takes."""
    wider = 1 if machine.bfloat16 else 2
    weights = sum(t.bytes for t in tensors.values()) * wider
    cache = options.tuning.cache_bytes or memory.kv_budget(
        shape,
        max_model_len=options.max_model_len,
        sequences=options.sequences,
        element=memory.BF16 * wider,
        hybrid=options.tuning.hybrid,
    )
    workers = options.tuning.tensor_parallel * options.tuning.pipeline_parallel  # each takes a cache of that size
    kept = _adapters(shape, room, options.tuning)
    need = weights + cache * workers + memory.ENGINE_OVERHEAD_CPU + kept * wider
    figures |= {"weight_bytes": weights, "cache_bytes": cache, "need_bytes": need}
    figures |= {"adapter_bytes": kept} if room else {}
    if need > machine.memory:
        why = f"{need / GIB:.1f} GiB for weights and cache, {machine.memory / GIB:.1f} GiB can be used"
        fix = _smaller(tensors, options, machine)
        yield finding("S070", "the model does not fit into memory", why=why, fix=fix)


def on_gpu(
    shape: Shape,
    tensors: Mapping[str, Tensor],
    options: Options,
    machine: Machine,
    figures: dict[str, int],
    room: Room | None = None,
) -> Iterator[Finding]:
    """Whether the machine's GPUs hold the model. Adds to `figures` what one GPU takes."""
    adapted = room is not None and room.experts
    tuning = options.tuning.model_copy(update={"kernel": kernel(machine.kind, adapted=adapted)})
    total = machine.total or machine.memory
    fit = _fit(shape, tensors, options, tuning, room, total)
    figures |= {"adapter_bytes": _adapters(shape, room, tuning)} if room else {}
    figures["weight_bytes"], figures["cache_bytes"] = fit.need.weights, fit.need.kv_request
    figures["around_bytes"] = fit.need.overhead  # activations, workspaces, graphs, room for adapters
    figures["need_bytes"] = fit.need.weights + fit.need.overhead + (tuning.cache_bytes or fit.need.kv_request)
    # vLLM wants its share of the whole memory free, even when it is told what the cache takes.
    at_start = max(int(total * tuning.utilisation), int(figures["need_bytes"]))
    figures["requests"] = fit.requests
    if not machine.memory:
        why, fix = "vLLM for GPUs is installed, nvidia-smi shows none", f"pip uninstall -y vllm, then {INSTALL_CPU}"
        yield finding("S072", "no GPU answers", why=why, fix=fix)
        return
    if tuning.gpus > machine.gpus:
        what = f"the engine is told to take {tuning.gpus} GPUs, {machine.gpus} can be seen"
        fix = f"--tensor-parallel {machine.gpus} as the only size; or more GPUs"
        why = "tensor, data and pipeline parallel sizes multiply"
        yield finding("S071", what, why=why, fix=fix)
    if not fit.requests:
        fixes = _wider(shape, tensors, options, machine, room), _smaller(tensors, options, machine)
        fix = "; or ".join(filter(None, fixes))
        yield finding("S070", "the model does not fit into memory", why=f"each GPU: {fit.words}", fix=fix)
    elif machine.memory < at_start:
        why = f"{machine.memory / GIB:.1f} GiB are free, the engine takes {at_start / GIB:.1f} GiB at its start"
        fix = "end what else runs there (nvidia-smi), or -- --gpu-memory-utilization with a smaller share"
        yield finding("S073", "another program holds memory of the GPU", why=why, fix=fix)


def _fit(
    shape: Shape, tensors: Mapping[str, Tensor], options: Options, tuning: Tuning, room: Room | None, total: int
) -> Fit:
    """How a GPU of `total` bytes holds its part, what is kept for adapters included."""
    need = memory.need(shape, tensors, tuning, options.max_model_len)
    need = need.model_copy(update={"overhead": need.overhead + _adapters(shape, room, tuning)})
    return memory.fit(need, total, tuning)


def _adapters(shape: Shape, room: Room | None, tuning: Tuning) -> int:
    """Bytes that each GPU keeps for adapters, a value in bf16."""
    return memory.adapter_bytes(shape, **room.model_dump(), ways=tuning.tensor_parallel) if room else 0


def _smaller(tensors: Mapping[str, Tensor], options: Options, machine: Machine) -> str:
    """What can be done about a model that does not fit."""
    packs = (machine.amx or machine.device != "cpu") and not any(name.endswith("_blocks") for name in tensors)
    cache = "a smaller --kv-cache-memory-bytes" if options.tuning.cache_bytes else "a shorter --max-model-len"
    return f"{'tune export --format mxfp4 takes a third; ' if packs else ''}{cache}; or a larger machine"


def _wider(shape: Shape, tensors: Mapping[str, Tensor], options: Options, machine: Machine, room: Room | None) -> str:
    """The fewest of the machine's GPUs that would hold the model together; where it is only named and its GPUs do not,
    those of the table that do."""
    cut = room is not None and room.experts and any(name.endswith("_blocks") for name in tensors)  # S066

    def holds(gpu: str, total: int, ways: int) -> bool:
        alone = {"tensor_parallel": ways, "pipeline_parallel": 1, "data_parallel": 1}
        multiplied = {"kernel": kernel(gpu, adapted=room is not None and room.experts)}
        tuning = options.tuning.model_copy(update=alone | multiplied)
        return _fit(shape, tensors, options, tuning, room, total).requests > 0

    parts = gcd(shape.num_attention_heads, shape.num_key_value_heads, shape.vocab_size, shape.intermediate_size)
    for ways in (n for n in range(2, machine.gpus + 1) if parts % n == 0):
        width, padded = memory.experts_width(shape, ways)
        if not (cut and width != padded) and holds(machine.kind, machine.total or machine.memory, ways):
            return f"--tensor-parallel {ways}"
    larger = [name for name, size in sizes().items() if holds(name, size, 1)] if machine.name else []
    return f"--gpu {' or '.join(larger)}" if larger else ""
