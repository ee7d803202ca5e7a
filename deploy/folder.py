"""A rendered folder as push and its siblings take it: proven against its manifest, the deployment out.

What a render did not write, or what was edited since, is refused: it would be pushed under the receipt. Asks no
network.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from pydantic import ValidationError

from deploy.spec import Deployment
from tune import artefact
from tune.artefact import Artefact
from tune.deploy import Deploy
from tune.errors import UserError

KIND = "deployment"
WORD = r"(?<![\w./-]){}(?![\w/-])"  # alone, and in no path
# What is said of FOLDER and TARGET by who knows neither is spelled out where the command was typed.
RENDER = "deploy render TARGET --checkpoint CHECKPOINT --report REPORT --out FOLDER"
REMAKE = f"put the file back; or move the folder away, then: {RENDER}"


class Rendered(NamedTuple):
    """`digest` is of all that was rendered, 64 hex characters."""

    folder: Path
    deployment: Deployment
    digest: str


def prove(folder: Path) -> Rendered:
    """Raises UserError naming the file that is missing, was changed, or is not the render's."""
    manifest = _manifest(folder)
    artefact.verify(folder, manifest, remake=REMAKE, anew=True)
    strange = [name for name in artefact.strays(folder, manifest) if not re.search(r"(^|/)__pycache__/", name)]
    if strange:
        more = " and more" if strange[3:] else ""
        raise UserError(
            f"{folder} holds what deploy render did not write: {', '.join(strange[:3])}{more}",
            why="it would be pushed under the receipt",
            fix="move it out of the folder",
        )
    return _read(folder, manifest)


def uncached(folder: Path) -> None:
    """Remove what Python has compiled there: taken into an image, or by a platform's tool, it would run in the place
    of the code that was rendered."""
    for cache in sorted(folder.rglob("__pycache__")):
        if cache.is_dir() and not cache.is_symlink():
            shutil.rmtree(cache)


def read(folder: Path) -> Rendered:
    """Without a look at the files beside the manifest: for what only looks at the platform, or removes."""
    return _read(folder, _manifest(folder))


def spelled(text: str, folder: Path) -> str:
    """The text with its FOLDER, and the TARGET of what is rendered there, so that it can be typed."""
    words = {"FOLDER": quote(str(folder))}
    if re.search(WORD.format("TARGET"), text):
        with suppress(UserError, OSError):
            words["TARGET"] = read(folder).deployment.target
    for word, said in words.items():
        text = re.sub(WORD.format(word), said.replace("\\", r"\\"), text)
    return text


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Errors raised in here, spelled out."""
    try:
        yield
    except UserError as e:
        what, why, fix = (spelled(text, folder) for text in (e.what, e.why, e.fix))
        raise type(e)(what, why=why, fix=fix) from e.__cause__


def _manifest(folder: Path) -> Artefact:
    return artefact.read(folder, KIND, remake=RENDER)


def _read(folder: Path, manifest: Artefact) -> Rendered:
    try:
        found = Deployment.model_validate(manifest.settings.get("deployment"))
        Deploy.model_validate({found.target: found.table})
    except ValidationError as e:
        first = e.errors(include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'deployment'}: {first['msg']}"
        raise UserError(f"{folder} was rendered by another version", why=why, fix=REMAKE) from None
    proven, judged = (found.receipt.report, found.receipt.tuned_model) if found.receipt else (None, found.model)
    of = (manifest.inputs.get("checkpoint"), manifest.inputs.get("report"), judged, found.model.rpartition("@")[2])
    if of != (found.digest, proven, found.model, found.digest[:16]):
        what = f"{folder / f'{KIND}.json'} contradicts itself"
        why = "inputs, model and receipt are not of one checkpoint: it was edited"
        raise UserError(what, why=why, fix=REMAKE)
    return Rendered(folder, found, manifest.digest)
