"""The embedded base model: pages in, a small GPT-OSS checkpoint that speaks harmony out (`work/nano`).

The architecture is the real one and the vocabulary too; weights are those of a small model that can read, rewritten,
or trained from a random start, in a few minutes on a CPU. A finished model is kept in the user's cache by the digest of
everything it was made from, so a second project over the same pages starts at once.
"""

import hashlib
import importlib.metadata
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tune import artefact, cache, checkpoint, harmony, rooms
from tune.checkpoint import KIND, Checkpoint, Facts
from tune.data import block, page
from tune.errors import UserError
from tune.nano import conversations, llama, rewrite, scratch, smollm, speech, training, vocabulary, wheel
from tune.nano.speech import Speech, speaks
from tune.nano.training import Curve, Lesson
from tune.recipe import Recipe
from tune.weights import canary, shards, tokenizer

Report = Callable[[str], None]

ROUNDS = 3  # of training, at most; the first is enough unless rounding had bad luck
NEEDED = 0.9  # share of well-formed greedy replies under which a model does not speak harmony
# Bytes of disk: the model, its tokenizer, and a copy of both in the cache.
DISK = {"random": 500_000_000, "smollm2": 2_000_000_000}
KEPT = 3  # cached models
REMAKE = "tune nano"


def build(recipe: Recipe, report: Report = lambda _: None) -> Checkpoint:
    """The nano checkpoint of a recipe, in `work/nano`: the one that is there, the cached one, or a new one.

    Raises UserError when there are no pages, the disk is full, another run is making it, or training ended before the
    model speaks harmony.
    """
    with artefact.writing(recipe.work / "nano", KIND):
        return _build(recipe, report)


def _build(recipe: Recipe, report: Report) -> Checkpoint:
    collected = artefact.read(recipe.work / "pages", "pages", remake="tune collect")
    inputs = {"pages": collected.digest}
    settings = {**settings_of(recipe), "source": _source()}
    folder = recipe.work / "nano"
    cached = (cache.home() or recipe.work / ".cache") / "nano" / _key(inputs, settings)
    facts = Facts(name="nano", base="", format="merged", prompt_date=recipe.dataset.date)
    stated = checkpoint.stated(settings, facts)
    if _usable(folder, inputs, stated, report):
        return checkpoint.read(folder, remake=REMAKE)
    try:
        if _usable(cached, inputs, stated, report):
            artefact.remake_folder(folder, KIND, lambda fresh: _taken(cached, fresh))
            report(f"nano: taken from {cached}")
            return checkpoint.read(folder, remake=REMAKE)
    except (OSError, UserError) as e:  # another build has just let it go
        report(f"nano: made again, since the cache cannot be read: {e}")
    shards.require_space(recipe.work, DISK[recipe.nano.kind])
    pages = page.read(recipe.work / "pages" / "pages.jsonl")
    if not conversations.passages(pages):
        raise UserError("the pages hold no text to train nano on", fix="tune collect")
    artefact.remake_folder(folder, KIND, lambda fresh: _fill(fresh, recipe, pages, inputs, settings, facts, report))
    _keep(folder, cached, report)
    return checkpoint.read(folder, remake=REMAKE)


def settings_of(recipe: Recipe) -> dict[str, object]:
    """What of the recipe decides which nano it is."""
    told = {"date": recipe.dataset.date, "answer_rule": recipe.evaluate.answer_rule}
    return {**recipe.nano.about_model, **told}


