"""The commands of `deploy` that reach a platform: push, status, logs, rollback, destroy, client. Parses and prints."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tune.errors import UserError
from tune.terminal import escaped, note, tell

if TYPE_CHECKING:
    from deploy.folder import Rendered
    from deploy.pushing import Pushed, Sure

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
YES = click.option("--yes", is_flag=True, help="Do not ask.")
DRY = click.option("--dry-run", "dry", is_flag=True, help="Show each step as it would be sent, and send nothing.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")


def _spelled(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with its folder's own name in what errors say of FOLDER."""

    @wraps(command)
    def run(folder: Path, **more: Any) -> None:
        from deploy import folder as rendered

        with rendered.named(folder):
            command(folder, **more)

    return run


@click.command()
@FOLDER
@YES
@DRY
@click.option("--no-gate", is_flag=True, help="Without a fresh PASS, which the record then says.")
@JSON
@_spelled
def push(folder: Path, yes: bool, dry: bool, no_gate: bool, as_json: bool) -> None:
    """Make the endpoint of a rendered FOLDER, or bring it to what was rendered.

    Asks first: it costs money from then on. Refused for a folder that was edited, and without a fresh PASS for this
    very checkpoint. What is done is kept beside the folder; after a failure the same command goes on.
    """
    from deploy import beside, pushing
    from deploy import folder as rendered

    if dry:
        at = rendered.prove(folder)
        gate = pushing.gate(at.deployment, no_gate=no_gate)
        for line in beside.told(folder, at.deployment, "push replaces it"):
            note(escaped(line.strip()))
        _rehearsed("push", at, as_json, gate=gate)
        return
    made = pushing.push(folder, _hands(folder, note), note, _sure("push it?", yes), no_gate=no_gate)
    _told(rendered.read(folder), made, as_json, f"next: deploy status {folder}; deploy client {folder}")


@click.command()
@FOLDER
@DRY
@JSON
@_spelled
def status(folder: Path, dry: bool, as_json: bool) -> None:
    """Say what runs of FOLDER's deployment, where, and what it costs while it does."""
    _looked("status", folder, dry, as_json)


@click.command()
@FOLDER
@DRY
@_spelled
def logs(folder: Path, dry: bool) -> None:
    """Show what the container said last."""
    _looked("logs", folder, dry, False)


@click.command()
@FOLDER
@YES
@DRY
@click.option("--no-gate", is_flag=True, help="To a release that was pushed without a PASS, too.")
@JSON
@_spelled
def rollback(folder: Path, yes: bool, dry: bool, no_gate: bool, as_json: bool) -> None:
    """Bring the endpoint back to the release before the last push."""
    from deploy import folder as rendered
    from deploy import pushing, undoing

    at = rendered.read(folder)
    if dry:
        seen, old = undoing.back(at, pushing.known(at), no_gate=no_gate)
        for line in undoing.announced(at, seen, old):
            note(escaped(line))
        _rehearsed("rollback", at, as_json, no_gate=no_gate, commands_run_in=str(old.folder))
        return
    made = undoing.rollback(at, _hands(folder, note), note, _sure("roll back?", yes), no_gate=no_gate)
    _told(at, made, as_json, f"next: deploy status {folder}")


@click.command()
@FOLDER
@YES
@DRY
@JSON
@_spelled
def destroy(folder: Path, yes: bool, dry: bool, as_json: bool) -> None:
    """Remove all that pushes of FOLDER have made at the platform. The folder stays."""
    from deploy import beside, undoing
    from deploy import folder as rendered

    at, where = beside.recorded(rendered.read(folder))
    if dry:
        _rehearsed("destroy", at, as_json)
        return
    made = undoing.destroy(at, _hands(where, note), note, _sure("remove it?", yes))
    _told(at, made, as_json, "")


@click.command()
@FOLDER
@click.option("--python", "code", flag_value="python", help="Print a program for the openai client.")
@click.option("--curl", "code", flag_value="curl", help="Print a command line.")
@JSON
@_spelled
def client(folder: Path, code: str | None, as_json: bool) -> None:
    """Print how clients reach the endpoint: address, model, and the variables that hold key and headers.

    --json is what evalsuite compare takes as --tuned-client.
    """
    from deploy import folder as rendered
    from deploy import looking, reaching

    info = looking.client(rendered.read(folder))
    if as_json:
        click.echo(info.model_dump_json(indent=1))
    else:
        write = {"python": reaching.python, "curl": reaching.curl, None: reaching.words}[code]
        click.echo(write(info))


