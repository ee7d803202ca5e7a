"""Whether training fits this machine, and what to change when it does not.

In: what is here, what training needs. Out: the estimate, or an error whose advice has been estimated too.
"""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from math import ceil
from typing import Any, NamedTuple

from tune import ram
from tune.errors import UserError
from tune.recipe import Train
from tune.training.backends import choice
from tune.training.machine import hardware
from tune.training.machine.hardware import GB, Hardware
from tune.training.machine.need import CONTEXT, Backend, Need, need
from tune.weights import tensors


class Remedy(NamedTuple):
    """A change after which training fits: what to do in words, and the estimate that says so."""

    do: str
    backend: Backend
    wanted: Need


def require(
    machine: Hardware,
    config: Mapping[str, Any],
    settings: Train,
    max_tokens: int,
    *,
    backend: Backend,
    shards: int = 1,
) -> Need:
    """What training needs, when this machine has it; else UserError with both figures and what to change.

    A process that a launcher started looks at its own GPU. `max_tokens` is the longest row's.
    """
    if len(machine.gpus) > 1 and "LOCAL_RANK" not in os.environ:
        freest = max(range(len(machine.gpus)), key=lambda n: machine.gpus[n].free_bytes)
        raise UserError(
            f"{len(machine.gpus)} GPUs are visible, and one process trains on one",
            why="TRL refuses to spread one process over several",
            fix=f"CUDA_VISIBLE_DEVICES={_visible(freest)} tune train, or set train.gpus = {len(machine.gpus)}",
        )
    mine = machine.gpus[int(os.environ.get("LOCAL_RANK", "0"))] if machine.gpus else None
    mxfp4 = tensors.is_mxfp4(config)
    estimate = partial(need, config, gpu=bool(mine), base_is_mxfp4=mxfp4, shards=shards)
    wanted = estimate(settings, max_tokens, backend=backend)
    free = mine.free_bytes if mine else machine.free_bytes
    if wanted.total <= free:
        return wanted
    if mine and wanted.total <= mine.total_bytes - CONTEXT:
        raise _filled(mine, wanted)
    packs = bool(mine) and mxfp4 and shards == 1
    fixes = [remedy.do for remedy in remedies(estimate, settings, max_tokens, free, backend=backend, packs=packs)][:1]
    if not mine and not fixes:
        fixes = ['set base.model = "nano"']
    leanest: Backend = "packed" if mxfp4 else backend
    on_gpu = need(config, settings, max_tokens, backend=leanest, gpu=True, base_is_mxfp4=mxfp4).total
    with_it = f' and train.backend = "{leanest}"' if leanest != backend else ""
    raise UserError(
        f"this base does not fit for training on this machine ({machine.trains_on})",
        why=f"it needs about {wanted.total / GB:.1f} GB ({wanted.weights / GB:.1f} of weights,"
        f" {wanted.activations / GB:.1f} for {settings.batch} rows at a time); {free / GB:.1f} GB are free",
        fix=", or ".join([*fixes, f"train on a GPU with {ceil(on_gpu / GB)} GB{with_it}"]),
    )


def remedies(
    estimate: "partial[Need]", settings: Train, max_tokens: int, free: int, *, backend: Backend, packs: bool
) -> Iterator[Remedy]:
    """Changes after which `free` bytes are enough, the mildest first: fewer rows at a time, packed experts (where the
    base and machine can: `packs`), shorter rows. `estimate` is asked about each, so none is told that does not help."""
    single = settings.model_copy(update={"batch": 1, "accumulate": settings.batch * settings.accumulate})
    leanest: Backend = "packed" if packs and backend == "peft" else backend
    shorter = range((max_tokens - 1) // 64 * 64, 0, -64)
    ways = [(single, backend, max_tokens), (settings, leanest, max_tokens), (single, leanest, max_tokens)]
    done = {(settings.batch, backend, max_tokens)}
    for changed, way, tokens in [*ways, *((single, leanest, tokens) for tokens in shorter)]:
        wanted = estimate(changed, tokens, backend=way)
        if (changed.batch, way, tokens) in done or wanted.total > free:
            continue
        done.add((changed.batch, way, tokens))
        told = (
            [f"train.batch = 1 and train.accumulate = {changed.accumulate}"] if changed.batch != settings.batch else []
        )
        told += [f'train.backend = "{way}"'] if way != backend else []
        told += [f"dataset.max_tokens = {tokens}, then: tune dataset"] if tokens != max_tokens else []
        yield Remedy(f"set {' and '.join(told)}", way, wanted)
        if tokens != max_tokens:  # yet shorter ones fit too
            return


def spread(config: Mapping[str, Any], settings: Train, max_tokens: int) -> bool:
    """Whether weights must be spread over the GPUs (FSDP), as one does not hold them.

    Raises UserError where they must and cannot be: FSDP spreads parameters, and packed experts are buffers of bytes,
    whole on every GPU.
    """
    mxfp4 = tensors.is_mxfp4(config)
    room = min((card.total_bytes for card in hardware.cards()), default=0)
    backend = choice.choose(settings, config, gpu=True).name
    wanted = need(config, settings, max_tokens, backend=backend, gpu=True, base_is_mxfp4=mxfp4)
    if not room or wanted.total <= room:
        return False
    if backend != "peft":
        raise UserError(
            f'this base does not fit one GPU with train.backend = "{backend}"',
            why=f"it needs about {wanted.total / GB:.1f} GB of {room / GB:.1f}, and packed experts cannot be spread",
            fix='set train.backend = "peft", whose weights FSDP spreads over all GPUs, or lower train.batch',
        )
    if wanted.weights * settings.gpus > ram.free():
        raise UserError(
            "this base cannot be spread over the GPUs of this host",
            why=f"each of {settings.gpus} processes loads {wanted.weights / GB:.1f} GB into RAM first",
            fix='set train.backend = "packed"' if mxfp4 else "take a host with more RAM, or more hosts with fewer GPUs",
        )
    return True


def _filled(gpu: hardware.Gpu, wanted: Need) -> UserError:
    """The error of a GPU that would do, were others not on it."""
    held = "; ".join(hardware.others_on(gpu)) or "processes that nvidia-smi does not name here"
    free = [n for n, card in enumerate(hardware.cards()) if card.free_bytes >= wanted.total]
    elsewhere = f"CUDA_VISIBLE_DEVICES={free[0]} tune train" if free else "nvidia-smi   # stop what may be stopped"
    return UserError(
        f"{gpu.name} is in use: {gpu.free_bytes / GB:.1f} of {gpu.total_bytes / GB:.1f} GB are free",
        why=f"training needs about {wanted.total / GB:.1f} GB; the rest is held by {held}",
        fix=elsewhere,
    )


def _visible(index: int) -> str:
    """What CUDA_VISIBLE_DEVICES calls the GPU that torch counts as `index`."""
    shown = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return shown[index] if index < len(shown) else str(index)
