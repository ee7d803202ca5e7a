"""The base of a recipe: which files it is, what they are called, and the digest that fixes them.

In: a recipe's [base]. Out: a folder that holds a whole GPT-OSS, fetched from the Hub if need be, whose tokenizer is
GPT-OSS's if its vocabulary is. Loads no tensor.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tune import checkpoint, digests, harmony
from tune.artefact import Artefact
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import shards, tokenizer

FOLDER = "gpt-oss"  # what a base in a folder is called


class Base(NamedTuple):
    """`name` is how a checkpoint names its base; `reference` what base.model said; `digest` fixes the contents.

    A folder's own name is no part of `name`, which goes into digests: equal contents are one base, wherever they lie.
    """

    folder: Path
    name: str
    reference: str
    digest: str


def base_of(recipe: Recipe) -> Base:
    """The recipe's base: work/nano, a folder (relative to the recipe), or a Hub id at a commit.

    A folder's digest is over config, shards, their index and what a checkpoint takes over; a Hub id's
    is its commit. Raises UserError when it is not there, not whole, not a GPT-OSS, or has another tokenizer than
    GPT-OSS's vocabulary of harmony.VOCABULARY ids asks for.
    """
    model, revision = recipe.base.model, recipe.base.revision
    local = recipe.folder / model
    if model == "nano" and not (local / "config.json").is_file():
        made = checkpoint.verify(recipe.work / "nano", remake="tune nano")
        return Base(made.folder, made.served_name, model, made.digest)
    if (local / "config.json").is_file():
        digest = checkpoint.as_base(dict(digests.each(local, _files(local), anew=False)))
        return _spoken(Base(local, f"{FOLDER}@{digest[:16]}", model, digest))
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
    return _spoken(Base(_from_hub(model, revision), f"{model}@{revision[:16]}", model, revision))


def require_own(adapter: Artefact, base: Base, date: str) -> None:
    """Raise UserError when the adapter is of another base, or its prompts of another date."""
    if adapter.inputs.get("base") != base.digest:
        why = f"it was trained on {adapter.settings.get('base')}, the recipe's base is {base.name}"
        raise UserError("the adapter in work/adapter is of another base", why=why, fix="tune train")
    if (was := adapter.settings.get("date", date)) != date:
        why = f"its prompts say {was}, dataset.date is {date}"
        raise UserError("the adapter in work/adapter was trained on another date", why=why, fix="tune dataset")


def _files(folder: Path) -> list[str]:
    """Every file of a base that is used or copied, in the order of their names."""
    shards.config(folder)
    files = {"config.json", *(spec.file for spec in shards.headers(folder).values())}
    patterns = (shards.INDEX, *checkpoint.COMPANIONS)
    return sorted(files | {p.name for pattern in patterns for p in folder.glob(pattern) if p.is_file()})


def _spoken(base: Base) -> Base:
    """The base, unless the ids of its vocabulary mean other text than harmony's, which the dataset is rendered with."""
    if shards.config(base.folder).get("vocab_size") == harmony.VOCABULARY:
        for fault in tokenizer.faults(base.folder):
            raise fault.error("copy the model again, with its tokenizer")
    return base


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
