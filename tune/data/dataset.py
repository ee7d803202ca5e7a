"""The dataset stage: work/pages -> examples -> token ids and labels, split by page (work/dataset, dataset.json last).

Knows pages and examples; the format is harmony's, the filters are quality's. Refuses pages of modules that
questions come from.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tune import artefact, harmony
from tune.artefact import Artefact
from tune.data import page, quality
from tune.data.examples import Example, make
from tune.data.row import Row
from tune.errors import UserError, reason
from tune.recipe import Evaluate, Recipe

KIND = "dataset"
QUESTIONS = "questions.jsonl"


def build(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Artefact:
    """Make work/dataset: examples.jsonl, train.jsonl and eval.jsonl; kept as it is when nothing changed.

    The last two hold a `Row` a line. Figures: rows, pages, tokens and learned_tokens of train and eval; kinds, efforts
    and checks of kept examples; dropped by reason; doctests by outcome; control_token_texts, the kept examples whose
    text spells a control token. Raises UserError when pages are missing, changed since they were collected, held out,
    or too few to split, and when the recipe names held-out modules and no questions are frozen yet, or others than it
    asks for.
    """
    folder, source = recipe.work / KIND, recipe.work / "pages"
    made = artefact.read(source, "pages", remake="tune collect")
    frozen = recipe.work / QUESTIONS
    if recipe.evaluate.modules and not frozen.is_file():
        raise UserError("there are no frozen questions to keep out of the training data", fix="evalsuite questions")
    prompts = _prompts(frozen, recipe.evaluate) if frozen.is_file() else []
    inputs, settings = origin(recipe)
    if current := artefact.is_current(folder, KIND, inputs=inputs, settings=settings):
        report(f"dataset: {current.figures['rows']['train']} rows are there already")
        return current

    artefact.verify(source, made, remake="tune collect")
    pages = page.read(source / "pages.jsonl")
    _refuse_held_out(pages, recipe.evaluate.modules)
    report(f"dataset: examples of {len(pages)} pages")
    examples, doctests = make(pages, recipe.dataset.efforts, recipe.evaluate.answer_rule)
    wanted = [e for e in examples if e.kind in recipe.dataset.kinds]
    kept, dropped = select(wanted, prompts)
    if len(wanted) < len(examples):
        dropped["of another kind"] = len(examples) - len(wanted)
    report(f"dataset: {len(kept)} of {len(examples)} examples to token ids")
    rows = []
    for example in kept:
        rendered = render(example, recipe.dataset.date)
        if len(rendered.ids) > recipe.dataset.max_tokens:
            dropped["over max_tokens"] += 1
            continue
        rows.append((example, rendered))
    if not rows:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items())) or "the pages gave none"
        raise UserError("no example is left to train on", why=reasons, fix="edit [collect] or [dataset] in recipe.toml")
    splits = split([example.page for example, _ in rows], recipe.dataset.eval_share, recipe.dataset.seed)
    figures = _figures(rows, splits, dropped, doctests)

    def fill(fresh: Path) -> None:
        artefact.write_text(fresh / "examples.jsonl", "".join(e.model_dump_json() + "\n" for e, _ in rows))
        for name in ("train", "eval"):
            lines = [_row(e, r).line for e, r in rows if splits[e.page] == name]
            artefact.write_text(fresh / f"{name}.jsonl", "".join(lines))
        artefact.finish(fresh, KIND, inputs=inputs, settings=settings, figures=figures)

    artefact.remake_folder(folder, KIND, fill)
    report(f"dataset: {figures['rows']['train']} rows to train on, {figures['rows']['eval']} to evaluate on")
    return artefact.read(folder, KIND, remake="tune dataset")


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
    taken = set(quality.contaminated([e.text for e in examples], questions)) if questions else set()
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


def split(pages: Sequence[str], share: float, seed: int) -> dict[str, str]:
    """train or eval for each page id: the share with the smallest sha256 of seed and id is eval, at least one.

    Raises UserError when fewer than two pages have examples.
    """
    order = sorted(set(pages), key=lambda p: hashlib.sha256(f"{seed}:{p}".encode()).digest())
    if len(order) < 2:
        raise UserError(
            "one page has all the examples: nothing to split",
            why="train and eval must not share a page",
            fix="collect more pages, or raise dataset.max_tokens in recipe.toml",
        )
    held = min(len(order) - 1, max(1, round(share * len(order))))
    return {p: "eval" if i < held else "train" for i, p in enumerate(order)}


def _refuse_held_out(pages: Sequence[page.Page], modules: Sequence[str]) -> None:
    leaks = Counter(module for p in pages if (module := p.held_out_by(modules)))
    if leaks:
        raise UserError(
            f"work/pages holds pages of {', '.join(sorted(leaks))}",
            why="evaluate.modules are where questions come from: training on them would void the evaluation",
            fix="tune collect, or take them out of evaluate.modules in recipe.toml",
        )


def _prompts(path: Path, asked: Evaluate) -> list[str]:
    """The prompts of a question set: every line's `prompt` but the header's, which says what it was made from."""
    try:
        head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        made, prompts = dict(head.get("made", {})), [str(line["prompt"]) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(
            f"{path} is not a question set", why=reason(e), fix=f"evalsuite questions --out {path}"
        ) from None
    asked.require_questions(path, made)
    return prompts


def _row(example: Example, rendered: harmony.Rendered) -> Row:
    return Row(id=example.id, page=example.page, effort=example.effort, input_ids=rendered.ids, labels=rendered.labels)


def _figures(
    rows: Sequence[tuple[Example, harmony.Rendered]],
    splits: dict[str, str],
    dropped: Counter[str],
    doctests: Counter[str],
) -> dict[str, Any]:
    kept = [example for example, _ in rows]
    sizes: dict[str, Counter[str]] = {"rows": Counter(), "tokens": Counter(), "learned_tokens": Counter()}
    for example, rendered in rows:
        name = splits[example.page]
        sizes["rows"][name] += 1
        sizes["tokens"][name] += len(rendered.ids)
        sizes["learned_tokens"][name] += sum(rendered.learned)
    return {
        **{key: {"train": found["train"], "eval": found["eval"]} for key, found in sizes.items()},
        "pages": dict(sorted(Counter(splits.values()).items())),
        "kinds": dict(sorted(Counter(e.kind for e in kept).items())),
        "efforts": dict(sorted(Counter(e.effort for e in kept).items())),
        "checks": dict(sorted(Counter(e.check for e in kept).items())),
        "dropped": dict(sorted(dropped.items())),
        "doctests": dict(sorted(doctests.items())),
        "control_token_texts": sum(quality.spells_control(e.text) for e in kept),
    }
