"""The dataset stage: work/pages -> examples -> token ids and labels, split by page (work/dataset, dataset.json last).

Knows pages and examples; the format is harmony's, the filters are quality's, the split is sides's. Refuses pages of
modules that questions come from.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tune import artefact, harmony
from tune.artefact import Artefact
from tune.data import page, quality, sides
from tune.data.examples import Example, make
from tune.data.row import Row
from tune.errors import UserError, reason
from tune.evaluate import Evaluate
from tune.recipe import Dataset, Recipe

KIND = "dataset"
QUESTIONS = "questions.jsonl"
PROGRESS = 5000  # examples between two lines of progress: about ten seconds


class _Size(NamedTuple):
    """A kept example, and how many tokens its row has and teaches."""

    example: Example
    tokens: int
    learned: int


def build(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Artefact:
    """Make work/dataset: examples.jsonl, train.jsonl and eval.jsonl; kept as it is when nothing changed.

    The last two hold a `Row` a line. Figures: rows, pages, tokens and learned_tokens of train and eval; kinds, efforts
    and checks of kept examples; dropped by reason; alike, the pages on one side since they say nearly the same, and in
    how many groups; doctests by outcome; control_token_texts, the kept examples whose text spells a control
    token. Raises UserError when pages are missing, changed since they were collected, held out, or too few to split,
    when the recipe names held-out modules and no questions are frozen yet, or others than it asks for or of other
    pages, and when another run is making it.
    """
    with artefact.writing(recipe.work / KIND, KIND):
        return _build(recipe, report)


def _build(recipe: Recipe, report: Callable[[str], None]) -> Artefact:
    folder, source = recipe.work / KIND, recipe.work / "pages"
    made = artefact.read(source, "pages", remake="tune collect")
    frozen = recipe.work / QUESTIONS
    if recipe.evaluate.asks and not frozen.is_file():
        raise UserError("there are no frozen questions to keep out of the training data", fix="evalsuite questions")
    prompts = _prompts(frozen, recipe.evaluate, source) if frozen.is_file() else []
    inputs, settings = origin(recipe)
    if current := artefact.is_current(folder, KIND, inputs=inputs, settings=settings):
        report(f"dataset: {current.figures['rows']['train']} rows are there already")
        return current

    artefact.verify(source, made, remake="tune collect")
    pages = page.read(source / "pages.jsonl")
    _refuse_held_out(pages, recipe.evaluate.modules)
    report(f"dataset: examples of {len(pages)} pages")
    found, doctests = make(pages, recipe.dataset.efforts, recipe.evaluate.answer_rule)
    examples = list(found)
    wanted = [e for e in examples if e.kind in recipe.dataset.kinds]
    kept, dropped = select(wanted, prompts)
    if len(wanted) < len(examples):
        dropped["of another kind"] = len(examples) - len(wanted)
    groups = dict(zip((p.id for p in pages), sides.groups(p.text for p in pages), strict=True))
    report(f"dataset: {len(kept)} of {len(examples)} examples to token ids")

    def fill(fresh: Path) -> None:
        figures = _write(fresh, kept, groups, recipe.dataset, dropped, report)
        figures["doctests"] = dict(sorted(doctests.items()))
        artefact.finish(fresh, KIND, inputs=inputs, settings=settings, figures=figures)

    artefact.remake_folder(folder, KIND, fill)
    finished = artefact.read(folder, KIND, remake="tune dataset")
    rows = finished.figures["rows"]
    report(f"dataset: {rows['train']} rows to train on, {rows['eval']} to evaluate on")
    return finished


def _write(
    fresh: Path,
    examples: Sequence[Example],
    groups: Mapping[str, int],
    asked: Dataset,
    dropped: Counter[str],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Render each example once, to disk: which side its page is on shows only when all are. The figures."""
    kept: list[_Size] = []
    lines = fresh / "rows.part"
    with lines.open("w", encoding="utf-8") as rows, (fresh / "examples.jsonl").open("w", encoding="utf-8") as told:
        for number, example in enumerate(examples, 1):
            rendered = render(example, asked.date)
            if len(rendered.ids) > asked.max_tokens:
                dropped["over max_tokens"] += 1
                continue
            rows.write(_row(example, rendered).line)
            told.write(example.model_dump_json() + "\n")
            kept.append(_Size(example, len(rendered.ids), sum(rendered.learned)))
            if number % PROGRESS == 0:
                report(f"dataset: {number} of {len(examples)} examples are token ids")
    if not kept:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items())) or "the pages gave none"
        raise UserError("no example is left to train on", why=reasons, fix="edit [collect] or [dataset] in recipe.toml")
    used = {size.example.page: groups[size.example.page] for size in kept}
    splits = sides.split(used, asked.eval_share, asked.seed)
    with (
        lines.open(encoding="utf-8") as rows,
        (fresh / "train.jsonl").open("w", encoding="utf-8") as train,
        (fresh / "eval.jsonl").open("w", encoding="utf-8") as held,
    ):
        for line, size in zip(rows, kept, strict=True):
            (train if splits[size.example.page] == "train" else held).write(line)
    lines.unlink()
    return _figures(kept, splits, used, dropped)


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
    """Inputs and settings of this recipe's dataset: the digests of pages and questions, each when it is there."""
    inputs = {}
    if (recipe.work / "pages").exists():
        inputs["pages"] = artefact.read(recipe.work / "pages", "pages", remake="tune collect").digest
    if (recipe.work / QUESTIONS).is_file():
        inputs["questions"] = artefact.file_digest(recipe.work / QUESTIONS)
    return inputs, {
        **recipe.dataset.model_dump(mode="json"),
        "answer_rule": recipe.evaluate.answer_rule,
        "held_out": sorted(recipe.evaluate.modules),
        "prompt_fingerprint": harmony.fingerprint(recipe.dataset.date),
    }


