"""Adapters that change experts, against PEFT's own adapters and merge, in both layouts that trainers write."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_gptoss import DATE, make_base, make_dataset, make_native, recipe, replace, tensors_of

from tune import artefact, checkpoint, harmony
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import adapter, canary, export, held_out, lora, mxfp4
from tune.weights.base_model import base_of
from tune.weights.values import Values

BOTH = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
STEMS = [f"model.layers.{i}.mlp.experts.{name}" for i in range(2) for name in ("gate_up_proj", "down_proj")]
FILE = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary has tests of its own, and wants the whole vocabulary."""
    monkeypatch.setattr(canary, "write", lambda folder, *_: (folder / checkpoint.CANARY).write_text("{}") and None)


def project(
    root: Path, kind: str, *, native: bool = True, size: float = 0.02, parameters: Any = None, vocabulary: int = 512,
    attention: bool = True, experts: Callable[[Path], None] = lambda _: None, **options: Any,
) -> tuple[Recipe, dict[str, torch.Tensor]]:  # fmt: skip
    """A recipe with a base and an adapter of attention and experts, and PEFT's own float32 merge of it."""
    from peft import LoraConfig, get_peft_model
    from transformers import GptOssForCausalLM

    (make_native if native else make_base)(root / "base", vocabulary=vocabulary)
    experts(root / "base")
    made = recipe(root, export={"format": kind, "allow_lossy": options.pop("allow_lossy", False)})
    torch.manual_seed(1)
    model = GptOssForCausalLM.from_pretrained(root / "base").float()  # MXFP4 is decoded to bf16 whatever one asks
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"] if attention else [],
        target_parameters=BOTH if parameters is None else parameters, task_type="CAUSAL_LM", **options,
    )  # fmt: skip
    tuned = get_peft_model(model, config)
    with torch.no_grad():
        for name, value in tuned.named_parameters():
            if "lora_B" in name:
                value.normal_(0, size)
    tuned.save_pretrained(made.work / "adapter")
    (made.work / "adapter" / "README.md").unlink()
    seal(made)
    return made, tuned.merge_and_unload().state_dict()


def seal(made: Recipe, figures: dict[str, Any] | None = None, **more: Any) -> None:
    inputs = {"base": base_of(made).digest}
    if (made.work / "dataset").exists():
        inputs["dataset"] = artefact.read(made.work / "dataset", "dataset", remake="").digest
    settings = {"base": "base", "date": DATE, **more}
    artefact.finish(made.work / "adapter", "adapter", inputs=inputs, settings=settings, figures=figures)


def assert_is_peft_s(folder: Path, oracle: dict[str, torch.Tensor], changed: list[str]) -> None:
    ours = tensors_of(folder)
    for name in changed:
        wanted = oracle[name].bfloat16()
        torch.testing.assert_close(ours[name], wanted, rtol=2**-7, atol=1e-6)  # one bf16 step, where a sum differs
        assert (ours[name] == wanted).float().mean() > 0.999, name


@pytest.mark.parametrize("native", [False, True], ids=["bf16", "mxfp4"])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}], ids=["plain", "rslora"])
def test_merged_experts_are_peft_s_own_merge(tmp_path: Path, native: bool, options: dict[str, Any]) -> None:
    made, oracle = project(tmp_path, "merged", native=native, **options)
    keys = load_file(made.work / "adapter" / FILE).keys()
    assert "base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight" in keys
    assert "base_model.model.model.layers.0.mlp.experts.lora_A.weight" in keys
    deltas = lora.read(made.work / "adapter")
    assert deltas["model.layers.1.mlp.experts.gate_up_proj"].shape == (4, 64, 192)
    assert deltas["model.layers.1.mlp.experts.down_proj"].shape == (4, 96, 64)
    folder = export.export(made).folder
    assert_is_peft_s(folder, oracle, [*deltas])
    assert artefact.read(folder, "checkpoint", remake="").figures["changed_tensors"] == 12
    norm = math.sqrt(sum(float((deltas[s].scale * (deltas[s].b @ deltas[s].a)).square().sum()) for s in deltas))
    assert lora.norm(deltas) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("one", BOTH)
