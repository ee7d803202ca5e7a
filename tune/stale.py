"""Why a finished stage is no longer what the recipe would make of what is there now.

In: a recipe and the stages' manifests. Out: a reason in words, for each stage that has one, and the mark that the page
of a dataset bears. Reads no weights and no source: a base in a folder and a folder of documents are not looked into, so
what it passes may still be made again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tune import artefact
from tune.artefact import Artefact
from tune.data import collect, dataset
from tune.errors import UserError
from tune.nano import build as nano
from tune.recipe import Recipe
from tune.synthesis import build as synthesis

PAGE = "dataset.html"  # in the work folder: what `tune show` writes; no stage
HEAD = 4096  # bytes of it that are looked at
LONGEST = 40  # characters of a value that a reason shows

Origin = tuple[Mapping[str, str], Mapping[str, Any]]


def reasons(recipe: Recipe, made: Mapping[str, Artefact]) -> dict[str, str]:
    """The reason by stage, of those that are stale. `made`: every finished stage, by the name of its folder."""
    out = {}
    for name, stage in made.items():
        inputs, settings = _origin(recipe, name, made)
        now = f"gptoss-kit {artefact.VERSION}"
        found = [f"made by {stage.made_by}, this is {now}"] if stage.made_by != now else []
        found += [f"made of another {key}" for key, digest in inputs.items() if stage.inputs.get(key) != digest]
        found += _differences(_flat(stage.settings), settings)
        if found:
            out[name] = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
    return out


def mark(recipe: Recipe, made: Mapping[str, Artefact], old: Mapping[str, str]) -> str:
    """What the page of a dataset says of itself: a digest of all that it is made from. `old`: what `reasons` found."""
    stages = [(name, made[name].digest, old.get(name, "")) for name in ("pages", "dataset")]
    return hashlib.sha256(json.dumps([artefact.VERSION, recipe.project.name, stages]).encode()).hexdigest()


def bears(page: Path, mark: str) -> bool:
    """Whether the page is there, and is the one of this mark."""
    try:
        with page.open("rb") as f:
            return f'<meta name="made-of" content="{mark}">'.encode() in f.read(HEAD)
    except OSError:
        return False


def _origin(recipe: Recipe, name: str, made: Mapping[str, Artefact]) -> Origin:
    """What the stage would be made from now, as far as its manifest and those before it tell."""
    digests = {stage: found.digest for stage, found in made.items()}

    def of(*stages: str) -> dict[str, str]:
        return {stage: digests[stage] for stage in stages if stage in digests}

    if name == "pages":
        return {}, collect.settings_of(recipe)
    if name == "synthetic":
        inputs, settings = synthesis.origin(recipe, digests.get("pages", ""))
        return {key: digest for key, digest in inputs.items() if digest}, settings
    if name == "dataset":
        try:
            return dataset.origin(recipe)
        except UserError:  # of the pages, which are shown as what they are
            return {}, {}
    if name == "nano":
        return of("pages"), nano.settings_of(recipe)
    if name == "adapter":
        known = {**recipe.train.about_adapter, "date": recipe.dataset.date}
        recorded = _flat(made[name].settings)  # not all of [train] changes what is learned
        return {**of("dataset"), **_base(recipe, digests)}, {k: v for k, v in known.items() if k in recorded}
    if name == "base":
        return _base(recipe, digests), {"prompt_date": recipe.dataset.date}
    if name == "gguf":
        of_it = str(made[name].figures.get("of"))
        return {"checkpoint": digests[of_it]} if of_it in digests else {}, {}
    base = {"base": made["adapter"].inputs["base"]} if "base" in getattr(made.get("adapter"), "inputs", {}) else {}
    return {**of("adapter"), **base}, {"name": recipe.project.name, "prompt_date": recipe.dataset.date}


def _base(recipe: Recipe, digests: Mapping[str, str]) -> dict[str, str]:
    """The base's digest where it can be told at once: of nano its manifest's, of a Hub id its commit."""
    if recipe.base.model == "nano":
        return {"base": digests["nano"]} if "nano" in digests else {}
    return {"base": recipe.base.revision} if recipe.base.revision else {}


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a manifest and of the sections in it."""
    sections = [value for value in settings.values() if isinstance(value, dict)]
    return {**settings, **{key: value for section in sections for key, value in section.items()}}


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key, value in now.items():
        if key not in was or was[key] != value:
            yield f"{key} was {_short(was.get(key))}, is {_short(value)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
