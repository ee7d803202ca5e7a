"""The layouts that people have of a GPT-OSS, under every backend: loaded right, or refused by the layout's name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import Hub
from hub_socket import running
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from same_model import CLOSE, rows
from tiny_gptoss import edit_config, make_base, make_dataset, make_native, recipe, replace, sharpen, tensors_of

from tune.errors import UserError
from tune.recipe import Recipe, Train
from tune.training import loading, train
from tune.training.backends import choice, packed, peft
from tune.training.packed.experts import PackedExperts
from tune.weights import shards
from tune.weights.base_model import base_of

UNSLOTH_4BIT = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
BACKENDS = ("auto", "packed", "unsloth", "peft")
Layout = dict[str, Any]  # what a config.json says of its weights
MXFP4: Layout = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}
BF16: Layout = {}


def make_unsloth(folder: Path, *, configured: bool = True) -> Path:
    """As Unsloth's 4-bit copies are stored: an expert a tensor, two codes a byte in a column, scales beside them."""
    tensors = tensors_of(make_base(folder))
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        for n, expert in enumerate(tensors.pop(name)):
            one = f"{name}s.{n}.weight"
            tensors[one] = torch.zeros(expert.numel() // 2, 1, dtype=torch.uint8)
            tensors[f"{one}.absmax"] = torch.zeros(expert.numel() // 64)
            tensors[f"{one}.quant_map"] = torch.zeros(16)
        for n, bias in enumerate(tensors.pop(f"{name}_bias")):
            tensors[f"{name}s.{n}.bias"] = bias
    replace(folder, {n.replace(".router.", ".router.linear."): v for n, v in tensors.items()})
    if configured:
        edit_config(folder, quantization_config=UNSLOTH_4BIT)
    return folder


@pytest.mark.parametrize(
    ("layout", "backend", "gpu", "name"),
    [
        (MXFP4, "auto", True, "packed"),
        (MXFP4, "auto", False, "packed"),
        (MXFP4, "packed", True, "packed"),
        (MXFP4, "packed", False, "packed"),
        (MXFP4, "unsloth", True, "unsloth"),
        (MXFP4, "peft", True, "peft"),
        (MXFP4, "peft", False, "peft"),
        (BF16, "auto", True, "peft"),
        (BF16, "auto", False, "peft"),
        (BF16, "peft", True, "peft"),
        (BF16, "peft", False, "peft"),
    ],
)
def test_each_layout_has_its_backend(layout: Layout, backend: Any, gpu: bool, name: str) -> None:
    chosen = choice.choose(Train(backend=backend), layout, gpu=gpu)
    assert chosen.name == name
    assert chosen.reason
    decoded = layout is MXFP4 and name == "peft"
    assert ("decoded" in chosen.reason) == decoded  # what it costs is said


@pytest.mark.parametrize(
    ("layout", "backend", "gpu", "said", "fix"),
    [
        (BF16, "packed", True, "does not take a base with experts in bf16", '"peft"'),
        (BF16, "packed", False, "does not take a base with experts in bf16", '"peft"'),
        (BF16, "unsloth", True, "random experts and a random router", '"peft"'),
        (BF16, "unsloth", False, "random experts and a random router", '"peft"'),
        (MXFP4, "unsloth", False, "needs a GPU", '"auto"'),
    ],
)
def test_a_backend_that_would_load_it_wrong_is_refused(
    layout: Layout, backend: Any, gpu: bool, said: str, fix: str
) -> None:
    with pytest.raises(UserError) as caught:
        choice.choose(Train(backend=backend), layout, gpu=gpu)
    assert said in str(caught.value)
    assert fix in caught.value.fix


def test_targets_that_a_backend_would_pass_over_are_refused() -> None:
    with pytest.raises(UserError, match=r'trains attention alone, and train\.targets is "all"'):
        choice.choose(Train(backend="unsloth", targets="all"), MXFP4, gpu=True)
    for backend in ("packed", "peft"):
        assert choice.choose(Train(backend=backend, targets="all"), MXFP4, gpu=True).name == backend


@pytest.mark.parametrize("backend", BACKENDS)
def test_unsloth_s_four_bits_are_named_under_every_backend(tmp_path: Path, backend: str) -> None:
    make_unsloth(tmp_path / "base")
    made = recipe(tmp_path, train={"backend": backend})
    make_dataset(made)
    with pytest.raises(UserError, match="weights in 'bitsandbytes' are not read") as caught:
        train.train(made)
    assert "unsloth/gpt-oss-20b-unsloth-bnb-4bit" in caught.value.why
    assert "openai/gpt-oss-20b" in caught.value.fix
    assert "unsloth/gpt-oss-20b-BF16" in caught.value.fix
    assert not (made.work / "adapter").exists()


@pytest.mark.parametrize("load", [lambda f: loading.load(f, dtype=torch.float32), lambda f: load(packed, f)])
def test_unsloth_s_four_bits_are_read_by_no_loader(tmp_path: Path, load: Any) -> None:
    with pytest.raises(UserError, match="'bitsandbytes'"):
        load(make_unsloth(tmp_path / "base"))


def test_an_expert_a_tensor_without_a_word_in_config_is_refused(tmp_path: Path) -> None:
    folder = make_unsloth(tmp_path / "base", configured=False)
    with pytest.raises(UserError, match=r"(?s)missing .*experts.*unexpected .*experts"):
        loading.load(folder, dtype=torch.float32)
    edit_config(folder, **MXFP4)  # nor does it pass for MXFP4
    with pytest.raises(UserError, match=r"lacks \d+ of"):
        load(packed, folder)


def load(backend: Any, folder: Path) -> Any:
    return backend.load(folder, Train(rank=4), gpu=False)[0]


def reference(folder: Path) -> Any:
    """Stock transformers, nothing of ours between it and the files."""
    from transformers import AutoModelForCausalLM, Mxfp4Config

    packed = "quantization_config" in shards.config(folder)
    more = {"quantization_config": Mxfp4Config(dequantize=True)} if packed else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more)
    return model.float()  # it decodes to bf16, whatever it is asked for


def choices(model: Any, seen: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note the chosen experts [T, k] of each layer as the model runs."""
    for one in model.model.layers:
        if isinstance(one.mlp.experts, PackedExperts):
            mix = one.mlp.experts.mix
            monkeypatch.setattr(
                one.mlp.experts,
                "mix",
                lambda x, scores, at, mix=mix: (seen.append(at.expert[at.place]), mix(x, scores, at))[1],
            )
        else:
            one.mlp.router.register_forward_hook(lambda _m, _given, out: seen.append(out[2]))


@pytest.mark.parametrize(("make", "backend"), [(make_native, packed), (make_native, peft), (make_base, peft)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_backend_loads_is_stock_s_model(
    tmp_path: Path, make: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sharpen(make(tmp_path / "base"))
    ids, mask = rows(30, 11)
    ours, theirs = [], []  # type: ignore[var-annotated]
    model, stock = load(backend, folder), reference(folder)
    choices(model.get_base_model(), ours, monkeypatch)
    choices(stock, theirs, monkeypatch)
    with torch.no_grad():
        found, wanted = (
            m(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask.bool()] for m in (model, stock)
        )
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert len(ours) == len(theirs) == 2
    real = mask.bool().flatten()
    assert all(torch.equal(one[real], other[real]) for one, other in zip(ours, theirs, strict=True))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub over a socket, asked through the library's real requests."""
    with running() as made:
        template = made.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": made.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        yield made
        close_session()


def on_hub(hub: Hub, root: Path, name: str, make: Any) -> Recipe:
    """A recipe whose base is what `make` makes, under a Hub id at its commit."""
    make(root / "made")
    repo = hub.repo(name, private=False, **{p.name: p.read_bytes() for p in (root / "made").iterdir()})
    return Recipe(folder=root, base={"model": name, "revision": repo.branches["main"]})


@pytest.mark.parametrize(
    ("name", "make", "backend"),
    [("openai/gpt-oss-20b", make_native, packed), ("unsloth/gpt-oss-20b-BF16", make_base, peft)],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the library hands files to httpx in its old way
def test_a_hub_id_loads_as_its_folder_does(hub: Hub, tmp_path: Path, name: str, make: Any, backend: Any) -> None:
    made = on_hub(hub, tmp_path, name, make)
    base = base_of(made)
    assert (base.name, base.digest) == (f"{name}@{made.base.revision[:16]}", made.base.revision)
    chosen = choice.choose(Train(), shards.config(base.folder), gpu=False)
    assert chosen.name == backend.__name__.rpartition(".")[2]
    one, other = (load(backend, folder).state_dict() for folder in (base.folder, tmp_path / "made"))
    assert all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_hub_id_of_unsloth_s_four_bits_is_named(hub: Hub, tmp_path: Path) -> None:
    made = on_hub(hub, tmp_path, "unsloth/gpt-oss-20b-unsloth-bnb-4bit", make_unsloth)
    with pytest.raises(UserError, match="weights in 'bitsandbytes' are not read"):
        base_of(made)
