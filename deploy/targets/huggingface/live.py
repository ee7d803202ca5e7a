"""Hugging Face Inference Endpoints, live: image by docker, endpoint by huggingface_hub's HfApi, as steps.

Comes in: a deployment, its rendered folder, what was done before. Goes out: flows; nothing in here runs anything.
What the API says of an endpoint is data: its body as JSON, of which `status` has state, message and URL.
"""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

from deploy import sizing
from deploy.folder import RENDER
from deploy.live import Live
from deploy.spec import Deployment
from deploy.steps import LOOKS_APART, Call, Flow, Result, Step
from deploy.targets import image
from deploy.targets.huggingface import arguments, name, place, table
from evalsuite.asking.client_info import ClientInfo
from tune.errors import UserError
from tune.terminal import one_line

MOVING = frozenset({"pending", "initializing", "updating"})
FAILED = frozenset({"failed", "updateFailed"})
LENDING = frozenset({"available", "low_availability"})
COMPUTE = {"accelerator": "accelerator", "instance_type": "instanceType", "instance_size": "instanceSize"}
PAGE = "https://endpoints.huggingface.co/{}/endpoints/{}"
FIXED = ("name", "vendor", "region", "type")  # of an endpoint that is there; an update takes the rest
Endpoint = Generator[Step, Result, Result]


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001  # the API says what is there
    """Image, then the endpoint, made or brought to endpoint.json, then a wait until it answers or fails.

    Raises UserError when an endpoint of that name is at another place, when the hardware is not lent there now, and
    when the container fails to start.
    """
    sent = _sent(folder)
    there = yield from _look(deployment, "look", missing=True)
    exists = there.get("name") == sent["name"]
    if exists:
        _same_place(there, sent)
    price = _price(deployment) if exists else (yield from _hardware(deployment, sent))
    yield image.build(deployment.image)
    yield image.upload(deployment.image)
    if exists:
        yield _step(
            "update", f"bring {sent['name']} to endpoint.json", "update", deployment, _changed(deployment, sent)
        )
        if _state(there) == "paused":
            yield _step("resume", f"resume {sent['name']}, which is paused", "resume", deployment)
    else:
        what, makes = f"make the endpoint {sent['name']}", f"Hugging Face endpoint {sent['name']}, {price}"
        yield Step(
            id="create",
            what=what,
            action=_call("create", _given(deployment, sent)),
            makes=makes,
            remove=_removal(deployment),
        )
    now = yield from _settled(deployment)
    state, where = _state(now), PAGE.format(_owner(deployment), sent["name"])
    if state in FAILED:
        why = one_line(str(now.get("status", {}).get("message", "")), 200)
        fix = f"deploy logs FOLDER, or {where}; then deploy push FOLDER, or: {_removal(deployment)}"
        raise UserError(f"{sent['name']} did not start: its state is {state}", why=why, fix=fix)
    return (f"{deployment.model} is {state} on Hugging Face: {_url(now) or 'it has no URL yet'}", f"its page: {where}")


