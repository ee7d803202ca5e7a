"""Whole tiny checkpoints for tests: true names, shapes, dtypes and control tokens; every weight is zero."""

import atexit
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tune import harmony
from tune.checkpoint import CANARY, Format
from tune.weights import tokenizer
from tune.weights.tensors import Shape, Tensor, expected

DATE = "2026-01-01"

CONFIG: dict[str, Any] = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_local_experts": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": harmony.VOCABULARY,
    "sliding_window": 128,
    "max_position_embeddings": 4096,
    "num_experts_per_tok": 2,
    "rope_theta": 150000,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 1.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
    },
}


def _published(layers: int, experts: int) -> Shape:
    return Shape(
        num_hidden_layers=layers,
        hidden_size=2880,
        intermediate_size=2880,
        num_local_experts=experts,
        num_attention_heads=64,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=harmony.VOCABULARY,
        sliding_window=128,
        max_position_embeddings=131_072,
    )


GPT_OSS = {"openai/gpt-oss-20b": _published(24, 32), "openai/gpt-oss-120b": _published(36, 128)}


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A shard whose header is true and whose bytes are a hole in the file: nothing to write, whatever the size."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [end, end := end + tensor.bytes]}
    text = json.dumps(header).encode()
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + end)


def write_index(folder: Path, weight_map: Mapping[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@cache
def _tokenizer() -> Path:
    """Made once a process, for all checkpoints of its tests."""
    folder = tempfile.TemporaryDirectory(prefix="tokenizer-")
    atexit.register(folder.cleanup)
    tokenizer.build(Path(folder.name))
    return Path(folder.name) / "tokenizer.json"


def write_tokenizer(path: Path) -> None:
    """GPT-OSS's tokenizer: 28 MB that all checkpoints share, so replace the file, never write into it."""
    path.unlink(missing_ok=True)
    try:
        os.link(_tokenizer(), path)
    except OSError:
        shutil.copyfile(_tokenizer(), path)


def write_words(path: Path, **ids: int) -> None:
    """A tokenizer of control tokens alone; `ids` are those that differ from harmony's, by name."""
    import tokenizers

    path.unlink(missing_ok=True)
    words = {**harmony.CONTROL, **{f"<|{name}|>": number for name, number in ids.items()}}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "x")).save(str(path))


def rewrite(path: Path, text: str) -> None:
    """Another text in the file's place: whatever else shares the file keeps it as it was."""
    path.unlink()
    path.write_text(text)


def fill(folder: Path, format: Format = "merged", **config: Any) -> Path:
    """Everything of a checkpoint but its manifest; `config` are keys of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, **config}
    if format == "mxfp4":
        config["quantization_config"] = {"quant_method": "mxfp4"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [200002, 199999, 200012]}))
    write_tokenizer(folder / "tokenizer.json")
    prompts = {effort: harmony.render_prompt(harmony.PROBE, effort, DATE) for effort in harmony.EFFORTS}
    canary = {effort: [-1.0 - n % 7 for n in range(len(ids) - 1)] for effort, ids in prompts.items()}
    (folder / CANARY).write_text(json.dumps({"logprobs": canary, "rounding": 0.03}))
    write_weights(folder / "model.safetensors", expected(config))
    return folder
