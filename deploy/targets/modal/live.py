"""Modal, live: its own `modal` program, as steps. Volumes and weights once, then `modal deploy` for each push.

Comes in: a deployment, its rendered folder, what was done before. Goes out: flows; nothing in here runs anything.
What the program prints is data: JSON of its `--json`, or nothing.
"""

import json
import re
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from deploy import sizing
from deploy.folder import RENDER
from deploy.live import Live
from deploy.spec import API_KEY, Deployment
from deploy.steps import Command, Flow, Result, Step
from deploy.targets.modal import MODELS, REGIONS, table, volumes
from evalsuite.asking.client_info import ClientInfo
from tune import artefact, checkpoint
from tune.errors import UserError
from tune.terminal import one_line

Rows = list[dict[str, Any]]
Look = Generator[Step, Result, Rows | None]
URL = re.compile(r'"server_url":\s*"(https://[!-!#-~]{1,300})"')  # of `modal server info --json`
KIND = "deployment"  # the manifest of a rendered folder
TAIL = 200  # lines of a log
KEEP = "the Volumes {} stay: modal volume delete NAME --yes removes one, and the weights with it"


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001  # modal says what is there
    """Volumes, weights and app. Raises UserError when a secret is missing, or the local checkpoint is another one."""
    name = deployment.name
    tag = _tag(deployment, folder)
    yield from _secrets(deployment)
    there = _names((yield from _rows("volumes", "look which Volumes there are", "volume", "list")), "name")
    for at, volume in volumes(deployment).items():
        if volume not in there:
            yield Step(
                id="volume-models" if at == MODELS else "volume-cache",
                what=f"make the Volume {volume}",
                action=_modal("volume", "create", volume),
                makes=f"Modal Volume {volume}",
                remove=f"modal volume delete {volume} --yes",
            )
    yield from _weights(deployment, folder)
    yield Step(
        id="deploy",
        what=f"build the image and deploy {name}: what runs is replaced as it drains",
        action=_deploy(tag),
        makes=f"Modal app {name}",
        remove=f"modal app stop {name} --yes",
    )
    url = _url((yield _info(deployment)))
    return (f"{deployment.model} is deployed on Modal{f': {url}' if url else ''}", _starts(deployment))


