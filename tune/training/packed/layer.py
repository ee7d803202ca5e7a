"""One layer of GPT-OSS for training: attention with LoRA as one fused function, then the packed experts.

A layer keeps its input and no more for the backward pass; attention is computed again there, the experts are not.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssDecoderLayer

from tune.training.packed.mixture import Routing, contexts, route


class Linear(NamedTuple):
    """x @ weight.T + bias + scale * (x @ a.T) @ b.T; a [rank, in] and b [out, rank] or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    a: torch.Tensor | None
    b: torch.Tensor | None
    scale: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out = linear(x, self.weight, self.bias)
        if self.a is None or self.b is None:
            return out
        return out + self.scale * linear(linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))


class Attention(NamedTuple):
    """The weights of everything in a layer before its experts, and what shapes it."""

    before: torch.Tensor
    after: torch.Tensor
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    sinks: torch.Tensor
    router: Linear
    head: int
    top: int
    epsilon: float
    window: int | None


class PackedLayer(GptOssDecoderLayer):  # type: ignore[misc]
    """Stock's parameters by stock's names; the experts are packed."""

    def forward(self, hidden_states: Any, attention_mask: Any = None, **given: Any) -> Any:
        """As stock. With a cache, as in generation, attention is stock's too."""
        if given.get("past_key_values") is not None:
            residual = hidden_states
            out, _ = self.self_attn(self.input_layernorm(hidden_states), attention_mask=attention_mask, **given)
            residual = residual + out
            return residual + self.mlp(self.post_attention_layernorm(residual))[0]
        cos, sin = given["position_embeddings"]
        if torch.is_grad_enabled():
            return checkpoint(
                self._run,
                hidden_states,
                attention_mask,
                cos,
                sin,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing here is random
                context_fn=contexts,
            )
        return self._run(hidden_states, attention_mask, cos, sin)

    def _run(self, hidden: Any, mask: Any, cos: Any, sin: Any) -> Any:
        function = _fused() if hidden.is_cuda else attend
        attended, x, scores, *routing = function(hidden, self._weights(), cos, sin, mask)
        made: Any = self.mlp.experts.mix(x, scores, Routing(*routing))
        return attended + made.view_as(attended)

    def _weights(self) -> Attention:
        attention, router = self.self_attn, self.mlp.router
        return Attention(
            self.input_layernorm.weight,
            self.post_attention_layernorm.weight,
            _linear(attention.q_proj),
            _linear(attention.k_proj),
            _linear(attention.v_proj),
            _linear(attention.o_proj),
            attention.sinks,
            Linear(router.weight, router.bias, None, None, 0.0),
            attention.head_dim,
            router.top_k,
            self.input_layernorm.variance_epsilon,
            attention.sliding_window,
        )


def attend(hidden: Any, of: Attention, cos: Any, sin: Any, mask: Any) -> tuple[Any, ...]:
    """Hidden [B, S, H] -> hidden after attention [B, S, H], the experts' input [B * S, H], scores [B * S, k], and the
    four parts of the routing.

    `mask`: a BlockMask for flex attention, or None for plain causal attention on a CPU.
    """
    batch, length, _ = hidden.shape
    x = _norm(hidden, of.before, of.epsilon)
    q, k, v = (p(x).view(batch, length, -1, of.head).transpose(1, 2) for p in (of.q, of.k, of.v))
    q, k = _turn(q, cos, sin), _turn(k, cos, sin)
    if mask is None:
        out = _causal(q, k, v, of.sinks, of.window)
    else:
        from torch.nn.attention.flex_attention import AuxRequest, flex_attention

        out, aux = flex_attention(q, k, v, block_mask=mask, enable_gqa=True, return_aux=AuxRequest(lse=True))
        # A sink is one more logit in the softmax's sum: exp(lse) / (exp(lse) + exp(sink)) of the rest remains.
        out = (out * torch.sigmoid(aux.lse - of.sinks.float()[None, :, None])[..., None]).to(q.dtype)
    attended = hidden + of.o(out.transpose(1, 2).reshape(batch, length, -1))
    x = _norm(attended, of.after, of.epsilon).flatten(0, 1)
    best, chosen = torch.topk(of.router(x), of.top, dim=-1)
    return attended, x, torch.softmax(best, 1, dtype=best.dtype), *route(chosen, len(of.router.weight))


