"""Flows at RunPod, by its REST v2 and by Docker: push, status, logs, rollback, destroy; how a client reaches it.

The image is pushed by Docker and asked for by its digest, so that each release is one image for ever. What RunPod
answers is data: ids are held to a pattern, everything else is cut to one line. v2 shows no secrets: that one is missing
shows when a worker starts.
"""

import json
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from deploy.live import Live, Release
from deploy.spec import API_KEY, Deployment
from deploy.steps import Command, Flow, Request, Result, Step
from deploy.targets import image
from deploy.targets.runpod import ARTEFACT, REQUEST_CAP
from deploy.targets.runpod.asking import (
    API,
    ID,
    KEY,
    SHOWN,
    curl,
    holds,
    identity,
    known,
    look,
    number,
    patch,
    recorded,
    tail,
    thing,
    url,
    word,
)
from deploy.targets.runpod.body import change, kind, table
from deploy.targets.source import prove
from evalsuite.asking.client_info import ClientInfo
from tune.errors import UserError
from tune.terminal import one_line

DIGEST = re.compile(r"[a-z0-9][a-z0-9.:/_-]{0,254}@sha256:[0-9a-f]{64}")
MADE = ("create", "update")  # steps whose request holds a body
Looked = Generator[Step, Result, Result]


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:
    """Build and push the image, then make the endpoint or pod, or change the one of that name."""
    image.pullable(deployment)
    body = _read(folder / ARTEFACT[kind(deployment)])
    baked = table(deployment).weights == "image"
    checkpoint = prove(deployment, folder, _read(folder / "build.json")["checkpoint"]) if baked else ""
    yield from _volume(deployment)
    there = yield from _find(deployment, live)
    if there and there.get("type") in {"QUEUE", "LOAD_BALANCER"} - {body.get("type")}:
        what = f"{there['id']}, which RunPod has under the name {deployment.name}, is of the other type"
        raise UserError(
            what, why="an endpoint's type cannot change", fix="deploy destroy FOLDER, then deploy push FOLDER"
        )
    body = {**body, "image": (yield from _image(deployment, checkpoint))}
    made = thing(deployment)
    if not there:
        answer = yield Step(
            id="create",
            what=f"make the {made} {deployment.name}",
            action=Request(method="POST", url=url(deployment), body=body, key_env=KEY),
            makes=f"{made} {deployment.name} at RunPod",
            remove=curl("DELETE", f"{url(deployment)}/{{id}}"),
        )
        id = identity(answer)
        return (f"made the {made} {id}", *_told(deployment, id))
    id = identity(there)
    if holds(there, change(body)):
        return (f"{made} {id} has it all already: nothing to change", *_told(deployment, id))
    yield patch("update", deployment, id, body)
    return (f"changed the {made} {id}: a new release, taken up as workers are replaced", *_told(deployment, id))


def status(deployment: Deployment, live: Live) -> Flow:
    """State, workers, releases, URL and cost."""
    id = known(live)
    there = yield look("look", deployment, f"/{id}", missing=True)
    if not there:
        return (f"{thing(deployment)} {id} is gone",)
    where = f"URL: {client(deployment, live).base_url}"
    if kind(deployment) == "pod":
        cost = f"{number(there.get('cost')):.2f} USD an hour at the moment"
        return (f"pod {id}: {word(there.get('status'))}", where, f"cost: {cost}; a stopped pod pays for its disk")
    found = yield look("workers", deployment, f"/{id}/workers")
    told = yield look("releases", deployment, f"/{id}/releases")
    count = found.get("summary", {})
    kinds = ("running", "idle", "initializing", "throttled", "unhealthy")
    workers = ", ".join(f"{int(number(count.get(k)))} {k}" for k in kinds if count.get(k))
    rollout = told.get("rollout", {})
    most = int(number(there.get("workers", {}).get("max")))
    lines = [f"endpoint {id}: {workers or 'no worker'} of at most {most}", where]
    if rollout.get("inProgress"):
        lines.append(f"a release is being taken up: {int(number(rollout.get('percentOnLatest')))} % of workers have it")
    paid = int(sum(number(count.get(k)) for k in kinds[:3]))
    return (*lines, _cost(deployment, paid))


def logs(deployment: Deployment, live: Live) -> Flow:
    """The last lines of each worker, or of the pod."""
    id = known(live)
    if kind(deployment) == "pod":
        yield tail("log", f"pod {id}", f"{url(deployment)}/{id}/logs?tail=100")
        return ()
    found = yield look("workers", deployment, f"/{id}/workers", missing=True)
    workers = [w["id"] for w in found.get("workers", []) if ID.fullmatch(str(w.get("id")))]
    for n, worker in enumerate(workers[:8]):
        yield tail(f"log-{n}", f"worker {worker}", f"{url(deployment)}/{id}/workers/{worker}/logs?tail=100")
    return () if workers else (f"endpoint {id} has no worker: nothing has said anything",)


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001 - the record has what was sent
    """Send the body of the release before again. v2 lists releases and has no request that goes back to one."""
    id = known(live)
    body = _sent(live.releases[:-1])
    yield patch("rollback", deployment, id, body)
    return (f"{thing(deployment)} {id} is brought back to {one_line(str(body.get('image')))}",)


