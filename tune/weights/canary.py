"""What a checkpoint's weights say about a fixed prompt: a finished folder in, `canary.json` beside the weights out.

The log-probability of every token of `harmony.PROBE` at each effort, by stock transformers in float32, and how far the
same in bfloat16 is from it. The server asks its engine for the same, so weights that were loaded wrongly are seen
before anyone uses them; what 16-bit rounding does to a model hangs on its depth and its routers, so it is measured
and not guessed. One layer is in memory at a time (3.2 GB for gpt-oss-20b, 12.8 GB for 120b; half as much again while it
changes its dtype), then a slice of the head. Knows nothing of engines.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tune import checkpoint, harmony
from tune.artefact import write_text
from tune.errors import UserError
from tune.harmony import EFFORTS, PROBE
from tune.terminal import quiet
from tune.weights import mxfp4, shards
from tune.weights.tensors import Tensor

if TYPE_CHECKING:
    import torch

ROWS = 16_384  # of the head at a time
DIGITS = 4  # decimals kept: far finer than the agreement asked for


def write(folder: Path, prompt_date: str) -> None:
    """Write `canary.json` for the weights in `folder`, before its manifest.

    Raises UserError when the weights give no number.
    """
    import torch

    prompts = {effort: harmony.render_prompt(PROBE, effort, prompt_date) for effort in EFFORTS}
    with quiet():
        exact, rounded = logprobs(folder, list(prompts.values()))
    values = torch.cat(exact)
    rounding = float((torch.cat(rounded) - values).abs().mean())
    if not bool(torch.isfinite(values).all()) or not math.isfinite(rounding):
        why = "the log-probability of a prompt is NaN or infinite"
        raise UserError(
            f"the weights in {folder} cannot be used", why=why, fix="another copy of the base, or tune train again"
        )
    found = checkpoint.Canary(
        logprobs={e: [round(v, DIGITS) for v in one.tolist()] for e, one in zip(EFFORTS, exact, strict=True)},
        rounding=round(rounding, DIGITS),
    )
    write_text(folder / checkpoint.CANARY, found.model_dump_json() + "\n")


class _Run(NamedTuple):
    """One prompt on its way through the layers, in one dtype."""

    hidden: "torch.Tensor"
    masks: dict[str, Any]
    positions: "torch.Tensor"
    turned: "tuple[torch.Tensor, torch.Tensor]"


def logprobs(folder: Path, prompts: list[list[int]]) -> "tuple[list[torch.Tensor], list[torch.Tensor]]":
    """For each prompt the log-probability of every token but the first given those before it, float32 [len - 1]:
    as float32 has it, and as bfloat16 has it.
    """
    import torch
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import (
        GptOssDecoderLayer,
        GptOssRMSNorm,
        GptOssRotaryEmbedding,
    )

    specs = shards.headers(folder)
    config = GptOssConfig.from_dict(
        {k: v for k, v in shards.config(folder).items() if k != "quantization_config"}, attn_implementation="eager"
    )
    with torch.inference_mode():
        embedding = shards.tensor(folder, specs, "model.embed_tokens.weight")
        rotary = GptOssRotaryEmbedding(config)
        runs = {
            dtype: [_start(config, rotary, embedding[torch.tensor([ids])].to(dtype)) for ids in prompts]
            for dtype in (torch.float32, torch.bfloat16)
        }
        del embedding
        for number, kind in enumerate(config.layer_types):
            with torch.device("meta"):
                layer = GptOssDecoderLayer(config, number).eval()
            layer.load_state_dict(_layer(folder, specs, number), assign=True)
            for dtype in runs:
                runs[dtype] = [_through(layer.to(dtype), run, kind) for run in runs[dtype]]
        norm = GptOssRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        norm.load_state_dict({"weight": shards.tensor(folder, specs, "model.norm.weight").float()}, assign=True)
        name = "lm_head.weight" if "lm_head.weight" in specs else "model.embed_tokens.weight"
        head = shards.tensor(folder, specs, name)
        exact, rounded = (
            [
                _told(norm(run.hidden.float())[0, :-1], torch.tensor(ids[1:]), head)
                for run, ids in zip(runs[dtype], prompts, strict=True)
            ]
            for dtype in (torch.float32, torch.bfloat16)
        )
        return exact, rounded


def _start(config: Any, rotary: Any, hidden: "torch.Tensor") -> _Run:
    """Masks, positions and rotary embedding as GptOssModel makes them."""
    import torch
    from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

    make_mask = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
    masks = {
        kind: make(config=config, inputs_embeds=hidden, attention_mask=None, past_key_values=None)
        for kind, make in make_mask.items()
    }
    positions = torch.arange(hidden.shape[1])[None]
    return _Run(hidden, masks, positions, rotary(hidden, positions))


def _through(layer: Any, run: _Run, kind: str) -> _Run:
    hidden = layer(
        run.hidden, attention_mask=run.masks[kind], position_ids=run.positions, position_embeddings=run.turned
    )
    return run._replace(hidden=hidden)


def _told(hidden: "torch.Tensor", ids: "torch.Tensor", head: "torch.Tensor") -> "torch.Tensor":
    """Log-probabilities of ids [n] after hidden [n, width], with the head [vocabulary, width] taken in slices."""
    import torch

    logits = torch.cat([hidden @ rows.float().T for rows in head.split(ROWS)], dim=1)
    return logits.log_softmax(dim=1).gather(1, ids[:, None])[:, 0]


def _layer(folder: Path, specs: Mapping[str, Tensor], number: int) -> dict[str, Any]:
    """One layer's weights by the names of its module, float32; MXFP4 experts decoded to [expert, in, out]."""
    import torch

    prefix, state = f"model.layers.{number}.", {}
    for name in (n for n in specs if n.startswith(prefix)):
        short = name.removeprefix(prefix)
        if name.endswith("_blocks"):
            stem = name.removesuffix("_blocks")
            pair = [shards.tensor(folder, specs, f"{stem}_{part}").numpy() for part in ("blocks", "scales")]
            state[short.removesuffix("_blocks")] = torch.from_numpy(mxfp4.dequantize(*pair)).transpose(1, 2)
        elif not name.endswith("_scales"):
            state[short] = shards.tensor(folder, specs, name).float()
    return state
