"""From examples to the files of a dataset: every filter, each example rendered once, the split, what was left out.

In: pages and the recipe's files of rows. Out: examples.jsonl, train.jsonl, eval.jsonl and dropped.jsonl in a fresh
folder, and figures. Which side an example is on shows only when all are rendered, so they wait on disk: of one only its
size and the shingles of its text are in memory.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tune import harmony
from tune.data import ambiguous, dropped, figures, filters, general, imported, neighbours, quality, sides, synthetic
from tune.data.ambiguous import Answers
from tune.data.dropped import Tally
from tune.data.examples import Example, More, make
from tune.data.fact import Fact
from tune.data.figures import Size
from tune.data.filters import Filters
from tune.data.imported import Refusal, Source
from tune.data.page import Page
from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Recipe

EXAMPLES = "examples.jsonl"
PROGRESS = 5000  # examples between two lines of progress: about ten seconds

Report = Callable[[str], None]


def fill(fresh: Path, recipe: Recipe, pages: Iterable[Page], by: Filters, report: Report) -> dict[str, Any]:
    """Write the files and return the figures. Raises UserError when nothing is left, or too little to split."""
    asked, tally = recipe.dataset, Tally()
    extra_from = general.source(asked, recipe.folder) if asked.general else None
    examples, doctests = make(pages, asked.efforts, recipe.evaluate.answer_rule, _more(recipe))
    spool, answers = fresh / "passed.part", Answers()
    passed = _sift(spool, _candidates(examples, recipe, tally, report), by, tally)
    twins = quality.twins(example.text for example in _read(spool))
    for i, example in enumerate(_read(spool)):
        if i not in twins:
            answers.hear(example)
    report(f"dataset: {passed - len(twins)} of {passed + tally.counts.total()} examples to token ids")
    names = list[str]()
    groups = dict(zip(names, sides.groups(_texts(pages, names)), strict=True))
    known: dict[bytes, str] = {}  # the first row that asks a question
    sizes = [*_render(fresh, _unlike(spool, twins, tally, answers), recipe, tally, (known, groups), report)]
    spool.unlink()
    if not sizes:
        reasons = ", ".join(f"{n} {why}" for why, n in sorted(tally.counts.items())) or "the pages gave none"
        raise UserError("no example is left to train on", why=reasons, fix="edit [collect] or [dataset] in recipe.toml")
    used = {size.page: groups[size.page] for size in sizes}
    splits = sides.split(used, asked.eval_share, asked.seed)
    placed = [splits[size.page] for size in sizes]
    _place(fresh, placed)
    if extra_from:
        extra = _general(fresh, extra_from, recipe, by, tally, known, placed.count("train"), report)
        sizes, placed = [*sizes, *extra], [*placed, *["train"] * len(extra)]
    with (fresh / dropped.FILE).open("w", encoding="utf-8") as f:
        f.writelines(tally.lines())
    own = {size.page: used[size.page] for size in sizes if size.check != "given"}
    return {**figures.of(sizes, placed, own, +tally.counts), "doctests": dict(sorted(doctests.items()))}


def render(example: Example, date: str) -> harmony.Rendered:
    """Token ids and loss mask of one example, checked by `check_control`."""
    return check_control(example, harmony.render_training(example.messages, example.effort, date))


def check_control(example: Example, rendered: harmony.Rendered) -> harmony.Rendered:
    """The rendering itself. Raises RuntimeError when it holds other control tokens than the format puts there.

    Every turn, the system's included, has a start, a message and an end; every assistant turn a channel.
    """
    analysis = int(example.messages[-1].thinking is not None)
    turns = 1 + len(example.messages) + analysis
    expected = Counter({harmony.START: turns, harmony.MESSAGE: turns, harmony.END: turns - 1, harmony.RETURN: 1})
    expected[harmony.CHANNEL] = analysis + sum(m.role == "assistant" for m in example.messages)
    if Counter(i for i in rendered.ids if i >= harmony.RANKS) != expected:
        raise RuntimeError(f"{example.id}: the text of a page became control tokens")  # a bug, not the user's
    return rendered


def _more(recipe: Recipe) -> More:
    """The facts that a page's own rules do not make: what another model wrote, and neighbours where they are named."""
    written = synthetic.read(recipe.work / synthetic.KIND) if recipe.synthesis else {}
    compared = "neighbours" in recipe.dataset.kinds

    def more(page: Page) -> Iterator[tuple[str, Fact]]:
        yield from ((row.heading, row.fact) for row in written.get(page.id, ()))
        yield from neighbours.facts(page) if compared else ()

    return more


def _texts(pages: Iterable[Page], names: list[str]) -> Iterator[str]:
    for page in pages:
        names.append(page.id)
        yield page.text


def _candidates(examples: Iterable[Example], recipe: Recipe, tally: Tally, report: Report) -> Iterator[Example]:
    """Examples of pages of the kinds that are asked for, then the recipe's own rows."""
    for example in examples:
        if example.kind in recipe.dataset.kinds:
            yield example
        else:
            tally.add(example, "of another kind", example.kind)
    for path in recipe.dataset.rows:
        source = imported.of_file(recipe.folder, path, "imported")
        for row in imported.read(source, recipe.dataset.efforts, report):
            if isinstance(row, Refusal):
                tally.refuse(row.id, source.kind, row.reason, row.detail)
            else:
                yield row


