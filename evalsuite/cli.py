"""The `evalsuite` command: parses, calls one function a command, prints. The gate's verdict is the exit code."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tune.errors import Group, UserError
from tune.terminal import note, say, tell

if TYPE_CHECKING:
    from evalsuite.report import Report
    from tune.recipe import Recipe

PATH = click.Path(path_type=Path)
RECIPE = click.option("--recipe", "path", type=PATH, default=Path("recipe.toml"), show_default=True,
                      help="Its [evaluate] section says what is asked and when a model passes.")  # fmt: skip
KEYS = (
    click.option("--base-key-env", default="", metavar="NAME", help="Variable that holds the base endpoint's key."),
    click.option("--tuned-key-env", default="", metavar="NAME", help="Variable that holds the tuned endpoint's key."),
)
MODELS = (
    click.option("--base-model", default="", metavar="ID", help="Of several that the base endpoint lists."),
    click.option("--tuned-model", default="", metavar="ID", help="Of several that the tuned endpoint lists."),
)
MORE = "next: raise questions in [evaluate] of the recipe, then evalsuite questions and evalsuite compare"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gptoss-kit", prog_name="gptoss-kit")
def main() -> None:
    """Two URLs in, one verdict out.

    Exit codes of the gate: 0 pass, 1 fail, 2 inconclusive or something to change, 3 void. 0 and 1 come from a verdict
    alone: a bug of ours is 70, Ctrl-C 130, a closed pipe 141.
    """


@main.command()
@RECIPE
@click.option("--out", type=PATH, help="Where to write.  [default: questions.jsonl in the work folder]")
def questions(path: Path, out: Path | None) -> None:
    """Generate questions about what is held out, and as many as [evaluate] taught says about what is trained on.

    Each answer is verified: by running it, or in the passage that stands in the prompt. For passages, `tune collect`
    comes first.
    """
    from evalsuite import freeze, sandbox
    from evalsuite import questions as file

    recipe = _recipe(path)
    if not (recipe.evaluate.modules or recipe.evaluate.taught):
        why = "without them nothing is held out, and taught = 0 asks nothing about what is trained on"
        raise UserError(
            f"{path} names no modules to ask about", why=why, fix=f"add modules = [...] to [evaluate] in {path}"
        )
    made = freeze.make(recipe, say)
    if recipe.evaluate.modules and recipe.evaluate.book != "open":  # not in the set: equal sets stay equal anywhere
        note(sandbox.described())
    target = out or recipe.work / "questions.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    file.write(target, made)
    tell(f"questions: {len(made.questions)} in {target}, digest {made.digest[:12]}; next: tune dataset")


@main.command()
@RECIPE
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(path: Path, as_json: bool) -> None:
    """Say what `compare` will take and can show: requests, tokens, and how often two equal models would pass.

    Nothing is asked, and no questions have to be there.
    """
    from evalsuite import plan as planning

    made = planning.plan(_recipe(path).evaluate)
    tell(made.model_dump_json(indent=1) if as_json else planning.words(made))


@main.command()
@RECIPE
@click.option("--base", required=True, metavar="URL", help="The base model's endpoint, …/v1.")
@click.option("--tuned", required=True, metavar="URL", help="The tuned model's endpoint, …/v1.")
@KEYS[0]
@KEYS[1]
@MODELS[0]
@MODELS[1]
@click.option("--questions", "file", type=PATH, help="A question set.  [default: questions.jsonl in the work folder]")
@click.option("--out", type=PATH, help="Folder for answers and report.  [default: the work folder]")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Requests in flight.")
@click.option("--speed/--no-speed", default=True, show_default=True, help="Measure throughput of both, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def compare(
    path: Path,
    base: str,
    tuned: str,
    base_key_env: str,
    tuned_key_env: str,
    base_model: str,
    tuned_model: str,
    file: Path | None,
    out: Path | None,
    concurrency: int,
    speed: bool,
    as_json: bool,
) -> None:
    """Ask both endpoints every question at every effort, and write report.json and report.html. Resumes."""
    from evalsuite.asking.endpoint import Endpoint
    from evalsuite.compare import Speed
    from evalsuite.compare import compare as work
    from evalsuite.views.summary import markdown

    recipe = _recipe(path)
    made = work(
        {
            "base": Endpoint(url=base, model=base_model, key_env=base_key_env),
            "tuned": Endpoint(url=tuned, model=tuned_model, key_env=tuned_key_env),
        },
        settings=recipe.evaluate,
        question_file=file or recipe.work / "questions.jsonl",
        pages=recipe.work / "pages",
        out=out or recipe.work,
        concurrency=concurrency,
        speed=Speed() if speed else None,
        progress=say,
    )
    where = (out or recipe.work) / "report.json"
    tell(made.model_dump_json(indent=1) if as_json else f"{markdown(made)}\nnext: evalsuite gate {where}")


@main.command()
@click.option("--base", required=True, metavar="URL", help="The endpoint, …/v1.")
@click.option("--tuned", default="", metavar="URL", help="A second endpoint: blocks alternate, ratios are paired.")
@KEYS[0]
@KEYS[1]
@MODELS[0]
@MODELS[1]
@click.option("--blocks", type=int, default=6, show_default=True, help="Runs of the load an endpoint gets.")
@click.option("--requests", type=int, default=32, show_default=True, help="Requests a block.")
@click.option("--rate", type=float, help="Offer so many requests a second (open loop).")
@click.option("--concurrency", type=int, help="Or keep so many in flight (closed loop).  [default: 4]")
@click.option("--max-tokens", type=int, default=128, show_default=True, help="Tokens of one answer.")
@click.option("--effort", type=click.Choice(["low", "medium", "high"]), default="low", show_default=True,
              help="Reasoning effort of every request.")  # fmt: skip
def bench(
    base: str,
    tuned: str,
    base_key_env: str,
    tuned_key_env: str,
    base_model: str,
    tuned_model: str,
    rate: float | None,
    concurrency: int | None,
    **load: object,
) -> None:
    """Measure latency and throughput of one endpoint, or of two side by side. JSON; exit 3 when void."""
    from evalsuite.asking.endpoint import Endpoint
    from evalsuite.speed.bench import bench as work
    from evalsuite.speed.bench import resolve

    if rate is None and concurrency is None:
        concurrency = 4
    made = work(
        resolve(Endpoint(url=base, model=base_model, key_env=base_key_env), "base"),
        resolve(Endpoint(url=tuned, model=tuned_model, key_env=tuned_key_env), "tuned") if tuned else None,
        rate=rate,
        concurrency=concurrency,
        report=say,
        **load,  # type: ignore[arg-type]
    )
    tell(made.model_dump_json(indent=1))
    sys.exit(made.exit_code)


@main.command()
@click.argument("file", type=PATH)
@click.option("--html", "page", type=PATH, help="Write the one-file page here.")
@click.option("--junit", type=PATH, help="Write JUnit XML here.")
@click.option("--markdown", "summary", type=PATH, help="Append a Markdown summary here ($GITHUB_STEP_SUMMARY).")
def report(file: Path, page: Path | None, junit: Path | None, summary: Path | None) -> None:
    """Show a report.json again: as a page, as JUnit XML, as Markdown, or on the terminal."""
    from evalsuite.views import html
    from evalsuite.views import summary as views
    from tune.artefact import write_text

    made = _read(file)
    if page:
        write_text(page, html.render(made))
    if junit:
        write_text(junit, views.junit(made))
    if summary:
        with summary.open("a", encoding="utf-8") as f:
            f.write(views.markdown(made))
    if not (page or junit or summary):
        tell(views.markdown(made))


@main.command()
@click.argument("file", type=PATH)
@click.option("--recipe", "path", type=PATH, help="Refuse a report that was not judged as its [evaluate] section "
              "asks for.  [default: recipe.toml, if it is there]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def gate(file: Path, path: Path | None, as_json: bool) -> None:
    """Grade and judge a report's replies again, and say the verdict as an exit code: 0 pass, 1 fail, 2 inconclusive,
    3 void. Questions and replies are those beside the report."""
    from evalsuite.judging.policy import weaker

    made = _read(file)
    if path or Path("recipe.toml").exists():
        path = path or Path("recipe.toml")
        asked = _recipe(path).evaluate
        lacks = [e for e in asked.efforts if e not in made.efforts]
        short = weaker(made.judged, asked) + [f"nothing at effort {e}, and the recipe asks for it" for e in lacks]
        if short:
            raise UserError(
                f"{file} was not judged as {path} asks for",
                why="\n       ".join(f"it has {each}" for each in short),
                fix=f"evalsuite compare --recipe {path}",
            )
    verdict = made.verdict
    if as_json:
        facts = {
            "outcome": verdict.outcome,
            "reasons": verdict.reasons,
            "note": made.note,
            "base": made.base_model,
            "tuned": made.tuned_model,
        }
        tell(json.dumps(facts, indent=1))
    else:
        first = f"{verdict.outcome}: {made.tuned_model} against {made.base_model}"
        after = [MORE] if verdict.outcome == "INCONCLUSIVE" else []
        tell("\n".join([first, *([made.note] if made.note else []), *verdict.reasons, *after]))
    sys.exit(verdict.exit_code)


def _read(path: Path) -> "Report":
    from evalsuite import report

    return report.read(path)


def _recipe(path: Path) -> "Recipe":
    from tune import recipe

    return recipe.read(path)
