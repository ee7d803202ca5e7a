"""Push, look at and remove a SkyPilot render, by SkyPilot's own command line: rendered folder in, flows of steps out.

Secrets go by the name of their variable. Starts nothing itself.
"""

import re
from collections.abc import Generator
from pathlib import Path

from deploy.live import Live
from deploy.spec import API_KEY, Deployment
from deploy.steps import Command, Flow, Result, Step
from deploy.targets import image
from deploy.targets.documents import lettered
from deploy.targets.skypilot import SOURCE
from deploy.targets.source import prove
from evalsuite.asking.client_info import ClientInfo
from tune.errors import UserError

ADDRESS = r"(https?://)?[A-Za-z0-9.-]+(:\d{1,5})?"
COLOUR = r"\x1b\[[0-9;]*m"
LOOK_SECONDS = 5  # between two looks, at least
MACHINE_SECONDS = 1800  # that a machine may take to be found and set up


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:
    """The image, then the service: made, or brought to what was rendered beside the old replicas; and waited for."""
    d, name = deployment, deployment.image
    image.pullable(d)
    here = prove(d, folder, _checkpoint(folder)) if d.table["weights"] != "bucket" else ""
    yield image.build(name, here if d.table["weights"] == "image" else "")
    yield image.upload(name)
    return (yield from _up(d, live))


def _up(d: Deployment, live: Live) -> Flow:
    """The service or machine of the folder's service.yaml."""
    name = lettered(d.name)
    secrets = tuple(word for key in d.secrets for word in ("--secret", key))
    there = yield from _address(d, "" if live.releases else None)
    if d.table["serve"]:
        words: tuple[str, ...] = ("serve", "up", "service.yaml", "--service-name", name)
        if there is not None:
            words = ("serve", "update", name, "service.yaml", "--mode", "rolling")
        remove, made = f"sky serve down {name} --yes", f"the service {name}, and SkyServe's controller"
    else:
        if there is not None:
            stop = ("cancel", name, "--all", "--yes")
            yield _sky("stop", "end what the machine serves now", stop, lists=True, again=True)
        words = ("launch", "service.yaml", "--cluster", name, "--detach-run")
        remove, made = f"sky down {name} --yes", f"the machine {name}"
    action = Command(argv=("sky", *words, *secrets, "--yes"), needs=tuple(d.secrets), shows=True)
    yield Step(id="up", what=f"start {name}", action=action, makes=made, remove=remove)
    if d.table["serve"]:
        yield from _ready(d)
    where = yield from _address(d)
    until = (
        "" if d.table["serve"] else f"; {d.machine} loads for up to {d.limits.startup_seconds} s: deploy smoke FOLDER"
    )
    return (f"{d.model}: {where or 'no address yet: deploy status FOLDER'}{until}",)


