"""What `tune check` and serving say of the same checkpoint: the same sentences, whatever was planted."""

import json
import subprocess
import sys

import pytest
from checkpoints import CONFIG, DATE, fill, rewrite, write_index, write_tokenizer, write_weights, write_words

from serve import contents
from serve.command import Options
from tune import checkpoint, harmony
from tune.errors import UserError
from tune.weights import check, structure
from tune.weights.shards import INDEX
from tune.weights.tensors import Tensor, expected

NORM = "model.norm.weight"
WHOLE = "model.safetensors"


def config(**values):
    def plant(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return plant


def weights(**changes):
    """Other tensors than there must be; None: left out."""
    whole = {**expected(CONFIG), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    return lambda folder: write_weights(folder / WHOLE, {n: t for n, t in whole.items() if t})


def index(**changes):
    names = {**dict.fromkeys(expected(CONFIG), WHOLE), **{n.replace("__", "."): f for n, f in changes.items()}}
    return lambda folder: write_index(folder, {name: file for name, file in names.items() if file})


def beside(folder):
    write_weights(folder / "other.safetensors", {NORM: Tensor((32,), "BF16")})


def twice(folder):
    beside(folder)
    index(x="other.safetensors")(folder)


def control(**ids):
    return lambda folder: write_words(folder / "tokenizer.json", **ids)


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (weights(model__norm__weight=None), ["lacks 1 of 37 tensors (e.g. model.norm.weight; an engine would start"]),
        (weights(more=Tensor((1,), "BF16")), ["holds 1 tensors that GPT-OSS has no place for (e.g. more;"]),
        (weights(model__norm__weight=Tensor((33,), "BF16")), ["is [33], config.json makes it [32])"]),
        (weights(model__norm__weight=Tensor((32,), "I16")), ["is I16, not BF16; an engine would round"]),
        (weights(model__norm__weight=Tensor((32,), "F4")), ["is F4, not BF16"]),
        (beside, ["holds weights beside its model's: other.safetensors (model.safetensors is the whole model)"]),
        (lambda f: (f / WHOLE).rename(f / "model-00001.safetensors"), ["holds no weights (no model.safetensors"]),
        (lambda f: (f / WHOLE).write_bytes(b"x"), ["model.safetensors is damaged ("]),
        (twice, ["holds 1 tensors twice (e.g. model.norm.weight, in model.safetensors and other", "does not match"]),
        (index(model__norm__weight=None), [f"{INDEX} does not match the shards (1 names differ: model.norm.weight)"]),
        (index(more=WHOLE), [f"{INDEX} does not match the shards (1 names differ: more)"]),
        (index(more="../model.safetensors"), ["lacks ../model.safetensors (named in model.safetensors.index.json)"]),
        (lambda f: write_index(f, {}), [f"{INDEX} cannot be read (its weight_map does not name a file"]),
        (config(model_type="llama"), ["config.json is not of a GPT-OSS (its model_type is 'llama')"]),
        (config(hidden_size="32"), ["config.json has hidden_size '32' (Input should be a valid integer)"]),
        (config(sliding_window=None), ["config.json has sliding_window None"]),
        (config(layer_types=["full_attention"] * 9), ["9 kinds for 2 layers)"]),
        (config(attention_bias=False), ["has attention_bias false (no biases are stored", "no place for"]),
        (config(quantization_config={"quant_method": "fp8"}), ["says quant_method 'fp8' of merged weights"]),
        (config(quantization_config=""), ["says quant_method '' of merged weights"]),
        (config(vocab_size=201_089), ["has vocab_size 201089, harmony has 201088", "wrong shape"]),
        (
            control(endoftext=7),
            ["tokenizer.json is not GPT-OSS's: <|endoftext|> have other ids (<|endoftext|> is 7, h"],
        ),
        (control(call=8, start=9), ["<|start|>, <|call|> have other ids (<|start|> is 9, harmony has 200006)"]),
        (control(), ["tokenizer.json is not GPT-OSS's: 199,998 of 199,998 tokens have other ids ('!' is absent, h"]),
        (lambda f: rewrite(f / "tokenizer.json", '{"added_tokens": []}'), ["tokenizer.json cannot be read ("]),
    ],
)
def test_checking_and_serving_say_the_same(tmp_path, plant, says):
    folder = fill(tmp_path / "tiny")
    plant(folder)
    facts = {"name": "tiny", "base": "b@1", "format": "merged", "prompt_date": DATE}
    made = checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})
    with pytest.raises(UserError) as checked:
        check.check(folder)
    served = [f"{p.what} ({p.why})" if p.why else p.what for p in contents.look(made, Options()).problems]
    assert checked.value.why.split("\n       ") == served
    assert len(says) in {1, len(served)}
    assert all(word in "\n".join(served) for word in says), served


def test_widths_that_do_not_fit_the_format_are_a_problem_and_no_traceback(tmp_path):
    folder = fill(tmp_path / "odd", hidden_size=48)
    config(quantization_config={"quant_method": "mxfp4"})(folder)
    (fault,) = structure.look(folder, "mxfp4").faults
    assert "gate_up_proj does not fit MXFP4 (48 inputs" in str(fault)


def test_what_lies_in_the_wrong_place_is_moved_and_not_made_again(tmp_path):
    folder = fill(tmp_path / "tiny")
    beside(folder)
    facts = {"name": "tiny", "base": "b@1", "format": "merged", "prompt_date": DATE}
    made = checkpoint.finish(folder, **facts, inputs={}, settings={}, figures={})
    (problem,) = contents.look(made, Options()).problems
    with pytest.raises(UserError) as checked:
        check.check(folder)
    assert checked.value.fix == problem.fix == "move the file that is not the model's out of the folder"


def test_an_adapters_base_is_looked_at_and_no_weights(tmp_path):
    folder = fill(tmp_path / "lora")
    (folder / WHOLE).unlink()
    found = structure.look(folder, "lora")
    assert (found.stored, found.faults) == ({}, [])
    assert found.shape.vocab_size == harmony.VOCABULARY
    write_tokenizer(folder / "tokenizer.json")
    config(vocab_size=9)(folder)
    assert len(structure.look(folder, "lora").faults) == 1


def test_looking_needs_no_torch_and_no_safetensors(tmp_path):
    code = f"""
import sys
from pathlib import Path
import deploy.sizing, serve.preflight
from tune.weights import structure
assert structure.look(Path({str(fill(tmp_path / "tiny"))!r}), "merged").faults == []
print(*[m for m in ("torch", "safetensors", "transformers") if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
