"""Modal: an app with one server class. Modal builds the image itself; the weights lie in a Volume."""

from deploy.spec import Deployment
from deploy.targets import Context
from deploy.targets.template import fill, verbatim
from serve.findings import Finding


def findings(deployment: Deployment) -> list[Finding]:  # noqa: ARG001  # its limits are the recipe's own
    """Nothing beyond the rules of every target: each recipe value is within what Modal takes."""
    return []


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    return {
        "app.py": verbatim("modal/app.py"),
        "start.py": verbatim("start.py"),
        "README.md": fill("modal/README.md.jinja", deployment, context),
    }
