"""A GPT-OSS folder in MXFP4 into memory for training, its experts as they are stored."""

from collections.abc import Container
from pathlib import Path
from typing import Any

from tune.errors import UserError
from tune.weights import mxfp4, shards, tensors

EMBEDDING = "model.embed_tokens.weight"


def load(folder: Path, *, device: Any, parts: int = 0, host_embedding: bool = False) -> Any:
    """Stock GptOssForCausalLM with packed experts on `device`: bf16 on a GPU, float32 on a CPU, norms float32.

    Every tensor of the folder has its place and every place its tensor. `parts` is PackedExperts', 0: as many as keep a
    slice small. `host_embedding` leaves the embedding (1.2 GB of gpt-oss-20b) in the host's memory, where only the
    rows that are asked for leave it.
    Raises UserError when the folder is not whole, not in MXFP4, or holds experts that are no bytes or a scale that
    means no number.
    """
    import torch
    from transformers import GptOssConfig
    from transformers.models.gpt_oss import modeling_gpt_oss as stock

    from tune.training.packed import experts, layer
    from tune.training.packed.embedding import HostEmbedding

    config, specs = shards.config(folder), shards.headers(folder)
    if not tensors.is_mxfp4(config):
        raise UserError(
            f"the experts in {folder} are not packed", why="they are stored in bf16", fix='set train.backend = "peft"'
        )
    if faults := tensors.differences(folder, specs, tensors.expected(config), dtypes=False):
        raise faults[0].error(shards.AGAIN)
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    settings = GptOssConfig.from_dict(plain, attn_implementation="eager")  # generation alone asks for it
    with torch.device("meta"):
        model = stock.GptOssForCausalLM(settings)
        for place in model.model.layers:
            place.mlp.experts = experts.PackedExperts(settings, parts)
            place.__class__ = layer.PackedLayer
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    stays = {EMBEDDING} if host_embedding and "lm_head.weight" in specs else set()
    for file in sorted({spec.file for spec in specs.values()}):
        _fill(model, folder / file, device, dtype, stays)
    if stays:
        model.model.embed_tokens = HostEmbedding(model.model.embed_tokens.weight)
    if model.lm_head.weight.is_meta:  # tied to the embedding
        model.lm_head.weight = model.model.embed_tokens.weight
    model.model.rotary_emb = stock.GptOssRotaryEmbedding(settings).to(device)
    layer.attach(model)
    if unfilled := [n for n, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta]:
        raise RuntimeError(f"no weights for {unfilled[:3]}")  # a bug of ours
    return model.requires_grad_(False)


def _fill(model: Any, path: Path, device: Any, dtype: Any, stays: Container[str]) -> None:
    """Put every tensor of a file into its place; those that stay, in the host's memory."""
    import torch
    from safetensors import safe_open

    with safe_open(path, "pt", device=str(device)) as file, safe_open(path, "pt") as here:
        for name in file.keys():  # noqa: SIM118 - it is no dict
            value = (here if name in stays else file).get_tensor(name)
            owner, _, leaf = name.rpartition(".")
            module = model.get_submodule(owner)
            if name.endswith("_scales") and int(value.max()) > mxfp4.MOST + mxfp4.BIAS:
                why = f"{name} holds the scale byte {int(value.max())}: past float32, or NaN"
                raise UserError(f"{path} cannot be used", why=why, fix=shards.AGAIN)
            if leaf in module._buffers:
                if value.dtype != torch.uint8:
                    why = f"{name} is {value.dtype}, and MXFP4 is bytes"
                    raise UserError(f"{path} cannot be used", why=why, fix=shards.AGAIN)
                module._buffers[leaf] = value
                continue
            kept = torch.float32 if name.endswith("norm.weight") else dtype  # as stock transformers keeps them
            module._parameters[leaf] = torch.nn.Parameter(value.to(kept), requires_grad=False)
