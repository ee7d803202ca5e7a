"""The base of a recipe, found and loaded: every weight from its file, none made up.

In: a recipe's [base] or a folder. Out: the base's folder, name and digest; a model in memory. Knows no training.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tune import artefact, checkpoint, weights
from tune.errors import UserError
from tune.recipe import Recipe


class Base(NamedTuple):
    """`name` is how a checkpoint names its base; `reference` what base.model said; `digest` fixes the contents."""

    folder: Path
    name: str
    reference: str
    digest: str


def base(recipe: Recipe) -> Base:
    """The recipe's base: work/nano, a folder (relative to the recipe), or a Hub id at a commit.

    A folder's digest is over all of its files that weights.headers and the config name; a Hub id's is its commit.
    Raises UserError when it is not there, not whole, or not a GPT-OSS.
    """
    model, revision = recipe.base.model, recipe.base.revision
    local = recipe.folder / model
    if model == "nano" and not (local / "config.json").is_file():
        made = checkpoint.verify(recipe.work / "nano", remake="tune nano")
        return Base(made.folder, made.served_name, model, made.digest)
    if (local / "config.json").is_file():
        weights.config(local)
        files = {"config.json", *(spec.file for spec in weights.headers(local).values())}
        listed = {name: artefact.file_digest(local / name) for name in sorted(files)}
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


def load(folder: Path, *, dtype: Any) -> Any:
    """The model in `folder`, on the CPU, every weight in `dtype` and from the files; MXFP4 experts are dequantized.

    Raises UserError when a weight is missing, unexpected, of another shape, or would be newly initialised: a model
    with a made-up router loads without complaint otherwise, and answers nonsense.
    """
    from transformers import AutoModelForCausalLM, Mxfp4Config

    config = weights.config(folder)
    weights.headers(folder)
    options: dict[str, Any] = {}
    if weights.is_mxfp4(config):
        options["quantization_config"] = Mxfp4Config(
            modules_to_not_convert=config["quantization_config"].get("modules_to_not_convert"), dequantize=True
        )
    try:
        with quiet():  # what it would warn of is raised below
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation="eager",  # the one with sinks that runs everywhere
                local_files_only=True,
                ignore_mismatched_sizes=True,  # to report them below, by name
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError) as e:
        raise UserError(
            f"{folder} does not load", why=str(e).splitlines()[0][:300], fix="copy or make the model again"
        ) from None
    problems = [
        f"{kind.removesuffix('_keys')} {', '.join(sorted(map(str, found))[:3])}" + (", …" if len(found) > 3 else "")
        for kind, found in info.items()
        if found
    ]
    if problems:
        raise UserError(
            f"{folder} is not the model that its config.json describes",
            why="; ".join(problems),
            fix="copy or make the model again; nothing was trained or written",
        )
    return model.to(dtype)  # norms are kept in float32 by the loader


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings and bars off the terminal: what matters is raised or reported by us."""
    from transformers.utils import logging

    shown, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(shown)
        if bars:
            logging.enable_progress_bar()


def tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises UserError when there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as e:
        raise UserError(
            f"{folder} holds no tokenizer", why=str(e).splitlines()[0][:300], fix="copy the model again"
        ) from None


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
