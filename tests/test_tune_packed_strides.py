"""What the GPU's grouped kernels are given, checked without one: torch's shape functions know what they refuse."""

import pytest
import torch
from tiny_gptoss import make_native

from tune.recipe import Train
from tune.training import fit
from tune.training.packed import mixture
from tune.training.packed import model as packed


def on_meta(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of bf16 without values that lies as this one does."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=torch.bfloat16, device="meta")


@pytest.mark.parametrize("rank", [4, 8, 12])
@pytest.mark.parametrize("parts", [1, 3])
def test_every_product_is_one_that_the_kernels_take(tmp_path, monkeypatch, rank, parts):
    grouped, outer, seen = mixture.grouped, mixture.outer, []

    def checked(rows, weights, ends):
        given = weights if mixture._strided(weights) else weights.contiguous()
        out = torch.nn.functional.grouped_mm(on_meta(rows), on_meta(given), offs=ends.to("meta"))
        seen.append(("grouped", tuple(out.shape)))
        return grouped(rows, weights, ends)

    def checked_outer(left, right, ends):
        one, other, to = mixture.aligned(left, right, ends)
        made = torch.nn.functional.grouped_mm(on_meta(one).T, on_meta(other), offs=to.to("meta"))
        assert all(int(end) % mixture.ROWS == 0 for end in to)
        wanted = outer(left, right, ends)
        torch.testing.assert_close(outer(one[: to[-1]], other[: to[-1]], to), wanted)  # zeros between change nothing
        seen.append(("outer", tuple(made.shape)))
        assert made.shape == wanted.shape
        return wanted

    monkeypatch.setattr(mixture, "grouped", checked)
    monkeypatch.setattr(mixture, "outer", checked_outer)
    base = packed.load(make_native(tmp_path / "base"), device="cpu", parts=parts)
    model = fit.wrap(base, Train(rank=rank, targets="all")).train()
    ids = torch.randint(3, 512, (2, 37), generator=torch.Generator().manual_seed(0))
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert {kind for kind, _ in seen} == {"grouped", "outer"}
    learned = [p for n, p in model.named_parameters() if "lora_B" in n]
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in learned)


def test_rows_are_spread_to_whole_words_whatever_an_expert_has():
    ends = torch.tensor([0, 5, 5, 13, 29], dtype=torch.int32)
    rows = torch.arange(1.0, 30.0)[:, None].repeat(1, 3)
    one, other, there = mixture.aligned(rows, -rows, ends)
    assert there.tolist() == [0, 8, 8, 16, 32]
    assert one[:8, 0].tolist() == [1, 2, 3, 4, 5, 0, 0, 0]
    assert one[8:16, 0].tolist() == [*range(6, 14)]
    assert one[16:32, 0].tolist() == [*range(14, 30)]
    assert not one[32:].any()
    assert torch.equal(one, -other)
