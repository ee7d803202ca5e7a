"""Where a checkpoint can run. Each target is a module of its own: `findings`, `files`, and the files it renders."""

from importlib import import_module
from typing import NamedTuple, Protocol, cast

from deploy.spec import Deployment, Target
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


def load(target: Target) -> Renderer:
    """The target's module."""
    return cast(Renderer, import_module(f"deploy.targets.{target}"))
