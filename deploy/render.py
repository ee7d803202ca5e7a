"""Write the folder that a target deploys from: an examined deployment in, files and deployment.json out.

The same inputs give the same bytes. A render that is refused or killed leaves the folder as it was.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from deploy import beside, changes, checks, sizing, targets
from deploy import kit as closure
from deploy.checks import Examination
from deploy.folder import RENDER, spelled
from deploy.spec import Deployment, Target
from deploy.targets import Context
from serve.findings import Finding
from tune import artefact
from tune.artefact import Artefact
from tune.errors import UserError
from tune.recipe import Recipe

KIND = "deployment"


class Rendered(NamedTuple):
    """A written folder. `warnings` are the rules it breaks and was rendered all the same; `changed` is what is not as
    in the render that was there before, None where there was none."""

    folder: Path
    deployment: Deployment
    manifest: Artefact
    warnings: tuple[Finding, ...]
    changed: tuple[str, ...] | None = None


def render(
    target: Target, *, recipe: Recipe, checkpoint: Path, report: Path | None, out: Path, ungated: str = ""
) -> Rendered:
    """Examine, then write `out`. Raises UserError, naming every broken rule, before anything is written.

    `ungated`: the reason for which there is no report; it stands in what is written.
    """
    named, out = out, out.resolve()
    own(out)
    found = checks.examine(recipe, checkpoint, report, target, ungated)
    deployment = sound(found, target)
    before = changes.last(out)
    texts = targets.load(target).files(deployment, context(found, recipe, checkpoint, out))
    refuse(checks.secrets_in(texts), f"{target} is not rendered")

    proof = deployment.receipt

    def fill(folder: Path) -> None:
        write(folder, {**texts, **kit(texts)})
        artefact.finish(
            folder,
            KIND,
            inputs={"checkpoint": deployment.digest} | ({"report": proof.report} if proof else {}),
            settings={"deployment": deployment.model_dump(mode="json")},
        )

    artefact.remake_folder(out, KIND, fill)
    manifest = artefact.read(out, KIND, remake=spelled(RENDER.replace("TARGET", target), named))
    changed = changes.between(before, deployment) if before else None
    warnings = (*found.warnings, *beside.findings(named, deployment))  # of the moment: no file of the folder says so
    return Rendered(out, deployment, manifest, warnings, changed)


def sound(found: Examination, target: Target) -> Deployment:
    """The deployment of an examination without errors. Raises UserError that lists them all."""
    refuse(found.errors, f"{target} is not rendered")
    if found.deployment is None:
        raise RuntimeError("an examination without errors made no deployment")  # a bug of ours, not of the user
    return found.deployment


def refuse(errors: "list[Finding] | tuple[Finding, ...]", what: str) -> None:
    """Raises UserError when there are any."""
    if errors:
        raise UserError(f"{what}: {len(errors)} error{'s' if len(errors) > 1 else ''}\n" + "\n".join(map(str, errors)))


def context(found: Examination, recipe: Recipe, checkpoint: Path, out: Path) -> Context:
    """What READMEs say beside the deployment. Paths are relative, so that another machine renders the same bytes."""
    if found.deployment is None or found.fit is None or found.offer is None:
        raise RuntimeError("an examination without errors has a size")  # a bug of ours, not of the user
    return Context(
        checkpoint=Path(os.path.relpath(checkpoint.resolve(), out)).as_posix(),
        weights_gb=found.fit.need.weights / 1e9,
        sizing=found.fit.words,
        cost=sizing.cost(found.offer, *sizing.replicas(found.deployment.target, recipe.deploy)),
        warnings=found.warnings,
    )


def own(out: Path) -> None:
    """Raises UserError when `out` holds anything that a render did not write, or that was edited since."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file", fix="choose another --out")
    here = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    if not here:
        return
    fix = "move it elsewhere, or choose another --out"
    manifest = out / f"{KIND}.json"
    if not manifest.is_file():
        raise UserError(f"{out} holds files that deploy render did not write", why=min(here), fix=fix)
    known = artefact.read(out, KIND, remake=fix).files
    del here[manifest.name]
    strange = sorted(name for name, path in here.items() if known.get(name) != artefact.file_digest(path))
    if strange:
        why = ", ".join(strange[:5]) + (" and more" if len(strange) > 5 else "")
        raise UserError(f"{out} holds files that deploy render did not write, or that were edited", why=why, fix=fix)


def kit(texts: Mapping[str, str]) -> dict[str, str]:
    """Our code that runs in the container, as it is installed here: what the rendered programs reach."""
    return closure.files({name: text for name, text in texts.items() if name.endswith(".py")})


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write each text under `folder`."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
