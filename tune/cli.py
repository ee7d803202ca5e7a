"""The `tune` command: each command reads recipe.toml, calls one stage, and says what it made."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tune import commands, errors
from tune.commands import RECIPE
from tune.errors import Group, UserError
from tune.terminal import note, say, tell

if TYPE_CHECKING:
    from tune.artefact import Artefact
    from tune.recipe import Recipe

JSON = click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON on standard output.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gptoss-kit", prog_name="gptoss-kit")
def main() -> None:
    """Documents in, checkpoint out. Each command is one stage of recipe.toml and resumes where it stopped."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def init(folder: Path) -> None:
    """Write a recipe.toml to start from: Python's own documentation on the nano model."""
    path = folder / "recipe.toml"
    if path.exists():
        raise UserError(f"{path} exists already", fix=f"edit {path}, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("recipe.example.toml"), path)
    tell(f"wrote {path}; next: tune collect")


@main.command()
@RECIPE
@JSON
def collect(path: Path, as_json: bool) -> None:
    """Collect pages from the recipe's source into work/pages."""
    from tune.data.collect import collect as stage
    from tune.data.collected import table
    from tune.data.sources.asking import Ledger

    recipe, ledger = _recipe(path), Ledger()

    def shown(recipe: "Recipe", report: Callable[[str], None]) -> "Artefact":
        made = stage(recipe, report=report, ledger=ledger)
        note(table(made.figures, ledger, recipe.collect.price_per_thousand))
        return made

    _run(shown, recipe, as_json, then="evalsuite questions" if recipe.evaluate.asks else "tune dataset")


@main.command()
@RECIPE
@JSON
def synthesize(path: Path, as_json: bool) -> None:
    """Have another model write questions about the pages, and judge them, into work/synthetic ([synthesis] only)."""
    from tune.synthesis.build import synthesize as stage

    _run(stage, _recipe(path), as_json, then="tune dataset")


@main.command()
@RECIPE
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes on this machine.")
@click.option(
    "--executor",
    type=click.Choice(["local", "slurm", "ray"]),
    help="datatrove makes the parts instead: here, by Slurm, by Ray. They see the work folder.",
)
@click.option("--tasks", type=click.IntRange(1), default=8, show_default=True, help="Of the executor.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of the executor, as time=2:00:00. May be repeated.",
)
@JSON
def dataset(
    path: Path, workers: int, executor: str | None, tasks: int, options: tuple[str, ...], as_json: bool
) -> None:
    """Turn pages, and rows of your own, into verified examples and token ids in work/dataset, and show them.

    No byte of it depends on who makes the parts. What a stopped run has finished is kept for the next one.
    """
    from functools import partial

    from tune.data import executors, summary
    from tune.data import workers as processes
    from tune.data.dataset import KIND, build
    from tune.views.show import kept

    recipe = _recipe(path)
    if options and not executor:
        raise UserError("--option is for an --executor", fix="name one, or leave it out")
    run = executors.of(executor, tasks, options) if executor else partial(processes.run, workers=workers)
    made = build(recipe, report=say, run=run)
    if not as_json:
        for line in summary.lines(made, recipe.work / KIND, shutil.get_terminal_size().columns):
            note(line)
    _told(made, as_json, then="tune train")
    note(f"{kept(recipe, report=say)} shows what it teaches")


@main.command()
@RECIPE
@JSON
def nano(path: Path, as_json: bool) -> None:
    """Train the embedded base model on the pages into work/nano (base.model = "nano" only)."""
    from tune.nano.build import build

    recipe = _recipe(path)
    if recipe.base.model != "nano":
        raise UserError(f"{path} tunes {recipe.base.model}, not nano", fix="tune train")
    made = build(recipe, report=say)
    if as_json:
        tell(made.model_dump_json(indent=1))
    else:
        tell(f"nano: {made.folder} ({made.served_name}); next: tune train")


@main.command()
@RECIPE
@click.option("--max-steps", type=click.IntRange(1), help="Overrides train.max_steps of the recipe.")
@click.option("--hosts", metavar="A,B", help="Addresses in place of [train] hosts, separated by commas.")
@click.option("--host-rank", type=int, help="This host's place in them, from 0.  [default: found by its address]")
@JSON
def train(path: Path, max_steps: int | None, hosts: str | None, host_rank: int | None, as_json: bool) -> None:
    """Train a LoRA adapter on the dataset into work/adapter, on one GPU, several, or the CPU."""
    from tune.training.processes import launch, worker
    from tune.training.train import train as stage

    given = {"max_steps": max_steps, "hosts": hosts.split(",") if hosts else None}
    given = {key: value for key, value in given.items() if value is not None}
    recipe = _recipe(path)
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=given)})
    if launch.needed(recipe):
        more = [f"--max-steps={max_steps}"] * bool(max_steps) + [f"--hosts={hosts}"] * bool(hosts)
        sys.exit(launch.run(path, recipe, host_rank, report=note, more=[*more, *["--json"] * as_json]))
    with worker.speaking():
        _run(stage, recipe, as_json, then="tune export", report=note)


