"""The `deploy` command line: parse, call one function of checks.py, sizing.py or render.py, echo."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy import smoking
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
        "report": click.option("--report", type=path, required=True, help="report.json of evalsuite compare."),
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
    """Checkpoint and passing report in, a folder that a GPU cloud deploys from out."""


main.add_command(smoking.smoke)


@main.command()
@_options("checkpoint", "report")
def check(target: "Target", checkpoint: Path, report: Path, recipe: Path | None, as_json: bool) -> None:
    """List everything that speaks against a deployment. Exit 0 without errors, 2 with."""
    from deploy import checks
    from deploy.findings import finding

    try:
        found = checks.examine(_recipe(recipe), checkpoint, report, target)
    except UserError as e:  # the recipe's: the rest is found, not raised
        found = checks.Examination((finding("D000", e.what, why=e.why, fix=e.fix),))
    if as_json:
        click.echo(json.dumps([f.model_dump() for f in found.findings], indent=1))
    else:
        for f in found.findings:
            click.echo(f"{f.severity} {f}")
        click.echo(f"{target}: {len(found.errors)} errors, {len(found.warnings)} warnings")
    raise SystemExit(2 if found.errors else 0)


@main.command()
@_options("checkpoint")
def plan(target: "Target", checkpoint: Path, recipe: Path | None, as_json: bool) -> None:
    """Say what the checkpoint takes, which GPUs hold it, and what they cost by the dated table."""
    from deploy import sizing

    found = sizing.plan(_recipe(recipe), checkpoint, target)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
        return
    click.echo(f"{found.model} on {target}, {found.chosen.gpu}: {found.chosen.words}")
    click.echo(f"cost: {found.cost}\n\nGPUs (table of {found.dated}):")
    for c in found.choices:
        click.echo(f"  {c.gpu:<14}{c.machine:<16}{c.requests:>8,} full-length requests   {c.price}")


@main.command()
@_options("checkpoint", "report", "out")
def render(target: "Target", checkpoint: Path, report: Path, out: Path, recipe: Path | None, as_json: bool) -> None:
    """Write the folder. Refused without a PASS for this very checkpoint; there is no way round that."""
    from deploy import render as renders

    made = renders.render(target, recipe=_recipe(recipe), checkpoint=checkpoint, report=report, out=out)
    for warning in made.warnings:
        click.echo(f"warning {warning}", err=True)
    if as_json:
        facts = {"folder": str(out), "digest": made.manifest.digest, "model": made.deployment.model}
        click.echo(json.dumps({**facts, "files": sorted(made.manifest.files)}, indent=1))
    else:
        click.echo(f"{made.deployment.model} for {target}: {out}\nnext: {out / 'README.md'}")


def _recipe(path: Path | None) -> "Recipe":
    from tune import recipe

    here = Path("recipe.toml")
    path = path or (here if here.is_file() else None)
    return recipe.read(path) if path else recipe.Recipe()
