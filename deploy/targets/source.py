"""Whether the checkpoint that a push is about to send is the one that was rendered for. Reads its manifest alone.

Its files are proven where they arrive: by start.py, before the server lets anyone in.
"""

from pathlib import Path

from deploy.folder import RENDER
from deploy.spec import Deployment
from tune import checkpoint
from tune.errors import UserError


def prove(deployment: Deployment, folder: Path, source: str) -> str:
    """`source`, the checkpoint's folder as seen from the rendered one. Raises UserError unless this one lies there."""
    found = checkpoint.look(folder / source)
    if found.digest != deployment.digest:
        what = f"{folder / source} holds {found.served_name}, this folder is of {deployment.model}"
        raise UserError(what, why="it was made again since", fix=f"{RENDER}, of the checkpoint that is to run")
    return source