def test_an_adapter_of_one_projection_is_of_the_one_its_settings_name(tmp_path: Path, one: str) -> None:
    made, oracle = project(tmp_path, "merged", parameters=[one], attention=False)
    assert_is_peft_s(export.export(made).folder, oracle, [f"model.layers.{i}.{one}" for i in range(2)])
    settings = made.work / "adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "target_parameters": BOTH}))
    with pytest.raises(UserError, match="target_parameters does not say of which weight"):
        lora.read(made.work / "adapter")


def test_the_other_nesting_is_told_by_its_sizes(tmp_path: Path) -> None:
    made, oracle = project(tmp_path, "merged")
    path = made.work / "adapter" / FILE
    swapped = {
        k.replace("experts.lora", "experts.base_layer.lora")
        if "experts.lora" in k
        else k.replace("experts.base_layer.lora", "experts.lora"): v
        for k, v in load_file(path).items()
    }
    save_file(swapped, path)
    seal(made)
    assert_is_peft_s(export.export(made).folder, oracle, STEMS)


def one_an_expert(path: Path) -> None:
    """PEFT's file rewritten as Unsloth's trainer of unfused experts has it: a pair an expert."""
    tensors = load_file(path)
    for key in [k for k in tensors if "experts" in k and "lora_A" in k]:
        stem = key.split(".base_layer")[0].split(".lora_A")[0]
        name = "gate_up_projs" if "base_layer" in key else "down_projs"
        a, b = tensors.pop(key), tensors.pop(key.replace("lora_A", "lora_B"))
        for e in range(4):
            tensors[f"{stem}.{name}.{e}.lora_A.weight"] = a[4 * e : 4 * e + 4].clone()
            tensors[f"{stem}.{name}.{e}.lora_B.weight"] = b[:, e::4].clone()
    save_file(tensors, path)


def test_a_pair_an_expert_is_the_same_adapter(tmp_path: Path) -> None:
    made, oracle = project(tmp_path, "merged")
    fused = lora.read(made.work / "adapter")
    one_an_expert(made.work / "adapter" / FILE)
    seal(made)
    single = lora.read(made.work / "adapter")
    assert single.keys() == fused.keys()
    assert all(torch.equal(single[n].a, fused[n].a) and torch.equal(single[n].b, fused[n].b) for n in fused)
    assert_is_peft_s(export.export(made).folder, oracle, STEMS)
    path = made.work / "adapter" / FILE
    save_file({k: v for k, v in load_file(path).items() if ".down_projs.2." not in k}, path)
    with pytest.raises(UserError, match=r"down_proj has changes of the experts \[0, 1, 3\]"):
        lora.read(made.work / "adapter")


def test_an_adapter_of_other_experts_does_not_fit(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "merged")
    path = made.work / "adapter" / FILE
    tensors = load_file(path)
    for key in [k for k in tensors if "experts" in k]:
        tensors[key] = (tensors[key][:8] if "lora_A" in key else tensors[key][:, :8]).clone()
    save_file(tensors, path)
    seal(made)
    with pytest.raises(UserError, match=r"gate_up_proj is \[4, 64, 192\] in the base, \[2, 64, 192\] in the adapter"):
        export.export(made)
    tensors[key] = torch.zeros(6, 7)
    save_file(tensors, path)
    with pytest.raises(UserError, match="no lora_B that fits its lora_A"):
        lora.read(made.work / "adapter")


