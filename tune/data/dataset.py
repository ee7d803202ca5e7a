"""The dataset stage: work/pages -> examples -> token ids and labels, split by page (work/dataset, dataset.json last).

Knows what a dataset is made from, and when it is one of this recipe; the files are making's. Refuses pages of modules
that questions come from.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tune import artefact, digests, harmony
from tune.artefact import Artefact
from tune.data import dropped, imported, making, page, parts, synthetic, workers
from tune.data.filters import Held
from tune.errors import UserError, reason
from tune.evaluate import Evaluate
from tune.recipe import Recipe

KIND = "dataset"
QUESTIONS = "questions.jsonl"
RULES = 2  # of examples and filters: one more when the same pages give other rows, so that datasets are made anew

ROOM = f"{KIND}.part"  # beside it, while it is made: what is finished of it

Report = Callable[[str], None]


def build(recipe: Recipe, report: Report = lambda _: None, run: making.Run = workers.run) -> Artefact:
    """Make work/dataset: examples.jsonl, train.jsonl, eval.jsonl and dropped.jsonl; kept as it is when nothing changed.

    train and eval hold a `Row` a line, dropped.jsonl a `Dropped`. Figures: rows, pages, tokens and learned_tokens of
    train and eval; kinds, efforts and checks of kept examples; dropped by reason; alike, the pages on one side since
    they say nearly the same, and in how many groups; doctests by outcome; control_token_texts, the kept examples whose
    text spells a control token; without_analysis, those that have none; imported and general rows apart; by_kind, all
    of that for each kind. Raises UserError when pages are missing, changed since they were collected, held out, or too
    few to split, when a file of rows is missing or mostly none, when the recipe names held-out modules and no questions
    are frozen yet, or others than it asks for or of other pages, and when another run is making it.

    `run` makes the parts: in this process, unless it is told otherwise; by it no byte differs. What a stopped run has
    finished waits in work/dataset.part for the next one of the same recipe, pages and code.
    """
    with artefact.writing(recipe.work / KIND, KIND):
        return _build(recipe, report, run)


def _build(recipe: Recipe, report: Report, run: making.Run) -> Artefact:
    folder, source = recipe.work / KIND, recipe.work / "pages"
    made = artefact.read(source, "pages", remake="tune collect")
    frozen = recipe.work / QUESTIONS
    if recipe.evaluate.asks and not frozen.is_file():
        raise UserError("there are no frozen questions to keep out of the training data", fix="evalsuite questions")
    held = _held(frozen, recipe.evaluate, source) if frozen.is_file() else Held()
    inputs, settings = origin(recipe)
    if current := artefact.is_current(folder, KIND, inputs=inputs, settings=settings, files=[dropped.FILE]):
        report(f"dataset: {current.figures['rows']['train']} rows are there already")
        return current

    artefact.verify(source, made, remake="tune collect")
    if recipe.synthesis:
        _require_synthetic(recipe, made)
    pages = page.Pages(source / "pages.jsonl")
    count = _counted(pages, recipe.evaluate.modules)
    report(f"dataset: examples of {count} pages")

    plan, room = parts.plan(recipe, inputs, held, source / "pages.jsonl"), recipe.work / ROOM

    def fill(fresh: Path) -> None:
        found = making.fill(fresh, room, recipe, plan, run, report)
        artefact.finish(fresh, KIND, inputs=inputs, settings=settings, figures=found)

    artefact.remake_folder(folder, KIND, fill)
    shutil.rmtree(room, ignore_errors=True)
    finished = artefact.read(folder, KIND, remake="tune dataset")
    rows = finished.figures["rows"]
    report(f"dataset: {rows['train']} rows to train on, {rows['eval']} to evaluate on")
    return finished


def read(recipe: Recipe) -> Artefact:
    """The finished dataset. Raises UserError when it is missing or not what this recipe would make of what is there."""
    folder = recipe.work / KIND
    made = artefact.read(folder, KIND, remake="tune dataset")
    inputs, settings = origin(recipe)
    pairs = [(name, made.inputs.get(name), digest) for name, digest in inputs.items()]
    pairs += [(name, made.settings.get(name), value) for name, value in settings.items()]
    other = [name for name, was, now in pairs if was != now]
    if other:
        why = f"what it was made from differs in {', '.join(other)}"
        raise UserError(f"{folder} is not the dataset of this recipe", why=why, fix="tune dataset")
    return made


def origin(recipe: Recipe) -> tuple[dict[str, str], dict[str, Any]]:
    """Inputs and settings of this recipe's dataset: the digests of pages, questions, synthetic questions and files of
    rows, each when it is there."""
    inputs = {}
    if (recipe.work / "pages").exists():
        inputs["pages"] = artefact.read(recipe.work / "pages", "pages", remake="tune collect").digest
    if (recipe.work / QUESTIONS).is_file():
        inputs["questions"] = artefact.file_digest(recipe.work / QUESTIONS)
    if recipe.synthesis and (recipe.work / synthetic.KIND).exists():
        made = artefact.read(recipe.work / synthetic.KIND, synthetic.KIND, remake=synthetic.REMAKE)
        inputs[synthetic.KIND] = made.digest
    asked = [*recipe.dataset.rows, *([Path(recipe.dataset.general)] if recipe.dataset.general else [])]
    for path in (path for path in asked if (recipe.folder / path).is_file()):
        file = recipe.folder / path
        inputs |= {
            f"rows {imported.called(path)}": digest for _, digest in digests.each(file.parent, [file.name], anew=False)
        }
    return inputs, {
        **recipe.dataset.model_dump(mode="json"),
        "rules": RULES,
        "answer_rule": recipe.evaluate.answer_rule,
        "held_out": sorted(recipe.evaluate.modules),
        "prompt_fingerprint": harmony.fingerprint(recipe.dataset.date),
    }


def _require_synthetic(recipe: Recipe, pages: Artefact) -> None:
    folder = recipe.work / synthetic.KIND
    made = artefact.read(folder, synthetic.KIND, remake=synthetic.REMAKE)
    if made.inputs.get("pages") != pages.digest:
        why = "it was collected again since"
        raise UserError(f"{folder} is about other pages", why=why, fix=f"{synthetic.REMAKE}, then tune dataset")
    artefact.verify(folder, made, remake=synthetic.REMAKE)


def _counted(pages: Iterable[page.Page], modules: Sequence[str]) -> int:
    """How many there are. Raises UserError when one of them documents what questions come from."""
    count, leaks = 0, set[str]()
    for one in pages:
        count += 1
        if held := one.held_out(modules):
            leaks.add(held.module)
    if leaks:
        raise UserError(
            f"work/pages holds pages of {', '.join(sorted(leaks))}",
            why="evaluate.modules are where questions come from: training on them would void the evaluation",
            fix="tune collect, or take them out of evaluate.modules in recipe.toml",
        )
    return count


def _held(path: Path, asked: Evaluate, pages: Path) -> Held:
    """A question set's held-out split: its prompts, and the answers that are code. The header says what it was made
    from. Taught questions are about what is trained on, general ones about nothing that documents say."""
    try:
        head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        made = dict(head.get("made", {}))
        own = [line for line in lines if line.get("split", "held-out") == "held-out"]
        found = Held(
            tuple(str(line["prompt"]) for line in own),
            tuple(str(line.get("answer", "")) for line in own if line.get("code")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(
            f"{path} is not a question set", why=reason(e), fix=f"evalsuite questions --out {path}"
        ) from None
    asked.require_questions(path, made)
    page.require_pages(path, made, pages)
    return found
