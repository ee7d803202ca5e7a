"""What lies beside a base on its engine: a folder of `tune export --format lora` in; an Adapter, or why not, out.

vLLM 0.32 answers as the base, without a word, where an adapter's tensors match nothing, and loads one of any base. So
its base, files, prompt, targets, shapes and rank are looked at before it is loaded, and whether B·A is anything but
zero. Reads tensors as numpy arrays. Loads nothing into an engine.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from tune import checkpoint as checkpoints
from tune.checkpoint import Checkpoint
from tune.errors import UserError, reason
from tune.weights.tensors import Shape

if TYPE_CHECKING:
    import numpy as np

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,40}")  # as [project] name in a recipe
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM 0.32 can be told
LEAST = 16  # the rank that there is room for at least
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MERGED = "tune export --format merged, and serve run on that"
_KEY = re.compile(
    r"base_model\.model\.model\.layers\.(\d+)\.(?:self_attn\.([qkvo]_proj)|mlp\.(experts)(\.base_layer)?)"
    r"\.lora_([AB])\.weight"
)


class Adapter(BaseModel):
    """A LoRA that was looked at, and is called `name` here. `experts`: it changes them too, not attention alone.
    `copy_at`: where the server keeps one of its own, from which the engine reads it, now and later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    checkpoint: Checkpoint
    rank: int
    experts: bool = False
    copy_at: Path | None = None

    @property
    def digest(self) -> str:
        return self.checkpoint.digest

    @property
    def read(self) -> Checkpoint:
        """Its checkpoint where the engine reads it."""
        return self.checkpoint.model_copy(update={"folder": self.copy_at}) if self.copy_at else self.checkpoint

    @property
    def served_name(self) -> str:
        """What the engine calls it, and how a report is matched to it."""
        return f"{self.name}@{self.digest[:16]}"


class Room(BaseModel):
    """What the engine keeps for adapters: so many at once, of a rank, on attention and if `experts` on those too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int
    slots: int
    experts: bool = False


def room(adapters: Sequence[Adapter], rank: int, slots: int, *, experts: bool = False) -> Room | None:
    """The room that adapters and options ask for; None when neither does. Raises UserError when it is too little."""
    if not (adapters or rank or slots):
        return None
    largest = max((a.rank for a in adapters), default=0)
    asked = rank or max(largest, LEAST)
    if asked > RANKS[-1]:
        raise UserError(f"no engine has room for the rank {asked}", why=f"vLLM takes up to {RANKS[-1]}", fix=MERGED)
    found = Room(
        rank=next(r for r in RANKS if r >= asked),
        slots=slots or max(2, len(adapters)),
        experts=experts or any(a.experts for a in adapters),
    )
    for number, adapter in enumerate(adapters):
        require_room(adapter, found, number)
    return found


def require_room(adapter: Adapter, room: Room, taken: int) -> None:
    """Raise UserError unless the adapter fits in beside those that are there."""
    what = f"there is no room for the adapter {adapter.name}"
    if adapter.rank > room.rank:
        why = f"its rank is {adapter.rank}, the engine was told {room.rank}"
        raise UserError(what, why=why, fix=f"serve run BASE --adapter-rank {adapter.rank}")
    if taken >= room.slots:
        why = f"{taken} are there, and the engine was told {room.slots}"
        raise UserError(what, why=why, fix=f"serve adapters remove NAME, or serve run BASE --adapter-slots {taken + 1}")
    if adapter.experts and not room.experts:
        why = "it changes experts, and the engine was started for adapters of attention alone: it would skip them"
        raise UserError(what, why=why, fix=f"serve run BASE --adapter {adapter.name}={adapter.checkpoint.folder}")


def require_name(name: str, taken: Collection[str]) -> None:
    """Raise UserError unless an adapter may be called so."""
    if not NAME.fullmatch(name):
        why = "it has 1 to 41 of a-z, 0-9, . and -, and begins with a letter or digit"
        raise UserError(f"{name!r} is no name for an adapter", why=why, fix="--adapter NAME=FOLDER")
    if name in taken:
        what = f"the name {name} is taken"
        raise UserError(what, why="the base or another adapter is called so", fix="another NAME; serve adapters list")


def read(name: str, folder: Path, base: Checkpoint, shape: Shape, device: Literal["cpu", "cuda"]) -> Adapter:
    """The adapter in `folder`, proven to be one of this base that its engine applies. Raises UserError as the module
    says."""
    found = checkpoints.verify(folder)
    what = f"the adapter in {folder} cannot be served beside {base.served_name}"
    if found.format != "lora":
        raise UserError(f"{folder} holds no adapter", why=f"its format is {found.format}", fix=f"serve run {folder}")
    if found.base_digest not in checkpoints.bases(base):
        why = f"it is of {found.base} ({found.base_digest[:16]}), and {base.folder} is {base.served_name}"
        fix = 'serve run on that base; or [base] model = "THIS ONE", tune train, tune export --format lora'
        raise UserError(what, why=why, fix=fix)
    if (found.prompt_date, found.prompt_fingerprint) != (base.prompt_date, base.prompt_fingerprint):
        why = f"it was trained on prompts of {found.prompt_date}, the engine shows {base.prompt_date}"
        raise UserError(what, why=why, fix=f'[dataset] date = "{base.prompt_date}", tune dataset, tune train')
    checkpoints.canary(found)
    try:
        rank = json.loads((folder / CONFIG).read_bytes())["r"]
        pairs = _pairs(folder / WEIGHTS)
        targets = [_of(stem, a.shape, b.shape, rank, shape) for stem, (a, b) in pairs.items()]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(what, why=reason(e), fix="tune export --format lora") from None
    experts = "experts" in targets
    if experts and device == "cpu":
        why = "it changes experts, and vLLM has no kernel for those of an adapter on a CPU"
        raise UserError(what, why=why, fix=f'{MERGED}; or [train] targets = "attention"')
    change = sum(_square(a, b, shape.num_local_experts if ".experts" in stem else 1) for stem, (a, b) in pairs.items())
    if not isfinite(change):
        raise UserError(what, why="it holds NaN or infinity", fix="lower train.learning_rate, then tune train")
    if change <= 0:
        fix = "raise train.learning_rate or train.max_steps, then tune train"
        raise UserError(what, why="it changes nothing: B·A is zero everywhere", fix=fix)
    return Adapter(name=name, checkpoint=found, rank=rank, experts=experts)


def _pairs(path: Path) -> dict[str, "tuple[np.ndarray, np.ndarray]"]:
    """A and B as float32, by their stem. Raises ValueError for a tensor that the engine would skip, or half a pair."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in _tensors(path):
        if not (key := _KEY.fullmatch(name)):
            raise ValueError(f"{name} is of no attention projection and no expert: the engine would skip it")
        parts.setdefault(name[: key.start(5) - len(".lora_")], {})[key[5]] = tensor
    if not parts:
        raise ValueError(f"{path.name} holds no tensor")
    if half := next((stem for stem, pair in parts.items() if len(pair) < 2), ""):
        raise ValueError(f"{half} has no pair of lora_A and lora_B")
    for stem in parts:
        other = stem.removesuffix(".base_layer") if stem.endswith(".base_layer") else f"{stem}.base_layer"
        if ".experts" in stem and other not in parts:
            raise ValueError(f"{stem} has a change of only one of gate_up_proj and down_proj")
    return {stem: (pair["A"], pair["B"]) for stem, pair in parts.items()}


