"""`evalsuite advise`: what another model prefers of a report's free-text answers."""

from pathlib import Path

import click

from evalsuite.commands.options import PATH
from tune.terminal import escaped, note, tell


@click.command()
@click.argument("file", type=PATH)
@click.option("--judge", required=True, metavar="URL", help="The endpoint of a model that is neither base nor tuned.")
@click.option("--judge-model", default="", metavar="ID", help="Of several that it lists.")
@click.option("--judge-key-env", default="", metavar="NAME", help="Variable that holds its key.")
@click.option("--json", "as_json", is_flag=True, help="Print the opinions as JSON.")
def advise(file: Path, judge: str, judge_model: str, judge_key_env: str, as_json: bool) -> None:
    """Ask another model which free-text answer is better, each pair twice with either one first. Decides nothing.

    Writes advice.json beside the report, which stays as it is; `evalsuite report --html` shows it. Resumes.
    """
    from evalsuite import advise as work
    from evalsuite.asking.endpoint import Endpoint

    made = work.advise(file, Endpoint(url=judge, model=judge_model, key_env=judge_key_env), report=note)
    if as_json:
        tell(made.model_dump_json(indent=1))
    else:
        tell(f"{escaped(work.words(made))}\nnext: evalsuite report {file} --html {file.with_suffix('.html')}")
