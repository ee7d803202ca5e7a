"""`deploy try`: a rendered folder's container command, run here as a process. No account, no image, no cloud.

In: the rendered folder, a checkpoint. The program is the folder's start.py with the folder's kit as its only code of
ours; the engine is this machine's. Goes out: a URL, until Ctrl-C.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tune.errors import UserError

if TYPE_CHECKING:
    from deploy.here import Here
    from deploy.spec import Deployment
    from tune.checkpoint import Checkpoint

LOOK = 0.2  # seconds between two looks


@click.command("try")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="The weights.  [default: the folder's own, if they lie near]"
)
@click.option("--port", type=click.IntRange(1, 65535), help="On this machine.  [default: the platform's own]")
def try_(folder: Path, checkpoint: Path | None, port: int | None) -> None:
    """Run the container command of FOLDER here, as its platform would, until Ctrl-C.

    With --checkpoint work/nano on any machine: a small model takes the place of the one that was rendered for.
    """
    from deploy import here
    from serve import machine
    from tune import checkpoint as checkpoints

    deployment = opened(folder)
    found = checkpoints.look(checkpoint) if checkpoint else near(folder, deployment)
    told = here.translate(deployment, found, machine.detect(), port or deployment.port)
    with laid_out(folder, told) as root:
        code = serve(root, told, secrets(deployment, os.environ), deployment)
    if code:
        raise SystemExit(code)


def opened(folder: Path) -> "Deployment":
    """What was rendered there. Raises UserError when the folder is another, or was edited since."""
    from pydantic import ValidationError

    from deploy.spec import Deployment
    from tune import artefact

    remake = "deploy render TARGET"
    made = artefact.read(folder, "deployment", remake=remake)
    artefact.verify(folder, made, remake=remake)
    if not (folder / "start.py").is_file():
        raise UserError(f"{folder} runs a program of its platform's, not ours", fix="a target that runs start.py")
    try:
        return Deployment.model_validate(made.settings.get("deployment"))
    except ValidationError as e:
        why = e.errors(include_input=False)[0]["msg"]
        raise UserError(f"{folder} is not what this version renders", why=why, fix=remake) from None


def near(folder: Path, deployment: "Deployment") -> "Checkpoint":
    """The checkpoint that the folder was rendered for, beside it or beside a folder that it lies in."""
    from tune import checkpoint as checkpoints

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
def laid_out(folder: Path, told: "Here") -> Iterator[Path]:
    """The image's folder of our code, made of the rendered one, with the deployment for here."""
    with tempfile.TemporaryDirectory(prefix="gptoss-try-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        shutil.copytree(folder / "kit", root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(folder / "start.py", root)
        manifest = {"settings": {"deployment": told.deployment}}
        (root / "deployment.json").write_text(json.dumps(manifest), encoding="utf-8")
        yield root


def secrets(deployment: "Deployment", here: Mapping[str, str]) -> dict[str, str]:
    """What the platform would set: each secret from this environment, a host's by the name that it has there."""
    named = {key: name if deployment.target == "compose" else key for key, name in deployment.secrets.items()}
    return {key: here[name] for key, name in named.items() if here.get(name)}


def serve(root: Path, told: "Here", given: Mapping[str, str], deployment: "Deployment") -> int:
    """Run it until it ends or a signal comes, which it hears as SIGTERM; a second one ends it at once.

    Returns its exit status: 0 after a stop in time. Raises UserError when the platform would have killed it.
    """
    dropped = {"PYTHONPATH", "PYTHONHOME", *deployment.secrets}  # a secret comes by the name that the host has for it
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    env = {**kept, **given, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    for line in told.notes:
        click.echo(f"note: {line}", err=True)
    stops: list[float] = []
    command = [sys.executable, str(root / "start.py"), *told.arguments]
    # A session of its own: Ctrl-C in a terminal would reach it beside ours, and be the second signal.
    process = subprocess.Popen(command, env=env, cwd="/", start_new_session=True)

    def stop(*_: Any) -> None:
        stops.append(time.monotonic())
        process.send_signal(signal.SIGTERM)

    before = {sign: signal.signal(sign, stop) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        said = False
        while process.poll() is None:
            if stops and time.monotonic() - stops[0] > told.grace:
                what = f"it did not end within the {told.grace} s that {deployment.target} gives"
                raise UserError(what, why="the platform would have killed it", fix="a smaller [serve] drain")
            if not said and not stops and answers(told.deployment["port"], told.health):
                said = True
                url = f"http://127.0.0.1:{told.deployment['port']}"
                paths = f"{url}/invocations" if deployment.target == "sagemaker" else f"{url}/v1"
                click.echo(f"{paths}  model {told.deployment['model']}  {told.health} 200  (Ctrl-C stops)")
            time.sleep(LOOK)
        return process.returncode
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
        if process.poll() is None:
            with_engine(process)


def with_engine(process: "subprocess.Popen[bytes]") -> None:
    """End it and its engine, which sees that it has gone."""
    process.kill()
    process.wait()


def answers(port: int, path: str) -> bool:
    """Whether the server there says 200."""
    from http.client import HTTPConnection, HTTPException

    door = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        door.request("GET", path)
        return door.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        door.close()
