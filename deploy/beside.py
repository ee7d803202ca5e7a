"""What stands pushed by records that lie near, where a push or a render would hide it: a folder in, words out.

Asks no platform: a record says what was done from here, and nothing of what others do.
"""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from deploy import kept, running
from deploy import live as record
from deploy.findings import finding
from deploy.folder import Rendered
from deploy.live import Live, Release
from deploy.spec import Deployment
from serve.findings import Finding
from tune.deploy import Runpod
from tune.errors import UserError


def sharing(folder: Path, deployment: Deployment) -> Iterator[tuple[Path, Release]]:
    """The folders beside this one that stand pushed to the same endpoint, each with its release."""
    here = record.place(folder)
    near = folder.parent if folder.parent.resolve() == here.parent else here.parent  # as it was typed
    for path in sorted(here.parent.glob(f"*{record.SUFFIX}")):
        found = record.look(path) if path != here else None
        last = standing(found) if found else None
        if found and last and (found.target, found.name) == (deployment.target, deployment.name):
            other = near / path.name.removesuffix(record.SUFFIX)
            if _same(other, last, deployment):
                yield other, last


def told(folder: Path, deployment: Deployment, does: str) -> list[str]:
    """Likewise, in lines for whoever is about to push, or to remove."""
    where = f"{deployment.name} on {deployment.target}"
    return [
        f"  warning: {other} was pushed to the same endpoint, {where} ({last.model}, {last.at}); this {does}"
        for other, last in sharing(folder, deployment)
    ]


def findings(folder: Path, deployment: Deployment) -> list[Finding]:
    """What a render there should know: D058 for each of those folders, D059 for a push of something else from here."""
    d, found = deployment, list[Finding]()
    for other, last in sharing(folder, d):
        what = f"{other} was pushed to the same endpoint, {d.name} on {d.target} ({last.model}, {last.at})"
        why, fix = (
            "a push of this folder replaces it",
            f"deploy destroy {quote(str(other))}, or render into that folder",
        )
        found.append(finding("D058", what, why=why, fix=fix))
    ours = record.look(record.place(folder))
    pushed = standing(ours) if ours else None
    if ours and pushed and (ours.target, ours.name) != (d.target, d.name):
        what = f"{folder} was pushed as {ours.name} on {ours.target} ({pushed.model}, {pushed.at})"
        why = f"that is still there, and no command but destroy takes the folder: it is {d.name} for {d.target} now"
        fix = f"deploy destroy {quote(str(folder))} removes that first; or render into another folder"
        found.append(finding("D059", what, why=why, fix=fix))
    return found


def standing(live: Live) -> Release | None:
    """What was finished last; else the newest that made something, and failed; None where nothing is there."""
    made = [r for r in live.releases if r.finished] or [r for r in live.releases if running.standing(r.steps)]
    return made[-1] if made else None


def recorded(at: Rendered) -> tuple[Rendered, Path]:
    """What the record of a folder is about, whatever has been rendered there since; and where its commands run. Raises
    UserError when nothing is kept of that."""
    found = record.look(record.place(at.folder))
    pushed = (*found.taken_back, *found.releases) if found else ()
    if found is None or not pushed or (found.target, found.name) == (at.deployment.target, at.deployment.name):
        return at, at.folder
    for release in reversed(pushed):
        try:
            old = kept.of(at.folder, release)
        except UserError:
            continue
        return Rendered(at.folder, old.deployment, old.digest), old.folder
    path = record.place(at.folder)
    what = f"{path} is about {found.name} on {found.target}, and no folder that was pushed is kept"
    raise UserError(what, fix=f"look what runs at {found.target}, remove it there, then: rm {quote(str(path))}")


def _same(folder: Path, release: Release, deployment: Deployment) -> bool:
    """Whether it is where this one goes; so, too, where that is not known."""
    try:
        return _place(kept.of(folder, release).deployment) == _place(deployment)
    except UserError:
        return True


def _place(d: Deployment) -> object:
    """What tells endpoints of one name apart at a target."""
    namespace = d.table.get("namespace") or str(d.table.get("repository", "")).partition("/")[0]
    places: dict[str, object] = {
        "sagemaker": d.region,
        "kubernetes": namespace,
        "huggingface": namespace,
        "skypilot": d.table.get("serve"),  # a service, or one machine
    }
    if d.target == "runpod":
        return Runpod.model_validate(d.table).chosen(d.scaling.min_replicas) == "pod"
    return places.get(d.target)
