"""The base of a recipe: which files it is, what they are called, and the digest that fixes them.

In: a recipe's [base]. Out: a folder that holds a whole GPT-OSS, fetched from the Hub if need be. Loads no tensor.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from tune import checkpoint, digests
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import shards


class Base(NamedTuple):
    """`name` is how a checkpoint names its base; `reference` what base.model said; `digest` fixes the contents."""

    folder: Path
    name: str
    reference: str
    digest: str


def base_of(recipe: Recipe) -> Base:
    """The recipe's base: work/nano, a folder (relative to the recipe), or a Hub id at a commit.

    A folder's digest is over all of its files that shards.headers and the config name; a Hub id's is its commit.
    Raises UserError when it is not there, not whole, or not a GPT-OSS.
    """
    model, revision = recipe.base.model, recipe.base.revision
    local = recipe.folder / model
    if model == "nano" and not (local / "config.json").is_file():
        made = checkpoint.verify(recipe.work / "nano", remake="tune nano")
        return Base(made.folder, made.served_name, model, made.digest)
    if (local / "config.json").is_file():
        shards.config(local)
        files = {"config.json", *(spec.file for spec in shards.headers(local).values())}
        listed = dict(digests.each(local, sorted(files), anew=False))
        digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        return Base(local, f"{local.resolve().name}@{digest[:16]}", model, digest)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or local.exists():
        raise UserError(
            f"base.model = {model!r} is no model folder", why=f"{local} has no config.json", fix="edit base.model"
        )
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"base.model = {model!r} needs base.revision",
            why="a Hub id can change under its name; a commit (40 hex digits) cannot",
            fix=f"set base.revision to the commit shown at huggingface.co/{model}/commits/main",
        )
    return Base(_from_hub(model, revision), f"{model}@{revision[:16]}", model, revision)


def _from_hub(model: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=["*.json", "model*.safetensors", "*.jinja"])
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as e:
        raise UserError(
            f"{model}@{revision[:12]} cannot be fetched from the Hub",
            why=str(e).splitlines()[0][:300],
            fix='check the network and base.revision, or set base.model = "nano"',
        ) from None
