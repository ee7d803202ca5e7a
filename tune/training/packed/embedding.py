"""The embedding in the host's memory: a table that is read a few rows at a time needs no place on the GPU."""

from typing import Any

import torch
from torch import nn


class HostEmbedding(nn.Module):  # type: ignore[misc]
    """As nn.Embedding over `weight` [vocabulary, H]; the weight stays in pinned memory of the host.

    Moving the model leaves it there: it is no parameter, and frozen.
    """

    def __init__(self, weight: Any) -> None:
        super().__init__()
        rows = weight.detach()
        self.rows = rows.pin_memory() if torch.cuda.is_available() else rows

    @property
    def weight(self) -> Any:
        return self.rows

    def forward(self, ids: Any) -> Any:
        """Rows [..., H] of ids [...], on the device that the ids are on."""
        picked = torch.nn.functional.embedding(ids.to("cpu"), self.rows)
        return picked.pin_memory().to(ids.device, non_blocking=True) if ids.is_cuda else picked
