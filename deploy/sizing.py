"""Does a checkpoint fit a GPU, and what does the GPU cost: safetensors headers, config.json and hardware.toml in.

Prices are dated facts of that table, never live. Formulas for cache and weights are serve.memory's.
"""

import json
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploy.spec import UTILISATION, Target
from serve import memory
from tune import checkpoint
from tune.errors import UserError
from tune.recipe import Deploy, Recipe

GIB = 2**30
# What vLLM holds over the stored bytes: 1 % was seen with the 20b, 9 % with the 120b (vllm#22331, #23278). The larger.
LOADED = 1.09
# Activations, CUDA graphs and context: 3 GiB were seen with 32 experts, 7.5 GiB with 128 (vllm#23278); a line through
# both. Estimates, good to about 2 GiB.
OVERHEAD_GIB, OVERHEAD_GIB_EXPERT, EXPERTS = 3.0, 4.5 / 96, 32
MONTH_HOURS = 730


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Offer(Part):
    """How one target lends one GPU. `seen`: when the price was read; None where no price is known."""

    machine: str
    usd_hour: float | None = Field(default=None, gt=0)
    seen: str = ""

    @property
    def price(self) -> str:
        """The dated price in words."""
        if self.usd_hour is None:
            return f"no price of {self.machine} is known here"
        return f"{self.usd_hour:.2f} USD an hour (read {self.seen}, not live)"


class Gpu(Part):
    """One kind of GPU; `memory_gib` is what a process can use."""

    memory_gib: float = Field(gt=0)
    modal: Offer | None = None
    runpod: Offer | None = None
    sagemaker: Offer | None = None

    def offer(self, target: Target) -> Offer | None:
        found: Offer | None = getattr(self, target)
        return found


class Hardware(Part):
    """hardware.toml."""

    dated: str
    gpu: dict[str, Gpu]

    def lent_by(self, target: Target) -> dict[str, Gpu]:
        """The GPUs that a target lends, by name."""
        return {name: gpu for name, gpu in self.gpu.items() if gpu.offer(target)}


class Need(Part):
    """What a checkpoint takes, in bytes. `kv_request`: key/value cache of one request of `max_model_len` tokens."""

    weights: int
    overhead: int
    kv_request: int
    max_model_len: int


class Choice(Offer):
    """A GPU of one target and how many full-length requests it holds."""

    gpu: str
    requests: int


class Sizing(Part):
    """A need on one GPU. `requests`: full-length ones that the cache holds at once; 0 means that it does not fit."""

    gpu: str
    need: Need
    usable: int  # bytes, of the share that the engine may take
    room: int  # bytes left for the cache; negative when the weights do not fit
    requests: int

    @property
    def words(self) -> str:
        """One sentence for people."""
        n = self.need
        return (
            f"{n.weights / GIB:.1f} GiB of weights and about {n.overhead / GIB:.1f} GiB around them in "
            f"{self.usable / GIB:.1f} GiB: the cache holds {self.requests:,} requests of {n.max_model_len:,} tokens"
        )


class Plan(Part):
    """What `deploy plan` says. `dated`: when the price table was made; no price in it is live."""

    target: Target
    model: str
    dated: str
    chosen: Sizing
    cost: str
    choices: tuple[Choice, ...]


@cache
def hardware() -> Hardware:
    """The table that comes with the package."""
    text = files("deploy").joinpath("hardware.toml").read_text(encoding="utf-8")
    return Hardware.model_validate(tomllib.loads(text))


def need(folder: Path, max_model_len: int) -> Need:
    """What the checkpoint in `folder` takes. Raises UserError when its headers or config.json cannot be read."""
    try:
        shape = memory.shape_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as e:  # ValidationError and JSONDecodeError are ValueErrors
        why = e.errors()[0]["msg"] if isinstance(e, ValidationError) else str(e)
        raise UserError(f"{folder}/config.json describes no GPT-OSS", why=why, fix="tune export") from None
    stored = sum(stored_bytes(path) for path in sorted(folder.glob("*.safetensors")))
    if stored == 0:
        raise UserError(f"{folder} holds no safetensors weights", fix="tune export")
    return of(shape, stored, max_model_len)


def of(shape: memory.Shape, stored: int, max_model_len: int) -> Need:
    """What an architecture with `stored` bytes of weights takes."""
    overhead = OVERHEAD_GIB + OVERHEAD_GIB_EXPERT * max(0, shape.num_local_experts - EXPERTS)
    return Need(
        weights=int(stored * LOADED),
        overhead=int(overhead * GIB),
        kv_request=memory.kv_bytes(shape, max_model_len),
        max_model_len=max_model_len,
    )


