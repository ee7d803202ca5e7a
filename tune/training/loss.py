"""Cross entropy over a frozen output head, summed over the learned tokens, without all their logits at once.

In: hidden states of learned positions and their labels. Out: one sum, in nats. Knows no model and no trainer.
"""

from functools import cache
from typing import Any

LOGITS = 1 << 24  # computed at a time on a CPU
GPU_LOGITS = 1 << 26  # on a GPU: 268 MB in float32


class CpuHead:
    """The frozen output head with equal rows held once: the same loss at the cost of the rows that differ.

    n rows that share logit z count as one row with logit z + log n in the softmax's sum, and each has the
    group's probability / n. A nano base has one row for all the tokens it never saw.
    """

    def __init__(self, weight: Any) -> None:
        """`weight` is float [vocabulary, hidden]."""
        import numpy as np
        import torch

        rows = np.ascontiguousarray(weight.float().numpy())
        _, first, group, count = np.unique(
            rows.view(np.dtype((np.void, rows.shape[1] * 4))).ravel(),
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        self.rows = weight[torch.from_numpy(first)]
        self.group = torch.from_numpy(group)
        self.log_count = torch.from_numpy(np.log(count)).float()

    def loss(self, hidden: Any, labels: Any) -> Any:
        """Summed cross entropy over the whole vocabulary: hidden [n, hidden], labels [n]; logits a part at a time."""
        import torch
        from torch.utils.checkpoint import checkpoint

        step = max(1, LOGITS // len(self.rows))
        if len(hidden) <= step:
            return self._loss(hidden, labels)
        parts = zip(hidden.split(step), labels.split(step), strict=True)
        return torch.stack([checkpoint(self._loss, h, y, use_reentrant=False) for h, y in parts]).sum()

    def _loss(self, hidden: Any, labels: Any) -> Any:
        from torch.nn.functional import cross_entropy

        group = self.group[labels]
        logits = (hidden @ self.rows.T).float() + self.log_count
        return cross_entropy(logits, group, reduction="sum") + self.log_count[group].sum()


class GpuHead:
    """The frozen head on a GPU: logits in float32, a part at a time, and their gradient while they are there."""

    def __init__(self, weight: Any) -> None:
        """`weight` is bf16 [vocabulary, hidden]."""
        self.weight = weight

    def loss(self, hidden: Any, labels: Any) -> Any:
        """Summed cross entropy, float32: hidden [n, hidden], labels [n]."""
        return _function().apply(hidden.to(self.weight.dtype), labels, self.weight)


@cache
def _function() -> Any:
    import torch

    class Loss(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, hidden: Any, labels: Any, weight: Any) -> Any:
            wanted = ctx.needs_input_grad[0]
            gradient = torch.empty_like(hidden) if wanted else None
            total = hidden.new_zeros((), dtype=torch.float32)
            step = max(1, GPU_LOGITS // len(weight))
            for start in range(0, len(hidden), step):
                part, target = hidden[start : start + step], labels[start : start + step]
                logits = torch.mm(part, weight.T, out_dtype=torch.float32)
                loss, slope = _compiled()(logits, target)
                del logits
                total += loss
                if gradient is not None:
                    torch.mm(slope, weight, out=gradient[start : start + step])
                del slope
            ctx.save_for_backward(gradient)
            return total

        @staticmethod
        def backward(ctx: Any, given: Any) -> Any:
            [gradient] = ctx.saved_tensors
            return (gradient * given).to(gradient.dtype), None, None

    return Loss


@cache
def _compiled() -> Any:
    import torch

    return torch.compile(terms)


def terms(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Summed cross entropy of logits float32 [n, vocabulary], and its gradient in bf16."""
    import torch

    top = logits.logsumexp(1, keepdim=True)
    at = torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
    loss = (top[:, 0] - logits.gather(1, labels[:, None])[:, 0]).sum()
    return loss, ((logits - top).exp() - at.float()).to(torch.bfloat16)
