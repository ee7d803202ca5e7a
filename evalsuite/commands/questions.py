"""The commands of `evalsuite questions`: build a set or take one's own, show it, check it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalsuite.commands.options import PATH, RECIPE, Amount, read_recipe
from tune.errors import UserError
from tune.terminal import note, one_line, say, tell

if TYPE_CHECKING:
    from evalsuite.questions import QuestionSet
    from tune.recipe import Recipe

OUT = click.option("--out", type=PATH, help="Where to write.  [default: questions.jsonl in the work folder]")
FILE = click.argument("file", type=PATH, required=False)
COUNT = click.IntRange(0)
FILE_NAME = "questions.jsonl"  # in the work folder


@click.group(invoke_without_command=True)
@RECIPE
@OUT
@click.pass_context
def questions(context: click.Context, path: Path, out: Path | None) -> None:
    """Generate questions about what is held out, as many as [evaluate] taught says about what is trained on, and as
    [evaluate] general says against forgetting, and [evaluate] code whose answers are code.

    Each answer is verified: by running it, or in the passage that stands in the prompt. For passages, `tune collect`
    comes first. Where [evaluate] has a questions_file, your own questions are taken from it instead.
    """
    if context.invoked_subcommand is None:
        _build(path, out)
    elif given := [name for name in ("path", "out") if _written(context, name)]:
        flag = "--recipe" if "path" in given else "--out"
        raise click.UsageError(f"{flag} stands after the command: evalsuite questions {context.invoked_subcommand}")


@questions.command()
@RECIPE
@OUT
def build(path: Path, out: Path | None) -> None:
    """The same as no command: generate the recipe's questions, or take those of its questions_file."""
    _build(path, out)


@questions.command()
@FILE
@RECIPE
@OUT
def take(file: Path | None, path: Path, out: Path | None) -> None:
    """Make a question set of your own FILE, CSV or JSONL.  [default: questions_file of the recipe]

    Columns: prompt, answer, grader (exact, literal, choice, yesno, signature); and if you like kind, module (what
    belongs together), split (held-out, taught, general), id, developer, guess. Every bad line is named, and nothing is
    written then.
    """
    recipe = read_recipe(path)
    named = recipe.evaluate.questions_file
    if not (file or named):
        raise UserError(
            f"{path} names no questions_file", fix="evalsuite questions take FILE.csv, or add it to [evaluate]"
        )
    _take(recipe, path, file or recipe.folder / str(named), out)


@questions.command()
@FILE
@RECIPE
@click.option("--kind", default="", help="Only questions of this kind.")
@click.option("--id", "name", default="", help="Only the question of this id.")
@click.option("--limit", type=COUNT, default=10, show_default=True, help="Questions that are shown; 0: all.")
def show(file: Path | None, path: Path, kind: str, name: str, limit: int) -> None:
    """Show a question set: how many there are of what, then questions with their answers."""
    from evalsuite.own.show import listing

    made = _read(file, path)
    for what, wanted, there in (("kind", kind, {q.kind for q in made.questions}),
                                ("id", name, {q.id for q in made.questions})):  # fmt: skip
        if wanted and wanted not in there:
            known = f"there are {one_line(', '.join(sorted(there)))}" if what == "kind" else ""
            raise UserError(
                f"no question of this {what}: {wanted}", why=known, fix="evalsuite questions show --limit 0"
            )
    tell(listing(made, kind=kind, name=name, limit=limit))


@questions.command()
@FILE
@RECIPE
@click.option("--against", type=PATH, metavar="FOLDER", help="A dataset of `tune dataset`: is a question in it?")
@click.option("--max-contamination", "most", type=Amount(0, 1), default=0.0, show_default=True,
              help="Share of the held-out questions that training data may hold.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def check(file: Path | None, path: Path, against: Path | None, most: float, as_json: bool) -> None:
    """Check a question set: digest, answers, near-duplicates, blind guessing, balance; contamination --against data.

    Exit codes: 0 clean, 2 no question, an answer that its grader does not take, or more contamination than
    --max-contamination.
    """
    from evalsuite.own import check as figures

    made = _read(file, path)
    found = figures.check(made, against)
    tell(found.model_dump_json(indent=1) if as_json else figures.words(made, found))
    if not made.questions:
        raise UserError("there is no question in this set", fix="evalsuite questions, or evalsuite questions take FILE")
    if wrong := figures.problems(found, most):
        raise UserError(
            "these questions cannot be asked as they are",
            why="\n       ".join(wrong),
            fix="evalsuite questions, then tune dataset: it leaves out what asks the same as a frozen question",
        )


def _build(path: Path, out: Path | None) -> None:
    from evalsuite import freeze, sandbox

    recipe = read_recipe(path)
    if own := recipe.evaluate.questions_file:
        _take(recipe, path, recipe.folder / own, out)
        return
    if not (recipe.evaluate.modules or recipe.evaluate.taught):
        why = "without them nothing is held out, and taught = 0 asks nothing about what is trained on"
        raise UserError(
            f"{path} names no modules to ask about", why=why, fix=f"add modules = [...] to [evaluate] in {path}"
        )
    made = freeze.make(recipe, say)
    if recipe.evaluate.modules and recipe.evaluate.book != "open":  # not in the set: equal sets stay equal anywhere
        note(sandbox.described())
    tell(f"{_write(made, out or recipe.work / FILE_NAME)}; next: {_following(recipe, out)}")


def _take(recipe: "Recipe", path: Path, file: Path, out: Path | None) -> None:
    from evalsuite.own.take import take as stage

    made = stage(recipe, file, say)
    named = recipe.evaluate.questions_file
    same = named is not None and (recipe.folder / named).resolve() == file.resolve()
    following = _following(recipe, out) if same else f'add questions_file = "{file}" to [evaluate] in {path}'
    tell(f"{_write(made, out or recipe.work / FILE_NAME)}; next: {following}")


def _following(recipe: "Recipe", out: Path | None) -> str:
    """A set beside the frozen one is what nothing is kept out of training for: it can be asked, and be checked."""
    if out is None or out.resolve() == (recipe.work / FILE_NAME).resolve():
        return "tune dataset"
    return f"evalsuite compare --questions {out} --base URL --tuned URL"


def _write(made: "QuestionSet", target: Path) -> str:
    from evalsuite import questions as sets

    target.parent.mkdir(parents=True, exist_ok=True)
    sets.write(target, made)
    return f"questions: {len(made.questions)} in {target}, digest {made.digest[:12]}"


def _read(file: Path | None, path: Path) -> "QuestionSet":
    from evalsuite import questions as sets

    return sets.read(file or read_recipe(path).work / FILE_NAME)


def _written(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
