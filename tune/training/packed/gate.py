"""The elementwise steps of a layer's experts, forward and backward: activation, weighting, sums. Pure functions of
tensors, each fused into one kernel on a GPU.

Rows are (token, expert) pairs sorted by expert; n of them, T tokens with k experts each, E experts.
"""

from functools import cache
from typing import Any

import torch

ALPHA = 1.702  # of GPT-OSS's gate, a constant of the architecture


def on(tensor: torch.Tensor, function: Any) -> Any:
    """The function as it is, or fused for the GPU that the tensor is on."""
    return _compiled(function) if tensor.is_cuda else function


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function)


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


def spread(scores: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Scores [T, k] in the order of the sorted pairs, float32 [n]; `place` [T, k]."""
    out = torch.empty(scores.numel(), dtype=torch.float32, device=scores.device)
    return out.scatter_(0, place.reshape(-1), scores.reshape(-1).float())