def _sift(spool: Path, examples: Iterable[Example], by: Filters, tally: Tally) -> int:
    """Write the examples that stay, a line each; how many."""
    passed = 0
    with spool.open("w", encoding="utf-8") as f:
        for example in examples:
            why, detail = filters.judged(example, by)
            if why:
                tally.add(example, why, detail)
                continue
            f.write(example.model_dump_json() + "\n")
            passed += 1
    return passed


def _read(spool: Path) -> Iterator[Example]:
    with spool.open(encoding="utf-8") as f:
        yield from map(Example.model_validate_json, f)


def _unlike(spool: Path, twins: Mapping[int, int], tally: Tally, answers: Answers) -> Iterator[Example]:
    """The examples of the spool that no earlier one is like, and whose question has one answer."""
    firsts = dict.fromkeys(twins.values(), "")
    for i, example in enumerate(_read(spool)):
        if i in firsts:
            firsts[i] = example.id
        if i in twins:
            tally.add(example, "near-duplicate", firsts[twins[i]])
        elif answers.several(example):
            tally.add(example, ambiguous.REASON)
        else:
            yield example


def _render(
    fresh: Path,
    examples: Iterable[Example],
    recipe: Recipe,
    tally: Tally,
    seen: tuple[dict[bytes, str], dict[str, int]],
    report: Report,
) -> Iterator[Size]:
    """Render to rows.part and examples.jsonl. `seen`, filled here: who asked a question first, and the group of a page.

    A row of a file is a page of its own, but with one that asks the same: it would be known on the other side.
    """
    known, groups = seen
    with (fresh / "rows.part").open("w", encoding="utf-8") as rows, _examples(fresh) as told:
        for number, example in enumerate(examples, 1):
            if number % PROGRESS == 0:
                report(f"dataset: {number} examples are token ids")
            if (row := _row(example, recipe, tally)) is None:
                continue
            first = known.setdefault(_question(example), example.id)
            if example.kind == "imported":
                alike = groups.get(first, groups.get(first.rpartition("#")[0]))  # its own id, or a page's
                groups[example.page] = len(groups) if alike is None else alike
            rows.write(row.line)
            told.write(example.model_dump_json() + "\n")
            yield _size(example, row)


def _place(fresh: Path, sides: Sequence[str]) -> None:
    lines = fresh / "rows.part"
    with (
        lines.open(encoding="utf-8") as rows,
        (fresh / "train.jsonl").open("w", encoding="utf-8") as train,
        (fresh / "eval.jsonl").open("w", encoding="utf-8") as held,
    ):
        for line, side in zip(rows, sides, strict=True):
            (train if side == "train" else held).write(line)
    lines.unlink()


def _general(
    fresh: Path,
    source: Source,
    recipe: Recipe,
    by: Filters,
    tally: Tally,
    known: dict[bytes, str],
    others: int,
    report: Report,
) -> list[Size]:
    """Add general rows to train.jsonl, as many as make their share of it."""
    asked = recipe.dataset

    def lines(example: Example) -> general.Lines | None:
        why, detail = filters.judged(example, by)
        if not why and (first := known.setdefault(_question(example), example.id)) != example.id:
            why, detail = "near-duplicate", first
        if why:
            tally.add(example, why, detail)
            return None
        row = _row(example, recipe, tally)
        return None if row is None else (example.model_dump_json() + "\n", row.line)

    wanted = general.wanted(asked.general_share, others)
    spool, sizes = fresh / "general.part", list[Size]()
    with (fresh / "train.jsonl").open("a", encoding="utf-8") as train, _examples(fresh) as told:
        rows = imported.read(source, asked.efforts, report)
        sample = general.Sample(wanted, asked.seed, lines, first=not (recipe.folder / asked.general).is_file())
        for said, line in general.sample(spool, rows, sample, tally):
            told.write(said)
            train.write(line)
            sizes.append(_size(Example.model_validate_json(said), Row.model_validate_json(line)))
    spool.unlink()
    few = "" if len(sizes) == wanted else f": {source.name} has no more that pass, of {wanted} that are asked for"
    report(f"dataset: {len(sizes)} general rows to train on{few}")
    return sizes


def _examples(fresh: Path) -> Any:
    return (fresh / EXAMPLES).open("a", encoding="utf-8")


def _row(example: Example, recipe: Recipe, tally: Tally) -> Row | None:
    """The example as token ids; None for one that is too long, which is counted."""
    ids, _ = rendered = render(example, recipe.dataset.date)
    if len(ids) > recipe.dataset.max_tokens:
        tally.add(example, "over max_tokens", f"{len(ids):,} tokens")
        return None
    return Row(id=example.id, page=example.page, effort=example.effort, input_ids=ids, labels=rendered.labels)


def _size(example: Example, row: Row) -> Size:
    return Size(
        page=example.page,
        kind=example.kind,
        effort=example.effort,
        check=example.check,
        tokens=len(row.input_ids),
        learned=sum(label != harmony.IGNORE for label in row.labels),
        thinks=example.messages[-1].thinking is not None,
        control=quality.spells_control(example.text),
    )


def _question(example: Example) -> bytes:
    """What is asked, as far as it counts for telling two questions apart."""
    asked = " ".join(message.content for message in example.messages if message.role == "user")
    return hashlib.blake2b(" ".join(quality.words(asked)).encode(), digest_size=12).digest()