@main.command()
@RECIPE
@click.option(
    "--format",
    "format_",
    type=click.Choice(["merged", "mxfp4", "lora", "gguf", "base"]),
    help="Overrides export.format of the recipe. base: the untuned model, for serve run.",
)
@click.option("--allow-lossy", is_flag=True, help="Write MXFP4 even where it erases much of an adapter of experts.")
@JSON
def export(path: Path, format_: str | None, allow_lossy: bool, as_json: bool) -> None:
    """Write the tuned checkpoint: merged 16-bit, native MXFP4, the LoRA alone or a GGUF, into work/FORMAT."""
    from tune import serving
    from tune.weights import export_base, gguf
    from tune.weights.export import export as stage

    recipe = _recipe(path)
    if format_ == export_base.KIND:
        made = export_base.export(recipe, report=say)
    else:
        changes = {**({"format": format_} if format_ else {}), **({"allow_lossy": True} if allow_lossy else {})}
        recipe = recipe.model_copy(update={"export": recipe.export.model_copy(update=changes)})
        if recipe.export.format == "gguf":
            _run(gguf.export, recipe, as_json, then=serving.command(recipe, recipe.work / gguf.KIND))
            return
        made = stage(recipe, report=say)
    if as_json:
        tell(made.model_dump_json(indent=1))
    else:
        tell(f"{made.folder.name}: {made.folder} ({made.served_name}); next: {serving.command(recipe, made.folder)}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option(
    "--rows",
    "count",
    is_flag=False,
    flag_value=2,
    type=click.IntRange(1),
    metavar="[N]",
    help="Instead of a folder: show what work/dataset trains on, in N rows of each effort (2), and in shares of all.",
)
@RECIPE
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(folder: Path | None, count: int | None, path: Path, as_json: bool) -> None:
    """Check a checkpoint folder: digests, tensor names and shapes, tokenizer, numbers. Or --rows of the dataset."""
    if (folder is None) == (count is None):
        raise UserError("tune check takes a checkpoint's folder or --rows, one of them", fix="tune check --rows")
    with errors.as_json(as_json):
        if folder is None:
            from tune.trying.rows import findings

            found: list[object] = findings(_recipe(path), count or 0, as_json=as_json)
        else:
            from tune.weights.check import check as stage

            found = [*stage(folder)]
    tell(json.dumps({"findings": found, "problems": []}, indent=1) if as_json else "\n".join(map(str, found)))


@main.command()
@RECIPE
@JSON
def status(path: Path, as_json: bool) -> None:
    """Show what has been made, where it lies, and the next command."""
    from tune.status import status as stage

    table = stage(_recipe(path))
    tell(table.model_dump_json(indent=1) if as_json else table.text())


def _recipe(path: Path) -> "Recipe":
    from tune import recipe

    return recipe.read(path)


def _run(stage: "Callable[..., Artefact]", recipe: "Recipe", as_json: bool, *, then: str,
         report: Callable[[str], None] = say) -> None:  # fmt: skip
    _told(stage(recipe, report=report), as_json, then=then)


def _told(made: "Artefact", as_json: bool, *, then: str) -> None:
    from tune.status import headline

    if as_json:
        tell(made.model_dump_json(indent=1))
        return
    tell(f"{made.kind}: {headline(made.figures)}; next: {then}")


for command in (commands.show, commands.try_, commands.push, commands.pull, commands.launch):
    main.add_command(command)