def test_mxfp4_is_the_quantizer_of_base_and_change_on_the_base_s_scales(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "mxfp4", size=0.2, allow_lossy=True)
    found = export.export(made)
    ours, base, deltas = tensors_of(found.folder), tensors_of(tmp_path / "base"), lora.read(made.work / "adapter")
    sums = {"gate_up_proj": np.zeros(3), "down_proj": np.zeros(3)}
    for stem in STEMS:
        blocks, scales = (base[f"{stem}_{part}"].numpy() for part in ("blocks", "scales"))
        change = (deltas[stem].scale * (deltas[stem].b @ deltas[stem].a)).numpy()
        before = mxfp4.dequantize(blocks, scales)
        assert np.array_equal(ours[f"{stem}_scales"].numpy(), scales)
        wanted = np.stack([mxfp4.requantize(*of) for of in zip(before + change, scales, strict=True)])
        assert (ours[f"{stem}_blocks"].numpy() == wanted).mean() > 0.999  # a product may round otherwise at a threshold
        moved = mxfp4.dequantize(ours[f"{stem}_blocks"].numpy(), scales).astype(np.float64) - before
        sums[stem.rsplit(".", 1)[1]] += [(moved * change).sum(), (change**2).sum(), ((moved - change) ** 2).sum()]
    figures = artefact.read(found.folder, "checkpoint", remake="").figures
    for name, (dot, square, apart) in sums.items():
        told = figures["expert_deltas"][name]
        assert told["survival"] == pytest.approx(dot / square, rel=1e-4)
        assert told["lost"] == pytest.approx((apart / square) ** 0.5, rel=1e-4)
    assert figures["quantized_in_training"] is False


def gaussian(folder: Path) -> None:
    """Experts as a release has them: normal weights, quantized."""
    rng, tensors = np.random.default_rng(0), tensors_of(folder)
    for stem in STEMS:
        experts, out, groups = tensors[f"{stem}_scales"].shape
        found = mxfp4.quantize(rng.standard_normal((experts, out, 32 * groups), np.float32))
        tensors[f"{stem}_blocks"], tensors[f"{stem}_scales"] = map(torch.from_numpy, found)
    replace(folder, tensors)


def test_a_change_under_the_steps_of_mxfp4_is_written_and_its_survival_told(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "mxfp4", size=0.08, experts=gaussian)
    deltas, base = lora.read(made.work / "adapter"), tensors_of(tmp_path / "base")
    folder = export.export(made).folder
    for stem in STEMS:
        blocks, scales = (base[f"{stem}_{part}"].numpy() for part in ("blocks", "scales"))
        steps = np.ldexp(np.float32(0.5), scales.astype(np.int32) - 127)
        change = (deltas[stem].scale * (deltas[stem].b @ deltas[stem].a)).numpy()
        assert np.median(np.abs(change)) < np.median(steps) / 10
        assert (tensors_of(folder)[f"{stem}_blocks"].numpy() != blocks).mean() > 0.02
    for told in artefact.read(folder, "checkpoint", remake="").figures["expert_deltas"].values():
        assert 0.9 < told["survival"] < 1.1
        assert told["lost"] > 1  # of each value by itself: what an even dither costs


