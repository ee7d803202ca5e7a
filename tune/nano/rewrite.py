"""Llama -> GPT-OSS: another architecture's weights for the same function, without training.

Attention goes over as it is; biases are 0 and sinks are off. Every expert is a copy of the MLP. GPT-OSS computes
(up + 1) * gate * sigmoid(1.702 * gate) with gate clamped from above and up on both sides at 7, Llama up * silu(gate):
gate / 1.702, up scaled with a bias of -1, down scaled back. Where a gate goes beyond the clamp on the calibration text,
its unit gets copies that carry the rest, for silu(x) is x there.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import GptOssConfig, LlamaForCausalLM

SLOPE, LIMIT = 1.702, 7.0  # of GPT-OSS's activation
REACH = SLOPE * LIMIT  # how far a Llama's gate goes before the clamp
ROOM = 1.25  # how far beyond the calibration text activations may go
SINK = -1e4  # an attention sink that takes nothing
EXPERTS = 2  # equal ones, of which each token takes one
CONTEXT = 2048  # positions; sliding attention reaches as far, so both kinds of layer see everything
MULTIPLE = 32  # of every width: MXFP4's blocks, and vLLM's CPU kernels


class Reached(NamedTuple):
    """The largest gate and the largest |up| of every hidden unit, float32 [layers, intermediate]."""

    gate: "torch.Tensor"
    up: "torch.Tensor"


def calibrate(model: "LlamaForCausalLM", batches: Iterable["torch.Tensor"]) -> Reached:
    """What the hidden units reach over batches of token ids, int64 [rows, tokens]."""
    import torch

    layers, width = model.config.num_hidden_layers, model.config.intermediate_size
    gate, up = torch.zeros(layers, width), torch.zeros(layers, width)
    hooks = []
    for n, layer in enumerate(model.model.layers):

        def see_gate(_m: object, _i: object, out: torch.Tensor, n: int = n) -> None:
            gate[n] = torch.maximum(gate[n], out.detach().flatten(0, 1).amax(0))

        def see_up(_m: object, _i: object, out: torch.Tensor, n: int = n) -> None:
            up[n] = torch.maximum(up[n], out.detach().abs().flatten(0, 1).amax(0))

        hooks += [
            layer.mlp.gate_proj.register_forward_hook(see_gate),
            layer.mlp.up_proj.register_forward_hook(see_up),
        ]
    with torch.no_grad():
        for ids in batches:
            model.model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return Reached(gate, up)


def copies(reached: Reached) -> list[list[tuple[int, int]]]:
    """By layer, (unit, k): the k-th copy of a unit, which carries what its gate has beyond k reaches."""
    return [
        [(unit, k) for unit in range(len(gate)) for k in range(1, math.ceil(ROOM * float(gate[unit]) / REACH))]
        for gate in reached.gate
    ]


def config(model: "LlamaForCausalLM", vocabulary: int, reached: Reached, **tokens: object) -> "GptOssConfig":
    """The GPT-OSS shape that holds the rewritten model; `tokens` are its bos, eos and pad ids."""
    from transformers import GptOssConfig

    old, most = model.config, max(map(len, copies(reached)))
    return GptOssConfig(
        vocab_size=vocabulary,
        hidden_size=old.hidden_size,
        intermediate_size=-(-(old.intermediate_size + most) // MULTIPLE) * MULTIPLE,
        num_hidden_layers=old.num_hidden_layers,
        num_attention_heads=old.num_attention_heads,
        num_key_value_heads=old.num_key_value_heads,
        head_dim=old.hidden_size // old.num_attention_heads,
        num_local_experts=EXPERTS,
        num_experts_per_tok=1,
        sliding_window=CONTEXT,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=old.rms_norm_eps,
        rope_parameters={
            "rope_type": "yarn",  # engines know no other of this architecture; by a factor of 1 it changes nothing
            "rope_theta": old.rope_parameters["rope_theta"],
            "factor": 1.0,
            "original_max_position_embeddings": CONTEXT,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
        },
        router_aux_loss_coef=0.0,
        tie_word_embeddings=False,
        **tokens,
    )


def weights(model: "LlamaForCausalLM", shape: "GptOssConfig", reached: Reached) -> dict[str, "torch.Tensor"]:
    """The GPT-OSS's tensors by transformers' names, float32, all but model.embed_tokens and lm_head.

    Experts' weights are [experts, in, out], gate and up interleaved. All experts are equal, and the
    router spreads tokens over them by chance.
    """
    import torch

    plain = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    out = {
        name: tensor
        for name, tensor in plain.items()
        if ".mlp." not in name and name not in {"model.embed_tokens.weight", "lm_head.weight"}
    }
    dice = torch.Generator().manual_seed(0)
    for n, extra in enumerate(copies(reached)):
        at, mlp = f"model.layers.{n}", f"model.layers.{n}.mlp"
        for name in "qkvo":
            rows = plain[f"{at}.self_attn.{name}_proj.weight"].shape[0]
            out[f"{at}.self_attn.{name}_proj.bias"] = torch.zeros(rows)
        out[f"{at}.self_attn.sinks"] = torch.full((shape.num_attention_heads,), SINK)
        out[f"{mlp}.router.weight"] = torch.randn(EXPERTS, shape.hidden_size, generator=dice) * 0.02
        out[f"{mlp}.router.bias"] = torch.zeros(EXPERTS)
        gate_up, bias, down = _expert(plain, mlp, extra, shape, reached.up[n])
        for name, one in (
            ("gate_up_proj", gate_up),
            ("gate_up_proj_bias", bias),
            ("down_proj", down),
            ("down_proj_bias", torch.zeros(shape.hidden_size)),
        ):
            out[f"{mlp}.experts.{name}"] = one.expand(EXPERTS, *one.shape).contiguous()
    return out


def _expert(
    plain: dict[str, "torch.Tensor"],
    mlp: str,
    extra: list[tuple[int, int]],
    shape: "GptOssConfig",
    most_up: "torch.Tensor",
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """gate_up [hidden, 2 x width], its bias and down [width, hidden] of one layer's MLP; the rest of the width is 0."""
    import torch

    width = plain[f"{mlp}.gate_proj.weight"].shape[0]
    units = torch.tensor([*range(width), *(unit for unit, _ in extra)])
    beyond = torch.tensor([0.0] * width + [float(k) for _, k in extra])
    scale = (LIMIT - 1) / (ROOM * most_up[units]).clamp(min=0.5)  # scale * up - 1 stays within the clamp
    filled = slice(0, 2 * len(units))
    gate_up = torch.zeros(shape.hidden_size, 2 * shape.intermediate_size)
    gate_up[:, filled][:, 0::2] = plain[f"{mlp}.gate_proj.weight"][units].T / SLOPE
    gate_up[:, filled][:, 1::2] = (plain[f"{mlp}.up_proj.weight"][units] * scale[:, None]).T
    bias = torch.zeros(2 * shape.intermediate_size)
    bias[filled][0::2] = -beyond * LIMIT
    bias[1::2] = -1.0
    down = torch.zeros(shape.intermediate_size, shape.hidden_size)
    down[: len(units)] = (plain[f"{mlp}.down_proj.weight"][:, units] * (SLOPE / scale)).T
    return gate_up, bias, down