def status(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """What SkyPilot says of it, cut to lines, and where it is."""
    d = deployment
    seen = yield _sky("look", "look at it", _look(d), lists=True, again=True)
    where = yield from _address(d)
    return (
        f"{d.name}: {where or 'no address'}",
        *(f"  {line}" for line in _rows(d, str(seen["out"]))),
        f"each replica is a {d.machine}, at what its cloud asks; the controller is one machine more",
    )


def logs(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """Of the newest replica, or of the controller while there is none."""
    d, name = deployment, lettered(deployment.name)
    if not d.table["serve"]:
        words: tuple[str, ...] = ("logs", name, "--no-follow")
    else:
        seen = yield _sky("look", "which replicas there are", _look(d), lists=True, again=True)
        numbers = [int(n) for n in re.findall(rf"(?m)^{re.escape(name)}\s+(\d+)\s+\d", _plain(str(seen["out"])))]
        which = (str(max(numbers)),) if numbers else ("--controller",)
        words = ("serve", "logs", name, *which, "--no-follow", "--tail", "200")
    action = Command(argv=("sky", *words), shows=True)
    yield Step(id="logs", what="what the server said last", action=action, again=True)
    return ()


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:
    """Bring the service to the task of that release: its image has a tag of its own."""
    if deployment.table["weights"] == "copy":
        prove(deployment, folder, _checkpoint(folder))
    return (yield from _up(deployment, live))


def destroy(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """The service or machine. The controller may have other services, and stays."""
    d, name = deployment, lettered(deployment.name)
    if (yield from _address(d, "")) is not None:
        words = ("serve", "down", name, "--yes") if d.table["serve"] else ("down", name, "--yes")
        action = Command(argv=("sky", *words), shows=True)
        yield Step(id="down", what=f"take {name} down", action=action, again=True)
    left = "the image in your registry" + (
        ', and SkyServe\'s controller, which is billed: sky down "sky-serve-controller-*"' if d.table["serve"] else ""
    )
    return (f"{name} is gone", f"kept, since others may use it: {left}")


def client(deployment: Deployment, live: Live) -> ClientInfo:
    """The address that SkyPilot gave at the last push."""
    d = deployment
    where = _found(str(live.gave("address").get("out", "")))
    if not where:
        raise UserError(f"SkyPilot has not said where {d.name} is", fix="deploy status FOLDER, then deploy push FOLDER")
    encrypted = d.table["serve"] and d.table["tls_key"]
    return ClientInfo(
        base_url=f"{'https' if encrypted else 'http'}://{where.rpartition('://')[2]}/v1",
        model=d.model,
        key_env=API_KEY if API_KEY in d.secrets else "",
        patience_seconds=d.limits.startup_seconds + MACHINE_SECONDS,
        answer_seconds=d.limits.request_seconds if d.table["serve"] else 0,
    )


def _sky(id: str, what: str, words: tuple[str, ...], *, lists: bool = False, again: bool = False) -> Step:
    return Step(id=id, what=what, action=Command(argv=("sky", *words), lists=lists), again=again)


def _checkpoint(folder: Path) -> str:
    """Where the checkpoint lies, seen from the rendered folder."""
    text = (folder / "service.yaml").read_text(encoding="utf-8")
    return text.partition(SOURCE)[2].partition("\n")[0]


def _look(d: Deployment) -> tuple[str, ...]:
    name = lettered(d.name)
    return ("serve", "status", name) if d.table["serve"] else ("status", name)


def _address(d: Deployment, unseen: str | None = None) -> Generator[Step, Result, str | None]:
    """Where it is; "" while it has no address; None when it is not there; `unseen` in a dry run."""
    name = lettered(d.name)
    words = ("serve", "status", "--endpoint", name)
    if not d.table["serve"]:
        words = ("status", "--endpoint", str(d.port), name)
    found = yield _sky("address", f"where {name} is", words, lists=True, again=True)
    if isinstance(found["code"], str):
        return unseen
    if found["code"] != 0:
        return None
    lines = _plain(str(found["out"])).split("\n")
    if "-" in (line.strip() for line in lines):
        return ""
    return _found(str(found["out"])) or None


def _found(text: str) -> str:
    """An address that stands alone in a line; "" if there is none."""
    for line in _plain(text).splitlines():
        if re.fullmatch(ADDRESS, line.strip()) and re.search(r"[.:]\w", line):
            return line.strip()
    return ""


def _plain(text: str) -> str:
    return re.sub(COLOUR, "", text)


def _rows(d: Deployment, text: str) -> list[str]:
    """Lines of a table about it, each cut."""
    lines = (" ".join(line.split())[:200] for line in _plain(text).splitlines())
    return [line for line in lines if line.startswith(f"{lettered(d.name)} ")][:20]


def _ready(d: Deployment) -> Flow:
    """Look until the service is ready. Raises UserError when it failed, or takes longer than it may."""
    name = lettered(d.name)
    for _ in range((d.limits.startup_seconds + MACHINE_SECONDS) // LOOK_SECONDS):
        seen = yield _sky("ready", f"wait until {name} is ready", _look(d), lists=True, again=True)
        row = next(iter(_rows(d, str(seen["out"]))), "").split()
        if "READY" in row:
            return ()
        if wrong := {"FAILED", "CONTROLLER_FAILED", "FAILED_CLEANUP"} & set(row):
            raise UserError(f"SkyServe says {min(wrong)} of {name}", why=" ".join(row)[:200], fix="deploy logs FOLDER")
    raise UserError(f"{name} is not ready yet", why="it takes longer than it may", fix="deploy status FOLDER")
