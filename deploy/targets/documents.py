"""Files that tools read as YAML: data in, text out. JSON under a comment is YAML, whatever version of it they speak.

So no text becomes a number on the way, as a digest of digits and one e would, and no library is needed to write it.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from deploy.spec import Deployment
from tune.artefact import VERSION


def dump(documents: Sequence[object], deployment: Deployment, note: str = "") -> str:
    """One file of them all, which says where it came from. `note`: a line more of comment."""
    head = (
        f"# Rendered by gptoss-kit {VERSION} (deploy render {deployment.target}): change the recipe and render again.\n"
    )
    head += f"# {note}\n" if note else ""
    return head + "---\n".join(json.dumps(d, indent=2) + "\n" for d in documents)


def load(text: str) -> list[Any]:
    """The documents that `dump` wrote."""
    body = re.sub(r"\A(#.*\n)+", "", text)
    return [json.loads(part) for part in body.split("\n---\n")]


def lettered(name: str) -> str:
    """The name of a deployment where names begin with a letter."""
    return name if re.match("[a-z]", name) else f"m-{name}"
