"""The experts of one layer as stock GPT-OSS places them, their weights the MXFP4 bytes of the files.

With a LoRA on the experts, each weight is what would be written of it: the changed weight, put back on its 4-bit grid
by the rule of `tune.weights.mxfp4.requantize`. Knows no attention and no files.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from tune.training.machine.need import SLICE
from tune.training.packed.mixture import Lora, Routing, mix, route
from tune.weights.mxfp4_torch import decode, redecode
from tune.weights.tensors import MXFP4_BLOCK


class PackedExperts(nn.Module):  # type: ignore[misc]
    """Stands where stock GPT-OSS has its experts; the tensors carry the names of OpenAI's files.

    `parts`: into how many slices of the intermediate units the work is cut. One slice is decoded at a time.
    """

    def __init__(self, config: Any, parts: int = 0) -> None:
        super().__init__()
        experts, hidden, inner = config.num_local_experts, config.hidden_size, config.intermediate_size
        for name, out, size in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
            blocks = torch.empty(experts, out, size // MXFP4_BLOCK, MXFP4_BLOCK // 2, dtype=torch.uint8)
            self.register_buffer(f"{name}_blocks", blocks)
            self.register_buffer(f"{name}_scales", torch.empty(blocks.shape[:-1], dtype=torch.uint8))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.empty(experts, out), requires_grad=False))
        self.limit = float(getattr(config, "swiglu_limit", 7.0))
        self.parts = parts or math.ceil(experts * 2 * inner * hidden / SLICE)

    def forward(self, hidden: torch.Tensor, chosen: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """As stock: hidden [T, H], chosen experts [T, k] and their scores [T, k] to [T, H]."""
        return self.mix(hidden, scores, self.route(chosen))

    def route(self, chosen: torch.Tensor) -> Routing:
        """Where each pair of a token and one of its chosen experts [T, k] goes."""
        return route(chosen, len(self.gate_up_proj_bias))

    def mix(self, hidden: torch.Tensor, scores: torch.Tensor, routing: Routing) -> torch.Tensor:
        """The weighted sum [T, H] of what each token's experts make of it."""
        made: torch.Tensor = mix(hidden, scores, self, routing, None)
        return made

    def slices(self, dtype: torch.dtype, lora: Lora | None) -> "Iterator[Slice]":
        """The experts' weights in `dtype`, slice by slice of their units."""
        groups = self.down_proj_blocks.shape[2]
        for part in range(self.parts):
            start, stop = (groups * n // self.parts for n in (part, part + 1))
            yield Slice(self, slice(start, stop), dtype, lora)


class Slice(NamedTuple):
    """Some of the units of every expert: `groups` of 32 of them."""

    experts: PackedExperts
    groups: slice
    dtype: torch.dtype
    lora: Lora | None

    @property
    def units(self) -> slice:
        """Of down's inputs."""
        return slice(MXFP4_BLOCK * self.groups.start, MXFP4_BLOCK * self.groups.stop)

    @property
    def rows(self) -> slice:
        """Of gate_up's outputs, gate and up interleaved."""
        return slice(2 * self.units.start, 2 * self.units.stop)

    def gate_up(self) -> torch.Tensor:
        """[E, 2 * units, H]"""
        e, rows = self.experts, self.rows
        bytes_ = e.gate_up_proj_blocks[:, rows], e.gate_up_proj_scales[:, rows]
        if self.lora is None:
            return decode(*bytes_, self.dtype)
        return redecode(*bytes_, self.lora.up_a, self.lora.scale * self.lora.up_b[:, rows], (rows.start, 0), self.dtype)

    def down(self) -> torch.Tensor:
        """[E, H, units]"""
        e, groups = self.experts, self.groups
        bytes_ = e.down_proj_blocks[:, :, groups], e.down_proj_scales[:, :, groups]
        if self.lora is None:
            return decode(*bytes_, self.dtype)
        a, b = self.lora.down_a[:, :, self.units], self.lora.scale * self.lora.down_b
        return redecode(*bytes_, a, b, (0, self.units.start), self.dtype)

    def bias(self) -> torch.Tensor:
        """[E, 2 * units]"""
        return self.experts.gate_up_proj_bias[:, self.rows]
