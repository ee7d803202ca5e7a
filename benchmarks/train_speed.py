"""Seconds a step and GPU memory of `tune train` by backend, on one base and the same rows; and a bare Unsloth script's.

    python benchmarks/train_speed.py BASE OUT RUN...      BASE: a folder in MXFP4 (random_base.py makes one)

RUN is NAME[:KEY=VALUE...], keys of [train]: packed, unsloth, peft, packed:batch=1:accumulate=1. `bare` is Unsloth and
TRL without this package. Rows are 1,024 random tokens, 12 steps each; the first three steps are left out of the median.
Prints one JSON line a run; rerun them all in one call, for other machines have other clocks.
"""

import json
import os
import random
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

LENGTH, STEPS, LEFT_OUT = 1024, 12, 3
BARE = """
import unsloth, json, sys, time, torch
from unsloth import FastLanguageModel
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer
base, rows, batch, accumulate, steps, out = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6]
model, tokenizer = FastLanguageModel.from_pretrained(
    base, max_seq_length=1024, load_in_4bit=False, use_exact_model_name=True)
model = FastLanguageModel.get_peft_model(
    model, r=8, lora_alpha=16, lora_dropout=0, bias="none", random_state=3407,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], use_gradient_checkpointing="unsloth")
data = [json.loads(line) for line in open(rows)]
data = Dataset.from_list([
    {"input_ids": r["input_ids"], "labels": r["labels"], "attention_mask": [1] * len(r["labels"])} for r in data])
ends = []
class Clock(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs: ends.append(time.monotonic())
trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=data, callbacks=[Clock()], args=SFTConfig(
    output_dir=out, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate, max_steps=steps,
    learning_rate=2e-4, warmup_steps=5, lr_scheduler_type="linear", optim="adamw_8bit", bf16=True,
    gradient_checkpointing=True, router_aux_loss_coef=0.0, packing=False, max_length=None, logging_steps=1,
    save_strategy="no", report_to="none", disable_tqdm=True, seed=3407))
torch.cuda.reset_peak_memory_stats()
trainer.train()
print("BARE", json.dumps({"ends": ends, "peak": torch.cuda.max_memory_allocated()}))
"""


def project(root: Path, base: Path, keys: dict[str, str], rows: int) -> Path:
    """A project whose dataset is random rows; returns its folder."""
    from tune import artefact, recipe
    from tune.data import dataset

    root.mkdir(parents=True)
    train = "".join(f"{key} = {value}\n" for key, value in keys.items())
    (root / "recipe.toml").write_text(f'[base]\nmodel = "{base}"\n[dataset]\nmax_tokens = {LENGTH}\n[train]\n{train}')
    made = recipe.read(root / "recipe.toml")
    folder, rng = made.work / "dataset", random.Random(11)
    folder.mkdir(parents=True)
    for part, count in (("train", rows), ("eval", 2)):
        with (folder / f"{part}.jsonl").open("w") as file:
            for n in range(count):
                ids = [200006, 173781, 200008] + [rng.randrange(5, 199000) for _ in range(LENGTH - 4)] + [200002]
                labels = [-100] * 3 + ids[3:]
                row = {"id": f"{part}-{n}", "page": "p", "effort": "low", "input_ids": ids, "labels": labels}
                file.write(json.dumps(row) + "\n")
    inputs, settings = dataset.origin(made)
    artefact.finish(folder, "dataset", inputs=inputs, settings=settings)
    return root


def tuned(root: Path) -> dict[str, object]:
    """`tune train` in a project: its figures."""
    with (root / "train.log").open("w") as log:
        subprocess.run([sys.executable, "-m", "tune", "train"], cwd=root, stdout=log, stderr=log, check=True)
    adapter = root / "work" / "adapter"
    steps = [e for e in map(json.loads, (adapter / "loss.jsonl").read_text().splitlines()) if "loss" in e]
    figures = json.loads((adapter / "adapter.json").read_text())["figures"]
    return {
        **timed([e["seconds"] for e in steps]),
        "peak_gib": round(figures["gpu_bytes"]["training"] / 2**30, 2),
        "loading_gib": round(figures["gpu_bytes"]["loading"] / 2**30, 2),
        "loss": [round(e["loss"], 4) for e in steps[:3]],
        "grad_norm": [round(e["grad_norm"], 4) for e in steps[:3]],
    }


def bare(root: Path, base: Path, batch: int, accumulate: int) -> dict[str, object]:
    """Unsloth and TRL alone on the same rows."""
    rows = root / "work" / "dataset" / "train.jsonl"
    arguments = [str(base), str(rows), str(batch), str(accumulate), str(STEPS), str(root / "out")]
    done = subprocess.run([sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, check=True)
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("BARE ")).removeprefix("BARE "))
    return {**timed(said["ends"]), "peak_gib": round(said["peak"] / 2**30, 2)}


def timed(ends: list[float]) -> dict[str, float]:
    """Seconds a step from when each ended."""
    seconds = [after - before for before, after in pairwise(ends)][LEFT_OUT - 1 :]
    return {
        "seconds_a_step": round(statistics.median(seconds), 4),
        "fastest": round(min(seconds), 4),
        "slowest": round(max(seconds), 4),
    }


def main() -> None:
    base, out, *runs = sys.argv[1:]
    for run in runs:
        name, *given = run.split(":")
        keys = {"batch": "2", "accumulate": "4", "max_steps": str(STEPS)} | dict(pair.split("=") for pair in given)
        if name != "bare":
            keys["backend"] = f'"{name}"'
        per_step = int(keys["batch"]) * int(keys["accumulate"])
        root = project(Path(out) / run.replace(":", "-"), Path(base).absolute(), keys, STEPS * per_step)
        try:
            told = (
                bare(root, Path(base), int(keys["batch"]), int(keys["accumulate"])) if name == "bare" else tuned(root)
            )
        except (subprocess.CalledProcessError, OSError, ValueError) as e:
            told = {"failed": f"{e} {getattr(e, 'stderr', '') or ''}"[-600:]}
        if "seconds_a_step" in told:
            told["tokens_a_second"] = round(per_step * LENGTH / float(str(told["seconds_a_step"])))
        print(json.dumps({"run": run, **told, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "")}), flush=True)


if __name__ == "__main__":
    main()
