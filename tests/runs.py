"""Small trainings for tests: a project with a tiny base and rows, copies of it, and what a run left."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tiny_gptoss import VOCABULARY, make_base, make_dataset, make_native, recipe

from tune import artefact
from tune.data import dataset
from tune.recipe import Recipe, Train

ADAPTER = "adapter_model.safetensors"


def project(
    root: Path, *, native: bool = False, rows: int = 24, vocabulary: int = VOCABULARY, **train: object
) -> Recipe:
    """A recipe whose base and dataset are there, and nothing trained. `native`: its experts are MXFP4."""
    (make_native if native else make_base)(root / "base", vocabulary=vocabulary)
    made = recipe(root, train=train)
    make_dataset(made, rows=rows)
    return made


def elsewhere(source: Recipe, root: Path, **train: object) -> Recipe:
    """The same project in another folder, untrained, with other settings in [train]."""
    for part in ("base", "work/dataset"):
        shutil.copytree(source.folder / part, root / part)
    settings = Train(**{**source.train.model_dump(), **train})  # type: ignore[arg-type]
    return source.model_copy(update={"folder": root, "train": settings})


def history(made: Recipe) -> list[dict[str, float]]:
    return list(map(json.loads, (made.work / "adapter" / "loss.jsonl").read_text().splitlines()))


def losses(made: Recipe) -> list[float]:
    return [entry["loss"] for entry in history(made) if "loss" in entry]


def same_adapter(one: Recipe, other: Recipe) -> bool:
    """Whether two runs ended with the same adapter, within rounding."""
    found, wanted = (load_file(made.work / "adapter" / ADAPTER) for made in (one, other))
    return found.keys() == wanted.keys() and all(
        torch.allclose(found[k], wanted[k], rtol=1e-3, atol=1e-5) for k in wanted
    )


def toml(made: Recipe) -> Path:
    """recipe.toml of a project, for the command line: its [base] and [train]."""
    told = made.train.model_dump(exclude_defaults=True)
    lines = ["[base]", f'model = "{made.base.model}"', "[train]", *(f"{k} = {json.dumps(v)}" for k, v in told.items())]
    path = made.folder / "recipe.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def edit_rows(made: Recipe, part: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Put other rows in the dataset's place, and finish it again."""
    folder = made.work / "dataset"
    path = folder / f"{part}.jsonl"
    rows = change(list(map(json.loads, path.read_text().splitlines())))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs, settings = dataset.origin(made)
    artefact.finish(folder, "dataset", inputs=inputs, settings=settings)


def half_wrong(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows where only every other answer token is what training teaches: their loss falls, then rises."""
    rng = random.Random(5)
    for row in rows:
        for n in [n for n, label in enumerate(row["labels"]) if label >= 0][1::2]:
            row["input_ids"][n] = row["labels"][n] = rng.randrange(3, VOCABULARY)
    return rows


@contextmanager
def training(made: Recipe, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`python -m tune train` as a process of its own, in the project's folder; it is gone when the block ends."""
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "tune", "train", *options],
        cwd=made.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def until(running: "subprocess.Popen[str]", word: str) -> list[str]:
    """What a training says, line by line, until one holds the word."""
    said: list[str] = []
    for line in running.stderr or ():
        said.append(line)
        if word in line:
            return said
    raise AssertionError(f"it ended before it said {word!r}:\n{''.join(said)}")
