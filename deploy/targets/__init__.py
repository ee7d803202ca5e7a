"""Where a checkpoint can run. Each target is a module of its own: `findings`, `files`, and the files it renders."""

from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from deploy.live import Live
from deploy.spec import Deployment, Target
from deploy.steps import Flow
from evalsuite.asking.client_info import ClientInfo
from serve.findings import Finding


class Context(NamedTuple):
    """What a render needs beside the deployment: the checkpoint as seen from the folder, and sizing in words."""

    checkpoint: str
    weights_gb: float  # 10^9 bytes
    sizing: str
    cost: str
    warnings: tuple[Finding, ...]


class Renderer(Protocol):
    """What each module in deploy/targets offers."""

    def findings(self, deployment: Deployment) -> list[Finding]:
        """What this target would refuse, cut off, or do other than the recipe says."""

    def files(self, deployment: Deployment, context: Context) -> dict[str, str]:
        """Path in the rendered folder: text. A pure function of its arguments."""


class Operator(Protocol):
    """What `live.py` in each target's folder offers: flows of steps at the platform. None asks or prints anything.

    `folder` is the rendered folder, whose files are what was rendered; `live` is what has been done with it so far.
    """

    def push(self, deployment: Deployment, folder: Path, live: Live) -> Flow:
        """Make the endpoint, or bring it to what was rendered."""

    def status(self, deployment: Deployment, live: Live) -> Flow:
        """Look; tells what runs, where, and what it costs while it does."""

    def logs(self, deployment: Deployment, live: Live) -> Flow:
        """Show what the container said last."""

    def rollback(self, deployment: Deployment, folder: Path, live: Live) -> Flow:
        """Bring the endpoint back to `deployment`, the release before the newest of `live`. `folder` is what was
        rendered then, and where the commands run. Raises UserError when what it needs has gone."""

    def destroy(self, deployment: Deployment, live: Live) -> Flow:
        """Remove all that pushes have made, what has gone already left out. Tells what stays, and why."""

    def client(self, deployment: Deployment, live: Live) -> ClientInfo:
        """How a client reaches what the last finished release made. Raises UserError when the record does not say."""


def load(target: Target) -> Renderer:
    """The target's module."""
    return cast(Renderer, import_module(f"deploy.targets.{target}"))


def operator(target: Target) -> Operator:
    """What the target can do live."""
    return cast(Operator, import_module(f"deploy.targets.{target}.live"))
