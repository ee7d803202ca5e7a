"""The commands of `tune` beside its stages: the dataset as a page, a model that answers, the Hub, rented machines."""

from pathlib import Path

import click

from tune.terminal import escaped, say, tell

RECIPE = click.option(
    "--recipe",
    "path",
    type=click.Path(path_type=Path),
    default=Path("recipe.toml"),
    show_default=True,
    help="The project's recipe.",
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", "repo", required=True, metavar="OWNER/NAME", help="The model repository on the Hub.")
@click.option("--public", is_flag=True, help="Everybody may see it. Without this it is private.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="The report whose verdict the model card states.  [default: report.json beside the checkpoint, if it fits]",
)
@click.option("--license", "license_", default="apache-2.0", show_default=True, help="The model's licence.")
@click.option("--revision", "branch", default="main", show_default=True, metavar="BRANCH", help="The branch to write.")
@click.option("--replace", is_flag=True, help="Overwrite and delete what the branch holds.")
@click.option("--dry-run", is_flag=True, help="Show the model card and what would be sent. Send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def push(
    folder: Path,
    repo: str,
    public: bool,
    report: Path | None,
    license_: str,
    branch: str,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put a proven checkpoint and its model card on the Hugging Face Hub, and compare what lies there then.

    The token comes from HF_TOKEN, or from `hf auth login`.
    """
    from tune.hub.push import push as stage

    made = stage(
        folder,
        repo,
        public=public,
        report=report,
        license=license_,
        branch=branch,
        replace=replace,
        dry_run=dry_run,
        say=say,
    )
    tell(made.model_dump_json(indent=1) if as_json else made.text())


@click.command()
@click.argument("repo", metavar="OWNER/NAME")
@click.option(
    "--revision", required=True, metavar="COMMIT", help="40 hex digits; a branch's name is resolved and told."
)
@click.option(
    "--into", type=click.Path(path_type=Path), default=Path("work/pulled"), show_default=True, help="The new folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def pull(repo: str, revision: str, into: Path, as_json: bool) -> None:
    """Fetch a checkpoint or a GPT-OSS from the Hugging Face Hub and prove every file. Resumes.

    A private one needs a token: HF_TOKEN, or `hf auth login`.
    """
    from tune.hub.pull import pull as stage

    made = stage(repo, revision, into=into, say=say)
    tell(made.model_dump_json(indent=1) if as_json else made.text())


@click.command("try")
@click.argument("questions", nargs=-1, metavar="[QUESTION]...")
@RECIPE
@click.option("--base", default="", metavar="FOLDER|URL", help="A checkpoint or an endpoint.  [default: the recipe's]")
@click.option("--tuned", default="", metavar="FOLDER|URL", help="The same.  [default: the base with work/adapter]")
@click.option("--base-model", default="", metavar="ID", help="Of several that the base endpoint lists.")
@click.option("--tuned-model", default="", metavar="ID", help="Of several that the tuned endpoint lists.")
@click.option("--effort", "efforts", multiple=True, type=click.Choice(["low", "medium", "high"]),
              help="May be repeated.  [default: all three]")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True, help="Of a reply, with thinking.")
@click.option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0: the likeliest token.")
@click.option("--seed", default=0, show_default=True, help="Of the sampling at a temperature.")
@click.option("--json", "as_json", is_flag=True, help="Print the replies as JSON; they stream on standard error.")
def try_(questions: tuple[str, ...], path: Path, efforts: tuple[str, ...], max_tokens: int, temperature: float,
         seed: int, as_json: bool, **sides: str) -> None:  # fmt: skip
    """Show base and tuned side by side as they answer. Without a question: held-out ones of the dataset."""
    from tune.trying import compare

    sampling = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    efforts = efforts or ("low", "medium", "high")
    asked = compare.Asked.model_validate(
        {"recipe": path, "prompts": questions, "efforts": efforts, "sampling": sampling, **sides}
    )
    compare.run(asked, report=say, as_json=as_json)


@click.command()
@RECIPE
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON on standard output.")
def show(path: Path, as_json: bool) -> None:
    """Write work/dataset.html: what the dataset teaches, what was left out, and rows to read, as one page."""
    from tune import recipe
    from tune.views.show import show as stage

    made = stage(recipe.read(path), report=say)
    tell(made.model_dump_json(indent=1) if as_json else escaped(made.text()))


@click.command()
@RECIPE
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("sky.yaml"), show_default=True, help="The file to write."
)
def launch(path: Path, out: Path) -> None:
    """Render the training for a cloud: a SkyPilot task of [train] gpus and hosts, on deploy.gpu."""
    from tune import artefact, recipe
    from tune.training.processes import skypilot

    read = recipe.read(path)
    artefact.write_text(out, skypilot.render(path, read))
    tell(f"wrote {out}; next: {skypilot.next_command(out, read)}")
