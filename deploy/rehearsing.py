"""A rendered folder's container command, run here as a process: its entry, with its kit as the only code of ours.

In: the rendered folder, a checkpoint. Goes out: a URL that is said once the platform would send requests there; the
exit status at the end. The engine is this machine's.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from deploy import folder as rendered
from deploy import here
from deploy.here import Here
from deploy.leash import leashed
from deploy.spec import Deployment
from serve import machine
from tune import checkpoint as checkpoints
from tune.checkpoint import Checkpoint
from tune.errors import UserError

LOOK = 0.2  # seconds between two looks

Say = Callable[[str], None]


def rehearse(folder: Path, checkpoint: Path | None, port: int | None, note: Say, tell: Say) -> int:
    """Run it until a signal comes. `checkpoint` None: the folder's own; `port` None: the platform's.

    `note` is told what is other than there, `tell` where it answers. Returns the exit status of start.py. Raises
    UserError for what cannot be run here.
    """
    deployment = opened(folder)
    found = checkpoints.look(checkpoint) if checkpoint else near(folder, deployment)
    told = here.translate(deployment, found, machine.detect(), port or deployment.port)
    for line in told.notes:
        note(line)
    if told.asked and not free(told.asked):
        what = f"port {told.asked}, where {deployment.target} asks how the server is, is taken"
        raise UserError(what, fix="--port N, of which N + 1 is free, too")
    with laid_out(folder, told) as root:
        return serve(root, told, deployment, tell)


def opened(folder: Path) -> Deployment:
    """What was rendered there. Raises UserError when the folder was edited, or runs no program of ours."""
    found = rendered.prove(folder).deployment
    if not (folder / "start.py").is_file():
        raise UserError(f"{folder} runs a program of its platform's, not ours", fix="a target that runs start.py")
    return found


def near(folder: Path, deployment: Deployment) -> Checkpoint:
    """The checkpoint that the folder was rendered for, beside it or beside a folder that it lies in."""
    for around in list(folder.resolve().parents)[:2]:
        for manifest in sorted(around.glob("*/checkpoint.json")):
            try:
                found = checkpoints.look(manifest.parent)
            except UserError:
                continue
            if found.digest == deployment.digest:
                return found
    fix = "--checkpoint FOLDER: that one, or any that this machine can serve, such as work/nano"
    raise UserError(f"{deployment.model} does not lie near {folder}", fix=fix)


@contextmanager
def laid_out(folder: Path, told: Here) -> Iterator[Path]:
    """The image's folder of our code, made of the rendered one, with the deployment for here."""
    with tempfile.TemporaryDirectory(prefix="gptoss-try-", ignore_cleanup_errors=True) as place:
        root = Path(place)
        shutil.copytree(folder / "kit", root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        for name in {"start.py", told.entry}:
            shutil.copy(folder / name, root)
        manifest = {"settings": {"deployment": told.deployment}}
        (root / "deployment.json").write_text(json.dumps(manifest), encoding="utf-8")
        yield root


def secrets(deployment: Deployment, here: Mapping[str, str]) -> dict[str, str]:
    """What the platform would set: each secret from this environment, a host's by the name that it has there."""
    named = {key: name if deployment.target == "compose" else key for key, name in deployment.secrets.items()}
    return {key: here[name] for key, name in named.items() if here.get(name)}


def serve(root: Path, told: Here, deployment: Deployment, tell: Say) -> int:
    """Run it until it ends or a signal comes, which it hears as SIGTERM; a second one ends it at once.

    Returns its exit status: 0 after a stop in time. Raises UserError when the platform would have killed it.
    """
    dropped = {"PYTHONPATH", "PYTHONHOME", *deployment.secrets}  # a secret comes by the name that the host has for it
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    given = secrets(deployment, os.environ)
    env = {**kept, **given, **told.env, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    stops: list[float] = []
    command = [sys.executable, str(root / told.entry), *told.arguments]

    def start(host: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C in a terminal would reach it beside ours, and be the second signal.
        return subprocess.Popen(leashed(command), env={**env, **host}, cwd="/", start_new_session=True)

    process, *others = map(start, told.hosts)

    def stop(*_: Any) -> None:
        stops.append(time.monotonic())
        process.send_signal(signal.SIGTERM)

    before = {sign: signal.signal(sign, stop) for sign in (signal.SIGINT, signal.SIGTERM)}
    served: int = told.deployment["port"]
    door = f":{told.asked}{told.health}" if told.asked else told.health
    try:
        said = False
        while process.poll() is None:
            if stops and time.monotonic() - stops[0] > told.grace:
                what = f"it did not end within the {told.grace} s that {deployment.target} gives"
                raise UserError(what, why="the platform would have killed it", fix="a smaller [serve] drain")
            if not said and not stops and answers(told.asked or served, told.health):
                said = True
                url = f"http://127.0.0.1:{served}"
                paths = f"{url}/invocations" if deployment.target == "sagemaker" else f"{url}/v1"
                tell(f"{paths}  model {told.deployment['model']}  {door} 200  (Ctrl-C stops)")
            for n, other in enumerate(others):
                if not stops and ended(other):
                    others[n] = start(told.hosts[n + 1])
            time.sleep(LOOK)
        return process.returncode
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
        if process.poll() is None:
            with_engine(process)
        for other in others:  # they end with the first
            with suppress(subprocess.TimeoutExpired):
                other.wait(here.EXIT)
            with_engine(other)


def ended(part: "subprocess.Popen[bytes]") -> bool:
    """Whether another host's part has ended, as it does with the first one's engine. Raises UserError if it failed."""
    if 0 < (part.poll() or 0) < 128:  # no signal of ours or anybody's
        raise UserError(f"another host's part ended with {part.returncode}", fix="what it said stands above")
    return part.returncode is not None


def with_engine(process: "subprocess.Popen[bytes]") -> None:
    """End it and its engine, which sees that it has gone."""
    process.kill()
    process.wait()


def free(port: int) -> bool:
    """Whether something can listen there."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError:
            return False
    return True


def answers(port: int, path: str) -> bool:
    """Whether the server there says 200."""
    door = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        door.request("GET", path)
        return door.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        door.close()
