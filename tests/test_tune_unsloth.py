"""What Unsloth loaded is held against the files.

Unsloth itself needs a GPU: its model is stood in for by the file's own tensors under the names that it gives them.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny_gptoss import make_base, make_native, replace, tensors_of
from torch import nn
from transformers import AutoModelForCausalLM, modeling_utils

from tune.errors import UserError
from tune.recipe import Train
from tune.training.backends import unsloth
from tune.weights import shards

EXPERT = "model.layers.1.mlp.experts.down_proj"
ROUTER = "model.layers.0.mlp.router.weight"
CLEAN: list[dict[str, list[str]]] = [{"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_native(tmp_path_factory.mktemp("unsloth") / "base")


def put(root: nn.Module, name: str, value: torch.Tensor) -> nn.Parameter:
    *path, leaf = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root._modules[part]  # type: ignore[assignment]
    made = nn.Parameter(value, requires_grad=False)
    root.register_parameter(leaf, made)
    return made


def standin(folder: Path) -> Any:
    """A projection is a parameter of blocks [E, out, groups, 16] in uint8 that carries its scales, as unsloth_zoo's
    Mxfp4ExpertParam does; all else as stored."""
    model, stored = nn.Module(), tensors_of(folder)
    for name, value in stored.items():
        if name.endswith("_blocks"):
            packed = put(model, name.removesuffix("_blocks"), value)
            packed.mxfp4_scales = stored[name.replace("_blocks", "_scales")]
        elif not name.endswith("_scales"):
            put(model, name, value)
    return model


def total(folder: Path) -> int:
    return sum(spec.bytes for spec in shards.headers(folder).values())


def prove(folder: Path, model: Any, reported: Any = CLEAN, share: float = 1.0) -> None:
    unsloth.prove(model, folder, shards.headers(folder), reported, int(share * total(folder)))


def test_the_file_s_own_tensors_pass(base: Path) -> None:
    for share in (0.5, 1.0, 1.029):
        prove(base, standin(base), share=share)
    prove(base, standin(base), CLEAN * 2)


def projection(model: Any, name: str = EXPERT) -> Any:
    return model.get_parameter(name)


def one_byte(model: Any) -> None:
    projection(model).data[3, 7, 2, 5] ^= 1


def one_scale(model: Any) -> None:
    projection(model).mxfp4_scales[3, 7, 2] += 1


def no_scales(model: Any) -> None:
    del projection(model).mxfp4_scales


def decoded(model: Any) -> None:
    put(model, EXPERT, projection(model).to(torch.bfloat16))


def unpacked(model: Any) -> None:
    put(model, EXPERT, projection(model).flatten(2))


def no_experts(model: Any) -> None:
    del model.get_submodule("model.layers.1.mlp")._modules["experts"]


def new_router(model: Any) -> None:
    nn.init.normal_(model.get_parameter(ROUTER))


def new_router_bias(model: Any) -> None:
    model.get_parameter(ROUTER.replace("weight", "bias")).data[1] += 1


def wide_router(model: Any) -> None:
    put(model, ROUTER, model.get_parameter(ROUTER).float())


def renamed_router(model: Any) -> None:
    mlp = model.get_submodule("model.layers.0.mlp")
    mlp.add_module("gate", mlp._modules.pop("router"))


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (one_byte, f"{EXPERT}_blocks is"),
        (one_scale, f"{EXPERT}_scales is"),
        (no_scales, f"{EXPERT}_scales is not to be found"),
        (decoded, f"{EXPERT}_blocks is torch.bfloat16"),
        (unpacked, f"{EXPERT}_blocks is torch.uint8 [4, 64, 48]"),
        (no_experts, "has no model.layers.1.mlp.experts."),
        (new_router, f"{ROUTER} is"),
        (new_router_bias, "model.layers.0.mlp.router.bias is"),
        (wide_router, f"{ROUTER} is torch.float32"),
        (renamed_router, "has no model.layers.0.mlp.router."),
    ],
)
def test_one_wrong_tensor_is_refused_by_its_name(base: Path, plant: Callable[[Any], None], name: str) -> None:
    model = standin(base)
    plant(model)
    with pytest.raises(UserError, match="not what the files hold") as caught:
        prove(base, model)
    assert name in caught.value.why
    assert caught.value.fix == 'set train.backend = "packed"'


@pytest.mark.parametrize(
    ("reported", "share", "said"),
    [
        ([], 1.0, "no load report"),
        ([*CLEAN, {**CLEAN[0], "missing_keys": [ROUTER]}], 1.0, f"missing_keys {ROUTER}"),
        ([{**CLEAN[0], "unexpected_keys": ["x"]}], 1.0, "unexpected_keys x"),
        ([{**CLEAN[0], "mismatched_keys": ["y"]}], 1.0, "mismatched_keys y"),
        (CLEAN, 1.04, "GB of the GPU"),
        (CLEAN, 3.5, "GB of the GPU"),  # decoded to bf16
    ],
)
def test_a_report_or_a_size_that_is_not_the_files_is_refused(
    base: Path, reported: Any, share: float, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        prove(base, standin(base), reported, share)
    assert said in caught.value.why


def lacking_router(folder: Path) -> Path:
    make_base(folder)
    replace(folder, {n: v for n, v in tensors_of(folder).items() if n != ROUTER})
    return folder


def test_transformers_own_report_is_heard(base: Path, tmp_path: Path) -> None:
    plain = modeling_utils.log_state_dict_report
    whole, lacking = make_base(tmp_path / "whole"), lacking_router(tmp_path / "lacking")
    with unsloth._load_report() as heard:
        AutoModelForCausalLM.from_pretrained(whole)
        AutoModelForCausalLM.from_pretrained(lacking)
    assert modeling_utils.log_state_dict_report is plain
    assert heard == [*CLEAN, {**CLEAN[0], "missing_keys": [ROUTER]}]
    with pytest.raises(UserError, match="not what the files hold") as caught:
        prove(base, standin(base), heard)
    assert ROUTER in caught.value.why


def test_a_load_that_fails_leaves_transformers_as_it_was(tmp_path: Path) -> None:
    plain, folder = modeling_utils.log_state_dict_report, make_base(tmp_path / "base")
    replace(folder, {n: v[:3] if n == ROUTER else v for n, v in tensors_of(folder).items()})
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"), unsloth._load_report() as heard:
        AutoModelForCausalLM.from_pretrained(folder)
    assert modeling_utils.log_state_dict_report is plain
    assert len(heard) == 1
    assert ROUTER in heard[0]["mismatched_keys"][0]


def test_without_unsloth_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match="needs Unsloth") as caught:
        unsloth.start()
    assert "pip install" in caught.value.fix


def test_a_model_that_is_not_proven_gets_no_lora(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader's door: what it is asked for, and that the proof comes before anything is made of the model."""
    asked: dict[str, Any] = {}
    stored = tmp_path / "stored"
    make_base(stored)

    class Fast:
        @staticmethod
        def from_pretrained(name: str, **given: Any) -> Any:
            asked.update(given, name=name)
            AutoModelForCausalLM.from_pretrained(stored)  # a report comes of a real load
            return made, None

        @staticmethod
        def get_peft_model(model: Any, **given: Any) -> Any:
            asked.update(given)
            return model

    stub = ModuleType("unsloth")
    stub.FastLanguageModel = Fast  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unsloth", stub)
    made = standin(base)
    one_byte(made)
    with pytest.raises(UserError, match="not what the files hold"):
        unsloth.load(base, Train(rank=4), longest=77)
    assert "r" not in asked
    made = standin(base)
    tuned, _ = unsloth.load(base, Train(rank=4, alpha=9), longest=77)
    assert tuned is made
    assert (asked["name"], asked["max_seq_length"]) == (str(base.absolute()), 77)
    assert (asked["load_in_4bit"], asked["use_exact_model_name"]) == (False, True)
    assert (asked["r"], asked["lora_alpha"], asked["lora_dropout"]) == (4, 9, 0)
