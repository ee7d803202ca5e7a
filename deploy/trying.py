"""`deploy try`: a rendered folder's container command on this machine. No account, no image, no cloud. Parses alone."""

from pathlib import Path

import click


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
    from deploy import rehearsing

    code = rehearsing.rehearse(folder, checkpoint, port, lambda line: click.echo(f"note: {line}", err=True), click.echo)
    if code:
        raise SystemExit(code)
