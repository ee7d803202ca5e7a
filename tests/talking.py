"""A project of a base that speaks, held-out rows, and an adapter that makes it say something else."""

import json
from itertools import islice
from pathlib import Path

import speaker
import torch
from checkpoints import write_tokenizer

from tune import artefact, harmony
from tune.data import dataset
from tune.data.row import Row
from tune.harmony import Message
from tune.nano import scratch, training
from tune.recipe import Recipe
from tune.weights.base_model import base_of

SAYS = "It is what the documentation says."  # the speaker, to whatever it is asked
RULED = "Here it is.\nANSWER: yes"  # and where the rule asks for a line


def make(root: Path) -> Recipe:
    """`base` with the speaker's weights, work/dataset and work/adapter; the recipe is written, too."""
    (root / "recipe.toml").write_text('[base]\nmodel = "base"\n')
    model, used = speaker.load()
    training.expand(model, scratch.config(speaker.SHAPE), used).to(torch.bfloat16).save_pretrained(root / "base")
    write_tokenizer(root / "base" / "tokenizer.json")
    recipe = Recipe(folder=root, base={"model": "base"})  # type: ignore[arg-type]
    make_dataset(recipe)
    make_adapter(recipe)
    return recipe


def make_dataset(recipe: Recipe, spoil: dict[str, object] | None = None) -> str:
    """Rows of the speaker's own talk, the last of `train` spoilt; the digest."""
    folder = recipe.work / "dataset"
    folder.mkdir(parents=True, exist_ok=True)
    for part, seed, count in (("train", 0, 12), ("eval", 1, 6)):
        rows = []
        for n, one in enumerate(islice(speaker.exchanges(seed), count)):
            effort = next(e for e in harmony.EFFORTS if f"Reasoning: {e}" in harmony.decode(one.ids))
            about = {"id": f"{part}-{n}", "page": f"{part}{n // 4}", "effort": effort}
            rows.append(Row(**about, input_ids=one.ids, labels=one.labels))  # type: ignore[arg-type]
        if spoil and part == "train":
            rows[-1] = rows[-1].model_copy(update=spoil)
        (folder / f"{part}.jsonl").write_text("".join(one.line for one in rows))
    inputs, settings = dataset.origin(recipe)
    return artefact.finish(folder, "dataset", inputs=inputs, settings=settings).digest


def make_adapter(recipe: Recipe, **inputs: str) -> None:
    """By PEFT, with a lora_B so large that no word of the base's is left."""
    from peft import LoraConfig, get_peft_model

    from tune.training import loading

    torch.manual_seed(1)
    model = loading.load(recipe.folder / "base", dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, value in tuned.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 3)
    folder = recipe.work / "adapter"
    tuned.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    refinish(recipe, **inputs)


def refinish(recipe: Recipe, **inputs: str) -> None:
    """The adapter's manifest, with these digests in place of the true ones."""
    digests = {"base": base_of(recipe).digest, "dataset": dataset.read(recipe).digest, **inputs}
    settings = {"base": "base", "date": recipe.dataset.date}
    artefact.finish(recipe.work / "adapter", "adapter", inputs=digests, settings=settings)


def asked(recipe: Recipe) -> list[str]:
    """The user's words of the held-out rows, in order."""
    lines = (recipe.work / "dataset" / "eval.jsonl").read_text().splitlines()
    start = harmony.encode("user")
    found = []
    for line in lines:
        ids = json.loads(line)["input_ids"]
        at = next(n for n in range(len(ids)) if ids[n] == harmony.START and ids[n + 1 : n + 2] == start)
        found.append(harmony.decode(ids[at + 3 : ids.index(harmony.END, at)]))
    return found


def prompt(question: str) -> list[Message]:
    return [Message(role="user", content=question)]