@cache
def _fused() -> Any:
    return torch.compile(attend)


def masks(length: int, window: int, device: Any) -> dict[str, Any]:
    """Block masks by kind of layer. Padding is on the right, where causal attention never looks."""
    return {"full_attention": _mask(length, 0, device), "sliding_attention": _mask(length, window, device)}


@cache
def _mask(length: int, window: int, device: Any) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(_seen(window), None, None, length, length, device=device)


@cache
def _seen(window: int) -> Any:
    """Whether a query sees a key: at or before it, and within the window if there is one."""
    if window:
        return lambda _b, _h, q, k: (q >= k) & (q - k < window)
    return lambda _b, _h, q, k: q >= k


def _causal(q: Any, k: Any, v: Any, sinks: Any, window: int | None) -> Any:
    """Attention with sinks, scores multiplied out. q [B, heads, S, D], k and v [B, groups, S, D]."""
    length, times = q.shape[2], q.shape[1] // k.shape[1]
    at = torch.arange(length, device=q.device)
    seen = _seen(window or 0)(None, None, at[:, None], at)
    scores = q @ k.repeat_interleave(times, 1).transpose(2, 3) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~seen, float("-inf"))
    with_sink = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(len(q), -1, length, 1).to(scores.dtype)], -1)
    return with_sink.softmax(-1)[..., :-1] @ v.repeat_interleave(times, 1)


def _norm(x: Any, weight: Any, epsilon: float) -> Any:
    full = x.float()
    return (weight * (full * torch.rsqrt(full.square().mean(-1, keepdim=True) + epsilon))).to(x.dtype)


def _turn(x: Any, cos: Any, sin: Any) -> Any:
    """Rotary embedding of x [B, heads, S, D] by cos and sin [B or 1, S, D / 2]."""
    first, second = x.chunk(2, -1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _linear(module: Any) -> Linear:
    """The weights of a projection: plain, or wrapped by PEFT with at most one plain LoRA."""
    inner = getattr(module, "base_layer", None)
    if inner is None:
        return Linear(module.weight, module.bias, None, None, 0.0)
    off = module.disable_adapters or module.merged  # merged, the change is in the weight
    active = [] if off else [n for n in module.active_adapters if n in module.lora_A]
    if not active:
        return Linear(inner.weight, inner.bias, None, None, 0.0)
    [name] = active
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    return Linear(inner.weight, inner.bias, a, b, float(module.scaling[name]))


def attach(model: Any) -> None:
    """Give the model's layers the masks that they ask for: blocks on a GPU, none where attention is multiplied out."""
    decoder = model.model
    window = model.config.sliding_window
    decoder.register_forward_pre_hook(partial(_prepare, window), with_kwargs=True)


def _prepare(window: int, _module: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if given.get("use_cache") or given.get("past_key_values") is not None:
        return args, given
    padding = given.get("attention_mask")
    if isinstance(padding, torch.Tensor):  # on a GPU it fails without being waited for
        torch._assert_async((padding[:, 1:] <= padding[:, :-1]).all(), "rows are padded on the right")
    shown = next(v for v in (given.get("inputs_embeds"), given.get("input_ids"), *args) if v is not None)
    kinds: dict[str, Any] = {"full_attention": None, "sliding_attention": None}
    mask = masks(shown.shape[1], window, shown.device) if shown.is_cuda else kinds
    # Not asked for, a cache would still be made by the config, and then attention is stock's and needs stock's mask.
    return args, {**given, "attention_mask": mask, "use_cache": False}
