"""Which of the GPUs in hardware.toml hold a checkpoint, and what they cost: a checkpoint and options in, sizes out.

Prices are dated facts of that table, never live. What a GPU holds is serve.memory's to say.
"""

import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from deploy.spec import Target, placed
from serve import contents, memory
from serve.command import Options
from serve.findings import require
from serve.machine import kernel, sizes
from serve.memory import Fit
from tune.checkpoint import Checkpoint
from tune.deploy import Deploy
from tune.errors import UserError
from tune.weights.tensors import Shape, Tensor

MONTH_HOURS = 730
MOST = 8  # GPUs of one machine
OWN: tuple[Target, ...] = ("compose", "kubernetes")  # whose machines are yours: any GPU, at a price that you know


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Offer(Part):
    """How one target lends one GPU. `seen`: when the price was read; None where no price is known.

    `several`: its names for more of them in one machine, where it has names for that.
    """

    machine: str
    several: dict[int, str] = Field(default={}, exclude=True)
    usd_hour: float | None = Field(default=None, gt=0)
    seen: str = ""

    @property
    def price(self) -> str:
        """The dated price in words."""
        if self.usd_hour is None:
            return f"no price of {self.machine} is known here"
        return f"{self.usd_hour:.2f} USD an hour (read {self.seen}, not live)"


class Gpu(Part):
    """One kind of GPU; `memory` is what a process can use, in bytes."""

    name: str
    memory: int = Field(gt=0)
    modal: Offer | None = None
    runpod: Offer | None = None
    sagemaker: Offer | None = None
    huggingface: Offer | None = None
    skypilot: Offer | None = None

    def offer(self, target: Target, gpus: int = 1) -> Offer | None:
        """So many of it in one machine; None where the target does not lend that."""
        if target in OWN:
            return Offer(machine=f"{gpus} x {self.name}") if gpus <= MOST else None
        found: Offer | None = getattr(self, target)
        if found is None or gpus == 1:
            return found
        if found.several or target == "sagemaker":
            machine, usd = found.several.get(gpus, ""), None
        else:
            machine = f"{found.machine}:{gpus}" if target in {"modal", "skypilot"} else found.machine
            usd = found.usd_hour
        if not machine or gpus > MOST:
            return None
        return found.model_copy(update={"machine": machine, "usd_hour": usd and usd * gpus})


class Reads(Part):
    """How fast a target's storage gives weights, 10^9 bytes a second, and where that was read or that it is assumed."""

    gb_second: float = Field(gt=0)
    source: str
    seen: str


class Hardware(Part):
    """hardware.toml."""

    dated: date
    gpu: dict[str, Gpu]
    reads: dict[Target, Reads]

    def lent_by(self, target: Target) -> dict[str, Gpu]:
        """The GPUs that a target lends, by name."""
        return {name: gpu for name, gpu in self.gpu.items() if gpu.offer(target)}


class Choice(Offer):
    """A GPU of one target and how many full-length requests it holds."""

    gpu: str
    requests: int


class Sizing(Fit):
    """A checkpoint on one GPU of the table. `at_once`: requests that the engine takes at once, however short."""

    gpu: str
    at_once: int

    @property
    def words(self) -> str:
        """One sentence for people."""
        room, asked = (
            super().words.partition(": ")[0],
            f"{self.requests:,} requests of {self.need.max_model_len:,} tokens",
        )
        limit = "the engine takes" if self.requests == self.at_once else "the cache holds"
        return f"{room}: {asked} at once, as many as {limit}"


@cache
def hardware() -> Hardware:
    """The table that comes with the package, and serve's of sizes."""
    table = tomllib.loads(files("deploy").joinpath("hardware.toml").read_text(encoding="utf-8"))
    gpus = {name: {**offers, "name": name, "memory": sizes()[name]} for name, offers in table["gpu"].items()}
    return Hardware.model_validate({**table, "gpu": gpus})


class Load(NamedTuple):
    """A checkpoint as it would be served: what its config and its files' headers say, and the options."""

    shape: Shape
    tensors: Mapping[str, Tensor]
    options: Options
    format: str

    def placed(self, gpu: str) -> "Load":
        """With what the engine is told on such a GPU."""
        return self._replace(options=placed(self.options, gpu))


def load(found: Checkpoint, options: Options) -> Load:
    """Raises UserError naming everything that is wrong with the checkpoint or the options."""
    inside = contents.look(found, options)
    require(inside.problems, f"{found.folder} cannot be served")
    if inside.shape is None:
        raise RuntimeError("a checkpoint without problems has a shape")  # a bug of ours, not of the user
    return Load(inside.shape, inside.tensors, options, found.format)


def on(name: str, gpu: Gpu, load: Load) -> Sizing:
    """How a checkpoint sits on a GPU, by the calculation that `serve preflight` makes."""
    told = load.placed(name).options
    at_once = told.tuning.sequences or engine_sequences(name, gpu.memory)
    tuning = told.tuning.model_copy(update={"kernel": kernel(name), "sequences": at_once})
    need = memory.need(load.shape, load.tensors, tuning, told.max_model_len)
    return Sizing(gpu=name, at_once=at_once * tuning.data_parallel, **dict(memory.fit(need, gpu.memory, tuning)))


