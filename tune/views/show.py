"""`tune show`: work/pages and work/dataset in, work/dataset.html and a few lines out. Changes no stage; no network.

The page lies beside the stages, not in one: no digest hangs on it.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tune import artefact, stale
from tune.artefact import Artefact
from tune.data import collect, dataset
from tune.errors import UserError
from tune.recipe import Recipe
from tune.views import dataset_page, lost, sample, walk
from tune.views.survey import survey

COMMANDS = {collect.KIND: "tune collect", dataset.KIND: "tune dataset"}
NAMED = 6  # kinds, reasons: as many as a line has room for


class Shown(BaseModel):
    """The page that was written, and its figures. `reached`: share of the pages' characters, 0 to 1. `stale`: why a
    stage is not what the recipe would make now, by its command."""

    model_config = ConfigDict(frozen=True)

    page: Path
    bytes: int
    rows: dict[str, int]
    rows_shown: int
    kinds: dict[str, int]
    pages: int
    pages_without_rows: int
    reached: float
    dropped: dict[str, int]
    failures: int
    stale: dict[str, str]

    def text(self) -> str:
        """A few lines, for people."""
        total = sum(self.rows.values())
        lines = [f"stale: {why}; {command}" for command, why in self.stale.items()]
        lines += [
            f"rows: {self.rows['train']:,} to train on, {self.rows['eval']:,} to evaluate on; {_listed(self.kinds)}",
            f"pages: {self.pages:,}, {self.pages_without_rows:,} of them without a row; {self.reached:.1%} of their "
            "text stands in a row",
        ]
        lost_too = {**self.dropped, **({"pages that failed": self.failures} if self.failures else {})}
        lines += [f"left out: {_listed(lost_too)}"] if lost_too else []
        return "\n".join([*lines, f"wrote {self.page}: {self.rows_shown:,} of {total:,} rows to read; open it"])


def kept(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Path:
    """The page, written where there is none of this dataset and these pages. Raises as `show` does."""
    made = _made(recipe)
    page = recipe.work / stale.PAGE
    if not stale.bears(page, stale.mark(recipe, made, stale.reasons(recipe, made))):
        show(recipe, report)
    return page


def show(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Shown:
    """Write the page. Raises UserError when there is no finished dataset, no pages, or one of their files was changed
    since. One that is stale is shown, and said to be."""
    folder, source = recipe.work / dataset.KIND, recipe.work / collect.KIND
    made = _made(recipe)
    for name, found in made.items():
        artefact.verify(recipe.work / name, found, remake=COMMANDS[name])
    reasons = stale.reasons(recipe, made)
    old = {COMMANDS[name]: why for name, why in reasons.items()}
    with walk.opened(folder) as files:
        counted = survey(files, source / "pages.jsonl", report)
        if not counted.rows:
            raise UserError(f"{folder} has no rows", fix="widen [collect] in the recipe, then: tune dataset")
        shown = sample.rows(files, source / "pages.jsonl", counted)
    figures = made[dataset.KIND].figures.get("dropped", {})
    dropped, failures = lost.dropped(folder / "dropped.jsonl", figures), lost.failures(source / "failures.jsonl")
    text = dataset_page.page(
        counted,
        shown,
        name=recipe.project.name,
        dataset=made[dataset.KIND],
        pages=made[collect.KIND],
        dropped=dropped,
        failures=failures,
        stale=old,
        mark=stale.mark(recipe, made, reasons),
    )
    page = recipe.work / stale.PAGE
    artefact.write_text(page, text)
    there = [about for about in counted.pages.values() if about.at >= 0]
    return Shown(
        page=page,
        bytes=page.stat().st_size,
        rows={side: counted.rows[side] for side in walk.SIDES},
        rows_shown=len(shown),
        kinds=counted.kinds,
        pages=len(there),
        pages_without_rows=sum(not about.rows for about in there),
        reached=counted.reached,
        dropped={group.reason: group.total for group in dropped},
        failures=sum(group.total for group in failures),
        stale=old,
    )


def _made(recipe: Recipe) -> dict[str, Artefact]:
    return {
        name: artefact.read(recipe.work / name, name, remake=COMMANDS[name]) for name in (dataset.KIND, collect.KIND)
    }


def _listed(counts: dict[str, int]) -> str:
    found = sorted(counts.items(), key=lambda one: -one[1])
    rest = sum(n for _, n in found[NAMED:])
    return ", ".join([*(f"{name} {n:,}" for name, n in found[:NAMED]), *([f"others {rest:,}"] if rest else [])])
