"""A dataset made: its parts, by whoever makes them, then somebody's rows, all of it joined, general rows added.

In: a recipe and a plan of its parts. Out: examples.jsonl, train.jsonl, eval.jsonl and dropped.jsonl in a fresh folder,
and figures; all the same whoever made the parts. Knows no pages, and nothing of how one part is made.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tune.data import dropped, figures, filling, filters, general, imported, joining, parts, quality, sides
from tune.data.asked import Asked, opened
from tune.data.dropped import Tally
from tune.data.examples import Example
from tune.data.figures import Group, Sum
from tune.data.filters import Filters
from tune.data.imported import Refusal, Source
from tune.data.parts import Part, Plan
from tune.data.row import Row
from tune.errors import UserError
from tune.harmony import IGNORE
from tune.recipe import Recipe

ROWS, CHARACTERS = 4096, 2**22  # of a part of somebody's rows, at most

Report = Callable[[str], None]
Run = Callable[[Path, str, Sequence[int], Report], None]  # makes parts by number, of the plan with this digest


def fill(fresh: Path, room: Path, recipe: Recipe, plan: Plan, run: Run, report: Report) -> dict[str, Any]:
    """Write the files and return the figures; parts are made in `room`, where those that are whole stay.

    Raises UserError when nothing is left, or too little to split, and what whoever makes parts raises.
    """
    asked, tally, by = recipe.dataset, Tally(), filters.of(plan.held, recipe.dataset)
    extra_from = general.source(asked, recipe.folder) if asked.general else None
    digest = parts.opened(room, plan)
    left = parts.missing(room, plan)
    if len(left) < len(plan.shards):
        report(f"dataset: {len(plan.shards) - len(left):,} of {len(plan.shards):,} parts are there already")
    if left:
        run(room, digest, left, report)
    made, doctests = parts.finished(room, plan), Counter[str]()
    for part in made:
        about = part.about
        tally.extend(about.dropped)
        doctests.update(about.doctests)
    for part in _own(room, recipe, by, tally, report):
        tally.extend(part.about.dropped)
        made.append(part)
    rows = joining.judged(made, fresh)
    report(f"dataset: {rows.kept:,} of {len(rows.fate) + tally.counts.total():,} examples stay")
    joining.leave_out(rows, tally)
    if not rows.kept:
        reasons = ", ".join(f"{n} {why}" for why, n in sorted(tally.counts.items())) or "the pages gave none"
        raise UserError("no example is left to train on", why=reasons, fix="edit [collect] or [dataset] in recipe.toml")
    found = joining.split(rows, asked.eval_share, fresh)
    sums = joining.write(fresh, rows, found)
    if extra_from:
        with opened(rows, fresh) as known:
            _general(fresh, extra_from, recipe, by, tally, known, sums, report)
    with (fresh / dropped.FILE).open("w", encoding="utf-8") as f:
        f.writelines(tally.lines())
    figured = figures.of(sums, found.pages, found.alike, +tally.counts)
    return {**figured, "doctests": dict(sorted(doctests.items()))}


def _own(room: Path, recipe: Recipe, by: Filters, tally: Tally, report: Report) -> Iterator[Part]:
    """The recipe's own rows as parts, made in any case: reading them is most of it, and tells what was refused."""

    def passed() -> Iterator[Example]:
        for path in recipe.dataset.rows:
            source = imported.of_file(recipe.folder, path, "imported")
            for row in imported.read(source, recipe.dataset.efforts, report):
                if isinstance(row, Refusal):
                    tally.refuse(row.id, source.kind, row.reason, row.detail)
                else:
                    yield row

    none, rows = sides.signatures([]), passed()
    for number, first in enumerate(rows):
        place = room / f"rows-{number:06d}"
        shutil.rmtree(place, ignore_errors=True)
        yield parts.write(place, chain([first], _some(rows, first)), [], none, recipe.dataset, by, {})


def _some(rows: Iterator[Example], first: Example) -> Iterator[Example]:
    """As many more as a part has."""
    left = CHARACTERS - len(first.text)
    for row in islice(rows, ROWS - 1):
        left -= len(row.text)
        yield row
        if left < 0:
            return


def _general(
    fresh: Path,
    source: Source,
    recipe: Recipe,
    by: Filters,
    tally: Tally,
    known: Asked,
    sums: dict[Group, Sum],
    report: Report,
) -> None:
    """Add general rows to train.jsonl, as many as make their share of it."""
    asked = recipe.dataset

    def lines(example: Example) -> general.Lines | None:
        why, detail = filters.judged(example, by)
        if not why and (first := known.first(filling.question(example), example.id)) != example.id:
            why, detail = "near-duplicate", first
        if not why and (row := filling.rendered(example, asked.date)).tokens > asked.max_tokens:
            why, detail = "over max_tokens", f"{row.tokens:,} tokens"
        if why:
            tally.add(example, why, detail)
            return None
        return example.model_dump_json() + "\n", row.text

    wanted = general.wanted(asked.general_share, sum(n.rows for group, n in sums.items() if group.side == "train"))
    spool, count = fresh / "general.part", 0
    with (fresh / "train.jsonl").open("a", encoding="utf-8") as train, _examples(fresh) as told:
        found = imported.read(source, asked.efforts, report)
        sample = general.Sample(wanted, asked.seed, lines, first=not (recipe.folder / asked.general).is_file())
        for said, line in general.sample(spool, found, sample, tally):
            told.write(said)
            train.write(line)
            joining.add(sums, *_counted(Example.model_validate_json(said), Row.model_validate_json(line)))
            count += 1
    spool.unlink()
    few = "" if count == wanted else f": {source.name} has no more that pass, of {wanted} that are asked for"
    report(f"dataset: {count} general rows to train on{few}")


def _examples(fresh: Path) -> Any:
    return (fresh / filling.EXAMPLES).open("a", encoding="utf-8")


def _counted(example: Example, row: Row) -> tuple[Group, Sum]:
    thinks, control = example.messages[-1].thinking is not None, quality.spells_control(example.text)
    group = Group(example.kind, example.effort, example.check, thinks, control, "train")
    return group, Sum(1, len(row.input_ids), sum(label != IGNORE for label in row.labels))
