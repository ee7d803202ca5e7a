"""The synthesis stage: work/pages -> work/synthetic, questions that a model wrote and a model judged.

Knows pages, prompts and an endpoint; what becomes of the rows is the dataset's to say. Replies are kept in
work/cache/synthesis, so a second run asks nothing and its bytes are equal.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tune import artefact
from tune.artefact import Artefact
from tune.data import page
from tune.data.synthetic import KIND, LINES, REMAKE, Synthetic
from tune.errors import UserError
from tune.recipe import Recipe, Synthesis
from tune.synthesis import prompts
from tune.synthesis.endpoint import Reply, Where, ask
from tune.synthesis.prompts import Item, Passage

PROGRESS = 100  # passages between two lines of progress


class _Written(NamedTuple):
    passage: Passage
    item: Item


def synthesize(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Artefact:
    """Make work/synthetic; kept as it is when nothing changed.

    Figures: rows, passages, dropped by reason, failures by reason (passages or judgements that got no reply), tokens of
    prompts and completions. Raises UserError when the recipe has no [synthesis], pages are missing or changed, the
    endpoint refuses, no row came of it, or another run is making it.
    """
    if recipe.synthesis is None:
        raise UserError("the recipe has no [synthesis]", why="it names the model that writes", fix="edit recipe.toml")
    with artefact.writing(recipe.work / KIND, KIND):
        return _synthesize(recipe, recipe.synthesis, report)


def origin(recipe: Recipe, pages: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Inputs and settings of the stage. `pages`: their digest. Where the endpoint is decides nothing."""
    asked = recipe.synthesis.model_dump(mode="json", exclude={"url", "key_env"}) if recipe.synthesis else {}
    return {"pages": pages}, {**asked, "prompts": prompts.VERSION}


def _synthesize(recipe: Recipe, asked: Synthesis, report: Callable[[str], None]) -> Artefact:
    folder, source = recipe.work / KIND, recipe.work / page.PAGES
    made = artefact.read(source, page.PAGES, remake="tune collect")
    inputs, settings = origin(recipe, made.digest)
    current = artefact.is_current(folder, KIND, inputs=inputs, settings=settings)
    if current and not current.figures["failures"]:
        report(f"synthetic: {current.figures['rows']} rows are there already")
        return current
    artefact.verify(source, made, remake="tune collect")
    passages = list(prompts.passages(page.read(source / "pages.jsonl")))
    report(f"synthetic: {len(passages)} passages of {made.figures['pages']} pages")
    counts = {"dropped": Counter[str](), "failures": Counter[str](), "tokens": Counter[str]()}
    where, cache = Where(asked.url, asked.key_env), recipe.work / "cache" / "synthesis"
    written = list(_written(passages, asked, where, cache, counts, report))
    rows = list(_kept(written, asked, where, cache, counts))
    if not rows:
        told = ", ".join(f"{n} {why}" for kind in ("dropped", "failures") for why, n in counts[kind].most_common(3))
        why = told or f"no section of the pages has {prompts.LEAST} words"
        raise UserError("no question was written that stands", why=why, fix="edit [synthesis] in recipe.toml")
    figures = {"rows": len(rows), "passages": len(passages), **{k: dict(sorted(c.items())) for k, c in counts.items()}}

    def fill(fresh: Path) -> None:
        artefact.write_text(fresh / LINES, "".join(row.model_dump_json() + "\n" for row in rows))
        artefact.finish(fresh, KIND, inputs=inputs, settings=settings, figures=figures)

    artefact.remake_folder(folder, KIND, fill)
    report(f"synthetic: {len(rows)} rows, {counts['dropped'].total()} dropped{_told(counts['dropped'])}")
    if counts["failures"]:
        asked_again = f"{counts['failures'].total()} requests without a reply{_told(counts['failures'])}"
        report(f"synthetic: {asked_again}; {REMAKE} asks them again")
    return artefact.read(folder, KIND, remake=REMAKE)


def _told(counts: Counter[str]) -> str:
    """The most frequent reasons."""
    return f" ({', '.join(f'{n} {why}' for why, n in counts.most_common(3))})" if counts else ""


def _written(
    passages: Sequence[Passage],
    asked: Synthesis,
    where: Where,
    cache: Path,
    counts: dict[str, Counter[str]],
    report: Callable[[str], None],
) -> Iterator[_Written]:
    """Items in the order of the passages, those that can be told to be wrong left out and counted."""
    bodies = (_body(asked, asked.model, prompts.write(p, asked.questions), prompts.ITEMS) for p in passages)
    seen = set[str]()
    for number, (passage, reply) in enumerate(zip(passages, ask(bodies, where, cache), strict=True), 1):
        if number % PROGRESS == 0:
            report(f"synthetic: {number} of {len(passages)} passages")
        if not _heard(reply, counts):
            continue
        items = prompts.items(reply.text)
        if not items:
            counts["dropped"]["not in the form asked for" if items is None else "nothing asked about the passage"] += 1
        for item in (items or [])[: asked.questions]:
            asks = " ".join(item.question.lower().split())
            if not all(map(str.strip, (item.question, item.analysis, item.answer))):
                counts["dropped"]["empty"] += 1
            elif asks in seen:
                counts["dropped"]["asked before"] += 1
            elif prompts.strange(item.answer, passage.text):
                counts["dropped"]["names what its passage does not"] += 1
            else:
                seen.add(asks)
                yield _Written(passage, item)


def _kept(
    written: Sequence[_Written], asked: Synthesis, where: Where, cache: Path, counts: dict[str, Counter[str]]
) -> Iterator[Synthetic]:
    """Those that the judge finds nothing against."""
    judge = asked.judge or asked.model
    bodies = (_body(asked, judge, prompts.judge(one.passage, one.item), prompts.OPINION) for one in written)
    for one, reply in zip(written, ask(bodies, where, cache), strict=True):
        if not _heard(reply, counts):
            continue
        opinion = prompts.opinion(reply.text)
        if against := opinion.against if opinion else "judged in another form":
            counts["dropped"][against] += 1
            continue
        passage, item = one
        yield Synthetic(page=passage.page, heading=passage.heading, **item.model_dump())


def _heard(reply: Reply, counts: dict[str, Counter[str]]) -> bool:
    if reply.problem:
        counts["failures"][reply.problem] += 1
    counts["tokens"].update(prompt=reply.prompt_tokens, completion=reply.completion_tokens)
    return not reply.problem


def _body(asked: Synthesis, model: str, messages: Iterable[dict[str, str]], form: dict[str, Any]) -> dict[str, Any]:
    body = {
        "model": model,
        "messages": list(messages),
        "temperature": asked.temperature,
        "max_tokens": asked.max_tokens,
    }
    return (
        body
        | {"seed": asked.seed, "response_format": form}
        | ({"reasoning_effort": asked.effort} if asked.effort else {})
    )
