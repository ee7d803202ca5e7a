"""What two models are compared by: the same rows, the same LoRA on both, their gradients by name."""

from typing import Any

import torch
from tiny_gptoss import VOCABULARY

from tune.recipe import Train
from tune.training import fit

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # of logits of size 10


def rows(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids and their mask, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


def with_lora(model: Any, targets: str = "attention", size: float = 0.05) -> Any:
    """The model with a LoRA that does something, the same whatever model it is on."""
    wrapped = fit.wrap(model, Train(rank=4, alpha=8, targets=targets))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    for _, value in sorted((plain(n), p) for n, p in wrapped.named_parameters() if "lora_" in n):
        value.data = torch.randn(value.shape, generator=generator) * size
    return wrapped


def plain(name: str) -> str:
    """A LoRA weight's name without what differs between PEFT's wrapper and ours."""
    return name.replace(".base_layer.base_layer", ".base_layer").replace(".default", "")


def gradients(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    model.train()
    model.zero_grad()
    labels = ids.masked_fill(mask == 0, -100)
    loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
    loss.backward()
    return loss.item(), {plain(n): p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def assert_same_gradients(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], within: float) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert value.norm() > 0, name
        assert (found[name] - value).norm() <= within * value.norm(), name
