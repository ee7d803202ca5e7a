"""An operator for tests, as live.py of a target: an image by a program on PATH, then a thing by HTTP. As a program, the
`deploy` command line with it in the place of Modal's, asking the URL in DOOR."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from platform_door import REAL

from deploy import cli, commands, running
from deploy.hands import Hands
from deploy.live import Live
from deploy.spec import Deployment
from deploy.steps import Command, Flow, Request, Step
from evalsuite.asking.client_info import ClientInfo

KEY = "PLATFORM_API_KEY"


def _request(method: str, path: str, body: object = None, *, missing: bool = False) -> Request:
    return Request(method=method, url=f"{REAL}{path}", body=body, key_env=KEY, missing=missing)  # type: ignore[arg-type]


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:
    name = deployment.name
    yield Step(
        id="image",
        what="build the image",
        action=Command(argv=("builder", "build", deployment.image)),
        makes=f"image {deployment.image}",
        remove=f"builder remove {deployment.image}",
    )
    there = yield Step(
        id="look", what="look what is there", action=_request("GET", f"/things/{name}", missing=True), again=True
    )
    if there:
        yield Step(
            id="change", what="change it", action=_request("PATCH", f"/things/{name}", {"model": deployment.model})
        )
    else:
        body = {"name": name, "model": deployment.model}
        yield Step(
            id="make",
            what="make the endpoint",
            action=_request("POST", "/things", body),
            makes="endpoint {id}",
            remove="platform delete {id}",
        )
    found = {"state": ""}
    while found["state"] != "READY":
        found = yield Step(id="wait", what="wait for it", action=_request("GET", f"/things/{name}"), again=True)
    return (f"ready: {found['id']}",)


def status(deployment: Deployment, live: Live) -> Flow:
    found = yield Step(
        id="look", what="look", action=_request("GET", f"/things/{deployment.name}", missing=True), again=True
    )
    return (f"state {found['state']}" if found else "not there", f"looked for in {deployment.region}")


def logs(deployment: Deployment, live: Live) -> Flow:
    yield Step(id="logs", what="logs", action=Command(argv=("builder", "logs"), shows=True), again=True)
    return ()


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:
    request = _request("PATCH", f"/things/{deployment.name}", {"model": deployment.model, "region": deployment.region})
    image = {"makes": f"image {deployment.image}", "remove": f"builder remove {deployment.image}"}
    yield Step(id="where", what="where commands run", action=Command(argv=("pwd",), shows=True), **image)
    yield Step(id="back", what="change it back", action=request)
    return (f"back at {deployment.model}",)


def destroy(deployment: Deployment, live: Live) -> Flow:
    yield Step(id="remove", what="remove it", action=_request("DELETE", f"/things/{deployment.name}", missing=True))
    return ("the image stays: builder remove", f"removed in {deployment.region}")


def client(deployment: Deployment, live: Live) -> ClientInfo:
    return ClientInfo(base_url=f"https://{deployment.region}.platform.example/v1", model=deployment.model, key_env=KEY)


def hands(folder: Path, show: Callable[[str], None]) -> Hands:
    """Hands whose platform is at the URL in DOOR."""
    return Hands(folder, show, patience=2.0, routes={REAL: os.environ["DOOR"]})


def main() -> None:
    """The command line."""
    sys.modules["deploy.targets.modal.live"] = sys.modules[__name__]
    running.LOOK_AGAIN = 0.01
    commands._hands = hands
    cli.main()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
    main()
