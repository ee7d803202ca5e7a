"""The canary's streaming forward against stock transformers, which holds the whole model."""

from pathlib import Path

import pytest
import torch
from tiny_gptoss import DATE, make_base, make_native, replace, tensors_of

from tune import checkpoint, harmony
from tune.errors import UserError
from tune.training import loading
from tune.weights import canary


@pytest.mark.parametrize("make", [make_base, make_native], ids=["merged", "mxfp4"])
def test_it_is_what_the_whole_model_says(tmp_path: Path, make) -> None:
    folder = make(tmp_path / "model", vocabulary=harmony.VOCABULARY)
    tensors = tensors_of(folder)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * 100  # far from uniform, so that a difference shows
    replace(folder, tensors)
    canary.write(folder, DATE)
    written = checkpoint.Canary.model_validate_json((folder / checkpoint.CANARY).read_bytes())
    exact, rounded = (loading.load(folder, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert written.logprobs.keys() == set(harmony.EFFORTS)
    apart = []
    for effort, values in written.logprobs.items():
        ids = torch.tensor(harmony.render_prompt(harmony.PROBE, effort, DATE))
        wanted = _whole(exact, ids)
        assert wanted.std() > 1
        torch.testing.assert_close(torch.tensor(values), wanted, atol=1e-3, rtol=1e-4)
        apart.append((_whole(rounded, ids) - wanted).abs())
    assert written.rounding == pytest.approx(float(torch.cat(apart).mean()), rel=0.5)  # its head is in float32


def _whole(model, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(ids[None]).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]


def test_a_layer_that_is_wrong_shows(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "model")
    tensors = tensors_of(folder)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * 100
    prompt = [list(range(3, 40))]
    replace(folder, tensors)
    good = canary.logprobs(folder, prompt)[0][0]
    for name in ("model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.1.self_attn.sinks",
                 "model.layers.1.mlp.experts.down_proj"):  # fmt: skip
        replace(folder, {**tensors, name: torch.zeros_like(tensors[name])})
        assert not torch.equal(canary.logprobs(folder, prompt)[0][0], good), name


def test_weights_without_a_number_are_refused(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "model", vocabulary=harmony.VOCABULARY)
    tensors = tensors_of(folder)
    tensors["model.norm.weight"][0] = float("nan")
    replace(folder, tensors)
    with pytest.raises(UserError, match="NaN or infinite"):
        canary.write(folder, DATE)
    assert not (folder / checkpoint.CANARY).exists()