def destroy(deployment: Deployment, live: Live) -> Flow:
    """Delete the endpoint or pod that pushes made."""
    if not recorded(live):
        return ("nothing was made here",)
    id = known(live)
    yield Step(
        id="delete",
        what=f"delete the {thing(deployment)} {id}",
        action=Request(method="DELETE", url=f"{url(deployment)}/{id}", key_env=KEY, missing=True),
    )
    stays = [f"the image {deployment.image} at its registry", *(f"the secret {s}" for s in deployment.secrets.values())]
    if table(deployment).weights == "volume":
        stays.append(f"the network volume {table(deployment).volume}, which costs by the GB and month")
    return (f"{thing(deployment)} {id} is deleted", *(f"stays: {each}" for each in stays))


def client(deployment: Deployment, live: Live) -> ClientInfo:
    """How a client reaches what was pushed."""
    id, made = known(live), kind(deployment)
    patience = deployment.limits.startup_seconds + 120
    told: dict[str, Any] = {"model": deployment.model, "key_env": KEY, "patience_seconds": patience}
    if made == "pod":  # its proxy ends an answer of which nothing has come for 100 s
        told |= {"key_env": API_KEY, "retry": (429, 502, 503, 524), "stream": True}
        return ClientInfo(base_url=f"https://{id}-{deployment.port}.proxy.runpod.net/v1", **told)
    if made == "queue":
        told |= {"retry": (429, 502, 503, 524), "answer_seconds": deployment.limits.request_seconds}
        return ClientInfo(base_url=f"https://api.runpod.ai/v2/{id}/openai/v1", **told)
    told |= {"retry": (400, 429, 502, 503, 524), "answer_seconds": REQUEST_CAP}
    return ClientInfo(base_url=f"https://{id}.api.runpod.ai/v1", **told)


def _volume(deployment: Deployment) -> Generator[Step, Result, None]:
    """The network volume is there, and where the recipe says. Raises UserError."""
    told = table(deployment)
    if told.weights == "image":
        return
    action = Request(method="GET", url=f"{API}/network-volumes/{told.volume}", key_env=KEY)
    found = yield Step(id="volume", what=f"look for the network volume {told.volume}", action=action, again=True)
    where = word(found.get("dataCenter"))
    if where != told.datacenter and not SHOWN.fullmatch(where):
        what = f"the network volume {told.volume} is in {where}, not in {told.datacenter}"
        raise UserError(what, why="a worker runs only where its volume is", fix="correct [deploy.runpod] datacenter")


def _image(deployment: Deployment, checkpoint: str) -> Generator[Step, Result, str]:
    """Build and push the image; its name with its digest. Docker does again only what has changed."""
    yield image.build(deployment.image, checkpoint)
    yield image.upload(deployment.image)
    shown = ("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", deployment.image)
    found = yield Step(id="digest", what="read the image's digest", action=Command(argv=shown), again=True)
    repository, out = deployment.image.rpartition(":")[0], str(found.get("out"))
    if SHOWN.fullmatch(out):
        return f"{repository}@{out}"
    try:
        pushed = [str(name) for name in json.loads(out) or ()]
    except ValueError:
        pushed = []
    names = (repository, repository.removeprefix("docker.io/"))  # Docker leaves its own registry's name out
    for name in pushed:
        if DIGEST.fullmatch(name) and name.partition("@")[0] in names:
            return f"{repository}@{name.partition('@')[2]}"
    raise UserError(
        f"Docker knows no digest of {deployment.image}", fix=f"docker push {deployment.image}, then deploy push FOLDER"
    )


def _find(deployment: Deployment, live: Live) -> Looked:
    """What is there already: the one that an earlier push made, else the one of that name; {} for neither."""
    if recorded(live):
        there = yield look("known", deployment, f"/{known(live)}", missing=True)
        if there:
            return there
    listed = yield look("list", deployment, "")
    all_of = listed.get("pods" if kind(deployment) == "pod" else "endpoints", [])
    named = [each for each in all_of if each.get("name") in (deployment.name, f"{deployment.name} -fb")]
    if len(named) > 1:
        ids = ", ".join(identity(each) for each in named)
        raise UserError(
            f"RunPod has {len(named)} of the name {deployment.name}: {ids}", fix="delete those that are not this one"
        )
    if not named:
        return {}
    there = yield look("find", deployment, f"/{identity(named[0])}")  # whose id the record then holds
    return there


def _sent(releases: Sequence[Release]) -> dict[str, Any]:
    """The last body that these releases sent; {} when none did."""
    done = (d for r in reversed(releases) for d in reversed(r.steps) if d.id in MADE)
    return next((dict(d.action.body) for d in done if isinstance(d.action, Request)), {})


def _told(deployment: Deployment, id: str) -> tuple[str, ...]:
    secrets = ", ".join(deployment.secrets.values())
    lines = (f"secrets that must be in RunPod's console, which v2 cannot look for: {secrets}",) if secrets else ()
    return (
        *lines,
        f"it costs while workers run: deploy status FOLDER; {curl('DELETE', f'{url(deployment)}/{id}')} ends it",
    )


def _cost(deployment: Deployment, paid: int) -> str:
    from deploy import sizing

    offer = sizing.hardware().gpu[deployment.gpu].runpod
    if offer is None or offer.usd_hour is None:
        return f"cost: no price of {deployment.machine} is known here"
    each = offer.usd_hour * deployment.gpus
    return f"cost: {paid * each:.2f} USD an hour for {paid} workers at {each:.2f} (read {offer.seen}, not live)"


def _read(path: Path) -> dict[str, Any]:
    """A file of the render, which deploy push has held to its digest."""
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found
