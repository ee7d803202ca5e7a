"""The questions stage: a recipe and work/pages in, a frozen question set out, its splits apart.

Decides which books are asked and how many of each; what a question says is pydocs' and open_book's. Reads pages where
the recipe wants open-book questions, and nowhere else.
"""

import platform
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import get_args

from evalsuite.balance import turns
from evalsuite.open_book import open_book
from evalsuite.packs.general import general
from evalsuite.packs.tutorial import TUTORIAL, tutorial
from evalsuite.pydocs.build import ClosedBook, closed_book
from evalsuite.pydocs.written import written
from evalsuite.questions import NONE_HELD_OUT, Question, QuestionSet
from tune import artefact
from tune.data import page
from tune.data.open_book import why_none
from tune.data.page import PAGES, Page
from tune.errors import UserError
from tune.evaluate import Evaluate
from tune.recipe import Recipe
from tune.section import Open

HELD_OUT, TAUGHT = "held_out.jsonl", "pages.jsonl"

Say = Callable[[str], None]


def make(recipe: Recipe, report: Say = lambda _: None) -> QuestionSet:
    """`evaluate.questions` about what was held out, closed and open book in turns, then `evaluate.code` whose answers
    are code, and `evaluate.taught` about pages that are trained on, and `evaluate.general` against forgetting. Fewer
    come when there are no more: `report` says so, and why.

    Raises UserError when pages are missing, changed or collected for other modules, for a module that this Python does
    not have, when book = "open" and the held-out pages hold no fact, when nothing can be asked at all, and for code
    questions where no sandbox shuts their answers in.
    """
    wanted = recipe.evaluate
    opens = bool(wanted.modules) and wanted.book != "closed"
    pages, digests = _pages(recipe, [*([HELD_OUT] if opens else []), *([TAUGHT] if wanted.taught else [])])
    code = written(wanted)  # first: it may not be possible here
    held, closed = _held_out(pages.get(HELD_OUT), wanted, report)
    _tell(code, "code ", wanted.code, "these modules hold no more", report)
    held += code
    prompts = {q.prompt for q in held}
    found = (q for q in open_book(pages.get(TAUGHT, []), "taught", wanted) if q.prompt not in prompts)
    taught = list(islice(found, wanted.taught))
    why = _why_none(pages[TAUGHT], wanted) if wanted.taught and not taught else ""
    if not held and not taught:
        raise UserError(
            "no question can be made from these modules",
            why="\n       ".join(
                [
                    ", ".join(wanted.modules) or "evaluate.modules is empty",
                    *(f"{module}: {reason}" for module, reason in closed.skipped.items()),
                    *([why] if why else []),
                ]
            ),
            fix="name more modules in [evaluate] modules of recipe.toml",
        )
    if why:
        report(f"no taught question: {why}")
    few = " with the open_kinds of [evaluate]" if set(get_args(Open)) - set(wanted.open_kinds) else ""
    limit = few if wanted.book != "closed" else ""
    asked = held[: len(held) - len(code)]
    _tell(asked, "", wanted.questions if wanted.modules else 0, f"these modules hold no more{limit}", report)
    _tell(taught, "taught ", wanted.taught, f"these pages hold no more{few}", report)
    forgotten = general(wanted)
    _tell(forgotten, "general ", wanted.general, "the templates give no more", report)
    if wanted.tutorial:
        report(f"{len(TUTORIAL)} free-text questions, whose answers decide nothing")
    made = {**wanted.about_questions, **({PAGES: digests} if digests else {})}
    name, python = recipe.project.name, platform.python_version()
    return QuestionSet(
        name=name,
        python=python,
        made=made,
        left_out=closed.left_out,
        skipped=closed.skipped,
        questions=(*held, *taught, *forgotten, *(tutorial() if wanted.tutorial else ())),
    )


def _pages(recipe: Recipe, files: Sequence[str]) -> tuple[dict[str, list[Page]], dict[str, str]]:
    """The pages in each of these files of work/pages, and the files' digests."""
    if not files:
        return {}, {}
    folder = recipe.work / PAGES
    made = artefact.read(folder, PAGES, remake="tune collect")
    was, now = set(made.settings.get("held_out", [])), set(recipe.evaluate.modules)
    if was != now:
        raise UserError(
            f"{folder} was collected with other modules held out",
            why=f"evaluate.modules was {', '.join(sorted(was)) or 'empty'}, and is {', '.join(sorted(now)) or 'empty'}",
            fix="tune collect",
        )
    if lacking := [file for file in files if file not in made.files]:
        why = "it was collected by an earlier version"
        raise UserError(f"{folder} has no {', '.join(lacking)}", why=why, fix="tune collect")
    artefact.verify(folder, made, remake="tune collect")
    return {file: page.read(folder / file) for file in files}, {file: made.files[file] for file in files}


def _held_out(pages: list[Page] | None, wanted: Evaluate, report: Say) -> tuple[list[Question], ClosedBook]:
    """Questions of both books, and what the closed one left out.

    `pages` None: no open-book question is wanted, or nothing says which pages would be held out.
    """
    none = ClosedBook(iter(()), {}, {})
    if not wanted.modules:
        report(f"no held-out question, and so no PASS: {NONE_HELD_OUT}")
        return [], none
    opened = list(open_book(pages, "held-out", wanted)) if pages else []
    if pages is not None and not opened:
        why = _why_none(pages, wanted) if pages else f"no page of the source documents {', '.join(wanted.modules)}"
        if wanted.book == "open":
            raise UserError(
                "no open-book question can be made from the held-out pages",
                why=why,
                fix="name other modules in [evaluate] modules of recipe.toml, or more open_kinds, then tune collect",
            )
        report(f"no open-book question about the held-out modules: {why}")
    closed = closed_book(wanted, report) if wanted.book != "open" else none
    return list(islice(turns([closed.questions, opened]), wanted.questions)), closed


def _why_none(pages: Sequence[Page], wanted: Evaluate) -> str:
    if left_out := set(get_args(Open)) - set(wanted.open_kinds):
        asked = ", ".join(sorted(set(wanted.open_kinds)))
        return f"no page gives {asked}, and [evaluate] open_kinds leaves out {', '.join(sorted(left_out))}"
    return why_none(pages)


def _tell(questions: Sequence[Question], split: str, count: int, why: str, report: Say) -> None:
    if not questions:
        return
    if len(questions) < count:
        report(f"only {len(questions)} {split}questions, not {count}: {why}")
    tally = Counter(q.kind for q in questions)
    report(f"{len(questions)} {split}questions: " + ", ".join(f"{kind} {n}" for kind, n in tally.items()))