def stored_bytes(path: Path) -> int:
    """Bytes of all tensors that a safetensors header lists. Raises UserError when the file is cut short."""
    try:
        with path.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(length) if length < path.stat().st_size else b"")
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
        raise UserError(f"{path} has no safetensors header", why=str(e), fix="tune export") from None
    if path.stat().st_size != 8 + length + max(ends, default=0):
        raise UserError(f"{path} is cut short", why="its header lists more tensors than it holds", fix="tune export")
    return int(max(ends, default=0))


def on(name: str, gpu: Gpu, need: Need) -> Sizing:
    """How a need sits on a GPU: room = usable * utilisation - weights - overhead."""
    usable = int(gpu.memory_gib * GIB * UTILISATION)
    room = usable - need.weights - need.overhead
    return Sizing(gpu=name, need=need, usable=usable, room=room, requests=max(0, room // need.kv_request))


def lent(target: Target, name: str) -> Gpu:
    """The GPU of that name. Raises UserError, naming those that the target lends, when it does not lend it."""
    there = hardware().lent_by(target)
    if name not in there:
        raise UserError(f"[deploy] gpu = {name!r} is not one that {target} lends", fix=f"one of {', '.join(there)}")
    return there[name]


def fit(target: Target, name: str, need: Need, *, format: str) -> Sizing:
    """The need on the named GPU. Raises UserError, naming what fits instead, when not one request fits."""
    sized = on(name, lent(target, name), need)
    if sized.requests:
        return sized
    others = [c.gpu + (f" ({c.usd_hour:.2f})" if c.usd_hour else "") for c in choices(target, need) if c.requests]
    fixes = [f"no single GPU of {target} holds it"]
    if others:
        fixes = [f"[deploy] gpu = one of {', '.join(others)} (USD an hour, table of {hardware().dated}, not live)"]
    shorter = need.max_model_len * max(0, sized.room) // need.kv_request // 1024 * 1024
    if shorter:
        fixes.append(f"[serve] max_model_len = {shorter}")
    if format == "merged" and need.weights > sized.usable // 2:
        fixes.append('[export] format = "mxfp4", about a third of the bytes')
    what = f"{need.max_model_len:,} tokens and their weights do not fit one {name}"
    raise UserError(what, why=sized.words, fix="; or ".join(fixes))


def choices(target: Target, need: Need) -> list[Choice]:
    """Every GPU that the target lends, the smallest first, with what it holds and its dated price."""
    found = sorted(hardware().lent_by(target).items(), key=lambda item: item[1].memory_gib)
    return [
        Choice(gpu=name, requests=on(name, gpu, need).requests, **offer.model_dump())
        for name, gpu in found
        if (offer := gpu.offer(target))
    ]


def cost(offer: Offer, least: int, most: int) -> str:
    """What `least` to `most` replicas cost, in words that say how old the price is."""
    if offer.usd_hour is None:
        return f"{offer.price}: ask the provider before you start it"
    rate = offer.usd_hour
    always = f"{least * rate * MONTH_HOURS:,.0f} USD a month for {least} always on" if least else "none while idle"
    return f"{offer.price} for each running replica; {always}; at most {most * rate:,.2f} USD an hour for {most}"


def plan(recipe: Recipe, folder: Path, target: Target) -> Plan:
    """Size and cost before anything is rendered. Raises UserError when the recipe's GPU does not do."""
    whole = checkpoint.read(folder)
    takes = need(folder, recipe.serve.max_model_len)
    sized = fit(target, recipe.deploy.gpu, takes, format=whole.format)
    offer = lent(target, recipe.deploy.gpu).offer(target)
    least, most = replicas(target, recipe.deploy)
    return Plan(
        target=target,
        model=whole.served_name,
        dated=hardware().dated,
        chosen=sized,
        cost=cost(offer, least, most) if offer else "",
        choices=tuple(choices(target, takes)),
    )


def replicas(target: Target, section: Deploy) -> tuple[int, int]:
    """Fewest and most replicas. SageMaker keeps one instance of an endpoint of this kind."""
    least = max(1, section.min_replicas) if target == "sagemaker" else section.min_replicas
    return least, max(least, section.max_replicas)
