"""The `evalsuite` command: parses, calls one function a command, prints. The gate's verdict is the exit code."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from evalsuite.commands import PATH, RECIPE, Amount, questions, read_recipe
from tune.errors import Group, UserError
from tune.terminal import note, one_line, say, tell

if TYPE_CHECKING:
    from evalsuite.imports.read import Format
    from evalsuite.report import Report

KEYS = (
    click.option("--base-key-env", default="", metavar="NAME", help="Variable that holds the base endpoint's key."),
    click.option("--tuned-key-env", default="", metavar="NAME", help="Variable that holds the tuned endpoint's key."),
)
MODELS = (
    click.option("--base-model", default="", metavar="ID", help="Of several that the base endpoint lists."),
    click.option("--tuned-model", default="", metavar="ID", help="Of several that the tuned endpoint lists."),
)
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
ALPHA = click.FloatRange(0, 0.5, min_open=True, max_open=True)
LENGTH = click.IntRange(1, 131_072)  # of an answer: what GPT-OSS takes, prompt and answer together
TIME = Amount(0, min_open=True)
LACKING = r"(more questions|about more modules) would show it|ask more questions"  # said of a limit


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gptoss-kit", prog_name="gptoss-kit")
def main() -> None:
    """Two URLs in, one verdict out.

    Exit codes of the gate: 0 pass, 1 fail, 2 inconclusive or something to change, 3 void. 0 and 1 come from a verdict
    alone: a bug of ours is 70, Ctrl-C 130, a closed pipe 141.
    """


main.add_command(questions)


@main.command()
@RECIPE
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(path: Path, as_json: bool) -> None:
    """Say what `compare` will take and can show: requests, tokens, and how often two equal models would pass.

    Nothing is asked, and no questions have to be there.
    """
    from evalsuite import plan as planning

    made = planning.plan(read_recipe(path).evaluate)
    tell(made.model_dump_json(indent=1) if as_json else planning.words(made))


@main.command()
@RECIPE
@click.option("--base", default="", metavar="URL", help="The base model's endpoint, …/v1.")
@click.option("--tuned", default="", metavar="URL", help="The tuned model's endpoint, …/v1.")
@KEYS[0]
@KEYS[1]
@MODELS[0]
@MODELS[1]
@click.option("--questions", "file", type=PATH, help="A question set.  [default: questions.jsonl in the work folder]")
@click.option("--out", type=PATH, help="Folder for answers and report.  [default: the work folder]")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Requests in flight.")
@click.option("--speed/--no-speed", default=True, show_default=True, help="Measure throughput of both, too.")
@click.option("--replay", is_flag=True, help="Ask no server: judge the answers on file. What is missing stays missing.")
@click.option("--allow-unlike-servers", "allow_unlike", is_flag=True,
              help="Compare although the two run different versions of an engine; the report says so.")  # fmt: skip
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
    replay: bool,
    allow_unlike: bool,
    as_json: bool,
) -> None:
    """Ask both endpoints every question at every effort, and write report.json and report.html. Resumes.

    Exits with 3, and asks nothing, when the two servers cannot be compared.
    """
    from evalsuite import compare as work
    from evalsuite.asking.endpoint import Endpoint
    from evalsuite.speed.compared import Speed
    from evalsuite.views.summary import markdown

    if replay and (base or tuned or allow_unlike):
        raise click.UsageError("--replay asks no server: leave out --base, --tuned and --allow-unlike-servers.")
    for option, url in (("--base", base), ("--tuned", tuned)):
        if not (url or replay):
            raise click.UsageError(f"Missing option '{option}'.")
    recipe = read_recipe(path)
    folder = out or recipe.work
    asked, pages = file or recipe.work / "questions.jsonl", recipe.work / "pages"
    dataset = recipe.work / "dataset"
    if replay:
        made = work.replay(
            settings=recipe.evaluate, question_file=asked, pages=pages, dataset=dataset, out=folder, progress=note
        )
    else:
        made = work.compare(
            {
                "base": Endpoint(url=base, model=base_model, key_env=base_key_env),
                "tuned": Endpoint(url=tuned, model=tuned_model, key_env=tuned_key_env),
            },
            settings=recipe.evaluate,
            question_file=asked,
            pages=pages,
            dataset=dataset,
            out=folder,
            concurrency=concurrency,
            speed=Speed() if speed else None,
            allow_unlike=allow_unlike,
            progress=note,
            live=say if sys.stderr.isatty() else None,
        )
    where = folder / "report.json"
    tell(made.model_dump_json(indent=1) if as_json else f"{markdown(made)}\nnext: evalsuite gate {where}")
    if made.evidence.unfit:
        sys.exit(made.verdict.exit_code)


@main.command()
@click.option("--base", required=True, metavar="URL", help="The endpoint, …/v1.")
@click.option("--tuned", default="", metavar="URL", help="A second endpoint: blocks alternate, ratios are paired.")
@KEYS[0]
@KEYS[1]
@MODELS[0]
@MODELS[1]
@click.option(
    "--blocks", type=click.IntRange(1), default=6, show_default=True, help="Runs of the load an endpoint gets."
)
@click.option("--requests", type=click.IntRange(1), help="Requests a block.  [default: 32, or the whole trace]")
@click.option("--rate", type=Amount(0.001), help="Offer so many requests a second (open loop).")
@click.option("--concurrency", type=click.IntRange(1), help="Or keep so many in flight (closed loop).  [default: 4]")
@click.option("--trace", type=PATH, help="Or offer them at the moments in this file, in seconds, one a line.")
@click.option("--arrivals", type=click.Choice(["closed", "poisson", "constant", "trace"]),
              help="How requests come.  [default: poisson at a --rate, closed without one]")  # fmt: skip
@click.option("--prompts", type=PATH, metavar="FILE.jsonl", help='Your own, {"prompt": "..."} a line.')
@click.option("--prompt-tokens", default="128-384", show_default=True, metavar="N[-M]",
              help="Length of the others, drawn evenly; each begins as no other does.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**53), help="Of prompts and arrivals.  [default: another for every "
              "run, since a server's prefix cache may hold the prompts of the last]")  # fmt: skip
@click.option("--max-tokens", type=LENGTH, default=128, show_default=True, help="Tokens of one answer.")
@click.option("--effort", type=click.Choice(["low", "medium", "high"]), default="low", show_default=True,
              help="Reasoning effort of every request.")  # fmt: skip
@click.option("--slo-ttft-ms", type=TIME, help="Goodput: share of requests with a first "
              "token within this.")  # fmt: skip
@click.option("--slo-tpot-ms", type=TIME, help="Goodput: and with so much time an output "
              "token at most.")  # fmt: skip
def bench(
    base: str,
    tuned: str,
    base_key_env: str,
    tuned_key_env: str,
    base_model: str,
    tuned_model: str,
    rate: float | None,
    concurrency: int | None,
    trace: Path | None,
    prompts: Path | None,
    seed: int | None,
    slo_ttft_ms: float | None,
    slo_tpot_ms: float | None,
    **load: Any,
) -> None:
    """Measure latency and throughput of one endpoint, or of two side by side. JSON; exit 3 when void."""
    from evalsuite.asking.endpoint import Endpoint
    from evalsuite.speed import prompts as texts
    from evalsuite.speed import schedule
    from evalsuite.speed.bench import bench as work
    from evalsuite.speed.load import resolve
    from evalsuite.speed.metrics import Slo

    if rate is None and trace is None and concurrency is None and load["arrivals"] in {None, "closed"}:
        concurrency = 4
    texts.bounds(load["prompt_tokens"])
    own = texts.read(prompts) if prompts else None
    moments = schedule.trace(trace) if trace else ()
    most = {"ttft_s": slo_ttft_ms, "tpot_s": slo_tpot_ms}
    made = work(
        resolve(Endpoint(url=base, model=base_model, key_env=base_key_env), "base"),
        resolve(Endpoint(url=tuned, model=tuned_model, key_env=tuned_key_env), "tuned") if tuned else None,
        rate=rate,
        concurrency=concurrency,
        trace=moments,
        prompts=own,
        seed=texts.drawn() if seed is None else seed,
        slo=Slo(**{k: ms and ms / 1000 for k, ms in most.items()}) if any(most.values()) else None,
        report=say,
        **load,
    )
    tell(made.model_dump_json(indent=1))
    sys.exit(made.exit_code)


@main.command()
@click.option("--streams", type=click.IntRange(1), multiple=True, help="Requests in flight; may be repeated.  "
              "[default: 1, 16, 64, 256]")  # fmt: skip
@click.option("--ttft-ms", type=Amount(0), default=10.0, show_default=True, help="True time to first token.")
@click.option("--gap-ms", type=Amount(0), default=20.0, show_default=True, help="True time between tokens.")
@click.option("--tokens", type=LENGTH, default=32, show_default=True, help="Tokens of one answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def calibrate(streams: tuple[int, ...], ttft_ms: float, gap_ms: float, tokens: int, as_json: bool) -> None:
    """Show what `bench` would measure of a server whose latency is known, and at how many streams it measures itself.

    The server is the bundled stub, in a process of its own on this machine.
    """
    from evalsuite.speed import calibrate as calibration

    found = calibration.calibrate(
        streams or (1, 16, 64, 256), ttft_s=ttft_ms / 1000, gap_s=gap_ms / 1000, tokens=tokens
    )
    tell(found.model_dump_json(indent=1) if as_json else calibration.table(found))


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
    from evalsuite.report import REMAKE

    made = _read(file)
    if path or Path("recipe.toml").exists():
        path = path or Path("recipe.toml")
        asked = read_recipe(path).evaluate
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
            "base": made.base_model,
            "tuned": made.tuned_model,
        }
        tell(json.dumps(facts, indent=1))
    else:
        first = f"{verdict.outcome}: {made.tuned_model} against {made.base_model}"
        tell("\n".join([first, *([made.note] if made.note else []), *verdict.reasons, *_more(made)]))
    sys.exit(verdict.exit_code)


@main.command()
@click.option(
    "--base", required=True, multiple=True, type=PATH, help="A results file of the base model; may be repeated."
)
@click.option("--tuned", required=True, multiple=True, type=PATH, help="And of the tuned one.")
@click.option("--format", "written", type=click.Choice(["auto", "lm-eval", "inspect", "promptfoo", "mlflow", "jsonl"]),
              default="auto", show_default=True, help="The tool that wrote them.")  # fmt: skip
@click.option("--recipe", "path", type=PATH, help="Take margin and alpha from its [evaluate] section.")
@click.option("--margin", type=SHARE, help="How much worse tuned may be, 0 to 1.  [default: 0.05]")
@click.option("--alpha", type=ALPHA, help="Chance of a PASS for one that is worse by it.  [default: 0.05]")
@click.option("--metric", default="", metavar="NAME", help="Which of several scores decides.")
@click.option("--right-at", type=float, metavar="SCORE", help="A graded score from here on is right.")
@click.option("--module", default="", metavar="KEY", help="Key of an item whose value says what goes together.")
@click.option("--id", "key", default="", metavar="KEY", help="Key of an item that pairs the runs.")
@click.option("--json", "as_json", is_flag=True, help="Print verdict and figures as JSON.")
def judge(
    base: tuple[Path, ...],
    tuned: tuple[Path, ...],
    written: "Format | Literal['auto']",
    path: Path | None,
    margin: float | None,
    alpha: float | None,
    metric: str,
    right_at: float | None,
    module: str,
    key: str,
    as_json: bool,
) -> None:
    """Judge two runs that other tools made: lm-eval samples, inspect logs, promptfoo and MLflow results, or JSONL.

    Items are paired by their id. Exit codes are the gate's: 0 pass, 1 fail, 2 inconclusive, 3 void.
    """
    from evalsuite import judge as judging
    from evalsuite.imports.item import Choice
    from evalsuite.imports.read import read

    if path and (margin or alpha):
        raise click.UsageError("--recipe says margin and alpha: leave out --margin and --alpha.")
    if both := {p.resolve() for p in base} & {p.resolve() for p in tuned}:
        raise click.UsageError(f"{both.pop()} is given as base and as tuned.")
    choice, told = Choice(metric, module, key, right_at), None if written == "auto" else written
    policy = judging.policy(read_recipe(path).evaluate, path) if path else judging.chosen(margin, alpha)
    tool, first = read(base, told, choice)
    _, second = read(tuned, told or tool, choice)
    made = judging.judge(first, second, policy, grouped=bool(module))
    names = [", ".join(str(p) for p in side) for side in (base, tuned)]
    if as_json:
        facts = {"base": names[0], "tuned": names[1], "format": tool, "margin": policy.margin, "alpha": policy.alpha}
        tell(json.dumps(facts | made.model_dump(mode="json"), indent=1))
    else:
        tell(judging.words(made, *names))
    sys.exit(made.verdict.exit_code)


def _more(made: "Report") -> list[str]:
    """The step after INCONCLUSIVE, where more questions could decide. A limit that lacks something else says what."""
    from evalsuite.judging.limits import WORDS
    from tune.recipe import OWN

    undecided = [c for c in made.verdict.checks if c.outcome == "INCONCLUSIVE"]
    short = {c.name for c in undecided if c.name not in WORDS or re.search(LACKING, c.reason)}
    if not short:
        return []
    own, general = made.questions_made.get(OWN), short == {"forgetting"}
    more = f"raise {'general' if general else 'questions'} in [evaluate] of the recipe"
    if own and not general:
        more = f"add questions to {one_line(str(own), 80)}"
    return [f"next: {more}, then evalsuite questions and evalsuite compare"]


def _read(path: Path) -> "Report":
    from evalsuite import report

    return report.read(path)
