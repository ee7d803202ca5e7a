"""GPT-OSS with packed experts against stock transformers on the same folder: values, choices, gradients, memory."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from same_model import CLOSE, assert_same_gradients, gradients, rows, with_lora
from tiny_gptoss import edit_config, make_native, sharpen

from tune.training import loading
from tune.training.packed import experts, gate, layer, mixture
from tune.training.packed import model as packed

LAYERS, HIDDEN, TOP = 2, 64, 2
WINDOW = 16  # of the sliding layers


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sharpen(make_native(tmp_path_factory.mktemp("packed") / "base"))


@pytest.fixture(scope="module")
def stock(base: Path) -> Any:
    return loading.load(base, dtype=torch.float32)


def routed(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Scores and chosen experts [T, k] of each layer, filled as the model runs: stock's router, or what the packed
    experts are handed."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    if isinstance(model.model.layers[0], layer.PackedLayer):
        mix = experts.PackedExperts.mix

        def noted(self: Any, hidden: Any, scores: Any, at: mixture.Routing) -> Any:
            seen.append((scores, at.expert[at.place]))
            return mix(self, hidden, scores, at)

        monkeypatch.setattr(experts.PackedExperts, "mix", noted)
    else:
        for one in model.model.layers:
            one.mlp.router.register_forward_hook(lambda _m, _given, out: seen.append((out[1], out[2])))
    return seen


@pytest.mark.parametrize("parts", [0, 1, 2, 3, 5])  # more than there are groups of units is no fault
@pytest.mark.parametrize("lengths", [(40, 23, 1), (WINDOW - 4, 7)])
def test_logits_and_routing_are_stock_s(
    base: Path, parts: int, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, mask = rows(*lengths)
    model, reference = packed.load(base, device="cpu", parts=parts), loading.load(base, dtype=torch.float32)
    ours, theirs = routed(model, monkeypatch), routed(reference, monkeypatch)
    with torch.no_grad():
        found, wanted = (m(ids, attention_mask=mask, use_cache=False).logits for m in (model, reference))
    real = mask.bool()
    torch.testing.assert_close(found[real], wanted[real], **CLOSE)
    assert len(ours) == len(theirs) == LAYERS
    chosen_ever = set()
    for (scores, chosen), (their_scores, their_chosen) in zip(ours, theirs, strict=True):
        assert torch.equal(chosen[real.flatten()], their_chosen[real.flatten()])
        torch.testing.assert_close(scores[real.flatten()], their_scores[real.flatten()], **CLOSE)
        chosen_ever |= set(chosen.flatten().tolist())
    assert chosen_ever == {0, 1, 2, 3}


def test_the_base_shows_what_could_be_wrong(stock: Any, base: Path) -> None:
    """Gates at their limits, attention that looks somewhere: without them the comparisons would say little."""
    ids, _ = rows(40, 40)
    seen: list[torch.Tensor] = []
    for one in stock.model.layers:
        one.mlp.experts._apply_gate = lambda full, of=one.mlp.experts: (
            seen.append(full.detach()),
            type(of)._apply_gate(of, full),
        )[1]
    out = stock(ids, use_cache=False, output_attentions=True)
    for one in stock.model.layers:
        del one.mlp.experts._apply_gate
    full = torch.cat(seen)
    limited = ((full[:, ::2] > 7) | (full[:, 1::2].abs() > 7)).float().mean()
    assert 0.02 < limited < 0.6
    assert out.attentions[1].amax(-1)[..., 20:].mean() > 0.2  # even attention gives 0.03
    top = out.logits.topk(2, -1).values
    assert (top[..., 0] - top[..., 1]).median() > 0.1


@pytest.mark.parametrize("window", [1, 5, WINDOW, 200])
def test_any_window(base: Path, tmp_path: Path, window: int) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    edit_config(folder, sliding_window=window)
    ids, mask = rows(40, 31)
    with torch.no_grad():
        found, wanted = (
            m(ids, attention_mask=mask, use_cache=False).logits
            for m in (packed.load(folder, device="cpu"), loading.load(folder, dtype=torch.float32))
        )
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], **CLOSE)


def test_padding_changes_no_row(base: Path) -> None:
    model, (ids, mask) = packed.load(base, device="cpu"), rows(40, 17, 3)
    with torch.no_grad():
        together = model(ids, attention_mask=mask, use_cache=False).logits
        for n, length in enumerate((40, 17, 3)):
            alone = model(ids[n : n + 1, :length], use_cache=False).logits
            torch.testing.assert_close(together[n : n + 1, :length], alone, **CLOSE)


def test_padding_on_the_left_is_refused(base: Path) -> None:
    ids, mask = rows(20, 12)
    with pytest.raises(RuntimeError, match="padded on the right"):
        packed.load(base, device="cpu")(ids.flip(1), attention_mask=mask.flip(1), use_cache=False)


def test_asked_in_the_plainest_way_it_answers_the_same(base: Path, stock: Any) -> None:
    """Nothing said of a cache, which config.json would make; and ids by their place."""
    model, (ids, _) = packed.load(base, device="cpu"), rows(24, 24)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, stock(ids).logits, **CLOSE)
        hidden = model.model(ids).last_hidden_state
        torch.testing.assert_close(hidden, stock.model(ids).last_hidden_state, **CLOSE)
        embedded = model.model.embed_tokens(ids)
        assert torch.equal(model.model(inputs_embeds=embedded).last_hidden_state, hidden)


@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_of_attention_are_stock_s(base: Path, parts: int) -> None:
    batch = rows(40, 9)
    loss, wanted = gradients(with_lora(loading.load(base, dtype=torch.float32)), *batch)
    again, found = gradients(with_lora(packed.load(base, device="cpu", parts=parts)), *batch)
    assert again == pytest.approx(loss, rel=1e-5)
    assert len(wanted) == LAYERS * 4 * 2
    assert_same_gradients(found, wanted, 1e-5)


def test_generation_with_a_cache_is_stock_s(base: Path, stock: Any) -> None:
    ids, _ = rows(20)
    model = packed.load(base, device="cpu", parts=2)
    asked = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    wanted = stock.generate(ids, attention_mask=torch.ones_like(ids), **asked)
    assert torch.equal(model.generate(ids, attention_mask=torch.ones_like(ids), **asked), wanted)
    slow = model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=False, **asked)
    assert torch.equal(slow, wanted)


def bytes_kept(model: Any, layers: int, ids: torch.Tensor) -> int:
    """Bytes of all tensors that a forward pass of the first layers keeps for backward; each memory counted once."""
    kept: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        alive.append(value)
        return value

    alive: list[torch.Tensor] = []
    whole = model.get_base_model().model.layers
    model.get_base_model().model.layers = whole[:layers]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        out = model(input_ids=ids, use_cache=False).logits
    model.get_base_model().model.layers = whole
    del out
    return sum(kept.values())


@pytest.mark.parametrize("targets", ["attention", "all"])
@pytest.mark.filterwarnings("ignore:You are trying to modify a model with PEFT")
def test_a_layer_keeps_its_input_alone(base: Path, targets: str) -> None:
    model, (ids, _) = with_lora(packed.load(base, device="cpu"), targets), rows(40, 40)
    assert bytes_kept(model, 2, ids) - bytes_kept(model, 1, ids) == ids.numel() * HIDDEN * 4


@pytest.mark.parametrize("parts", [1, 3])
def test_experts_are_not_computed_again(base: Path, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls, real = with_lora(packed.load(base, device="cpu", parts=parts)), [0], mixture.grouped

    def counted(*given: Any) -> Any:
        calls[0] += 1
        return real(*given)

    monkeypatch.setattr(mixture, "grouped", counted)
    loss = model(input_ids=rows(20)[0], use_cache=False).logits.sum()
    assert calls[0] == LAYERS * 2 * parts
    loss.backward()
    assert calls[0] == LAYERS * (2 + 3) * parts  # back through down, gate_up once more, back through it
    assert mixture._REPLAY is False


@pytest.fixture
def compiler() -> Iterator[None]:
    if not shutil.which(os.environ.get("CXX", "c++")):
        pytest.skip("no C++ compiler")
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_compiled_as_for_a_gpu_it_gives_the_same(base: Path, compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_lora(packed.load(base, device="cpu", parts=2))
    batches = [rows(24, 9), rows(40, 31)]
    wanted = [gradients(model, *batch) for batch in batches]
    attend, ran = torch.compile(layer.attend), []
    monkeypatch.setattr(layer, "attend", lambda *given: (ran.append("attend"), attend(*given))[1])
    compiled = {f: torch.compile(f) for f in vars(gate).values() if getattr(f, "__module__", "") == gate.__name__}
    monkeypatch.setattr(mixture, "on", lambda _tensor, f: (ran.append(f.__name__), compiled[f])[1])
    for batch, (loss, grads) in zip(batches, wanted, strict=True):
        found, again = gradients(model, *batch)
        assert found == pytest.approx(loss, rel=1e-5)
        assert_same_gradients(again, grads, 1e-4)
    assert {"attend", "activate", "activate_back", "combine", "biased", "gather"} <= set(ran)
