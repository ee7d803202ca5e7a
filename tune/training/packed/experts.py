"""The experts of one layer, computed from their MXFP4 bytes: decoded for a multiplication, in forward and again in
backward, and dropped. Nothing of a forward pass is kept but its inputs.

Knows no attention and no files. The experts themselves are frozen; gradients go to the hidden states and, through the
scores, to what chose the experts.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch  # this room is imported where training starts, never by a command line
from torch import nn

from tune.training.packed.decode import decode
from tune.weights.tensors import MXFP4_BLOCK

ALPHA = 1.702  # of GPT-OSS's gate, a constant of the architecture
_REPLAY = False  # whether a checkpointed layer is being run again for its saved tensors alone


class Routing(NamedTuple):
    """Where each of the T * k (token, expert) pairs goes, sorted by expert.

    `token` [T * k] and `expert` [T * k] of each sorted pair, `place` [T, k] of a token's pairs among the sorted ones,
    `ends` int32 [experts]: where each expert's pairs end.
    """

    token: torch.Tensor
    expert: torch.Tensor
    place: torch.Tensor
    ends: torch.Tensor


def route(chosen: torch.Tensor, experts: int) -> Routing:
    """The routing of expert indices [T, k]."""
    flat = chosen.reshape(-1)
    expert, order = torch.sort(flat, stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(flat), device=flat.device))
    counts = (expert[:, None] == torch.arange(experts, device=flat.device)).sum(0)
    return Routing(order // chosen.shape[1], expert, place.view_as(chosen), counts.cumsum(0).to(torch.int32))


class PackedExperts(nn.Module):
    """Stands where stock GPT-OSS has its experts; the tensors carry the names of OpenAI's files.

    `parts`: into how many slices of the intermediate units the work is cut. One slice is decoded at a time, so more
    of them take less memory and more launches.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        experts, hidden, inner = config.num_local_experts, config.hidden_size, config.intermediate_size
        for name, out, size in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
            blocks = torch.empty(experts, out, size // MXFP4_BLOCK, MXFP4_BLOCK // 2, dtype=torch.uint8)
            self.register_buffer(f"{name}_blocks", blocks)
            self.register_buffer(f"{name}_scales", torch.empty(blocks.shape[:-1], dtype=torch.uint8))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.empty(experts, out), requires_grad=False))
        self.limit = float(getattr(config, "swiglu_limit", 7.0))
        self.parts = 1

    def forward(self, hidden: torch.Tensor, chosen: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """As stock: hidden [T, H], chosen experts [T, k] and their scores [T, k] to [T, H]."""
        return self.mix(hidden, scores, route(chosen, len(self.gate_up_proj_bias)))

    def mix(self, hidden: torch.Tensor, scores: torch.Tensor, routing: Routing) -> torch.Tensor:
        """The weighted sum [T, H] of what each token's experts make of it."""
        if _REPLAY:  # the output is not used: what backward needs are the inputs
            return _Replayed.apply(hidden, scores, self, routing)
        return _Mixture.apply(hidden, scores, self, routing)

    def slices(self, dtype: torch.dtype) -> "Iterator[Slice]":
        """The experts' weights in `dtype`, slice by slice of their units."""
        groups = self.down_proj_blocks.shape[2]
        for part in range(self.parts):
            start, stop = (groups * n // self.parts for n in (part, part + 1))
            rows = slice(2 * MXFP4_BLOCK * start, 2 * MXFP4_BLOCK * stop)
            yield Slice(self, slice(start, stop), rows, dtype)


class Slice(NamedTuple):
    """Some of the units of every expert: `groups` of 32 of down's inputs, `rows` of gate and up's outputs."""

    experts: PackedExperts
    groups: slice
    rows: slice
    dtype: torch.dtype

    def gate_up(self) -> torch.Tensor:
        """[E, 2 * units, H]"""
        e = self.experts
        return decode(e.gate_up_proj_blocks[:, self.rows], e.gate_up_proj_scales[:, self.rows], self.dtype)

    def down(self) -> torch.Tensor:
        """[E, H, units]"""
        e = self.experts
        return decode(e.down_proj_blocks[:, :, self.groups], e.down_proj_scales[:, :, self.groups], self.dtype)

    def bias(self) -> torch.Tensor:
        """[E, 2 * units]"""
        return self.experts.gate_up_proj_bias[:, self.rows]


class _Mixture(torch.autograd.Function):
    """y = sum over a token's experts of score * (down @ swiglu(gate_up @ x + bias) + bias)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scores: torch.Tensor, experts: PackedExperts, at: Routing) -> torch.Tensor:
        ctx.save_for_backward(x, scores, *at)
        ctx.experts = experts
        rows, total = x[at.token], None
        for part in experts.slices(x.dtype):
            pre = _grouped(rows, part.gate_up().transpose(1, 2), at.ends)
            made = _on(x, activate)(pre, part.bias(), at.expert, experts.limit)
            del pre
            added = _grouped(made, part.down().transpose(1, 2), at.ends)
            total = added if total is None else total.add_(added)
        return _on(x, combine)(total, experts.down_proj_bias, scores, at.expert, at.place)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scores, *routing = ctx.saved_tensors
        experts, at = ctx.experts, Routing(*routing)
        given = gradient.to(x.dtype)[at.token]
        rows = x[at.token]
        score = _spread(scores, at)
        to_score, to_rows = _on(x, biased)(given, experts.down_proj_bias, at.expert), None
        for part in experts.slices(x.dtype):
            back = _grouped(given, part.down(), at.ends)
            weight = part.gate_up()
            pre = _grouped(rows, weight.transpose(1, 2), at.ends)
            to_pre, share = _on(x, activate_back)(pre, part.bias(), at.expert, experts.limit, back, score)
            del pre, back
            to_score += share
            added = _grouped(to_pre, weight, at.ends)
            to_rows = added if to_rows is None else to_rows.add_(added)
            del weight, to_pre
        return _on(x, gather)(to_rows, at.place), to_score[at.place].to(scores.dtype), None, None


class _Replayed(torch.autograd.Function):
    """The same node without the work of its forward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scores: torch.Tensor, experts: PackedExperts, at: Routing) -> torch.Tensor:
        ctx.save_for_backward(x, scores, *at)
        ctx.experts = experts
        return torch.empty_like(x)

    backward = _Mixture.backward


@contextmanager
def _replay() -> Iterator[None]:
    global _REPLAY
    _REPLAY = True
    try:
        yield
    finally:
        _REPLAY = False


def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For torch.utils.checkpoint: around a layer's forward pass, and around its recomputation."""
    return nullcontext(), _replay()


def activate(pre: torch.Tensor, bias: torch.Tensor, expert: torch.Tensor, limit: float) -> torch.Tensor:
    """GPT-OSS's SwiGLU in float32: pre [n, 2 * units], gate and up interleaved, bias [E, 2 * units] to [n, units]."""
    full = pre.float() + bias.float()[expert]
    gate, up = full[:, ::2].clamp(max=limit), full[:, 1::2].clamp(-limit, limit)
    return ((up + 1) * gate * torch.sigmoid(ALPHA * gate)).to(pre.dtype)


def activate_back(
    pre: torch.Tensor,
    bias: torch.Tensor,
    expert: torch.Tensor,
    limit: float,
    back: torch.Tensor,
    score: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `pre` [n, 2 * units] and (a share of) the scores float32 [n].

    `back` [n, units] is the gradient of the unweighted output, through down; score [n].
    """
    full = pre.float() + bias.float()[expert]
    raw_gate, raw_up = full[:, ::2], full[:, 1::2]
    gate, up = raw_gate.clamp(max=limit), raw_up.clamp(-limit, limit)
    sigmoid = torch.sigmoid(ALPHA * gate)
    glu = gate * sigmoid
    come = back.float()
    share = (come * (up + 1) * glu).sum(1)
    come = come * score.float()[:, None]
    to_gate = come * (up + 1) * sigmoid * (1 + ALPHA * gate * (1 - sigmoid)) * (raw_gate <= limit)
    to_up = come * glu * (raw_up.abs() <= limit)
    return torch.stack((to_gate, to_up), -1).flatten(1).to(pre.dtype), share


def combine(
    made: torch.Tensor, bias: torch.Tensor, scores: torch.Tensor, expert: torch.Tensor, place: torch.Tensor
) -> torch.Tensor:
    """Sorted outputs [T * k, H] and their bias [E, H], weighted and summed by token: [T, H]."""
    picked = made[place].float() + bias.float()[expert[place]]  # [T, k, H]
    return (picked * scores.float()[..., None]).sum(1).to(made.dtype)


def biased(given: torch.Tensor, bias: torch.Tensor, expert: torch.Tensor) -> torch.Tensor:
    """What down's bias adds to the gradient of each sorted pair's score: float32 [T * k]."""
    return (given.float() * bias.float()[expert]).sum(1)


def gather(rows: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Gradients of the sorted pairs [T * k, H], summed by token: [T, H]."""
    return rows[place].float().sum(1).to(rows.dtype)


def _spread(scores: torch.Tensor, at: Routing) -> torch.Tensor:
    """Scores [T, k] in the order of the sorted pairs, float32 [T * k]."""
    out = torch.empty(scores.numel(), dtype=torch.float32, device=scores.device)
    return out.scatter_(0, at.place.reshape(-1), scores.reshape(-1).float())


def _grouped(rows: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Rows [n, in], sorted by expert, each times its expert's weights [E, in, out]."""
    if rows.is_cuda:
        return torch.nn.functional.grouped_mm(rows, weights, offs=ends)
    parts = rows.tensor_split(ends[:-1].tolist())
    return torch.cat([part @ weight for part, weight in zip(parts, weights, strict=True)])


def _on(tensor: torch.Tensor, function: Any) -> Any:
    """The function as it is, or fused for the GPU that the tensor is on."""
    return _compiled(function) if tensor.is_cuda else function


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function)