def _tensors(path: Path) -> Iterator[tuple[str, "np.ndarray"]]:
    import numpy as np
    from safetensors import SafetensorError, deserialize

    try:
        stored: list[tuple[str, Mapping[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as e:
        raise ValueError(f"{path.name}: {e}") from None
    for name, of in stored:
        if of["dtype"] == "BF16":  # the upper half of a float32
            flat = (np.frombuffer(of["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif of["dtype"] in ("F32", "F16"):
            flat = np.frombuffer(of["data"], np.float32 if of["dtype"] == "F32" else np.float16).astype(np.float32)
        else:
            raise ValueError(f"{name} is {of['dtype']}, not BF16, F16 or F32")
        yield name, flat.reshape(of["shape"])


def sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """[out, in] of each weight that an adapter may change; of one expert, where it is one of experts."""
    h, i = shape.hidden_size, shape.intermediate_size
    q, kv = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    attention = dict(zip(ATTENTION, ((q, h), (kv, h), (kv, h), (h, q)), strict=True))
    return {**attention, "experts.base_layer": (2 * i, h), "experts": (h, i)}


def _of(stem: str, a: Sequence[int], b: Sequence[int], rank: object, shape: Shape) -> str:
    """Which weight a pair changes. Raises ValueError unless it is one of this model, of its sizes and this rank."""
    key = _KEY.fullmatch(f"{stem}.lora_A.weight")
    assert key is not None
    target = key[2] or key[3] + (key[4] or "")
    if type(rank) is not int or rank < 1:
        raise ValueError(f"{CONFIG} has r {rank!r}")
    if int(key[1]) >= shape.num_hidden_layers:
        raise ValueError(f"{stem} is past the base's {shape.num_hidden_layers} layers: the engine would skip it")
    out, width = sizes(shape)[target]
    rows = rank * (shape.num_local_experts if key[3] else 1)
    if (*a, *b) != (rows, width, out, rows):
        raise ValueError(f"{stem} is {list(a)} and {list(b)}, not {[rows, width]} and {[out, rows]}")
    return key[2] or key[3]


def _square(a: "np.ndarray", b: "np.ndarray", experts: int) -> float:
    """The sum of the squares of B·A, by trace((BᵀB)(AAᵀ)): it is never multiplied out."""
    import numpy as np

    rank = len(a) // experts
    with np.errstate(all="ignore"):
        each = a.reshape(experts, rank, -1).astype(np.float64)
        of = b.reshape(len(b), rank, experts).transpose(2, 0, 1).astype(np.float64)
        return float(((of.transpose(0, 2, 1) @ of) * (each @ each.transpose(0, 2, 1))).sum())
