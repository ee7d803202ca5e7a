"""`deploy`: init | check | plan | render; and, in commands.py, what reaches a platform. Parses and prints."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy import commands, smoking, trying
from tune.errors import Group, UserError

if TYPE_CHECKING:
    from deploy.spec import Target
    from tune.recipe import Recipe

TARGETS = click.Choice(["compose", "modal", "runpod", "sagemaker", "huggingface", "kubernetes", "skypilot"])


def _options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """TARGET, the options named, and the two that every command has."""
    path = click.Path(path_type=Path)
    known = {
        "checkpoint": click.option("--checkpoint", type=path, required=True, help="The folder of tune export."),
        "report": click.option("--report", type=path, help="report.json of evalsuite compare."),
        "ungated": click.option(
            "--no-gate", "ungated", metavar="REASON", help="In place of --report: why there is none."
        ),
        "out": click.option("--out", type=path, required=True, help="The folder to write."),
        "recipe": click.option("--recipe", type=path, help="[default: ./recipe.toml, if any]"),
        "json": click.option("--json", "as_json", is_flag=True, help="Print JSON for a script."),
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed((*names, "recipe", "json")):
            command = known[name](command)
        return click.argument("target", type=TARGETS)(command)

    return decorate


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gptoss-kit", prog_name="gptoss-kit")
def main() -> None:
    """Checkpoint and passing report in, running endpoint out.

    check, plan and render ask no network. push and the others take the rendered FOLDER.
    """


for command in (commands.push, commands.status, commands.logs, commands.client, commands.rollback, commands.destroy):
    main.add_command(command)
main.add_command(trying.try_)
main.add_command(smoking.smoke)


@main.command()
@click.argument("target", type=TARGETS, required=False)
@click.option("--recipe", type=click.Path(path_type=Path), default="recipe.toml", show_default=True, help="A file.")
def init(target: "Target | None", recipe: Path) -> None:
    """Add [deploy], and TARGET's table, to the recipe: every key with its default, commented out.

    What stands there already stays as it is.
    """
    from deploy import starting

    added = starting.write(recipe, target)
    tables = " and ".join(f"[{name}]" for name in added)
    click.echo(f"{recipe}: added {tables}" if added else f"{recipe}: it is all there, nothing was changed")


@main.command()
@_options("checkpoint", "report", "ungated")
def check(
    target: "Target", checkpoint: Path, report: Path | None, ungated: str | None, recipe: Path | None, as_json: bool
) -> None:
    """List everything that speaks against a deployment. Exit 0 without errors, 2 with."""
    from datetime import UTC, datetime

    from deploy import budgets, checks
    from deploy.findings import finding

    reason = _ungated(report, ungated)
    try:
        found = checks.examine(_recipe(recipe), checkpoint, report, target, reason)
    except UserError as e:  # the recipe's: the rest is found, not raised
        found = checks.Examination((finding("D000", e.what, why=e.why, fix=e.fix),))
    found = found._replace(findings=(*found.findings, *budgets.prices(datetime.now(UTC).date())))
    if as_json:
        click.echo(json.dumps([f.model_dump() for f in found.findings], indent=1))
    else:
        for f in found.findings:
            click.echo(f"{f.severity} {f}")
        click.echo(f"{target}: {len(found.errors)} errors, {len(found.warnings)} warnings")
    raise SystemExit(2 if found.errors else 0)


@main.command()
@_options("checkpoint")
@click.option("--out", type=click.Path(path_type=Path), help="A rendered folder: say what a render would change in it.")
def plan(target: "Target", checkpoint: Path, out: Path | None, recipe: Path | None, as_json: bool) -> None:
    """Say what the checkpoint takes, which GPUs hold it, and what they cost by the dated table."""
    from datetime import UTC, datetime

    from deploy import budgets, changes, planning

    told = _recipe(recipe)
    found = planning.plan(told, checkpoint, target)
    changed = changes.planned(told, checkpoint, target, out) if out else None
    if as_json:
        told_changes = {} if changed is None else {"changes": changed}
        click.echo(json.dumps({**found.model_dump(mode="json"), **told_changes}, indent=1))
        return
    several = f" on each of {found.hosts} hosts" if found.hosts > 1 else ""
    click.echo(f"{found.model} on {target}, {found.chosen.gpu}{several}: {found.chosen.words}")
    click.echo(f"start: {found.startup.words}; [deploy] startup_seconds allows {told.deploy.startup_seconds}")
    click.echo(f"cost: {found.cost}")
    for old in budgets.prices(datetime.now(UTC).date()):
        click.echo(f"warning {old}")
    click.echo(f"\nGPUs (table of {found.dated}):")
    for c in found.choices:
        click.echo(f"  {c.gpu:<14}{c.machine:<16}{c.requests:>8,} full-length requests   {c.price}")
    if changed is not None:
        _changes(changed, str(out))


@main.command()
@_options("checkpoint", "report", "ungated", "out")
def render(
    target: "Target",
    checkpoint: Path,
    report: Path | None,
    ungated: str | None,
    out: Path,
    recipe: Path | None,
    as_json: bool,
) -> None:
    """Write the folder. Refused without a PASS for this very checkpoint, or a reason why there is none.

    --no-gate REASON is for a checkpoint that is to be compared where it will run: the reason stands in every render of
    it, and push asks for it again.
    """
    from deploy import render as renders

    reason = _ungated(report, ungated)
    told = _recipe(recipe)
    made = renders.render(target, recipe=told, checkpoint=checkpoint, report=report, out=out, ungated=reason)
    for warning in made.warnings:
        click.echo(f"warning {warning}", err=True)
    if as_json:
        facts = {"folder": str(out), "digest": made.manifest.digest, "model": made.deployment.model}
        click.echo(json.dumps({**facts, "files": sorted(made.manifest.files), "changes": made.changed}, indent=1))
    else:
        click.echo(f"{made.deployment.model} for {target}: {out}\nnext: {out / 'README.md'}")
        if made.changed is not None:
            _changes(made.changed, str(out))


def _ungated(report: Path | None, given: str | None) -> str:
    """The reason, or "" where none was given. Raises UserError for one beside a report, or that cannot be rendered."""
    from deploy import receipt

    if report and given is not None:
        raise UserError("--report and --no-gate exclude each other", fix="leave one out")
    return "" if given is None else receipt.reason(given)


def _changes(changed: Sequence[str], out: str) -> None:
    click.echo(f"changes against the render in {out}:" if changed else f"as the render in {out}")
    for line in changed:
        click.echo(f"  {line}")


def _recipe(path: Path | None) -> "Recipe":
    from tune import recipe

    here = Path("recipe.toml")
    path = path or (here if here.is_file() else None)
    return recipe.read(path) if path else recipe.Recipe()