def select(examples: Sequence[Example], questions: Sequence[str]) -> tuple[list[Example], Counter[str]]:
    """Examples that pass every filter, in order, and how many fell to which. Contamination is looked for first."""
    dropped: Counter[str] = Counter()
    taken = set(quality.contaminated([e.taught for e in examples], questions)) if questions else set()
    dropped["contaminated"] = len(taken)
    left = []
    for i, example in enumerate(examples):
        reason = "contaminated" if i in taken else quality.problem(example.messages)
        if not reason:
            left.append(example)
        elif i not in taken:
            dropped[reason] += 1
    twice = set(quality.near_duplicates([e.text for e in left]))
    dropped["near-duplicate"] = len(twice)
    return [e for i, e in enumerate(left) if i not in twice], +dropped


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


def _refuse_held_out(pages: Sequence[page.Page], modules: Sequence[str]) -> None:
    leaks = {held.module for p in pages if (held := p.held_out(modules))}
    if leaks:
        raise UserError(
            f"work/pages holds pages of {', '.join(sorted(leaks))}",
            why="evaluate.modules are where questions come from: training on them would void the evaluation",
            fix="tune collect, or take them out of evaluate.modules in recipe.toml",
        )


def _prompts(path: Path, asked: Evaluate, pages: Path) -> list[str]:
    """The prompts of a question set's held-out split; the header says what it was made from. Taught questions are
    about what is trained on, general ones about nothing that documents say."""
    try:
        head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        made, prompts = (
            dict(head.get("made", {})),
            [str(line["prompt"]) for line in lines if line.get("split", "held-out") == "held-out"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(
            f"{path} is not a question set", why=reason(e), fix=f"evalsuite questions --out {path}"
        ) from None
    asked.require_questions(path, made)
    page.require_pages(path, made, pages)
    return prompts


def _row(example: Example, rendered: harmony.Rendered) -> Row:
    return Row(id=example.id, page=example.page, effort=example.effort, input_ids=rendered.ids, labels=rendered.labels)


def _figures(
    kept: Sequence[_Size], splits: Mapping[str, str], groups: Mapping[str, int], dropped: Counter[str]
) -> dict[str, Any]:
    examples = [size.example for size in kept]
    sizes: dict[str, Counter[str]] = {"rows": Counter(), "tokens": Counter(), "learned_tokens": Counter()}
    for size in kept:
        name = splits[size.example.page]
        sizes["rows"][name] += 1
        sizes["tokens"][name] += size.tokens
        sizes["learned_tokens"][name] += size.learned
    several = [n for n in Counter(groups.values()).values() if n > 1]
    return {
        **{key: {"train": found["train"], "eval": found["eval"]} for key, found in sizes.items()},
        "pages": dict(sorted(Counter(splits.values()).items())),
        "kinds": dict(sorted(Counter(e.kind for e in examples).items())),
        "efforts": dict(sorted(Counter(e.effort for e in examples).items())),
        "checks": dict(sorted(Counter(e.check for e in examples).items())),
        "dropped": dict(sorted(dropped.items())),
        "alike": {"pages": sum(several), "groups": len(several)},
        "control_token_texts": sum(quality.spells_control(e.text) for e in examples),
    }
