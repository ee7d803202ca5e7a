"""The rendered folder of each release, kept beside FOLDER under its digest: a rollback sends it again.

`deploy render` writes over FOLDER; what was pushed from it is still there, byte for byte. It lies as deep as FOLDER, so
that relative paths in it lead to the same places. Asks no platform.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from deploy import folder as rendered
from deploy.folder import KIND, Rendered
from deploy.live import Release
from tune import artefact
from tune.errors import UserError


def place(folder: Path, digest: str) -> Path:
    """Where the release of that folder digest is kept."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.{digest[:16]}")


def keep(at: Rendered) -> None:
    """Keep what was proven, before it is pushed. Raises UserError when it is no longer that, or cannot be written."""
    there = place(at.folder, at.digest)
    names = [*artefact.read(at.folder, KIND, remake=rendered.REMAKE).files, f"{KIND}.json"]

    def fill(part: Path) -> None:  # the files alone: what a folder may not be written to is not copied
        for name in names:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(at.folder / name, part / name)

    artefact.remake_folder(there, KIND, fill)
    if rendered.prove(there).digest != at.digest:
        raise UserError(f"{at.folder} was changed while it was kept", fix="deploy push FOLDER")


def of(folder: Path, release: Release) -> Rendered:
    """The rendered folder of a release of `folder`. Raises UserError when it has gone, was edited or is another's."""
    there = place(folder, release.folder_digest)
    fix = f"{rendered.RENDER}, of {release.model}; then deploy push FOLDER"
    if not there.is_dir():
        raise UserError(f"the folder that was pushed on {release.at} is not kept", why=f"{there} has gone", fix=fix)
    try:
        found = rendered.prove(there)
    except UserError as e:
        raise UserError(e.what, why=e.why, fix=fix) from None
    if found.digest != release.folder_digest:
        raise UserError(f"{there} is not what was pushed on {release.at}", why="it is of another render", fix=fix)
    return found


def forget(folder: Path, releases: Iterable[Release]) -> None:
    """Remove what was kept of these releases."""
    for release in releases:
        shutil.rmtree(place(folder, release.folder_digest), ignore_errors=True)
