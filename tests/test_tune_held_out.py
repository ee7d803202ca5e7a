"""Distances between models on held-out rows, against stock transformers, which holds both models whole."""

from pathlib import Path

import pytest
import torch
from tiny_gptoss import make_base, make_dataset, make_native, recipe, replace, tensors_of

from tune.data import row
from tune.training import loading
from tune.weights import held_out
from tune.weights.values import Values


@pytest.mark.parametrize("make", [make_base, make_native], ids=["bf16", "mxfp4"])
def test_the_distance_is_what_whole_models_have(tmp_path: Path, make) -> None:
    folders = [make(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    for folder in folders:
        tensors = tensors_of(folder)
        tensors["lm_head.weight"] = tensors["lm_head.weight"] * 100  # far from uniform, so that a difference shows
        replace(folder, tensors)
    made = recipe(tmp_path)
    make_dataset(made)
    rows = row.read(made.work / "dataset" / "eval.jsonl", 512)
    with Values(folders[0]) as first, Values(folders[1]) as second:
        [told] = held_out.distances(first, [second], rows)
    said = [_learned(loading.load(folder, dtype=torch.float32).float(), rows) for folder in folders]
    p, q = (logits.log_softmax(dim=1) for logits in said)
    assert told.tokens == len(p) == 48
    assert told.kl == pytest.approx(float((p.exp() * (p - q)).sum(dim=1).mean()), rel=1e-3)
    assert told.kl > 0.1
    assert told.moved == pytest.approx(float((said[0] - said[1]).abs().mean()), rel=1e-3)


def _learned(model, rows) -> torch.Tensor:
    """Logits before each learned token."""
    with torch.inference_mode():
        found = [model(torch.tensor([r.input_ids])).logits[0, :-1][torch.tensor(r.labels[1:]) != -100] for r in rows]
    return torch.cat(found)
