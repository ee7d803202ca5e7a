"""The table of tensors: against published figures, against what transformers writes, and on configs that are none."""

import pytest
from checkpoints import CONFIG, GPT_OSS

from tune.errors import UserError
from tune.weights import tensors
from tune.weights.tensors import Fault, Shape, Tensor, expected, shape_of


def of(name, weights):
    return tensors.tensors(GPT_OSS[name], weights)


@pytest.mark.parametrize(
    ("name", "billions", "packed_gib", "bf16_gib"),
    # The model card's parameters and checkpoint sizes.
    [("openai/gpt-oss-20b", 20.91, 12.8, 39.0), ("openai/gpt-oss-120b", 116.83, 60.8, 217.6)],
)
def test_sizes_of_the_published_models(name, billions, packed_gib, bf16_gib):
    whole = sum(t.bytes for t in of(name, "merged").values())
    assert whole / 2 / 1e9 == pytest.approx(billions, abs=0.005)
    assert whole / 2**30 == pytest.approx(bf16_gib, abs=0.05)
    assert sum(t.bytes for t in of(name, "mxfp4").values()) / 2**30 == pytest.approx(packed_gib, abs=0.05)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"attention_bias": False}])
def test_names_and_shapes_are_those_that_transformers_writes(changes):
    torch = pytest.importorskip("torch")
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=2,
        **changes,
    )
    with torch.device("meta"):
        model = GptOssForCausalLM(config)
    real = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del real["lm_head.weight"]  # the embedding under another name: it is not stored
    assert {name: tensor.shape for name, tensor in expected(config.to_dict()).items()} == real
    assert shape_of(config.to_dict()).full_layers == config.layer_types.count("full_attention")


def test_experts_alone_are_packed():
    found = of("openai/gpt-oss-20b", "mxfp4")
    packed = {name for name, tensor in found.items() if tensor.dtype == "U8"}
    assert packed == {name for name in found if name.endswith(("_blocks", "_scales"))}
    assert len(packed) == 24 * 4
    assert {tensor.dtype for tensor in of("openai/gpt-oss-20b", "merged").values()} == {"BF16"}


SIZES = [key for key in CONFIG if key in Shape.model_fields and key != "max_position_embeddings"]


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("value", ["x", "64", 0, -1, 2.0, True, None, [1], 10**12])
def test_a_size_that_is_none_is_refused(key, value):
    with pytest.raises(UserError, match=f"config.json has {key} "):
        shape_of({**CONFIG, key: value})


@pytest.mark.parametrize("key", SIZES)
def test_a_size_that_is_not_there_is_named(key):
    with pytest.raises(UserError, match=f"config.json lacks {key}\n"):
        shape_of({k: v for k, v in CONFIG.items() if k != key})


@pytest.mark.parametrize(
    ("kinds", "full"),
    [
        (None, 1),
        (["full_attention", "full_attention"], 2),
        ([], "why: 0 kinds for 2 layers"),
        (["full_attention"] * 3, "3 kinds for 2 layers"),
        (["full_attention", "linear_attention"], "Input should be 'full_attention' or 'sliding_attention'"),
        ("full_attention", "valid tuple"),
    ],
)
def test_each_layer_has_a_kind_of_attention_or_none_is_listed(kinds, full):
    config = {**CONFIG, "layer_types": kinds}
    if isinstance(full, int):
        assert shape_of(config).full_layers == full
    else:
        with pytest.raises(UserError, match=f"config.json has layer_types .*\n.*{full}"):
            shape_of(config)


def test_widths_that_mxfp4_cannot_hold_are_refused():
    shape = shape_of({**CONFIG, "hidden_size": 48})
    assert tensors.tensors(shape, "merged")
    with pytest.raises(UserError, match=r"gate_up_proj does not fit MXFP4\n  why: 48 inputs are no multiple of 32"):
        tensors.tensors(shape, "mxfp4")


def test_what_is_found_is_held_against_the_table(tmp_path):
    wanted = {"a": Tensor((2,), "BF16"), "b": Tensor((3,), "BF16")}
    assert tensors.differences(tmp_path, wanted, wanted) == []
    found = {"a": Tensor((2, 1), "F32", "x"), "c": Tensor((3,), "BF16", "x")}
    told = tensors.differences(tmp_path, found, wanted)
    assert [fault.what.removeprefix(f"{tmp_path} ") for fault in told] == [
        "lacks 1 of 2 tensors",
        "holds 1 tensors that GPT-OSS has no place for",
        "has 1 tensors of the wrong shape",
        "has 1 tensors of the wrong dtype",
    ]
    assert [fault.why.partition(";")[0] for fault in told] == [
        "e.g. b",
        "e.g. c",
        "e.g. a is [2, 1], config.json makes it [2]",
        "e.g. a is F32, not BF16",
    ]
    assert tensors.differences(tmp_path, found, wanted, dtypes=False) == told[:3]


def test_a_fault_keeps_its_own_way_out():
    assert Fault("x").error("make it again").fix == "make it again"
    assert Fault("x", "y", "move it").error("make it again").fix == "move it"
    assert str(Fault("x", "y")) == "x (y)"
