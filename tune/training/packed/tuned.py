"""LoRA on packed experts, in the places and under the names that PEFT's `target_parameters` would give it:
gate_up_proj's wraps the experts, and down_proj's wraps that.

PEFT itself adds a change to a parameter, and packed experts have none to add to.
"""

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from tune.training.packed.experts import PackedExperts
from tune.training.packed.mixture import Lora, Routing, mix

ADAPTER = "default"  # PEFT's name of the one adapter


class Tuned(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """What PEFT sees as a tuner's layer: saved, loaded, switched off and made trainable with the others.

    In PEFT's layout a [rank * E, in] goes expert by expert, b [out, rank * E] rank by rank.
    """

    adapter_layer_names = ("lora_A", "lora_B")

    def __init__(self, base_layer: nn.Module, experts: int, size: int, out: int, rank: int, scale: float) -> None:
        super().__init__()
        self.base_layer, self.experts, self.scale = base_layer, experts, scale
        a, b = nn.Linear(size, rank * experts, bias=False), nn.Linear(rank * experts, out, bias=False)
        nn.init.zeros_(b.weight)
        self.lora_A, self.lora_B = nn.ModuleDict({ADAPTER: a}), nn.ModuleDict({ADAPTER: b})

    def change(self) -> tuple[torch.Tensor, torch.Tensor]:
        """a [E, rank, in] and b [E, out, rank]."""
        a, b = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
        return a.view(self.experts, -1, a.shape[1]), b.view(len(b), -1, self.experts).permute(2, 0, 1)

    def mix(self, hidden: torch.Tensor, scores: torch.Tensor, routing: Routing) -> torch.Tensor:
        """As PackedExperts.mix, of the tuned experts unless the adapter is switched off. Asked of the outer one."""
        packed = self.get_base_layer()
        (up_a, up_b), (down_a, down_b) = self.base_layer.change(), self.change()
        lora = None if self.disable_adapters else Lora(up_a, up_b, down_a, down_b, self.scale)
        made: torch.Tensor = mix(hidden, scores, packed, routing, lora)
        return made

    def forward(self, hidden: torch.Tensor, chosen: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """As stock experts."""
        packed = self.get_base_layer()
        return self.mix(hidden, scores, packed.route(chosen))


def add_lora(model: Any, rank: int, alpha: int) -> None:
    """Put a LoRA on the packed experts of every layer of a GptOssForCausalLM: a as PEFT starts it, b zero."""
    for layer in model.model.layers:
        packed: PackedExperts = layer.mlp.experts
        experts, hidden = packed.down_proj_bias.shape
        inner = packed.gate_up_proj_bias.shape[1] // 2
        up = Tuned(packed, experts, hidden, 2 * inner, rank, alpha / rank)
        layer.mlp.experts = Tuned(up, experts, inner, hidden, rank, alpha / rank).to(packed.down_proj_bias.device)
