"""The tensors of a GPT-OSS: what config.json says in; the name, shape, dtype and bytes of each stored tensor out.

One table, in bf16 and in MXFP4, for export, `tune check`, `serve preflight` and the memory calculation, and the one
comparison of it with what a folder holds. Pure: reads no file, needs no torch.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from tune.errors import UserError

Weights = Literal["merged", "mxfp4"]
Kind = Literal[
    "config", "rope", "packing", "layers", "embeddings", "files", "names", "shapes", "dtypes", "tokenizer", "ends"
]  # of what a fault is
Size = Annotated[int, Field(gt=0, le=2**31)]  # more than any model has of anything

PROJECTIONS = ("gate_up_proj", "down_proj")
MXFP4_BLOCK = 32  # values sharing one scale byte, two values a byte (OCP Microscaling v1.0)
# Bits of one value, of every dtype that safetensors 0.8 knows.
BITS = dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
BITS |= dict.fromkeys(("I16", "U16", "F16", "BF16"), 16) | dict.fromkeys(("I32", "U32", "F32"), 32)
BITS |= dict.fromkeys(("I64", "U64", "F64", "C64"), 64) | {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


class Tensor(NamedTuple):
    """One stored tensor: its shape, its dtype as safetensors names it, the file it lies in, where there is one, and the
    place of its first byte there."""

    shape: tuple[int, ...]
    dtype: str
    file: str = ""
    begin: int = 0

    @property
    def bytes(self) -> int:
        return prod(self.shape) * BITS[self.dtype] // 8


class Fault(NamedTuple):
    """What is wrong with a model's files. `fix` is "" where nothing but the files made or copied again helps."""

    what: str
    why: str = ""
    fix: str = ""
    kind: Kind = "config"

    def __str__(self) -> str:
        return f"{self.what} ({self.why})" if self.why else self.what

    def error(self, fix: str) -> UserError:
        """It as an error, with this fix where it has none of its own."""
        return UserError(self.what, why=self.why, fix=self.fix or fix)


class Shape(BaseModel):
    """GPT-OSS's architecture, with config.json's names. Unknown keys are ignored: it carries many more."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    num_hidden_layers: int = Field(gt=0, le=1024)  # the published ones have 24 and 36; each is counted out
    hidden_size: Size
    intermediate_size: Size
    num_local_experts: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    vocab_size: Size
    sliding_window: Size
    max_position_embeddings: int = Field(default=0, ge=0)  # 0: not said
    layer_types: tuple[Literal["full_attention", "sliding_attention"], ...] | None = Field(default=None, strict=False)
    tie_word_embeddings: bool = False
    attention_bias: bool = True

    @field_validator("layer_types")
    @classmethod
    def _one_a_layer(cls, kinds: tuple[str, ...] | None, known: ValidationInfo) -> tuple[str, ...] | None:
        layers = known.data.get("num_hidden_layers")
        if kinds is not None and layers is not None and len(kinds) != layers:
            raise ValueError(f"{len(kinds)} kinds for {layers} layers")
        return kinds

    @property
    def full_layers(self) -> int:
        """Layers that attend to everything; the others see `sliding_window` tokens. Alternating when not listed."""
        if self.layer_types:
            return self.layer_types.count("full_attention")
        return self.num_hidden_layers // 2


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The architecture that a config.json names. Raises UserError naming the key that it lacks or that is wrong."""
    try:
        return Shape.model_validate(dict(config))
    except ValidationError as e:
        first = e.errors()[0]
        key, fix = str(first["loc"][0]), "restore the model's config.json"
        if first["type"] == "missing":
            raise UserError(f"config.json lacks {key}", fix=fix) from None
        raise UserError(
            f"config.json has {key} {config[key]!r:.100}", why=first["msg"].removeprefix("Value error, "), fix=fix
        ) from None


def packing(config: Mapping[str, Any]) -> object:
    """How a config.json says that weights are packed; None: not at all."""
    packed = config.get("quantization_config")
    return packed.get("quant_method") if isinstance(packed, dict) else packed


