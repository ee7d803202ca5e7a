"""The rendered folder of each finished release, kept beside FOLDER under its digest: a rollback sends it again.

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
    """Keep what was proven and pushed. Raises UserError when it is no longer that."""
    there = place(at.folder, at.digest)
    if _whole(there, at.digest):
        return

    def fill(part: Path) -> None:
        shutil.copytree(at.folder, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))

    artefact.remake_folder(there, KIND, fill)
    if not _whole(there, at.digest):
        raise UserError(f"{at.folder} was changed while it was kept", fix="deploy push again")


def of(folder: Path, release: Release) -> Rendered:
    """The rendered folder of a release of `folder`. Raises UserError when it has gone or was edited."""
    there = place(folder, release.folder_digest)
    if not there.is_dir():
        what = f"the folder that was pushed on {release.at} is not kept"
        fix = f"deploy render {release.model} again, then deploy push"
        raise UserError(what, why=f"{there} has gone", fix=fix)
    return rendered.prove(there)


def forget(folder: Path, releases: Iterable[Release]) -> None:
    """Remove what was kept of these releases."""
    for release in releases:
        shutil.rmtree(place(folder, release.folder_digest), ignore_errors=True)


def _whole(folder: Path, digest: str) -> bool:
    try:
        return rendered.prove(folder).digest == digest
    except UserError:
        return False
