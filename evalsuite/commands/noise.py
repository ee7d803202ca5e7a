"""`evalsuite noise`: one endpoint asked twice, before anything is compared."""

import sys
from pathlib import Path

import click

from evalsuite.commands.options import CLIENTS, KEYS, MODELS, PATH, RECIPE, endpoint, read_recipe
from tune.terminal import note, say, tell


@click.command()
@RECIPE
@click.option("--base", default="", metavar="URL", help="The base model's endpoint, …/v1.")
@KEYS[0]
@MODELS[0]
@CLIENTS[0]
@click.option("--questions", "file", type=PATH, help="A question set.  [default: questions.jsonl in the work folder]")
@click.option("--out", type=PATH, help="File for the answers.  [default: noise.jsonl in the work folder]")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Requests in flight.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def noise(
    path: Path,
    base: str,
    base_key_env: str,
    base_model: str,
    base_client: Path | None,
    file: Path | None,
    out: Path | None,
    concurrency: int,
    as_json: bool,
) -> None:
    """Ask one endpoint the held-out questions twice: how often two equal runs differ, and how many questions that
    takes. Resumes; touches no comparison."""
    from evalsuite import noise as noises

    asked = endpoint("base", base, base_model, base_key_env, base_client)
    recipe = read_recipe(path)
    made = noises.measure(
        asked,
        settings=recipe.evaluate,
        question_file=file or recipe.work / "questions.jsonl",
        out=out or recipe.work / "noise.jsonl",
        concurrency=concurrency,
        progress=note,
        live=say if sys.stderr.isatty() else None,
    )
    tell(made.model_dump_json(indent=1) if as_json else noises.words(made))
