"""LoRA on packed experts, in the places and under the names that PEFT's `target_parameters` would give it:
gate_up_proj's wraps the experts, and down_proj's wraps that.

PEFT itself adds a change to a parameter, and packed experts have none to add to.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn

from tune.errors import UserError
from tune.training.packed.experts import PackedExperts
from tune.training.packed.mixture import Lora, Routing, mix
from tune.weights.lora import FILES

ADAPTER = "default"  # PEFT's name of the one adapter
AGAIN = "You are trying to modify a model with PEFT for a second time"  # its warning of the layers below: it is not so


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


def attach(model: Any, folder: Path) -> Any:
    """The packed model with the adapter in `folder`, on experts too where it has a LoRA for them.

    Raises UserError when not every tensor of the adapter has its place.
    """
    config = LoraConfig.from_pretrained(str(folder))
    on_experts, config.target_parameters = config.target_parameters, None  # packed experts are no parameters
    if on_experts:
        add_lora(model, config.r, config.lora_alpha)
    tensors = load_file(folder / FILES[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", AGAIN)
        wrapped = get_peft_model(model, config)
    left = set_peft_model_state_dict(wrapped, tensors).unexpected_keys
    if left:
        raise UserError(f"the adapter in {folder} is not of this base", why=f"no place for {left[0]}", fix="tune train")
    return wrapped