def outward(made: Recipe) -> None:
    """A change that pushes every value away from zero: alike in all experts, by 0.05 where a step is 0.5."""
    path = made.work / "adapter" / FILE
    tensors = load_file(path)
    for key in [k for k in tensors if "experts" in k]:
        tensors[key].fill_(2**-5)
        if "lora_B" in key:
            tensors[key] *= torch.tensor([0.2, -0.2]).repeat(len(tensors[key]) // 2)[:, None]
    save_file(tensors, path)
    seal(made)


def at_the_end(folder: Path) -> None:
    """Of every row the first 32 values are 6 or -6, by turns, where the grid ends; the others are 0."""
    tensors = tensors_of(folder)
    for stem in STEMS:
        blocks = tensors[f"{stem}_blocks"].zero_()
        blocks[:, 0::2, 0], blocks[:, 1::2, 0] = 0x77, 0xFF
        tensors[f"{stem}_scales"].fill_(120)
    replace(folder, tensors)


def clipped(root: Path) -> Recipe:
    made, _ = project(root, "mxfp4", experts=at_the_end)
    outward(made)
    return made


def survivals(folder: Path) -> dict[str, float]:
    told = artefact.read(folder, "checkpoint", remake="").figures["expert_deltas"]
    return {name: figures["survival"] for name, figures in told.items()}


WITHOUT_THE_FIRST_32 = {"gate_up_proj": pytest.approx(1 / 2, abs=0.02), "down_proj": pytest.approx(2 / 3, abs=0.02)}


def test_a_change_that_clipping_erases_is_refused(tmp_path: Path) -> None:
    made = clipped(tmp_path)
    with pytest.raises(UserError, match=r"MXFP4 would keep (49|50|51)% of what the adapter does to the exp") as caught:
        export.export(made)
    assert (
        caught.value.fix == "tune export --format merged, or --format lora; or --allow-lossy to write it all the same"
    )
    assert sorted(p.name for p in made.work.iterdir()) == ["adapter"]
    lossy = made.model_copy(update={"export": made.export.model_copy(update={"allow_lossy": True})})
    folder = export.export(lossy).folder
    assert survivals(folder) == WITHOUT_THE_FIRST_32
    assert artefact.read(folder, "checkpoint", remake="").figures["quantized_in_training"] is False


def test_what_was_trained_through_the_quantizer_is_written_and_says_so(tmp_path: Path) -> None:
    made = clipped(tmp_path)
    seal(made, figures={"quantized": True})
    folder = export.export(made).folder
    assert survivals(folder) == WITHOUT_THE_FIRST_32
    assert artefact.read(folder, "checkpoint", remake="").figures["quantized_in_training"] is True


def test_other_formats_of_what_was_trained_through_the_quantizer_say_that_they_are_not_it(tmp_path: Path) -> None:
    told: dict[bool, list[str]] = {True: [], False: []}
    for quantized, lines in told.items():
        made, _ = project(tmp_path / str(quantized), "merged", size=0.2)
        seal(made, figures={"quantized": quantized})
        export.export(made, lines.append)
    notice = "merged: it was trained through MXFP4 rounding, and only --format mxfp4 is what was trained"
    assert [notice in lines for lines in told.values()] == [True, False]


def test_a_bf16_base_is_quantized_with_its_change(tmp_path: Path) -> None:
    made, oracle = project(tmp_path, "mxfp4", native=False, size=0.5)
    folder = export.export(made).folder
    ours = tensors_of(folder)
    for stem in STEMS:
        blocks, scales = mxfp4.quantize(oracle[stem].transpose(1, 2).contiguous().numpy())
        assert (ours[f"{stem}_blocks"].numpy() == blocks).mean() > 0.999
        assert (ours[f"{stem}_scales"].numpy() == scales).mean() > 0.999
    figures = artefact.read(folder, "checkpoint", remake="").figures
    assert 0.05 < figures["mxfp4_relative_rmse"]["down_proj"] < 0.15
    assert figures["expert_deltas"]["down_proj"]["survival"] > 0.9


def test_held_out_rows_say_what_quantization_did(tmp_path: Path) -> None:
    made, _ = project(tmp_path, "mxfp4", size=0.2, allow_lossy=True)
    make_dataset(made)
    seal(made)
    told = artefact.read(export.export(made).folder, "checkpoint", remake="").figures["held_out"]
    assert (told["rows"], told["tokens"]) == (4, 48)
    assert told["kl_by_quantization"] > 0
    assert told["kl_by_adapter"] > 0
    merged = made.model_copy(update={"export": made.export.model_copy(update={"format": "merged"})})
    whole = export.export(merged).folder
    rows = export._rows(made, json.loads((whole / "config.json").read_text()))
    with Values(whole) as first, Values(made.work / "mxfp4") as written:
        distance, none = held_out.distances(first, [written, first], rows)
    assert distance.kl == pytest.approx(told["kl_by_quantization"], rel=1e-3)
    assert distance.moved == pytest.approx(told["logits_moved_by_quantization"], rel=1e-3)
    assert none == (0.0, 0.0, 48)


def test_an_export_that_rounding_outweighs_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = project(tmp_path, "mxfp4", size=0.2)
    make_dataset(made)
    seal(made)
    monkeypatch.setattr(export, "SURVIVES", 0.0)  # this base's large values are clipped; here the next check is meant
    plain = held_out.figures
    monkeypatch.setattr(held_out, "figures", lambda *given: plain(*given) | {"kl_by_adapter": 0.0})
    with pytest.raises(UserError, match="MXFP4 would move the model further than the adapter does"):
        export.export(made)
    assert not (made.work / "mxfp4").exists()


def test_rounding_that_moves_the_model_further_than_the_adapter_is_refused(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    told = {"kl_by_quantization": 0.02, "kl_by_adapter": 0.01}
    after = {"held_out": told, "quantized_in_training": False}
    with pytest.raises(UserError, match=r"rounding costs 0\.02 nats a token, the adapter moves 0\.01") as e:
        export._require_nearer(made, after)
    assert "--format merged" in e.value.fix
    lossy = made.model_copy(update={"export": made.export.model_copy(update={"allow_lossy": True})})
    export._require_nearer(lossy, after)
    export._require_nearer(made, after | {"quantized_in_training": True})  # the very weights that were trained
    export._require_nearer(made, {"held_out": told})  # no expert was changed: a base of 16 bits put into four
    export._require_nearer(made, after | {"held_out": {"kl_by_quantization": 0.01, "kl_by_adapter": 0.02}})


class TestBesideTheBase:
    """The layout that vLLM 0.32 reads: its own reshapes of the file give back the changes."""

    def as_vllm(self, folder: Path, layer: int) -> dict[str, torch.Tensor]:
        """vllm/lora/model_manager.py, _stack_moe_lora_weights, of a model whose is_3d_moe_weight is set."""
        tensors, found = load_file(folder / FILE), {}
        for name, inner in (("gate_up_proj", ".base_layer"), ("down_proj", "")):
            stem = f"base_model.model.model.layers.{layer}.mlp.experts{inner}"
            a, b = tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"]
            a = a.reshape(4, -1, a.shape[-1])
            b = b.reshape(b.shape[0], -1, 4).permute(2, 0, 1)
            found[name] = 2.0 * (b @ a)
        return found

    @pytest.mark.parametrize("single", [False, True], ids=["fused", "one an expert"])
    def test_it_has_every_change(self, tmp_path: Path, single: bool) -> None:
        made, oracle = project(tmp_path, "lora")
        before = (made.work / "adapter" / FILE).read_bytes()
        if single:
            one_an_expert(made.work / "adapter" / FILE)
            seal(made)
        folder = export.export(made).folder
        base = loaded(tmp_path / "base")
        for stem in STEMS:
            change = self.as_vllm(folder, int(stem.split(".")[2]))[stem.rsplit(".", 1)[1]]
            torch.testing.assert_close(change.transpose(1, 2), oracle[stem] - base[stem], rtol=1e-3, atol=1e-5)
        assert (folder / FILE).read_bytes() == before
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert settings["target_parameters"] == BOTH
        assert sorted(settings["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]
        assert lora.read(folder).keys() == lora.read(made.work / "adapter").keys()
        assert artefact.read(folder, "checkpoint", remake="").figures["changed_tensors"] == 12

    def test_what_it_does_not_serve_is_refused(self, tmp_path: Path) -> None:
        made, _ = project(tmp_path, "lora", parameters=BOTH[:1])
        with pytest.raises(UserError, match="a change of only one of gate_up_proj and down_proj"):
            export.export(made)
        delta = lora.Delta(torch.ones(1, 4), torch.ones(4, 1), 1.0)
        assert (
            adapter.unservable({"lm_head.weight": delta}) == "lm_head.weight is no attention projection and no expert"
        )

    def test_one_that_changes_nothing_is_refused(self, tmp_path: Path) -> None:
        made, _ = project(tmp_path, "lora", native=False, size=1e-9)
        with pytest.raises(UserError, match="equals the base's"):
            export.export(made)


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import GptOssForCausalLM

    return GptOssForCausalLM.from_pretrained(folder).float().state_dict()


def test_held_out_rows_are_bounded() -> None:
    rows = [SimpleNamespace(input_ids=[1] * n) for n in (300, 300, 200, 100)]
    assert [len(r.input_ids) for r in held_out.chosen(rows)] == [300, 200]
    assert harmony.VOCABULARY > 512
