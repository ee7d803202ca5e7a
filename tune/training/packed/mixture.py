"""The mixture of experts as one step of autograd: y = sum over a token's experts of
score * (down @ swiglu(gate_up @ x + bias) + bias).

Weights are decoded for a multiplication and dropped; of a forward pass nothing is kept but its inputs. Gradients go to
the hidden states, to the scores, and to the experts' LoRA if there is one.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import pad

from tune.training.packed import gate
from tune.training.packed.gate import on

if TYPE_CHECKING:
    from tune.training.packed.experts import PackedExperts

ROWS = 8  # 16 bytes of bf16: what the GPU's kernels read at once
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


class Lora(NamedTuple):
    """The change of the experts' weights, scale * b @ a: `up` of gate_up_proj, `down` of down_proj.

    a float32 [E, rank, in], b float32 [E, out, rank].
    """

    up_a: torch.Tensor
    up_b: torch.Tensor
    down_a: torch.Tensor
    down_b: torch.Tensor
    scale: float


def route(chosen: torch.Tensor, experts: int) -> Routing:
    """The routing of expert indices [T, k]."""
    flat = chosen.reshape(-1)
    expert, order = torch.sort(flat, stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(flat), device=flat.device))
    counts = (expert[:, None] == torch.arange(experts, device=flat.device)).sum(0)
    return Routing(order // chosen.shape[1], expert, place.view_as(chosen), counts.cumsum(0).to(torch.int32))


def mix(x: torch.Tensor, scores: torch.Tensor, experts: "PackedExperts", at: Routing, lora: Lora | None) -> Any:
    """y [T, H] of x [T, H] and scores [T, k]. Run again for a checkpoint, it does none of the work."""
    matrices, scale = (lora[:4], lora.scale) if lora else ((), 0.0)
    return _Mixture.apply(_REPLAY, experts, scale, x, scores, *at, *matrices)


class _Mixture(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, replay: bool, experts: "PackedExperts", scale: float, x: Any, scores: Any, *rest: torch.Tensor
    ) -> Any:
        at, lora = Routing(*rest[:4]), _lora(rest[4:], scale)
        ctx.save_for_backward(x, scores, *rest)
        ctx.experts, ctx.scale = experts, scale
        if replay:  # the output is not used: what backward needs are the inputs
            return torch.empty_like(x)
        rows, total = x[at.token], None
        for part in experts.slices(x.dtype, lora):
            made = on(x, gate.activate)(
                grouped(rows, part.gate_up().transpose(1, 2), at.ends), part.bias(), at.expert, experts.limit
            )
            added = grouped(made, part.down().transpose(1, 2), at.ends)
            total = added if total is None else total.add_(added)
        return on(x, gate.combine)(total, experts.down_proj_bias, scores, at.expert, at.place)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scores, *rest = ctx.saved_tensors
        experts, at, lora = ctx.experts, Routing(*rest[:4]), _lora(rest[4:], ctx.scale)
        given, rows, score = gradient.to(x.dtype)[at.token], x[at.token], gate.spread(scores, at.place)
        to_score, to_rows = on(x, gate.biased)(given, experts.down_proj_bias, at.expert), None
        learned = _Learned(lora, at.ends) if lora else None
        for part in experts.slices(x.dtype, lora):
            back = grouped(given, part.down(), at.ends)
            weight = part.gate_up()
            pre = grouped(rows, weight.transpose(1, 2), at.ends)
            to_pre, share = on(x, gate.activate_back)(pre, part.bias(), at.expert, experts.limit, back, score)
            if learned:
                made = on(x, gate.activate)(pre, part.bias(), at.expert, experts.limit)
                learned.gate_up(part.rows, to_pre, rows)
                learned.down(part.units, given * score[:, None].to(given.dtype), made)
                del made
            del pre, back
            to_score += share
            added = grouped(to_pre, weight, at.ends)
            to_rows = added if to_rows is None else to_rows.add_(added)
            del weight, to_pre
        to_x, to_scores = on(x, gate.gather)(to_rows, at.place), to_score[at.place].to(scores.dtype)
        return None, None, None, to_x, to_scores, None, None, None, None, *(learned.gradients() if learned else ())


class _Learned:
    """Gradients of the experts' LoRA, slice by slice: the quantizer is passed as if it were not there."""

    def __init__(self, lora: Lora, ends: torch.Tensor) -> None:
        self.lora, self.scale, self.ends, self.rank = lora, lora.scale, ends, lora.up_a.shape[1]
        self.to = lora._replace(**{name: torch.zeros_like(getattr(lora, name)) for name in Lora._fields[:4]})

    def gate_up(self, rows: slice, out: torch.Tensor, x: torch.Tensor) -> None:
        """`rows` of gate_up's outputs; the gradient `out` [n, rows] that came there, and the input x [n, H]."""
        to_a, to_b = self._both(self.lora.up_a, self.lora.up_b[:, rows], out, x)
        self.to.up_a.add_(to_a, alpha=self.scale)
        self.to.up_b[:, rows].add_(to_b, alpha=self.scale)

    def down(self, units: slice, out: torch.Tensor, made: torch.Tensor) -> None:
        """`units` of down's inputs; the gradient `out` [n, H], and the input made [n, units]."""
        to_a, to_b = self._both(self.lora.down_a[:, :, units], self.lora.down_b, out, made)
        self.to.down_a[:, :, units].add_(to_a, alpha=self.scale)
        self.to.down_b.add_(to_b, alpha=self.scale)

    def _both(
        self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of a [E, rank, in] and b [E, out, rank] by what came to the output [n, out] of x [n, in]."""
        short = -self.rank % ROWS  # filled up with zeros to what the GPU's kernels take
        a, b = pad(a, (0, 0, 0, short)).to(x.dtype), pad(b, (0, short)).to(x.dtype)
        to_a = outer(grouped(out, b, self.ends), x, self.ends)[:, : self.rank]
        to_b = outer(out, grouped(x, a.transpose(1, 2), self.ends), self.ends)[:, :, : self.rank]
        return to_a, to_b

    def gradients(self) -> tuple[torch.Tensor, ...]:
        """Of `Lora`'s matrices, in their order."""
        return self.to[:4]


def _lora(matrices: tuple[torch.Tensor, ...], scale: float) -> Lora | None:
    return Lora(*matrices, scale) if matrices else None  # type: ignore[call-arg]


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


def grouped(rows: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Rows [n, in], sorted by expert, each times its expert's weights [E, in, out]: [n, out]."""
    if rows.is_cuda:
        return torch.nn.functional.grouped_mm(rows, weights if _strided(weights) else weights.contiguous(), offs=ends)
    parts = rows.tensor_split(ends[:-1].tolist())
    return torch.cat([part @ weight for part, weight in zip(parts, weights, strict=True)])


def outer(left: torch.Tensor, right: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """For each expert left.T @ right of its rows, left [n, p] and right [n, q]: [E, p, q]."""
    if left.is_cuda:
        left, right, ends = aligned(left, right, ends)
        return torch.nn.functional.grouped_mm(left.T, right, offs=ends)
    splits = ends[:-1].tolist()
    pairs = zip(left.tensor_split(splits), right.tensor_split(splits), strict=True)
    return torch.stack([one.T @ other for one, other in pairs])


def aligned(
    left: torch.Tensor, right: torch.Tensor, ends: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same with rows of zeros between the experts, so that each one's begin at a multiple of ROWS: the GPU's
    kernels sum over them 16 bytes at a time. n + ROWS * E rows, however they are spread: nothing is waited for."""
    counts = torch.diff(ends, prepend=ends.new_zeros(1))
    ends_there = (-(-counts // ROWS) * ROWS).cumsum(0).to(torch.int32)
    shift = ends_there - (-(-counts // ROWS) * ROWS) - (ends - counts)  # of each expert's rows
    at = torch.arange(len(left), device=left.device)
    at = at + shift[torch.searchsorted(ends, at, right=True)]
    spread = (
        part.new_zeros(len(part) + ROWS * len(ends), part.shape[1]).index_copy_(0, at, part) for part in (left, right)
    )
    return *spread, ends_there


def _strided(weights: torch.Tensor) -> bool:
    """Whether the GPU's kernels take these strides: one of the last two dimensions without gaps, others of 16 bytes."""
    *_, rows, columns = weights.stride()
    return 1 in (rows, columns) and all(s * weights.element_size() % 16 == 0 for s in weights.stride() if s != 1)
