"""`evalsuite judge`: the gate's verdict on two runs that other tools made."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from evalsuite.commands.options import PATH, read_recipe
from tune.terminal import tell

if TYPE_CHECKING:
    from evalsuite.imports.read import Format

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
ALPHA = click.FloatRange(0, 0.5, min_open=True, max_open=True)


@click.command()
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
    _, second = read(tuned, told, choice, like=tool)
    made = judging.judge(first, second, policy, grouped=bool(module))
    names = [", ".join(str(p) for p in side) for side in (base, tuned)]
    if as_json:
        facts = {"base": names[0], "tuned": names[1], "format": tool, "margin": policy.margin, "alpha": policy.alpha}
        tell(json.dumps(facts | made.model_dump(mode="json"), indent=1))
    else:
        tell(judging.words(made, *names))
    sys.exit(made.verdict.exit_code)
