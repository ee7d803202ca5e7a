"""A folder into packed experts: every tensor in its place, and whatever is not right is refused by its name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from same_model import CLOSE, rows
from tiny_gptoss import edit_config, make_base, make_dataset, make_native, recipe, replace, sharpen, tensors_of

from tune.errors import UserError
from tune.training import loading, train
from tune.training.packed import model as packed
from tune.training.packed.embedding import HostEmbedding

Tensors = dict[str, torch.Tensor]
SCALES = "model.layers.1.mlp.experts.down_proj_scales"
BLOCKS = "model.layers.0.mlp.experts.gate_up_proj_blocks"
ROUTER = "model.layers.1.mlp.router.weight"
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sharpen(make_native(tmp_path_factory.mktemp("load") / "base"))


def scaled(value: int) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[SCALES][2, 5, 1] = value
        return tensors

    return change


FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a scale that is NaN": (scaled(255), rf"{SCALES} holds the scale byte 255"),
    "a scale past float32": (scaled(253), rf"{SCALES} holds the scale byte 253"),
    "missing": (lambda t: {n: v for n, v in t.items() if n != BLOCKS}, rf"lacks 1 of \d+ tensors.*{BLOCKS}"),
    "router missing": (lambda t: {n: v for n, v in t.items() if n != ROUTER}, rf"lacks 1 .*{ROUTER}"),
    "extra": (lambda t: {**t, "model.layers.2.mlp.router.bias": t[ROUTER]}, r"no place for.*layers\.2\.mlp\.router"),
    "misshapen": (lambda t: {**t, BLOCKS: t[BLOCKS][:, :-1]}, rf"wrong shape.*{BLOCKS}"),
    "transposed": (lambda t: {**t, ROUTER: t[ROUTER].T}, rf"wrong shape.*{ROUTER}"),
    "router renamed": (
        lambda t: {n.replace(".router.", ".router.linear."): v for n, v in t.items()},
        r"lacks 4 .*layers\.0\.mlp\.router\.weight",
    ),
    "no bytes": (lambda t: {**t, SCALES: t[SCALES].to(torch.bfloat16)}, rf"{SCALES} is torch.bfloat16"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_right_is_named_and_nothing_is_trained(base: Path, tmp_path: Path, fault: str) -> None:
    shutil.copytree(base, tmp_path / "base")
    made = recipe(tmp_path)
    make_dataset(made)
    change, said = FAULTS[fault]
    replace(tmp_path / "base", change(tensors_of(base)))
    with pytest.raises(UserError, match=rf"(?s){said}") as caught:
        packed.load(tmp_path / "base", device="cpu")
    assert caught.value.fix == "copy the model again"
    with pytest.raises(UserError, match=rf"(?s){said}"):
        train.train(made)
    assert not (made.work / "adapter").exists()


def test_a_bf16_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are not packed") as caught:
        packed.load(make_base(tmp_path / "base"), device="cpu")
    assert caught.value.fix == 'set train.backend = "peft"'


def test_every_byte_is_the_file_s(base: Path) -> None:
    model, stored = packed.load(base, device="cpu"), tensors_of(base)
    state = model.state_dict()
    assert state.keys() == stored.keys()
    for name, value in stored.items():
        assert torch.equal(state[name], value if value.dtype == torch.uint8 else value.float()), name
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set()


@pytest.mark.parametrize("host", [False, True])
def test_tied_embeddings(base: Path, tmp_path: Path, host: bool) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    tensors = tensors_of(base)
    del tensors["lm_head.weight"]
    replace(folder, tensors)
    edit_config(folder, tie_word_embeddings=True)
    model = packed.load(folder, device="cpu", host_embedding=host)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids, mask = rows(24, 11)
    with torch.no_grad():
        found = model(ids, attention_mask=mask, use_cache=False).logits
        wanted = loading.load(folder, dtype=torch.float32)(ids, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], **CLOSE)


def test_an_embedding_on_the_host_gives_the_same_rows(base: Path) -> None:
    weight = torch.randn(50, 8, dtype=torch.bfloat16)
    host, plain = HostEmbedding(weight), torch.nn.Embedding.from_pretrained(weight)
    for ids in (torch.randint(0, 50, (3, 7)), torch.tensor([49]), torch.empty(0, dtype=torch.long)):
        assert torch.equal(host(ids), plain(ids))
    assert host.to("meta").weight.device.type == "cpu"
    assert host.state_dict() == {}
    assert list(host.parameters()) == []
    with pytest.raises(IndexError):
        host(torch.tensor([50]))


def test_a_model_with_its_embedding_on_the_host_is_the_same(base: Path) -> None:
    ids, mask = rows(24, 11)
    plain, host = (packed.load(base, device="cpu", host_embedding=kept) for kept in (False, True))
    assert isinstance(host.model.embed_tokens, HostEmbedding)
    assert EMBEDDING not in dict(host.named_parameters())
    with torch.no_grad():
        one, other = (m(ids, attention_mask=mask, use_cache=False).logits for m in (plain, host))
    assert torch.equal(one, other)
    assert torch.equal(host.get_input_embeddings().weight, tensors_of(base)[EMBEDDING].float())
