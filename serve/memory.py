"""The tensors of a GPT-OSS checkpoint and the memory they and the key/value cache take. Pure, in bytes.

Sizes come from the architecture alone (config.json), so they are exact for weights and cache; what the engine
needs around them is measured and named as such. Knows nothing about devices.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Weights = Literal["merged", "mxfp4"]

MXFP4_BLOCK = 32  # values sharing one scale byte, two values a byte (OCP Microscaling v1.0)
BF16 = 2

# Memory that vLLM 0.32's three CPU processes take before weights and cache: the sum of their proportional set sizes was
# 2.8 GB on x86-64 with a 0.1 GB checkpoint and 0.2 GB of cache (2026-11); rounded up.
ENGINE_OVERHEAD_CPU = 3 * 2**30


class Tensor(NamedTuple):
    """One stored tensor: its shape and bytes an element."""

    shape: tuple[int, ...]
    element: int

    @property
    def bytes(self) -> int:
        size = self.element
        for n in self.shape:
            size *= n
        return size


class Shape(BaseModel):
    """GPT-OSS's architecture, with config.json's names. Unknown keys are ignored: it carries many more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    num_hidden_layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_local_experts: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    sliding_window: int = Field(gt=0)
    layer_types: tuple[str, ...] = ()
    tie_word_embeddings: bool = False

    @property
    def full_layers(self) -> int:
        """Layers that attend to everything; the others see `sliding_window` tokens. Alternating when not listed."""
        if self.layer_types:
            return self.layer_types.count("full_attention")
        return self.num_hidden_layers // 2


def _known(layers: int, experts: int) -> Shape:
    return Shape(
        num_hidden_layers=layers,
        hidden_size=2880,
        intermediate_size=2880,
        num_local_experts=experts,
        num_attention_heads=64,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=201_088,
        sliding_window=128,
    )


GPT_OSS: Mapping[str, Shape] = {"openai/gpt-oss-20b": _known(24, 32), "openai/gpt-oss-120b": _known(36, 128)}


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The architecture that a config.json names. Raises pydantic.ValidationError for a missing or absurd value."""
    return Shape.model_validate(config)


def tensors(shape: Shape, weights: Weights) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by the name it is stored under. The engine skips any other name silently.

    Experts: `gate_up_proj` [E, H, 2I] and `down_proj` [E, I, H] in bf16, or the transposed values as
    `_blocks` [E, out, in/32, 16] and `_scales` [E, out, in/32] in bytes.
    """
    h, i, e = shape.hidden_size, shape.intermediate_size, shape.num_local_experts
    q, kv = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    named: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab_size, h), "model.norm.weight": (h,)}
    if not shape.tie_word_embeddings:
        named["lm_head.weight"] = (shape.vocab_size, h)
    packed: dict[str, tuple[int, ...]] = {}
    for n in range(shape.num_hidden_layers):
        layer = f"model.layers.{n}"
        named |= {f"{layer}.input_layernorm.weight": (h,), f"{layer}.post_attention_layernorm.weight": (h,)}
        named[f"{layer}.self_attn.sinks"] = (shape.num_attention_heads,)
        for name, out, size in (("q_proj", q, h), ("k_proj", kv, h), ("v_proj", kv, h), ("o_proj", h, q)):
            named |= {f"{layer}.self_attn.{name}.weight": (out, size), f"{layer}.self_attn.{name}.bias": (out,)}
        named |= {f"{layer}.mlp.router.weight": (e, h), f"{layer}.mlp.router.bias": (e,)}
        for name, out, size in (("gate_up_proj", 2 * i, h), ("down_proj", h, i)):
            expert = f"{layer}.mlp.experts.{name}"
            named[f"{expert}_bias"] = (e, out)
            if weights == "merged":
                named[expert] = (e, size, out)
            else:
                packed[f"{expert}_blocks"] = (e, out, size // MXFP4_BLOCK, MXFP4_BLOCK // 2)
                packed[f"{expert}_scales"] = (e, out, size // MXFP4_BLOCK)
    return {k: Tensor(v, BF16) for k, v in named.items()} | {k: Tensor(v, 1) for k, v in packed.items()}


def parameters(shape: Shape) -> int:
    """How many numbers the model holds: 20.91 and 116.83 thousand million for the two published ones."""
    return sum(t.bytes for t in tensors(shape, "merged").values()) // BF16


def weight_bytes(shape: Shape, weights: Weights) -> int:
    """Bytes of the weights as stored, which is what the engine holds to within 1 % (20b) or 9 % (120b, Marlin).

    MXFP4 experts take 4.25 bits a value: 4 bits and one shared scale byte for 32.
    """
    return sum(t.bytes for t in tensors(shape, weights).values())


def kv_bytes(shape: Shape, tokens: int, *, element: int = BF16) -> int:
    """Bytes of key/value cache that one sequence of `tokens` tokens takes.

    2 (key and value) * kv heads * head size * `element` a token and layer; sliding layers keep their window only,
    as vLLM's hybrid cache does.
    """
    row = 2 * shape.num_key_value_heads * shape.head_dim * element
    sliding = shape.num_hidden_layers - shape.full_layers
    return row * (shape.full_layers * tokens + sliding * min(tokens, shape.sliding_window))


def kv_budget(shape: Shape, *, max_model_len: int, sequences: int) -> int:
    """Bytes of cache to ask a CPU engine for, so that `sequences` longest ones fit at once.

    A half more than the exact sum: the engine hands out blocks of 128 tokens and rounds both kinds of layer up.
    """
    return max(128 * 2**20, sequences * kv_bytes(shape, max_model_len) * 3 // 2)
