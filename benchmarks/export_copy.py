"""What an attention-only MXFP4 export costs beside `cp`: python benchmarks/export_copy.py FOLDER [LAYERS]

A checkpoint of gpt-oss-20b's shape but fewer layers (2 of 24), in OpenAI's layout, of random bytes, and a random LoRA
of rank 8. In one run: cp, the export, cp again, each after a sync; the export in a process of its own, whose peak
memory is told. FOLDER needs 3 times the 3.3 GB of it free, and is left empty.
"""

import json
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tune import artefact, checkpoint
from tune.recipe import Recipe
from tune.weights import canary, export, files, shards, stream, tensors, tokenizer
from tune.weights.base_model import base_of
from tune.weights.stream import Item

CONFIG: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201_088,
    "sliding_window": 128,
    "quantization_config": files.QUANTIZATION,
}
RANK = 8


def make(work: Path, layers: int) -> Recipe:
    """The base, its tokenizer, and an adapter."""
    base, rng = work / "base", np.random.default_rng(0)
    base.mkdir(parents=True)
    config = {**CONFIG, "num_hidden_layers": layers}
    (base / "config.json").write_text(json.dumps(config))
    (base / "generation_config.json").write_text('{"eos_token_id": [200002, 199999, 200012]}')
    tokenizer.build(base)
    noise = rng.integers(0, 256, 64 << 20, np.uint8)
    numbers = torch.from_numpy(rng.standard_normal(32 << 20, np.float32) * 0.02).bfloat16().view(torch.uint8).numpy()

    def filled(name: str, size: int) -> Any:
        source = numbers if not name.endswith(("_blocks", "_scales")) else noise
        for at in range(0, size, len(source)):
            part = source[: min(len(source), size - at)]
            yield name, (112 + part % 8).astype(np.uint8) if name.endswith("_scales") else part

    items = [Item({n: t}, lambda n=n, t=t: filled(n, t.bytes)) for n, t in tensors.expected(config).items()]
    parts = stream.split(sorted(items, key=lambda item: next(iter(item.specs))), 5_000_000_000)
    for part in parts:
        stream.write(base, part)
    stream.write_index(base, parts)
    recipe = Recipe(folder=work, base={"model": "base"}, export={"format": "mxfp4"})
    folder = recipe.work / "adapter"
    folder.mkdir(parents=True)
    settings = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    pairs = {}
    for name, spec in shards.headers(base).items():
        if "_proj.weight" in name:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            pairs[f"{stem}.lora_A.weight"] = torch.randn(RANK, spec.shape[1]) * 0.02
            pairs[f"{stem}.lora_B.weight"] = torch.randn(spec.shape[0], RANK) * 0.02
    save_file(pairs, folder / "adapter_model.safetensors")
    artefact.finish(folder, "adapter", inputs={"base": base_of(recipe).digest}, settings={"base": "base"})
    return recipe


def timed_export(work: Path) -> None:
    """In a process of its own: the stage, and the seconds of its parts."""
    seconds: dict[str, float] = {}
    one_at_a_time = threading.Lock()

    def timed(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def outer(*given: Any, **named: Any) -> Any:
            started = time.monotonic()
            done = inner(*given, **named)
            with one_at_a_time:  # files are made side by side: of their parts the sum over all threads
                seconds[name] = seconds.get(name, 0) + time.monotonic() - started
            return done

        setattr(owner, name, outer)

    timed(export, "base_of")
    timed(export, "_weights")
    timed(stream, "write")
    timed(stream, "require_copied")
    timed(checkpoint, "finish")
    told = canary.write

    def canary_write(*given: Any) -> None:
        started = time.monotonic()
        seconds["memory_before_canary"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        told(*given)
        seconds["canary"] = time.monotonic() - started

    canary.write = canary_write
    started = time.monotonic()
    export.export(Recipe(folder=work, base={"model": "base"}, export={"format": "mxfp4"}))
    seconds["whole"] = time.monotonic() - started
    seconds["files"] = len([*(work / "work" / "mxfp4").glob("*.safetensors")])
    seconds["threads"] = files._threads(int(seconds["files"]), files.AT_ONCE)
    seconds["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps(seconds))


def copy(source: Path, into: Path) -> float:
    subprocess.run(["sync"], check=True)
    into.mkdir()
    started = time.monotonic()
    subprocess.run(["cp", *map(str, source.glob("*.safetensors")), str(into)], check=True)
    seconds = time.monotonic() - started
    shutil.rmtree(into)
    return seconds


def main() -> None:
    work, layers = Path(sys.argv[1]) / "export_copy", int(sys.argv[2]) if len(sys.argv) > 2 else 2
    if len(sys.argv) > 3:
        timed_export(work)
        return
    shutil.rmtree(work, ignore_errors=True)
    make(work, layers)
    size = sum(p.stat().st_size for p in (work / "base").glob("*.safetensors"))
    copies = [copy(work / "base", work / "copied")]
    subprocess.run(["sync"], check=True)
    done = subprocess.run(
        [sys.executable, __file__, sys.argv[1], str(layers), "export"], check=True, capture_output=True, text=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    copies.append(copy(work / "base", work / "copied"))
    cp = sum(copies) / 2
    print(f"{size / 1e9:.2f} GB: cp {copies[0]:.2f} s and {copies[1]:.2f} s ({size / 1e9 / cp:.2f} GB/s)")
    made = told["_weights"]
    print(f"{told['files']} files in {told['threads']} threads: {made:.2f} s, {made / cp:.2f} of cp")
    print(f"of it, over all threads, written and hashed {told['write']:.2f}, compared {told['require_copied']:.2f} s")
    print(f"digests of base {told['base_of']:.2f} s and manifest {told['finish']:.2f} s, canary {told['canary']:.2f} s")
    print(f"the whole stage {told['whole']:.2f} s, {told['whole'] / cp:.2f} of cp")
    print(f"peak memory {told['memory_before_canary']:.2f} GB before the canary, {told['memory']:.2f} GB in all")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
