"""A recipe's training as a SkyPilot task: a recipe in, the YAML of a cluster that trains it out. Starts nothing.

Field names: sky/utils/schemas.py of skypilot 0.14.1. Secrets go by the name of their environment variable.
"""

import importlib.metadata
import json
import os
import shlex
from pathlib import Path

from tune import artefact
from tune.errors import UserError
from tune.recipe import Recipe

HOME = "~/gptoss"  # on each node
# deploy.gpu's name where SkyPilot's is another
NAMES = {"RTX-PRO-6000": "RTXPRO6000"}


def render(path: Path, recipe: Recipe, *, disk_gb: int = 256) -> str:
    """The task: this package, recipe, dataset and a local base are copied to each node, and `tune train` runs there.

    Raises UserError when the dataset or a local base that would be copied is missing.
    """
    train, name = recipe.train, cluster(recipe)
    nodes = max(1, len(train.hosts))
    hosts = ' --hosts "$(echo "$SKYPILOT_NODE_IPS" | paste -sd, -)" --host-rank "$SKYPILOT_NODE_RANK"'
    mounts = {f"{HOME}/tune": Path(__file__).parents[2], f"{HOME}/recipe.toml": path} | {
        f"{HOME}/{_inside(recipe, p)}": p for p in _folders(recipe)
    }
    secrets = (
        [] if _local(recipe) else ["secrets:", "  HF_TOKEN: null  # taken from the environment: --secret HF_TOKEN"]
    )
    lines = [
        f"# {name}: tune train on {nodes} x {train.gpus} GPUs, rendered by gptoss-kit {artefact.VERSION}",
        f"# Afterwards: rsync -a {name}:gptoss/{recipe.project.work}/adapter {recipe.work}/ && sky down {name}",
        f"name: {json.dumps(name)}",
        f"num_nodes: {nodes}",
        "resources:",
        f"  accelerators: {json.dumps({NAMES.get(recipe.deploy.gpu, recipe.deploy.gpu): train.gpus})}",
        f"  disk_size: {disk_gb}",
        "file_mounts:",
        *(f"  {json.dumps(at)}: {json.dumps(str(source.resolve()))}" for at, source in mounts.items()),
        *secrets,
        "setup: |",
        "  set -e",
        f"  pip install {' '.join(map(shlex.quote, _requirements()))}",
        "run: |",
        "  set -e",
        f"  cd {HOME}",
        f"  python -m tune train{hosts if nodes > 1 else ''}",
    ]
    return "\n".join(lines) + "\n"


def next_command(out: Path, recipe: Recipe) -> str:
    """What shows the plan and its price, and starts nothing."""
    secret = "" if _local(recipe) else " --secret HF_TOKEN"
    return f"sky launch -c {cluster(recipe)} {shlex.quote(str(out))}{secret} --dryrun"


def cluster(recipe: Recipe) -> str:
    """The cluster's name: letters first, a letter or digit last, as SkyPilot wants it."""
    return f"tune-{recipe.project.name}".rstrip(".-")


def _requirements() -> list[str]:
    """What `tune train` needs on a node, as this installation pins it. The engine is not: nothing is served there."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in importlib.metadata.requires("gptoss-kit") or []]
    extras = ("", "train", "gpu")
    here = [r for r in wanted if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
    return sorted({f"{r.name}{r.specifier}" for r in here if r.name != "vllm"})


def _local(recipe: Recipe) -> bool:
    return recipe.base.model == "nano" or (recipe.folder / recipe.base.model / "config.json").is_file()


def _folders(recipe: Recipe) -> list[Path]:
    """What training reads: the dataset and, unless it comes from the Hub, the base."""
    nano = recipe.work / "nano"
    base = [nano if recipe.base.model == "nano" else recipe.folder / recipe.base.model] if _local(recipe) else []
    made = {recipe.work / "dataset": "tune dataset", nano: "tune nano"}
    for folder in (recipe.work / "dataset", *base):
        if not folder.is_dir():
            raise UserError(
                f"there is no {folder}", why="each node gets a copy", fix=made.get(folder, "edit base.model")
            )
    return [recipe.work / "dataset", *base]


def _inside(recipe: Recipe, path: Path) -> str:
    """A folder as the recipe on the node will look for it."""
    found = os.path.relpath(path, recipe.folder)
    if found.startswith(".."):
        raise UserError(
            f"{path} lies outside the recipe's folder",
            why=f"on a node there is only {HOME}",
            fix=f"move it below {recipe.folder.resolve()}, or link it there, and edit the recipe",
        )
    return found
