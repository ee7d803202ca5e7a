"""Stock transformers' GPT-OSS layer by layer over weights that are never all in memory.

In: weights as Values and token ids. Out: the last layer's hidden states, and logits from a slice of the head at a time.
One layer's attention and one expert are in memory; each expert is decoded once for all prompts and dtypes. A GPU does
the arithmetic where there is one: that of float32 is the same to within its last digits.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tune.weights import shards
from tune.weights.tensors import PROJECTIONS
from tune.weights.values import Values

if TYPE_CHECKING:
    import torch

ROWS = 16_384  # of the head at a time
ROOM = 4_000_000_000  # bytes of a GPU


class _Run(NamedTuple):
    """One prompt on its way through the layers, in one dtype."""

    hidden: "torch.Tensor"
    masks: dict[str, Any]
    positions: "torch.Tensor"
    turned: "tuple[torch.Tensor, torch.Tensor]"


def hidden(
    values: Values, prompts: Sequence[list[int]], dtypes: "Sequence[torch.dtype]"
) -> "dict[torch.dtype, list[torch.Tensor]]":
    """By dtype of the arithmetic, for each prompt what the head is asked, float32 [tokens, width]."""
    import torch
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import (
        GptOssDecoderLayer,
        GptOssExperts,
        GptOssRMSNorm,
        GptOssRotaryEmbedding,
    )

    config = GptOssConfig.from_dict(
        {k: v for k, v in shards.config(values.folder).items() if k != "quantization_config"},
        attn_implementation="eager",
        experts_implementation="eager",
    )
    single = copy.deepcopy(config)
    single.num_local_experts = 1
    device = _device()
    with torch.inference_mode():
        rotary = GptOssRotaryEmbedding(config).to(device)
        runs: dict[torch.dtype, list[_Run]] = {dtype: [] for dtype in dtypes}
        for ids in prompts:
            embedded = values.take("model.embed_tokens.weight", ids)[None].to(device)
            for dtype, of in runs.items():
                of.append(_start(config, rotary, embedded.to(dtype)))
        for number, kind in enumerate(config.layer_types):
            with torch.device("meta"):
                layer, expert = GptOssDecoderLayer(config, number).eval(), GptOssExperts(single)
            prefix = f"model.layers.{number}."
            layer.mlp.experts = None
            layer.load_state_dict(_without_experts(values, prefix, device), assign=True)
            between = {dtype: [_attended(layer.to(dtype), run, kind) for run in runs[dtype]] for dtype in runs}
            _through_experts(values, f"{prefix}mlp.experts", expert, between)
            runs = {
                dtype: [
                    run._replace(hidden=b.residual + b.out[None]) for run, b in zip(of, between[dtype], strict=True)
                ]
                for dtype, of in runs.items()
            }
        norm = GptOssRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        norm.load_state_dict({"weight": values.tensor("model.norm.weight").float().to(device)}, assign=True)
        return {dtype: [norm(run.hidden.float())[0].cpu() for run in of] for dtype, of in runs.items()}


def _device() -> str:
    """A GPU that has room for a layer, its activations and a part of the head; else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > ROOM else "cpu"


def logits(values: Values, states: "torch.Tensor") -> "torch.Tensor":
    """What the head says of states [n, width]: float32 [n, vocabulary]."""
    import torch

    name = "lm_head.weight" if "lm_head.weight" in values.specs else "model.embed_tokens.weight"
    with torch.inference_mode():
        on = states.to(_device())
        return torch.cat([(on @ part.to(on.device).T).cpu() for part in _head(values, name)], dim=1)


def _head(values: Values, name: str) -> "Iterator[torch.Tensor]":
    from tune.weights import lora

    height, delta = values.specs[name].shape[0], values.deltas.get(name)
    for first in range(0, height, ROWS):
        rows = values.rows(name, first, min(ROWS, height - first))
        if delta is not None:
            rows, _ = lora.merge(rows, delta._replace(b=delta.b[first : first + ROWS]))
        yield rows.float()


def _start(config: Any, rotary: Any, hidden: "torch.Tensor") -> _Run:
    """Masks, positions and rotary embedding as GptOssModel makes them."""
    import torch
    from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

    make_mask = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
    masks = {
        kind: make(config=config, inputs_embeds=hidden, attention_mask=None, past_key_values=None)
        for kind, make in make_mask.items()
    }
    positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
    return _Run(hidden, masks, positions, rotary(hidden, positions))


class _Between(NamedTuple):
    """A run between its attention and its experts: [tokens, width] goes in, `out` is summed up."""

    residual: "torch.Tensor"
    into: "torch.Tensor"
    scores: "torch.Tensor"
    chosen: "torch.Tensor"
    out: "torch.Tensor"


def _attended(layer: Any, run: _Run, kind: str) -> _Between:
    """GptOssDecoderLayer.forward up to its experts."""
    attended, _ = layer.self_attn(
        hidden_states=layer.input_layernorm(run.hidden),
        attention_mask=run.masks[kind],
        position_ids=run.positions,
        past_key_values=None,
        position_embeddings=run.turned,
    )
    residual = run.hidden + attended
    into = layer.post_attention_layernorm(residual)[0]
    _, scores, chosen = layer.mlp.router(into)
    return _Between(residual, into, scores, chosen, into.new_zeros(into.shape))


def _through_experts(values: Values, stem: str, module: Any, between: "Mapping[torch.dtype, list[_Between]]") -> None:
    """Add up what each expert says, in the order of their numbers as GptOssExperts does, an expert at a time."""
    import torch

    device = next(iter(between.values()))[0].into.device
    biases = {name: values.tensor(f"{stem}.{name}_bias").float().to(device) for name in PROJECTIONS}
    for number in range(len(biases["down_proj"])):
        picked = [(dtype, b, *torch.where(b.chosen == number)) for dtype, of in between.items() for b in of]
        if not any(len(tokens) for _, _, tokens, _ in picked):
            continue
        state = {f"{name}_bias": bias[number : number + 1] for name, bias in biases.items()}
        state |= {name: values.expert_on(f"{stem}.{name}", number, device)[None] for name in PROJECTIONS}
        module.load_state_dict(state, assign=True)
        for dtype, run, tokens, slots in picked:
            if len(tokens):
                index = torch.zeros(len(tokens), 1, dtype=torch.long, device=device)
                said = module.to(dtype)(run.into[tokens], index, run.scores[tokens, slots, None])
                run.out.index_add_(0, tokens, said)


def _without_experts(values: Values, prefix: str, device: str) -> dict[str, Any]:
    """One layer's weights but its experts' by the names of its module, float32."""
    names = [n for n in values.specs if n.startswith(prefix) and ".mlp.experts." not in n]
    return {name.removeprefix(prefix): values.tensor(name).float().to(device) for name in names}