def status(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """State, containers, version, URL, price."""
    app = yield from _app(deployment)
    if app is None or app["state"] not in ("deployed", ""):
        state = f": it is {_said(app['state'])}" if app else ""
        return (f"{deployment.name} does not run on Modal{state}",)
    newest = ((yield from _history(deployment)) or [{}])[0]
    url, tag, scaling = _url((yield _info(deployment))), str(newest.get("tag")), deployment.scaling
    other = "" if tag.startswith(deployment.digest[:16]) else f" (pushed from here: {deployment.digest[:16]})"
    return (
        f"{deployment.name} is deployed: {_said(newest.get('version'))}, {_said(newest.get('time_deployed'))}",
        f"weights: {_said(tag)}{other}",
        f"containers: {_said(app['tasks'])}, of {scaling.min_replicas} to {scaling.max_replicas}",
        f"URL: {url or 'none'}",
        f"cost: {_price(deployment)}",
    )


def logs(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """The last lines of all its containers."""
    action = Command(argv=("modal", "app", "logs", deployment.name, "--tail", str(TAIL), "--timestamps"), shows=True)
    yield Step(id="logs", what=f"the last {TAIL} lines of {deployment.name}", action=action, again=True)
    return ()


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001 - modal says what is there
    """Modal keeps each version of an app, image and all, and the Volume the weights of each. A version that it has no
    more is deployed again from the folder of then."""
    tag = _tag(deployment, folder)
    versions = [
        row for row in (yield from _history(deployment)) or [] if re.fullmatch(r"v\d{1,9}", str(row.get("version")))
    ]
    if versions and versions[0].get("tag") == tag:
        return (f"{deployment.name} is {deployment.model} still: what came after it was never deployed",)
    older = next((str(row["version"]) for row in versions[1:] if row.get("tag") == tag), "")
    what = f"go back to {deployment.model}, what runs is replaced as it drains"
    if older:
        yield Step(
            id="rollback", what=what, action=_modal("app", "rollback", deployment.name, older, "--strategy", "rolling")
        )
    else:
        yield Step(id="deploy", what=what, action=_deploy(tag))
    return (f"{deployment.name} is {deployment.model} again",)


def destroy(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """Stop the app. The Volumes stay: to send the weights again takes longest of all."""
    app = yield from _app(deployment)
    stays = KEEP.format(" and ".join(volumes(deployment).values()))
    if app is None or app["state"] not in ("deployed", ""):
        return (f"{deployment.name} does not run on Modal", stays)
    action = _modal("app", "stop", deployment.name, "--yes")
    yield Step(id="stop", what=f"stop {deployment.name} and end its containers", action=action)
    return (f"{deployment.name} is stopped, and costs no more", stays)


def client(deployment: Deployment, live: Live) -> ClientInfo:
    """Raises UserError when no push came as far as a URL."""
    url = _url(live.gave("url"))
    if not url:
        raise UserError(
            f"no URL of {deployment.name} is known", why="it was not pushed to the end", fix="deploy push FOLDER"
        )
    ours = table(deployment).auth == "key"
    return ClientInfo(
        base_url=f"{url.rstrip('/')}/v1",
        model=deployment.model,
        key_env=API_KEY if ours else "",
        headers={} if ours else {"Modal-Key": "MODAL_KEY", "Modal-Secret": "MODAL_SECRET"},
        retry=(429, 502, 503),
        patience_seconds=deployment.limits.startup_seconds,
    )


def _secrets(deployment: Deployment) -> Generator[Step, Result, None]:
    """Raises UserError naming those that Modal does not have."""
    if not deployment.secrets:
        return
    there = yield from _rows("secrets", "look which secrets there are, by name", "secret", "list")
    lacking = [(k, n) for k, n in deployment.secrets.items() if there is not None and n not in _names(there, "name")]
    if lacking:
        key, name = lacking[0]
        what = f"Modal has no secret {' and none '.join(sorted({n for _, n in lacking}))}"
        fix = f"modal secret create {name} {key}=- (it opens an editor), or in its dashboard; then deploy push FOLDER"
        raise UserError(what, why=f"[deploy] secrets takes {key} from it", fix=fix)


def _weights(deployment: Deployment, folder: Path) -> Generator[Step, Result, None]:
    """Send the checkpoint, once for each digest: its folder in the Volume is named after it.

    Modal takes a folder's files in one commit, so what is there is whole; start.py proves it anyway.
    """
    volume, to = volumes(deployment)[MODELS], deployment.model_path.removeprefix(MODELS)
    look = Command(argv=("modal", "volume", "ls", volume, to, "--json"), lists=True)
    seen = yield Step(id="weights", what=f"look for the weights in {volume}", action=look, again=True)
    there = {Path(name).name for name in _names(_read(seen), "filename")} if seen["code"] == 0 else set()
    if f"{checkpoint.KIND}.json" in there:
        return
    local = _local(folder)
    if isinstance(seen["code"], int):  # not in a rehearsal, which knows nothing of what is there
        _prove(deployment, folder / local)
    put = _modal("volume", "put", volume, local, to)
    remove = f"modal volume rm {volume} {to} --recursive"
    makes = f"{deployment.model} in the Volume {volume}"
    yield Step(id="upload", what=f"send the weights to {volume}", action=put, makes=makes, remove=remove)


def _prove(deployment: Deployment, local: Path) -> None:
    """Raises UserError unless the folder holds the checkpoint of the deployment, file by file."""
    found = checkpoint.verify(local)
    if found.digest != deployment.digest:
        what = f"{local.resolve()} holds {found.served_name}, this deployment is of {deployment.model}"
        raise UserError(what, why="it was made again since", fix=f"{RENDER}, with a report on what is there")


def _local(folder: Path) -> str:
    """The checkpoint's folder as the rendered one names it. Raises UserError when it is no longer that."""
    path = folder / "modal.json"
    try:
        return str(json.loads(path.read_bytes())["weights"]["from"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not what deploy render wrote", fix=RENDER) from None


def _app(deployment: Deployment) -> Generator[Step, Result, dict[str, str] | None]:
    """State and number of containers of the app of that name, those of one that is deployed first; None when Modal
    lists none. Both are "" when the list cannot be read, as in a dry run."""
    rows = yield from _rows("app", f"look for {deployment.name}", "app", "list")
    found = [{}] if rows is None else [row for row in rows if row.get("description") == deployment.name]
    found.sort(key=lambda row: (row.get("state") == "deployed", str(row.get("created_at"))))
    return {key: str(found[-1].get(key, "")) for key in ("state", "tasks")} if found else None


def _history(deployment: Deployment) -> Look:
    return (yield from _rows("history", "look at its versions", "app", "history", deployment.name))


def _info(deployment: Deployment) -> Step:
    action = _modal("server", "info", f"{deployment.name}/Server", "--json")
    return Step(id="url", what="ask for its URL", action=action, again=True)


def _rows(id: str, what: str, *words: str) -> Look:
    """What a listing command lists; None when what it printed is no list, as in a dry run."""
    return _read((yield Step(id=id, what=what, action=_modal(*words, "--json"), again=True)))


def _read(result: Result) -> Rows | None:
    try:
        rows = json.loads(str(result["out"]))
    except ValueError:
        return None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else None


def _names(rows: Iterable[dict[str, Any]] | None, key: str) -> set[str]:
    return {str(row.get(key)) for row in rows or []}


def _modal(*words: str) -> Command:
    return Command(argv=("modal", *words))


def _url(result: Result) -> str:
    found = URL.search(str(result.get("out", "")))
    return found[1] if found else ""


def _deploy(tag: str) -> Command:
    return _modal("deploy", "app.py", "--strategy", "rolling", "--tag", tag)


def _tag(deployment: Deployment, folder: Path) -> str:
    """The tag by which a version is known again: which weights, and which render of them."""
    return f"{deployment.digest[:16]}-{artefact.read(folder, KIND, remake=RENDER).digest[:8]}"


def _said(value: Any) -> str:
    return one_line(str(value), 80) if value not in (None, "") else "unknown"


def _price(deployment: Deployment) -> str:
    offer, factor = sizing.lent("modal", deployment.gpu, deployment.gpus), REGIONS[table(deployment).region][1]
    times = f", times {factor:g} for the region" if factor != 1 else ""
    return f"{offer.price}{times}, for each container while it runs, idle ones and starting ones too"


def _starts(deployment: Deployment) -> str:
    least = deployment.scaling.min_replicas
    return f"{least} always on" if least else "nothing runs until the first request, which gets 503 while one starts"
