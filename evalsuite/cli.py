"""The `evalsuite` command: parses, calls one function a command, prints. The gate's verdict is the exit code."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalsuite.commands.advise import advise
from evalsuite.commands.judge import judge
from evalsuite.commands.load import bench, calibrate
from evalsuite.commands.noise import noise
from evalsuite.commands.options import CLIENTS, KEYS, MODELS, PATH, RECIPE, endpoint, read_recipe
from evalsuite.commands.questions import questions
from tune.errors import Group, UserError
from tune.terminal import note, say, tell

if TYPE_CHECKING:
    from evalsuite.asking.endpoint import Endpoint
    from evalsuite.questions import Question
    from evalsuite.replies.answers import Arm
    from evalsuite.report import Report
    from tune.evaluate import Evaluate


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gptoss-kit", prog_name="gptoss-kit")
def main() -> None:
    """Two URLs in, one verdict out.

    Exit codes of the gate: 0 pass, 1 fail, 2 inconclusive or something to change, 3 void. 0 and 1 come from a verdict
    alone: a bug of ours is 70, Ctrl-C 130, a closed pipe 141.
    """


for command in (questions, bench, calibrate, judge, advise, noise):
    main.add_command(command)


@main.command()
@RECIPE
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(path: Path, as_json: bool) -> None:
    """Say what `compare` will take and can show: requests, tokens, and how often two equal models would pass.

    Nothing is asked, and no questions have to be there: those of a questions_file, or of a set made by this recipe, are
    counted where they are.
    """
    from evalsuite import plan as planning
    from evalsuite import report
    from evalsuite.own import take
    from evalsuite.own.check import DATASET
    from evalsuite.questions import NONE_HELD_OUT

    recipe = read_recipe(path)
    named = recipe.evaluate.questions_file
    own = recipe.folder / named if named else None
    there = None if own else _frozen(recipe.work / report.QUESTIONS, recipe.evaluate)
    if not (own or (any(q.split == "held-out" for q in there) if there else recipe.evaluate.modules)):
        raise UserError("no question is held out", why="without one no report is a PASS", fix=NONE_HELD_OUT)
    taken = take.asked(recipe.evaluate, own) if own and own.exists() else None
    made = planning.plan(recipe.evaluate, taken, there)
    dataset = recipe.work / DATASET
    if recipe.evaluate.limits.contamination is not None and not (dataset / f"{DATASET}.json").is_file():
        note(f"warning: [evaluate.limits] contamination looks into {dataset}, which is not there: tune dataset")
    tell(made.model_dump_json(indent=1) if as_json else planning.words(made))


def _frozen(path: Path, settings: "Evaluate") -> "tuple[Question, ...] | None":
    """The questions that these settings have made; None where there are none, or those are of others."""
    from evalsuite import questions as question_sets

    if not path.exists():
        return None
    try:
        found = question_sets.read(path)
        settings.require_questions(path, found.made)
    except UserError as e:
        note(f"note: {e.what}, so this is what the recipe would make: {e.fix}")
        return None
    return found.questions


@main.command()
@RECIPE
@click.option("--base", default="", metavar="URL", help="The base model's endpoint, …/v1.")
@click.option("--tuned", default="", metavar="URL", help="The tuned model's endpoint, …/v1.")
@KEYS[0]
@KEYS[1]
@MODELS[0]
@MODELS[1]
@CLIENTS[0]
@CLIENTS[1]
@click.option("--questions", "file", type=PATH, help="A question set.  [default: questions.jsonl in the work folder]")
@click.option("--out", type=PATH, help="Folder for answers and report.  [default: the work folder]")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Requests in flight.")
@click.option("--speed/--no-speed", default=True, show_default=True, help="Measure throughput of both, too.")
@click.option("--replay", is_flag=True, help="Ask no server: judge the answers on file. What is missing stays missing.")
@click.option("--allow-unlike-servers", "allow_unlike", is_flag=True,
              help="Compare although the two run different versions of an engine; the report says so.")  # fmt: skip
@click.option("--stop-early/--no-stop-early", "stop_early", default=None,
              help="Ask no more once no answer could lead to a PASS.  [default: evaluate.stop_early]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def compare(
    path: Path,
    base: str,
    tuned: str,
    base_key_env: str,
    tuned_key_env: str,
    base_model: str,
    tuned_model: str,
    base_client: Path | None,
    tuned_client: Path | None,
    file: Path | None,
    out: Path | None,
    concurrency: int,
    speed: bool,
    replay: bool,
    allow_unlike: bool,
    stop_early: bool | None,
    as_json: bool,
) -> None:
    """Ask both endpoints every question at every effort, and write report.json and report.html. Resumes.

    Exits with 3, and asks nothing, when the two servers cannot be compared.
    """
    from evalsuite import compare as work
    from evalsuite.speed.compared import Speed
    from evalsuite.views.summary import markdown

    asks = base or tuned or base_client or tuned_client
    if replay and (asks or allow_unlike or stop_early is not None):
        why = "leave out --base, --tuned, --allow-unlike-servers and --stop-early"
        raise click.UsageError(f"--replay asks no server: {why}.")
    arms: dict[Arm, Endpoint] = {}
    if not replay:
        arms["base"] = endpoint("base", base, base_model, base_key_env, base_client)
        arms["tuned"] = endpoint("tuned", tuned, tuned_model, tuned_key_env, tuned_client)
    recipe = read_recipe(path)
    if allow_unlike and not recipe.evaluate.allow_unlike_servers:
        raise UserError(
            "--allow-unlike-servers is forbidden here",
            why=f"{path} has allow_unlike_servers = false in [evaluate]",
            fix="serve base and tuned with one version of the engine",
        )
    folder = out or recipe.work
    asked, pages = file or recipe.work / "questions.jsonl", recipe.work / "pages"
    dataset = recipe.work / "dataset"
    if replay:
        made = work.replay(
            settings=recipe.evaluate, question_file=asked, pages=pages, dataset=dataset, out=folder, progress=note
        )
    else:
        made = work.compare(
            arms,
            settings=recipe.evaluate,
            question_file=asked,
            pages=pages,
            dataset=dataset,
            out=folder,
            concurrency=concurrency,
            speed=Speed() if speed else None,
            allow_unlike=allow_unlike,
            stop_early=stop_early,
            progress=note,
            live=say if sys.stderr.isatty() else None,
        )
    where = folder / "report.json"
    tell(made.model_dump_json(indent=1) if as_json else f"{markdown(made)}\nnext: evalsuite gate {where}")
    if made.evidence.unfit:
        sys.exit(made.verdict.exit_code)


@main.command()
@click.argument("file", type=PATH)
@click.option("--html", "page", type=PATH, help="Write the one-file page here.")
@click.option("--junit", type=PATH, help="Write JUnit XML here.")
@click.option("--markdown", "summary", type=PATH, help="Append a Markdown summary here ($GITHUB_STEP_SUMMARY).")
@click.option("--badge", type=PATH, help="Write a badge here: FILE.svg, or FILE.json for shields.io.")
def report(file: Path, page: Path | None, junit: Path | None, summary: Path | None, badge: Path | None) -> None:
    """Show a report.json again: as a page, as JUnit XML, as Markdown, as a badge, or on the terminal."""
    from evalsuite.judging import opinions
    from evalsuite.report import as_stored
    from evalsuite.views import badge as badges
    from evalsuite.views import html
    from evalsuite.views import summary as views
    from tune.artefact import write_text

    made = _read(file)
    if page:
        write_text(page, html.render(made, opinions.beside(file, as_stored(file).digest)))
    if junit:
        write_text(junit, views.junit(made))
    if summary:
        with summary.open("a", encoding="utf-8") as f:
            f.write(views.markdown(made))
    if badge:
        write_text(badge, badges.render(made, badge.suffix))
    if not (page or junit or summary or badge):
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
    from evalsuite.report import REMAKE
    from evalsuite.views.following import step

    made = _read(file)
    if path or Path("recipe.toml").exists():
        path = path or Path("recipe.toml")
        asked = read_recipe(path).evaluate
        asked.require_unchanged(file, made.judged.made)
        lacks = [e for e in asked.efforts if e not in made.efforts]
        short = weaker(made.judged, asked) + [f"nothing at effort {e}, and the recipe asks for it" for e in lacks]
        if short:
            raise UserError(
                f"{file} was not judged as {path} asks for",
                why="\n       ".join(f"it has {each}" for each in short),
                fix=f"{REMAKE} --recipe {path}",
            )
    verdict = made.verdict
    if as_json:
        facts = {
            "outcome": verdict.outcome,
            "reasons": verdict.reasons,
            "note": made.note,
            **({"stopped": made.stopped.model_dump()} if made.stopped else {}),
            "base": made.base_model,
            "tuned": made.tuned_model,
        }
        tell(json.dumps(facts, indent=1))
    else:
        after = step(made)
        first = f"{verdict.outcome}: {made.tuned_model} against {made.base_model}"
        tell("\n".join([first, *([made.note] if made.note else []), *verdict.reasons, *([after] if after else [])]))
    sys.exit(verdict.exit_code)


def _read(path: Path) -> "Report":
    from evalsuite import report

    return report.read(path)
