"""Whether the engine's image is one that our launcher starts, and cannot change; and our own image, as steps.

Asks no registry, starts nothing.
"""

import re
from collections.abc import Iterator

from deploy.findings import finding
from deploy.folder import RENDER
from deploy.spec import ENGINE, Deployment
from deploy.steps import Command, Step
from serve.findings import Finding
from tune.errors import UserError

VERSION = r"v?(\d+)\.(\d+)\.\d+([.+-][A-Za-z0-9._-]+)?"
KNOWN = tuple(map(int, re.findall(r"\d+", ENGINE)[:2]))  # what serve.launcher takes: it refuses another at its start


def exact(deployment: Deployment) -> Iterator[Finding]:
    """D052 unless the image's tag is a whole version, and one that the launcher takes."""
    name, _, digest = deployment.engine.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    version = re.fullmatch(VERSION, tag)
    fix = f'[deploy] engine = "{ENGINE}", or with its digest'
    if version and (int(version[1]), int(version[2])) != KNOWN:
        why = f"serve.launcher takes vLLM {KNOWN[0]}.{KNOWN[1]} and ends at once with another"
        yield finding("D052", f"the engine's image {name} is of another version", why=why, fix=fix)
    elif not version and not (digest and not tag):  # a digest alone names one image, of which we know no version
        what = f"the engine's image {name} has {f'the tag {tag}' if tag else 'no tag'}, which is no exact version"
        yield finding("D052", what, why="tomorrow it is another engine than the report was made with", fix=fix)


def pinned(deployment: Deployment) -> Iterator[Finding]:
    """D051 where a tag alone names the image."""
    if "@sha256:" in deployment.engine:
        return
    what = f"the engine's image is pinned by its tag alone: {deployment.engine}"
    tell = f"docker buildx imagetools inspect {deployment.engine} tells the digest"
    fix = f'{tell}; then [deploy] engine = "{deployment.engine}@sha256:..."'
    yield finding("D051", what, why="whoever may push to that repository can put another under it", fix=fix)


def pullable(deployment: Deployment) -> None:
    """Raises UserError where the image's name has no registry: for a target whose machines get it nowhere else."""
    if "/" in deployment.image:
        return
    what = (
        f"{deployment.image} names no registry: a push has nowhere to send it, and {deployment.target} cannot pull it"
    )
    fix = f'[deploy] registry = "docker.io/<your account>" in recipe.toml, docker login, then {RENDER}'
    raise UserError(what, fix=fix)


def build(name: str, checkpoint: str = "") -> Step:
    """Build our image under that name here. `checkpoint`: the folder of the weights, seen from the rendered one, where
    they go into the image."""
    weights = ("--build-context", f"checkpoint={checkpoint}") if checkpoint else ()
    words = ("docker", "build", "--platform", "linux/amd64", *weights, "--tag", name, ".")
    return Step(
        id="build",
        what=f"build {name}",
        action=Command(argv=words, shows=True),
        makes=f"the image {name}, on this machine",
        remove=f"docker image rm {name}",
    )


def upload(name: str) -> Step:
    """Push our image to the registry that its name has."""
    return Step(
        id="image",
        what=f"push {name}",
        action=Command(argv=("docker", "push", name), shows=True),
        makes=f"the image {name} at its registry",
        remove=f"the registry's own page: delete {name}",
    )
