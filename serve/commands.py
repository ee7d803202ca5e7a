"""The commands of `serve` that reach a server which runs already: reload, and adapters add | remove | list."""

import json
from pathlib import Path
from typing import Any

import click

from tune.errors import Group
from tune.terminal import say, tell

PORT = click.option("--port", type=int, default=8000, show_default=True, help="Of the server on this machine.")
FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.command()
@FOLDER
@PORT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when it is served.")
def reload(folder: Path, port: int, as_json: bool) -> None:
    """Have the server at --port serve the checkpoint in FOLDER instead, with the options that it was started with.

    It loads beside the one that serves, which answers until then, where memory holds both; else that one drains first.
    Adapters that are of it as well stay beside it. What cannot be served changes nothing. Ctrl-C here stops nothing
    there.
    """
    from serve import control

    facts = control.ask(port, folder, say)
    click.echo(json.dumps(facts) if as_json else f"{facts['url']}  model {facts['model']}@{facts['digest'][:16]}")


@click.group(cls=Group)
def adapters() -> None:
    """LoRA adapters beside the base of a running server, which is started with room for them: serve run --adapter."""


@adapters.command()
@FOLDER
@click.option("--name", required=True, help="What clients call it.")
@PORT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when it is served.")
def add(folder: Path, name: str, port: int, as_json: bool) -> None:
    """Load the adapter in FOLDER (tune export --format lora) beside the base, and prove it before clients see it."""
    _told(port, as_json, folder=folder, action="add", name=name)


@adapters.command()
@click.argument("name")
@PORT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when it is gone.")
def remove(name: str, port: int, as_json: bool) -> None:
    """Serve the adapter NAME no longer."""
    _told(port, as_json, action="remove", name=name)


@adapters.command("list")
@PORT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def list_(port: int, as_json: bool) -> None:
    """The adapters beside the base: name, digest, rank, folder."""
    _told(port, as_json, action="list")


def _told(port: int, as_json: bool, *, folder: Path = Path(), **what: Any) -> None:
    from serve import control

    facts = control.ask(port, folder, say, **what)
    if as_json:
        click.echo(json.dumps(facts))
        return
    for a in facts["adapters"]:
        tell(f"{a['name']}  {a['name']}@{a['digest'][:16]}  rank {a['rank']}  {a['folder']}")
    if not facts["adapters"]:
        click.echo(f"no adapter beside {facts['base']}")