def status(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """State, replicas, URL, price."""
    now = yield from _look(deployment, "status", missing=True)
    if not now:
        return (f"there is no endpoint {name(deployment)} of {_owner(deployment)}",)
    told, model = now.get("status", {}), now.get("model", {})
    scaling = now.get("compute", {}).get("scaling", {})
    message = one_line(str(told.get("message") or ""), 200)
    other = "" if _runs(model) == deployment.image else f" (pushed from here: {deployment.image})"
    return (
        f"{name(deployment)}: {_state(now)}{f', {message}' if message else ''}",
        f"image: {one_line(_runs(model), 200)}{other}",
        f"weights: {one_line(str(model.get('repository')), 200)} at {one_line(str(model.get('revision')), 40)}",
        f"replicas: {_number(told, 'readyReplica')} ready of {_number(told, 'targetReplica')} wanted, "
        f"{_number(scaling, 'minReplica')} to {_number(scaling, 'maxReplica')} allowed",
        f"URL: {_url(now) or 'none'}",
        f"cost: {_price(deployment)}",
    )


def logs(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """What state it is in and where its log is: the API that huggingface_hub knows shows none."""
    now = yield from _look(deployment, "status", missing=True)
    message = one_line(str(now.get("status", {}).get("message") or "nothing"), 500) if now else "there is no endpoint"
    where = PAGE.format(_owner(deployment), name(deployment))
    return (f"{name(deployment)} says: {message}", f"the log of its containers: {where}/logs")


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001 - its own API says what is there
    """Bring the endpoint to the endpoint.json of then: its image is still in the registry, under its own tag."""
    yield _step(
        "update",
        f"bring {name(deployment)} back to {deployment.model}",
        "update",
        deployment,
        _changed(deployment, _sent(folder)),
    )
    now = yield from _settled(deployment)
    if _state(now) in FAILED:
        raise UserError(f"{name(deployment)} did not start: its state is {_state(now)}", fix="deploy logs FOLDER")
    return (f"{name(deployment)} is {deployment.model} again: {_state(now)}",)


def destroy(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """Delete the endpoint. Images in the registry and the model repository stay."""
    action = _call("delete", _named(deployment), missing=True)
    yield Step(id="delete", what=f"delete the endpoint {name(deployment)}", action=action)
    stays = f"{deployment.image} and {table(deployment).repository} stay: they are yours, where you put them"
    return (f"{name(deployment)} is gone, and costs no more", stays)


def client(deployment: Deployment, live: Live) -> ClientInfo:
    """Raises UserError when no push came as far as a URL."""
    url = _url(live.gave("wait"))
    if not url:
        fix = "deploy push FOLDER; deploy status FOLDER says how far it is"
        raise UserError(f"no URL of {name(deployment)} is known", why="it was not pushed to the end", fix=fix)
    return ClientInfo(
        base_url=f"{url.rstrip('/')}/v1",
        model=deployment.model,
        key_env="HF_TOKEN",
        retry=(429, 502, 503),
        patience_seconds=deployment.limits.startup_seconds,
    )


def _given(deployment: Deployment, sent: dict[str, Any]) -> dict[str, Any]:
    """endpoint.json as arguments of huggingface_hub's."""
    return {**arguments(sent), "namespace": _owner(deployment)}


def _changed(deployment: Deployment, sent: dict[str, Any]) -> dict[str, Any]:
    """Likewise, without what no update changes."""
    return {k: v for k, v in _given(deployment, sent).items() if k not in FIXED}


def _sent(folder: Path) -> dict[str, Any]:
    """endpoint.json. Raises UserError when it is no longer what was written."""
    path = folder / "endpoint.json"
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        arguments(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not what deploy render wrote", fix=RENDER) from None
    return found


def _same_place(there: Result, sent: dict[str, Any]) -> None:
    """Raises UserError when the endpoint is somewhere else than asked for: it cannot be moved."""
    for part, wanted in (("provider", sent["provider"]), ("type", sent["type"])):
        found = there.get(part)
        if isinstance(found, dict):
            found = {key: found.get(key) for key in wanted}
        if found != wanted and not (part == "type" and found == "protected"):  # its older word for authenticated
            what = f"the endpoint {sent['name']} is there, with {part} {one_line(str(found), 100)}, not {wanted}"
            fix = "deploy destroy FOLDER, then deploy push FOLDER; or bring the recipe back to that"
            raise UserError(what, why="an endpoint cannot be moved", fix=fix)


def _hardware(deployment: Deployment, sent: dict[str, Any]) -> Generator[Step, Result, str]:
    """What a replica costs now, in words. Raises UserError unless the platform itself lends it there, within quota."""
    owner, want = _owner(deployment), f"{deployment.machine} at {' '.join(place(deployment) or ())}"
    action = Call(sdk="huggingface_hub", method="list_inference_endpoints_hardware", arguments={"namespace": owner})
    listed = yield Step(id="hardware", what=f"look whether {want} is lent now", action=action, again=True)
    rows = listed.get("items")
    if not isinstance(rows, list):  # a rehearsal
        return _price(deployment)
    wanted = {**sent["provider"], **{key: sent["compute"][word] for key, word in COMPUTE.items()}}
    found: dict[str, Any] = next(
        (row for row in rows if all(row.get(key) == value for key, value in wanted.items())), {}
    )
    state = one_line(str(found.get("status", "not in its list")), 60)
    fix = f"another [deploy] gpu, or [deploy.huggingface] vendor and region, then {RENDER}"
    if state not in LENDING:
        raise UserError(f"Hugging Face lends no {want} now", why=f"for {owner} it is {state}", fix=f"{fix}; or wait")
    takes = int(found.get("num_accelerators", 1)) * max(1, deployment.scaling.min_replicas)
    left = int(found.get("max_accelerators", takes)) - int(found.get("used_accelerators", 0))
    if left < takes:
        what = f"{owner} may run {left} more of {want}, this endpoint starts with {takes}"
        raise UserError(what, why="its quota", fix=f"https://endpoints.huggingface.co/contact for more, or {fix}")
    price = found.get("price_per_hour")
    return f"{price:.2f} USD an hour now for each replica" if isinstance(price, int | float) else _price(deployment)


def _settled(deployment: Deployment) -> Endpoint:
    """Look until nothing moves any more, at most as long as it may take to start."""
    now: Result = {}
    for _ in range(deployment.limits.startup_seconds // LOOKS_APART + 1):
        now = yield from _look(deployment, "wait", missing=False)
        if _state(now) not in MOVING:
            return now
    fix = f"deploy status FOLDER says when it is ready; or: {_removal(deployment)}"
    why = f"its state is {_state(now)}, [deploy] startup_seconds is {deployment.limits.startup_seconds}"
    raise UserError(f"{name(deployment)} is not ready in time", why=why, fix=fix)


def _look(deployment: Deployment, id: str, *, missing: bool) -> Endpoint:
    action = _call("get", _named(deployment), missing=missing)
    return (yield Step(id=id, what=f"look at {name(deployment)}", action=action, again=True))


def _step(id: str, what: str, verb: str, deployment: Deployment, more: dict[str, Any] | None = None) -> Step:
    return Step(id=id, what=what, action=_call(verb, {**_named(deployment), **(more or {})}))


def _call(verb: str, given: dict[str, Any], *, missing: bool = False) -> Call:
    method = f"{verb}_inference_endpoint"
    return Call(sdk="huggingface_hub", method=method, arguments=given, missing=missing)


def _named(deployment: Deployment) -> dict[str, Any]:
    return {"name": name(deployment), "namespace": _owner(deployment)}


def _owner(deployment: Deployment) -> str:
    section = table(deployment)
    return section.namespace or section.repository.partition("/")[0]


def _removal(deployment: Deployment) -> str:
    return f"hf endpoints delete {name(deployment)} --namespace {_owner(deployment)} --yes"


def _state(now: Result) -> str:
    return one_line(str(now.get("status", {}).get("state", "unknown")), 40)


def _url(now: Result) -> str:
    found = str(now.get("status", {}).get("url") or "")
    return found if found.startswith("https://") and found.isprintable() and " " not in found else ""


def _runs(model: Any) -> str:
    return str(model.get("image", {}).get("custom", {}).get("url", "unknown"))


def _number(of: Any, key: str) -> str:
    return one_line(str(of.get(key, "?")), 10)


def _price(deployment: Deployment) -> str:
    return f"{sizing.lent('huggingface', deployment.gpu, deployment.gpus).price}, for each replica, starting or ready"
