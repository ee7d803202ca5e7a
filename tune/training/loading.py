"""A model folder into memory: every weight from its file, none made up. Knows no recipe and no training."""

from pathlib import Path
from typing import Any

from tune.errors import UserError
from tune.terminal import quiet
from tune.weights import shards, tensors


def arithmetic(device: str) -> Any:
    """The dtype that a model is fastest asked in: bfloat16, but on a processor that has no instructions for it float32,
    as the 135 M nano of 24 replies takes 0.7 s a token in that one on AVX2 and over 100 s in bfloat16.
    """
    import torch

    emulated = device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.float32 if emulated else torch.bfloat16


def load(folder: Path, *, dtype: Any, device: str = "cpu", attention: str = "eager") -> Any:
    """The model in `folder`, every weight in `dtype` and from the files; MXFP4 experts are dequantized.

    `attention` is transformers' name: eager is the one with sinks that runs everywhere.

    Raises UserError when a weight is missing, unexpected, of another shape, or would be newly initialised: a model
    with a made-up router loads without complaint otherwise, and answers nonsense.
    """
    from transformers import AutoModelForCausalLM, Mxfp4Config

    config = shards.config(folder)
    shards.headers(folder)
    options: dict[str, Any] = {}
    if tensors.is_mxfp4(config):
        options["quantization_config"] = Mxfp4Config(
            modules_to_not_convert=config["quantization_config"].get("modules_to_not_convert"), dequantize=True
        )
    try:
        with quiet():  # what it would warn of is raised below
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation=attention,
                device_map={"": device},
                local_files_only=True,
                ignore_mismatched_sizes=True,  # to report them below, by name
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError) as e:
        raise UserError(
            f"{folder} does not load", why=str(e).splitlines()[0][:300], fix="copy or make the model again"
        ) from None
    problems = [
        f"{kind.removesuffix('_keys')} {', '.join(sorted(map(str, found))[:3])}" + (", …" if len(found) > 3 else "")
        for kind, found in info.items()
        if found
    ]
    if problems:
        raise UserError(
            f"{folder} is not the model that its config.json describes",
            why="; ".join(problems),
            fix="copy or make the model again; nothing was trained or written",
        )
    return model.to(dtype)  # norms are kept in float32 by the loader


def tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises UserError when there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as e:
        raise UserError(
            f"{folder} holds no tokenizer", why=str(e).splitlines()[0][:300], fix="copy the model again"
        ) from None
