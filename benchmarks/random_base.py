"""A GPT-OSS of random weights in OpenAI's MXFP4 layout, at the published shapes: for speed and memory, not quality.

    python benchmarks/random_base.py OUT [--like 20b|120b] [--layers N] [--holes]

--holes leaves the experts' bytes as holes in the files (they read as zeros and take no disk): for a model larger than
the disk. Uses a GPU if there is one.
"""

import argparse
import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tune.weights import files, tensors, tokenizer

ROPE = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "rope_type": "yarn",
    "truncate": False,
}
DEVIATIONS = {"embed_tokens": 1.0, "sinks": 1.0, "router": 0.05, "o_proj": 0.01}  # by part of the name; else 0.02
LAYERS_A_FILE = 4


def config(like: str, layers: int | None) -> dict[str, Any]:
    """config.json with the published sizes."""
    depth = layers or {"20b": 24, "120b": 36}[like]
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "num_hidden_layers": depth,
        "layer_types": ["sliding_attention", "full_attention"] * (depth // 2) + ["sliding_attention"] * (depth % 2),
        "num_local_experts": {"20b": 32, "120b": 128}[like],
        "num_experts_per_tok": 4,
        "experts_per_token": 4,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 201088,
        "sliding_window": 128,
        "max_position_embeddings": 131072,
        "initial_context_length": 4096,
        "rope_theta": 150000.0,
        "rope_scaling": ROPE,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "swiglu_limit": 7.0,
        "attention_bias": True,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
        "router_aux_loss_coef": 0.9,
        "output_router_logits": False,
        "eos_token_id": 200002,
        "pad_token_id": 199999,
        "torch_dtype": "bfloat16",
        "quantization_config": files.QUANTIZATION,
    }


def write(out: Path, like: str = "20b", layers: int | None = None, *, holes: bool = False) -> Path:
    """Write the folder: weights in files of four layers, config, generation_config and GPT-OSS's tokenizer."""
    out.mkdir(parents=True)
    settings = config(like, layers)
    (out / "config.json").write_text(json.dumps(settings, indent=1))
    ends = {"eos_token_id": [200002, 199999, 200012], "pad_token_id": 199999, "bos_token_id": 199998, "do_sample": True}
    (out / "generation_config.json").write_text(json.dumps(ends))
    specs = tensors.tensors(tensors.shape_of(settings), "mxfp4")
    groups: dict[tuple[int, bool], list[str]] = {}
    for name in specs:
        number = int(name.split(".")[2]) // LAYERS_A_FILE if name.startswith("model.layers.") else -1
        groups.setdefault((number, holes and name.endswith(("_blocks", "_scales"))), []).append(name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device=device).manual_seed(3407)
    index = {}
    for count, ((_, empty), names) in enumerate(sorted(groups.items())):
        file = f"model-{count:05}.safetensors"
        index |= dict.fromkeys(names, file)
        if empty:
            _hole(out / file, {name: specs[name] for name in names})
        else:
            save_file({n: _random(n, specs[n].shape, generator) for n in names}, out / file, {"format": "pt"})
    total = {"total_size": sum(spec.bytes for spec in specs.values())}
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": total, "weight_map": index}))
    tokenizer.build(out)
    return out


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    on = {"generator": generator, "device": generator.device}
    if name.endswith("_blocks"):
        return torch.randint(0, 256, shape, dtype=torch.uint8, **on).cpu()
    if name.endswith("_scales"):
        low = 117 if "down" in name else 119
        return torch.randint(low, low + 3, shape, dtype=torch.uint8, **on).cpu()
    if "norm" in name:
        return torch.ones(shape, dtype=torch.bfloat16)
    deviation = next((value for part, value in DEVIATIONS.items() if part in name), 0.02)
    return (torch.randn(shape, **on) * deviation).to(torch.bfloat16).cpu()


def _hole(path: Path, specs: dict[str, tensors.Tensor]) -> None:
    header, at = {}, 0
    for name, spec in specs.items():
        header[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [at, at + spec.bytes]}
        at += spec.bytes
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--like", choices=["20b", "120b"], default="20b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--holes", action="store_true")
    given = parser.parse_args()
    write(given.out, given.like, given.layers, holes=given.holes)