def _looked(command: str, folder: Path, dry: bool, as_json: bool) -> None:
    from deploy import folder as rendered
    from deploy import looking, pushing, running

    at = rendered.read(folder)
    if dry:
        _rehearsed(command, at, as_json)
        return
    quiet: Callable[[str], None] = lambda _: None  # noqa: E731
    found = running.drive(looking.flow(command, at), _hands(folder, tell), say=quiet)
    says = [rendered.spelled(line, folder) for line in found]
    live = pushing.known(at)
    last, begun = live.stands.last, live.last if live.last and not live.last.finished else None
    if as_json:
        release, unfinished = (r.model_dump(mode="json", exclude={"steps"}) if r else None for r in (last, begun))
        click.echo(json.dumps({**_named(at), "release": release, "unfinished": unfinished, "says": says}, indent=1))
        return
    if command == "status":
        tell(f"{at.deployment.name} on {at.deployment.target}: {_pushed(last)}")
        if begun:
            then = "goes on" if begun.folder_digest == at.digest else "sends what the folder holds now"
            was = f"a push of {begun.model} was begun at {begun.at} and not finished"
            tell(f"{was}: {pushing.again('push', at)} {then}")
    for line in says:
        tell(escaped(line))


def _pushed(last: Any) -> str:
    if last is None:
        return "not pushed from here"
    gate = "" if last.gate.startswith("PASS") else f", NOT GATED ({last.gate})"
    return f"{last.model}, {f'pushed {last.at}' if last.finished else 'not pushed to the end'}{gate}"


def _rehearsed(command: str, at: "Rendered", as_json: bool, *, no_gate: bool = False, **facts: str) -> None:
    from deploy import dryrun, looking, pushing
    from deploy import folder as rendered

    there = command != "push" or bool(pushing.known(at).releases)
    steps, found = dryrun.rehearse(lambda: looking.flow(command, at, no_gate=no_gate), there=there)
    says = [rendered.spelled(line, at.folder) for line in found]
    if steps and command in ("status", "logs"):  # nothing was looked at: whatever it tells is made up
        says = ["what it tells hangs on what the platform answers"]
    if as_json:
        shown = [s.model_dump(mode="json") for s in steps]
        click.echo(json.dumps({**_named(at), **facts, "dry_run": True, "steps": shown, "says": says}, indent=1))
        return
    if where := facts.get("commands_run_in"):
        click.echo(f"# in {escaped(where)}")
    for line in (line for step in steps for line in dryrun.shown(step)):
        click.echo(line)
    for line in says:
        click.echo(f"# {escaped(line)}")
    click.echo("nothing was sent")


def _told(at: "Rendered", made: "Pushed", as_json: bool, then: str) -> None:
    from deploy import folder as rendered
    from deploy import running

    says = [rendered.spelled(line, at.folder) for line in made.says]
    steps = [s for release in made.live.releases for s in release.steps]
    if as_json:
        last = made.live.last
        release = last.model_dump(mode="json", exclude={"steps"}) if last else None
        there = [{"what": s.makes, "remove": s.remove} for s in running.standing(steps).values()]
        click.echo(json.dumps({**_named(at), "release": release, "made": there, "says": says}, indent=1))
        return
    for line in (*says, *running.remains(steps)[1:], *([then] if then else [])):
        tell(escaped(line))


def _named(at: "Rendered") -> dict[str, str]:
    return {"folder": str(at.folder), "target": at.deployment.target, "name": at.deployment.name}


def _hands(folder: Path, show: Callable[[str], None]) -> Any:
    from deploy.hands import Hands

    return Hands(folder, show)


def _sure(question: str, yes: bool) -> "Sure":
    """Shows what is about to happen, and asks on a terminal."""

    def sure(lines: Sequence[str]) -> None:
        for line in lines:
            note(escaped(line))
        if yes:
            return
        if not sys.stdin.isatty():
            raise UserError("nobody is there to be asked", why="standard input is no terminal", fix="--yes")
        click.confirm(question, abort=True, err=True)

    return sure
