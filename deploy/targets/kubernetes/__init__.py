"""To be written."""

from deploy.spec import Deployment
from deploy.targets import Context
from serve.findings import Finding


def findings(deployment: Deployment) -> list[Finding]:  # noqa: ARG001
    """Nothing yet."""
    return []


def files(deployment: Deployment, context: Context) -> dict[str, str]:  # noqa: ARG001
    """Nothing yet."""
    return {"README.md": "to be written\n"}
