"""A GPT-OSS of 2 layers, its tokenizer, rows to learn, and an adapter made by PEFT alone."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from checkpoints import write_tokenizer
from safetensors.torch import load_file, save_file

from tune import artefact, harmony
from tune.data import dataset
from tune.recipe import Recipe

VOCABULARY = 512
DATE = "2026-01-01"


def make_base(folder: Path, *, vocabulary: int = VOCABULARY, seed: int = 0) -> Path:
    """A random bf16 base: hidden 64, 4 experts of 96, top 2."""
    from tokenizers import Tokenizer, models
    from transformers import GptOssConfig, GptOssForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    config = GptOssConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=16,
        max_position_embeddings=256,
        router_aux_loss_coef=0.9,  # as in OpenAI's config: must not reach the loss
        eos_token_id=1,
        pad_token_id=0,
        dtype="bfloat16",
    )
    model = GptOssForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight[vocabulary // 2 :] = model.lm_head.weight[vocabulary // 2]  # rows alike, as in a nano
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "chat_template": "{{ messages }}"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    if vocabulary == harmony.VOCABULARY:
        write_tokenizer(folder / "tokenizer.json")
    return folder


def make_native(folder: Path, **options: Any) -> Path:
    """The same base with random MXFP4 experts in OpenAI's layout, written without our codec."""
    make_base(folder, **options)
    tensors = tensors_of(folder)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        experts, fan_in, out = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (experts, out, fan_in // 32, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(112, 124, (experts, out, fan_in // 32), dtype=torch.uint8)
    replace(folder, tensors)
    edit_config(folder, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    return folder


def sharpen(folder: Path, seed: int = 5) -> Path:
    """A base with larger weights, so that what is wrong shows: attention looks somewhere, sinks and biases count, gates
    reach their limit, logits lie apart."""
    tensors, generator = tensors_of(folder), torch.Generator().manual_seed(seed)
    size = {"embed_tokens": 1.0, "self_attn": 0.3, "router": 0.5, "_bias": 0.5, "norm": 0.2, "lm_head": 0.5}
    for name, value in sorted(tensors.items()):
        if name.endswith("_scales"):
            tensors[name] = value + (4 if "gate_up" in name else 0)
        elif std := next((s for part, s in size.items() if part in name), 0.0):
            values = torch.randn(value.shape, generator=generator) * std + ("norm" in name)
            tensors[name] = values.to(value.dtype)
    replace(folder, tensors)
    return folder


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for path in sorted(folder.glob("model*.safetensors")) for k, v in load_file(path).items()}


def replace(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write other tensors over a base of one shard."""
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def make_dataset(recipe: Recipe, *, rows: int = 24, held_out: int = 4, seed: int = 0) -> None:
    """Rows that can be learned: the second half of each repeats one sequence, and only it carries labels."""
    folder, rng = recipe.work / "dataset", random.Random(seed)
    folder.mkdir(parents=True)
    answer = [rng.randrange(3, VOCABULARY) for _ in range(12)]
    for name, count in (("train", rows), ("eval", held_out)):
        lines = []
        for i in range(count):
            prompt = [rng.randrange(3, VOCABULARY) for _ in range(rng.randrange(6, 14))]
            row = {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}
            lines.append(json.dumps({"id": f"{name}-{i}", "page": "p", "effort": "low", **row}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    inputs, settings = dataset.origin(recipe)
    artefact.finish(folder, "dataset", inputs=inputs, settings=settings)


def recipe(root: Path, **sections: dict[str, Any]) -> Recipe:
    train = {"batch": 4, "accumulate": 1, "rank": 4, "learning_rate": 1e-2, **sections.pop("train", {})}
    return Recipe(folder=root, base={"model": "base"}, train=train, **sections)


def make_adapter(recipe: Recipe, base_digest: str, *, size: float = 0.02) -> Any:
    """work/adapter by PEFT, with random lora_B; returns PEFT's own float32 merge of the same adapter."""
    from peft import LoraConfig, get_peft_model
    from transformers import GptOssForCausalLM

    torch.manual_seed(1)
    model = GptOssForCausalLM.from_pretrained(recipe.folder / "base", dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, value in tuned.named_parameters():
            if "lora_B" in name:
                value.normal_(0, size) if size else value.zero_()
    folder = recipe.work / "adapter"
    tuned.save_pretrained(folder)
    (folder / "README.md").unlink()
    artefact.finish(folder, "adapter", inputs={"base": base_digest}, settings={"base": "base", "date": DATE})
    return tuned.merge_and_unload()
