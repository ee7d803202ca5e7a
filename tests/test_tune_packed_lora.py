"""LoRA on packed experts: PEFT's, when the change is merely added, and on the base's grid when it is quantized."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from same_model import CLOSE, assert_same_gradients, gradients, rows, with_lora
from tiny_gptoss import make_native, sharpen

from tune.errors import UserError
from tune.training import loading
from tune.training.packed import experts, tuned
from tune.training.packed import model as packed
from tune.weights import mxfp4_torch as decode

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to modify a model with PEFT")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sharpen(make_native(tmp_path_factory.mktemp("lora") / "base"))


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is added, and not put back on the grid: what PEFT does."""

    def add(blocks: Any, scales: Any, a: Any, b: Any, _at: Any, dtype: Any) -> Any:
        return decode.decode(blocks, scales, dtype) + b @ a

    monkeypatch.setattr(experts, "redecode", add)


def logits(model: Any, *batch: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=batch[0], attention_mask=batch[1], use_cache=False).logits
    return out[batch[1].bool()]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_added_the_change_is_peft_s(base: Path, parts: int, added: None) -> None:
    batch = rows(40, 17)
    ours = with_lora(packed.load(base, device="cpu", parts=parts), "all")
    theirs = with_lora(loading.load(base, dtype=torch.float32), "all")
    assert {n: p.shape for n, p in get_peft_model_state_dict(ours).items()} == {
        n: p.shape for n, p in get_peft_model_state_dict(theirs).items()
    }
    torch.testing.assert_close(logits(ours, *batch), logits(theirs, *batch), **CLOSE)
    loss, wanted = gradients(theirs, *batch)
    again, found = gradients(ours, *batch)
    assert again == pytest.approx(loss, rel=1e-5)
    assert sum("experts" in name for name in wanted) == 2 * 2 * 2  # layers, projections, a and b
    assert_same_gradients(found, wanted, 2e-5)


def test_peft_reads_what_is_saved(base: Path, tmp_path: Path, added: None) -> None:
    batch = rows(30, 12)
    ours = with_lora(packed.load(base, device="cpu"), "all")
    ours.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    read = PeftModel.from_pretrained(loading.load(base, dtype=torch.float32), str(tmp_path / "adapter"))
    assert read.peft_config["default"].target_parameters == ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    torch.testing.assert_close(logits(ours, *batch), logits(read, *batch), **CLOSE)