def _fill(
    folder: Path,
    recipe: Recipe,
    pages: Sequence[page.Page],
    inputs: dict[str, str],
    settings: dict[str, object],
    facts: Facts,
    report: Report,
) -> None:
    """Teach, and only then write the tokenizer and the manifest."""
    began = time.monotonic()
    lesson = (scratch if recipe.nano.kind == "random" else smollm).prepare(recipe, pages, report)
    told = lesson.figures
    report(
        f"nano: {told['conversations']:,} conversations over {told['vocabulary_in_use']:,} of"
        f" {harmony.VOCABULARY:,} token ids"
    )
    curve, said, parameters = _teach(folder, recipe, lesson, report)
    tokenizer.build(folder)
    canary.write(folder, recipe.dataset.date)
    seconds = time.monotonic() - began
    figures = {
        "parameters": parameters,
        "vocabulary_in_use": told["vocabulary_in_use"],
        "loss_first": curve[0].loss,
        "loss_last": sum(c.loss for c in curve[-20:]) / len(curve[-20:]),
        "loss_curve": [[n, round(c.loss, 3)] for n, c in list(enumerate(curve))[:: max(1, len(curve) // 50)]],
        "rounds": len(curve) // recipe.nano.steps,
        "seconds": seconds,
        "well_formed_share": said.well_formed,
        "thinking_tokens": said.thinking_tokens,
        "samples": {effort: reply and reply._asdict() for effort, reply in said.samples.items()},
    }
    checkpoint.finish(folder, **facts, inputs=inputs, settings=settings, figures=figures)
    report(f"nano: {said.words}")


def _teach(folder: Path, recipe: Recipe, lesson: Lesson, report: Report) -> tuple[list[Curve], Speech, int]:
    """Train, save and ask, at most ROUNDS times, until the model speaks: loss curve, speech, number of parameters.

    What is learned in so few steps hangs on the rounding of the processor, so the model itself is asked.
    Raises UserError when it does not speak after the last round.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # `report` is the progress
    shape, curve = recipe.nano, list[Curve]()
    for rounds in range(ROUNDS):
        curve += lesson.train(shape.seed + rounds)
        parameters = lesson.save(folder)
        (folder / "model.safetensors").chmod(0o644)  # safetensors makes it the owner's; containers run as others
        said = speaks(folder, recipe.dataset.date, recipe.evaluate.answer_rule)
        if said.well_formed >= NEEDED and said.steers:
            return curve, said, parameters
        report(f"nano: after round {rounds + 1} of {ROUNDS}, {said.words}")
    raise UserError(
        f"nano does not speak harmony: {said.words}",
        why=f"{NEEDED:.0%} are needed, and a thinking that grows with the effort; "
        f"{ROUNDS} times {shape.steps} steps of {shape.batch_tokens} tokens left the loss at {curve[-1].loss:.2f}",
        fix=f"raise nano.steps in recipe.toml, then {REMAKE}",
    )


def _usable(folder: Path, inputs: dict[str, str], settings: dict[str, object], report: Report) -> bool:
    """Whether a whole, unchanged checkpoint made from exactly this lies in `folder`, and nothing beside it."""

    def spoilt(why: str) -> None:
        report(f"nano: made again, since {why}")

    if artefact.is_current(folder, KIND, inputs=inputs, settings=settings, spoilt=spoilt) is None:
        return False
    try:
        checkpoint.look(folder)
    except UserError as e:
        spoilt(e.what)
        return False
    return True


def _keep(folder: Path, cached: Path, report: Report) -> None:
    """Copy a finished model into the cache and let the oldest go. A cache that cannot be written costs only time."""
    try:
        artefact.remake_folder(cached, KIND, lambda fresh: _copy(folder, fresh))
        models = [p for p in cached.parent.iterdir() if re.fullmatch("[0-9a-f]{64}", p.name)]  # others: being written
        for old in sorted(models, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT:]:
            shutil.rmtree(old)
        for name in set(rooms.left(cached.parent).values()):
            with suppress(UserError), artefact.writing(cached.parent / name, KIND):
                pass  # what a killed run left of another model goes; one that is at work keeps its own
    except (OSError, UserError) as e:
        report(f"nano: not kept for the next project: {e}")


def _copy(source: Path, fresh: Path) -> None:
    shutil.copytree(source, fresh, dirs_exist_ok=True)


def _taken(cached: Path, fresh: Path) -> None:
    _copy(cached, fresh)
    checkpoint.verify(fresh)


def _source() -> str:
    """sha256 over the code and the libraries that make a nano: another version of them makes another model."""
    modules = [canary, conversations, scratch, speech, training, tokenizer, harmony, page, block]
    modules += [smollm, wheel, llama, vocabulary, rewrite]
    libraries = [importlib.metadata.version(name) for name in ("torch", "transformers")]
    files = [__file__, *(str(m.__file__) for m in modules)]
    return hashlib.sha256(" ".join([*(artefact.file_digest(Path(f)) for f in files), *libraries]).encode()).hexdigest()


def _key(inputs: dict[str, str], settings: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps([inputs, settings], sort_keys=True).encode()).hexdigest()