def is_mxfp4(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes expert weights in MXFP4."""
    return packing(config) == "mxfp4"


def tensors(shape: Shape, weights: Weights) -> dict[str, Tensor]:
    """Every tensor of a model by the name it is stored under, as transformers and vLLM read them.

    Experts: `gate_up_proj` [E, H, 2I] and `down_proj` [E, I, H] in bf16, or the transposed values as
    `_blocks` [E, out, in/32, 16] and `_scales` [E, out, in/32] in bytes. Raises UserError on sizes that MXFP4 cannot
    hold.
    """
    h, i, e = shape.hidden_size, shape.intermediate_size, shape.num_local_experts
    q, kv = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    named: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab_size, h)}
    packed: dict[str, tuple[int, ...]] = {}
    for n in range(shape.num_hidden_layers):
        layer = f"model.layers.{n}"
        named |= {f"{layer}.input_layernorm.weight": (h,), f"{layer}.post_attention_layernorm.weight": (h,)}
        for name, out, size in (("q_proj", q, h), ("k_proj", kv, h), ("v_proj", kv, h), ("o_proj", h, q)):
            named[f"{layer}.self_attn.{name}.weight"] = (out, size)
            if shape.attention_bias:
                named[f"{layer}.self_attn.{name}.bias"] = (out,)
        named[f"{layer}.self_attn.sinks"] = (shape.num_attention_heads,)
        named |= {f"{layer}.mlp.router.weight": (e, h), f"{layer}.mlp.router.bias": (e,)}
        for name, out, size in (("gate_up_proj", 2 * i, h), ("down_proj", h, i)):
            expert = f"{layer}.mlp.experts.{name}"
            named[f"{expert}_bias"] = (e, out)
            if weights == "merged":
                named[expert] = (e, size, out)
                continue
            if size % MXFP4_BLOCK:
                why = f"{size} inputs are no multiple of {MXFP4_BLOCK}"
                raise UserError(f"{expert} does not fit MXFP4", why=why, fix='set export.format = "merged"')
            packed[f"{expert}_blocks"] = (e, out, size // MXFP4_BLOCK, MXFP4_BLOCK // 2)
            packed[f"{expert}_scales"] = (e, out, size // MXFP4_BLOCK)
    named["model.norm.weight"] = (h,)
    if not shape.tie_word_embeddings:
        named["lm_head.weight"] = (shape.vocab_size, h)
    return {k: Tensor(v, "BF16") for k, v in named.items()} | {k: Tensor(v, "U8") for k, v in packed.items()}


def expected(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the model that a config.json describes. Raises UserError as `shape_of` and `tensors` do."""
    return tensors(shape_of(config), "mxfp4" if is_mxfp4(config) else "merged")


def differences(
    folder: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, dtypes: bool = True
) -> list[Fault]:
    """What is wrong with the tensors found: missing, not known, of another shape, or (`dtypes`) of another dtype."""
    faults = []
    missing, unknown = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
    if missing:
        why = f"e.g. {missing[0]}; an engine would start with whatever is in memory there"
        faults.append(Fault(f"{folder} lacks {len(missing)} of {len(wanted)} tensors", why, kind="names"))
    if unknown:
        why = f"e.g. {unknown[0]}; an engine would skip them without a word"
        faults.append(Fault(f"{folder} holds {len(unknown)} tensors that GPT-OSS has no place for", why, kind="names"))
    both = [n for n in wanted if n in found]
    if wrong := [n for n in both if found[n].shape != wanted[n].shape]:
        first = wrong[0]
        why = f"e.g. {first} is {list(found[first].shape)}, config.json makes it {list(wanted[first].shape)}"
        faults.append(Fault(f"{folder} has {len(wrong)} tensors of the wrong shape", why, kind="shapes"))
    if wrong := [n for n in both if dtypes and found[n].dtype != wanted[n].dtype]:
        first = wrong[0]
        why = f"e.g. {first} is {found[first].dtype}, not {wanted[first].dtype}; an engine would round without a word"
        faults.append(Fault(f"{folder} has {len(wrong)} tensors of the wrong dtype", why, kind="dtypes"))
    return faults