def test_what_is_saved_is_read_back(base: Path, tmp_path: Path) -> None:
    """As a run that resumes, or goes back to its best look, reads it."""
    batch, ours = rows(30, 12), with_lora(packed.load(base, device="cpu"), "all")
    ours.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    other = with_lora(packed.load(base, device="cpu"), "all", size=0.01)
    assert not torch.equal(logits(other, *batch), logits(ours, *batch))
    other.load_adapter(str(tmp_path / "adapter"), "default", is_trainable=True)
    assert torch.equal(logits(other, *batch), logits(ours, *batch))
    assert {n for n, p in other.named_parameters() if p.requires_grad} == {
        n for n, p in ours.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_switched_off_it_is_the_base(base: Path, targets: str) -> None:
    batch = rows(40, 17)
    plain = logits(packed.load(base, device="cpu", parts=2), *batch)
    tuned = with_lora(packed.load(base, device="cpu", parts=2), targets)
    trained = [n for n, p in tuned.named_parameters() if p.requires_grad]
    changed = logits(tuned, *batch)
    assert (changed - plain).abs().max() > 0.1
    with tuned.disable_adapter():
        assert torch.equal(logits(tuned, *batch), plain)
        cached = tuned(input_ids=batch[0], attention_mask=batch[1], use_cache=True).logits[batch[1].bool()]
        torch.testing.assert_close(cached, plain, **CLOSE)
    assert torch.equal(logits(tuned, *batch), changed)
    assert [n for n, p in tuned.named_parameters() if p.requires_grad] == trained


def test_a_fresh_lora_is_the_base(base: Path) -> None:
    batch = rows(40, 17)
    fresh = with_lora(packed.load(base, device="cpu"), "all", size=0.0)
    torch.testing.assert_close(logits(fresh, *batch), logits(packed.load(base, device="cpu"), *batch), rtol=0, atol=0)


def test_a_cache_sees_the_tuned_experts(base: Path) -> None:
    batch = rows(30, 30)
    tuned = with_lora(packed.load(base, device="cpu", parts=2), "all").double()  # so that no order of sums is seen
    with torch.no_grad():
        cached = tuned(input_ids=batch[0], attention_mask=batch[1], use_cache=True).logits
    torch.testing.assert_close(cached[batch[1].bool()], logits(tuned, *batch), **CLOSE)


def test_merged_into_attention_a_change_counts_once(base: Path) -> None:
    batch, tuned = rows(30, 12), with_lora(packed.load(base, device="cpu")).double()  # as above
    before = logits(tuned, *batch)
    tuned.merge_adapter()
    torch.testing.assert_close(logits(tuned, *batch), before, **CLOSE)
    tuned.unmerge_adapter()
    torch.testing.assert_close(logits(tuned, *batch), before, **CLOSE)


def test_the_weights_trained_through_are_on_the_base_s_grid(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a multiplication gets with a LoRA holds, block by block, only values that MXFP4 has at the base's scale."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    real = experts.redecode

    def noted(blocks: Any, scales: Any, *rest: Any) -> Any:
        seen.append((scales, made := real(blocks, scales, *rest)))
        return made

    monkeypatch.setattr(experts, "redecode", noted)
    model = packed.load(base, device="cpu", parts=3)
    gradients(with_lora(model, "all"), *rows(20, 5))
    assert len(seen) == 2 * 2 * 3 * 2  # layers, projections, parts, forward and backward
    for scales, values in seen:
        units = torch.exp2(scales.float() - 127).repeat_interleave(32, -1)
        assert bool(torch.isin((values / units).abs(), torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])).all())


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_it_computes_with_the_whole_matrices_put_on_the_grid(base: Path, parts: int) -> None:
    """Stock on the weights that would be written: cut into parts, no value is rounded otherwise than in the whole."""
    batch, written = rows(40, 17), loading.load(base, dtype=torch.float32)
    tuned = with_lora(packed.load(base, device="cpu", parts=parts), "all")
    for name, value in tuned.named_parameters():
        if "self_attn" in name and "lora_B" in name:
            value.data.zero_()  # of the experts' change alone
    for to, of in zip(written.model.layers, tuned.get_base_model().model.layers, strict=True):
        outer, held = of.mlp.experts, of.mlp.experts.get_base_layer()
        for name, of_one in (("gate_up_proj", outer.base_layer), ("down_proj", outer)):
            a, b = of_one.change()
            stored = (getattr(held, f"{name}_{kind}") for kind in ("blocks", "scales"))
            weight = decode.redecode(*stored, a, of_one.scale * b, (0, 0), torch.float32)
            getattr(to.mlp.experts, name).data = weight.transpose(1, 2).contiguous()
    torch.testing.assert_close(logits(tuned, *batch), logits(written, *batch), **CLOSE)


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_a_saved_adapter_speaks_on_the_packed_base_as_it_was_trained(base: Path, tmp_path: Path, targets: str) -> None:
    batch = rows(40, 17)
    trained = with_lora(packed.load(base, device="cpu"), targets).eval()
    trained.save_pretrained(tmp_path, save_embedding_layers=False)
    again = tuned.attach(packed.load(base, device="cpu"), tmp_path).eval()
    wanted, plain = logits(trained, *batch), logits(packed.load(base, device="cpu").eval(), *batch)
    torch.testing.assert_close(logits(again, *batch), wanted)
    assert (wanted - plain).abs().max() > 1e-3
    with again.disable_adapter():
        torch.testing.assert_close(logits(again, *batch), plain)
    config = tmp_path / "adapter_config.json"
    odd = json.loads(config.read_text()) | {"target_modules": ["q_proj"]}
    config.write_text(json.dumps(odd))
    with pytest.raises(UserError, match="not of this base"):
        tuned.attach(packed.load(base, device="cpu"), tmp_path)