def engine_sequences(name: str, size: int) -> int:
    """Requests that vLLM 0.32 takes at once on a GPU of `size` bytes unless it is told (engine/arg_utils.py:2923)."""
    return 1024 if size >= 70 * memory.GIB and not name.startswith("A100") else 256


def lent(target: Target, name: str, gpus: int = 1) -> Offer:
    """So many GPUs of that name. Raises UserError, naming those that the target lends, when it does not lend them."""
    there = hardware().lent_by(target)
    if name not in there:
        raise UserError(f"[deploy] gpu = {name!r} is not one that {target} lends", fix=f"one of {', '.join(there)}")
    offer = there[name].offer(target, gpus)
    if offer is None:
        counts = [str(n) for n in range(1, MOST + 1) if there[name].offer(target, n)]
        why = f"[serve] tensor_parallel and data_parallel make {gpus}; a machine there has {' or '.join(counts)}"
        raise UserError(
            f"{target} lends no machine of {gpus} x {name}",
            why=why,
            fix="[serve] tensor_parallel = 1, data_parallel = 1",
        )
    return offer


def fit(target: Target, name: str, load: Load) -> Sizing:
    """The checkpoint on the named GPU. Raises UserError, naming what fits instead, when not one request fits."""
    gpus = load.options.tuning.gpus
    lent(target, name, gpus)
    sized = on(name, hardware().gpu[name], load)
    if sized.requests:
        return sized
    others = [c.gpu + (f" ({c.usd_hour:.2f})" if c.usd_hour else "") for c in choices(target, load) if c.requests]
    fixes = [
        f"no {'single GPU' if gpus == 1 else f'{gpus} GPUs'} of {target} holds it; [serve] tensor_parallel shares it"
    ]
    if others:
        fixes = [f"[deploy] gpu = one of {', '.join(others)} (USD an hour, table of {hardware().dated}, not live)"]
    if shorter := longest(load, sized.room):
        fixes.append(f"[serve] max_model_len = {shorter}")
    if load.format == "merged" and sized.need.weights > sized.usable // 2:
        fixes.append('[export] format = "mxfp4", about a third of the bytes')
    what = f"{load.options.max_model_len:,} tokens and their weights do not fit {count(name, gpus)}"
    raise UserError(what, why=sized.words, fix="; or ".join(fixes))


def count(name: str, gpus: int) -> str:
    """So many GPUs in words."""
    return f"one {name}" if gpus == 1 else f"{gpus} x {name}"


def longest(load: Load, room: int) -> int:
    """Tokens, in whole thousands of 1,024, of the longest request whose cache takes no more than `room` bytes."""
    lengths = range(1024, load.options.max_model_len, 1024)
    tuning = load.options.tuning
    return 1024 * bisect_right(lengths, room, key=lambda n: memory.request_bytes(load.shape, n, tuning))


def choices(target: Target, load: Load) -> list[Choice]:
    """Every GPU that the target lends, the smallest first, with what it holds and its dated price."""
    found = sorted(hardware().lent_by(target).items(), key=lambda item: item[1].memory)
    return [
        Choice(gpu=name, requests=on(name, gpu, load).requests, **offer.model_dump())
        for name, gpu in found
        if (offer := gpu.offer(target, load.options.tuning.gpus))
    ]


def cost(offer: Offer, least: int, most: int) -> str:
    """What `least` to `most` replicas cost, in words that say how old the price is."""
    if offer.usd_hour is None:
        return f"{offer.price}: ask the provider before you start it"
    rate = offer.usd_hour
    always = f"{least * rate * MONTH_HOURS:,.0f} USD a month for {least} always on" if least else "none while idle"
    return f"{offer.price} for each running replica; {always}; at most {most * rate:,.2f} USD an hour for {most}"


def month(offer: Offer, least: int, most: int) -> tuple[int, int] | None:
    """US dollars that `least` and `most` replicas cost in a month of 730 hours; None where no price is known."""
    if offer.usd_hour is None:
        return None
    return round(least * offer.usd_hour * MONTH_HOURS), round(most * offer.usd_hour * MONTH_HOURS)


def replicas(target: Target, section: Deploy) -> tuple[int, int]:
    """Fewest and most replicas that run, and cost, at a target: not all scale to zero, or at all."""
    least, most = section.min_replicas, section.max_replicas
    kept = max(1, least)
    match target:
        case "sagemaker":  # keeps one instance of an endpoint of this kind
            return kept, max(kept, most)
        case "kubernetes" if section.kubernetes.kind != "kserve":
            return kept, kept
        case "compose":  # one container on one host
            return 1, 1
        case "runpod" if section.runpod.chosen(least) == "pod":
            return 1, 1
        case "skypilot" if not section.skypilot.serve:
            return 1, 1
        case _:
            return least, most
