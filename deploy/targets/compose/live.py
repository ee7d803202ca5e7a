"""Compose, live: `docker compose` in the rendered folder, on the host whose GPUs serve.

An image is named by what is in it, so that the release before can be started again without building. Yields commands;
runs none.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deploy.folder import RENDER
from deploy.live import Live
from deploy.spec import API_KEY, Deployment
from deploy.steps import Command, Flow, Result, Step
from deploy.targets.compose import IMAGE, PLACE, SERVICE, WEIGHTS
from evalsuite.asking.client_info import ClientInfo
from tune.artefact import Artefact
from tune.deploy import Compose
from tune.errors import UserError
from tune.terminal import one_line

PS = Command(argv=("docker", "compose", "ps", "--all", "--format", "json"))
TAIL = "200"  # lines


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001 - one container: nothing to look up
    """Build the image, put the container in the place of what runs, wait until it is proven."""
    image, weights = deployment.image, source(folder)
    yield from _weights(weights, deployment.digest[:16])
    yield Step(
        id="build",
        what="build the image",
        action=Command(argv=("env", f"{IMAGE}={image}", "docker", "compose", "build"), shows=True),
        makes=f"the image {image}",
        remove=f"docker image rm {image}",
    )
    yield _up(deployment, image, weights)
    return (*_told(deployment, (yield _look())), *_reach(deployment))


def _up(deployment: Deployment, image: str, weights: str) -> Step:
    wait = str(deployment.limits.startup_seconds)
    chosen = (f"{IMAGE}={image}", f"{WEIGHTS}={weights}", f"{PLACE}={deployment.model_path}")
    words = ("docker", "compose", "up", "--detach", "--no-build", "--pull", "never", "--wait", "--wait-timeout", wait)
    return Step(
        id="up",
        what=f"start the container, and wait up to {wait} s until it is proven",
        action=Command(argv=("env", *chosen, *words), needs=tuple(deployment.secrets.values()), shows=True),
        makes=f"the container of {deployment.name}, its network, and its volume of caches",
        remove=f"docker compose --project-name {deployment.name} down --volumes",
    )


def source(folder: Path) -> str:
    """The weights' folder on the host as compose.yaml has it. Raises UserError when that file is not ours."""
    import yaml

    path = folder / "compose.yaml"
    try:
        (bind,) = (
            v["source"]
            for v in yaml.safe_load(path.read_text(encoding="utf-8"))["services"][SERVICE]["volumes"]
            if v["type"] == "bind"
        )
        return str(bind).removeprefix(f"${{{WEIGHTS}:-").removesuffix("}").replace("$$", "$")
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise UserError(f"{path} is not what was rendered", fix=RENDER) from None


def _weights(folder: str, digest16: str) -> Flow:
    """Raise UserError unless the checkpoint lies where it would be bound from: the container would start in vain."""
    manifest = f"{folder}/checkpoint.json"
    there = yield Step(
        id="weights",
        what="see that the weights lie on this host",
        action=Command(argv=("cat", "--", manifest), lists=True),
        again=True,
    )
    if isinstance(there.get("code"), str):  # of a dry run, which looked at nothing
        return ()
    try:
        found = Artefact.model_validate_json(str(there.get("out", ""))).digest[:16]
    except ValidationError:
        found = ""
    if found != digest16:
        what = f"{manifest} is {'of ' + found if found else 'not there, or no manifest'}; this release is of {digest16}"
        raise UserError(what, why="the weights are bound from this host", fix="put that checkpoint there again")
    return ()


def status(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001 - Docker knows
    """What Docker says of the container."""
    cost = f"cost: {deployment.machine} of this host, whether it answers or not"
    return (*_told(deployment, (yield _look())), *_reach(deployment), cost)


def logs(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    words = ("docker", "compose", "logs", "--no-color", "--tail", TAIL, SERVICE)
    yield Step(id="logs", what="show the log", action=Command(argv=words, shows=True), again=True)
    return ()


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001
    """Start the image of that release again, as its own compose.yaml has it, with its own weights."""
    image, weights = deployment.image, source(folder)
    there = yield Step(
        id="image",
        what="see that the image is still here",
        action=Command(argv=("docker", "image", "ls", "--quiet", image)),
        again=True,
    )
    if not str(there["out"]).strip():
        raise UserError(f"the image {image} has gone", fix=f"{RENDER}, of {deployment.model}; then deploy push FOLDER")
    yield from _weights(weights, deployment.digest[:16])
    yield _up(deployment, image, weights)
    return _told(deployment, (yield _look()))


def destroy(deployment: Deployment, live: Live) -> Flow:
    """Remove container, network, volume and each release's image. Weights and vLLM's own image stay."""
    down = ("docker", "compose", "down", "--volumes", "--remove-orphans")
    yield Step(
        id="down", what="stop the container, and remove it with its volume", action=Command(argv=down), again=True
    )
    images = dict.fromkeys(
        done.makes.removeprefix("the image ") for r in live.releases for done in r.steps if done.id == "build"
    )
    for n, image in enumerate(images):
        remove = Command(argv=("docker", "image", "rm", image), lists=True)
        yield Step(id=f"image-{n + 1}", what=f"remove the image {image}", action=remove, again=True)
    return (f"stays: the weights on this host, and {deployment.engine} (docker image rm, if nothing else uses it)",)


def client(deployment: Deployment, live: Live) -> ClientInfo:  # noqa: ARG001 - a port of the host, whatever was done
    return ClientInfo(
        base_url=f"http://localhost:{Compose.model_validate(deployment.table).port}/v1",
        model=deployment.model,
        key_env=deployment.secrets.get(API_KEY, ""),
        retry=(429, 502, 503),
        patience_seconds=deployment.limits.startup_seconds,
    )


def _look() -> Step:
    return Step(id="look", what="look at the container", action=PS, again=True)


def _told(deployment: Deployment, seen: Result) -> tuple[str, ...]:
    """A line for each container."""
    lines = [
        f"{deployment.name}: {each('State')}{f' ({health})' if (health := each('Health')) else ''}, {each('Image')}"
        for each in map(_reader, containers(str(seen.get("out", ""))))
    ]
    return tuple(lines) or (f"{deployment.name}: no container",)


def containers(out: str) -> Iterator[Mapping[str, Any]]:
    """What `docker compose ps --format json` wrote: an object a line, or, until Compose 2.20, a list of them."""
    for line in out.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        yield from (each for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict))


def _reader(container: Mapping[str, Any]) -> Any:
    """Asks a container for a text, which is Docker's: one line, cut."""
    return lambda key: one_line(str(container.get(key, "")))[:120]


def _reach(deployment: Deployment) -> tuple[str, ...]:
    table = Compose.model_validate(deployment.table)
    return (f"http://{'localhost' if table.bind == '127.0.0.1' else 'this host'}:{table.port}/v1",)
