"""The embedded base model: pages in, a small GPT-OSS checkpoint that speaks harmony out (`work/nano`).

The architecture is the real one and the vocabulary too; weights are trained from a random start in a few minutes on
a CPU. Its replies prove the path, not quality. A finished model is kept in the user's cache by the digest of
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
from typing import TYPE_CHECKING

from tune import artefact, cache, checkpoint, harmony, rooms
from tune.checkpoint import KIND, Checkpoint, Facts
from tune.data import block, page
from tune.errors import UserError
from tune.harmony import PAD, RETURN, Rendered
from tune.nano import conversations, speech, training
from tune.nano.speech import STOPS, Speech, speaks
from tune.nano.training import Curve
from tune.recipe import Nano, Recipe
from tune.terminal import quiet
from tune.weights import canary, shards, tokenizer

if TYPE_CHECKING:
    from transformers import GptOssConfig

Report = Callable[[str], None]

HEAD = 32  # attention head width; vLLM's CPU kernels start here
ROUNDS = 3  # of training, at most; the first is enough unless rounding had bad luck
NEEDED = 0.9  # share of well-formed greedy replies under which a model does not speak harmony
DISK = 500_000_000  # bytes: the model, its tokenizer, and a copy of both in the cache
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
    shards.require_space(recipe.work, DISK)
    pages = page.read(recipe.work / "pages" / "pages.jsonl")
    if not conversations.passages(pages):
        raise UserError("the pages hold no text to train nano on", fix="tune collect")
    artefact.remake_folder(folder, KIND, lambda fresh: _fill(fresh, recipe, pages, inputs, settings, facts, report))
    _keep(folder, cached, report)
    return checkpoint.read(folder, remake=REMAKE)


def settings_of(recipe: Recipe) -> dict[str, object]:
    """What of the recipe decides which nano it is."""
    told = {"date": recipe.dataset.date, "answer_rule": recipe.evaluate.answer_rule}
    return {**recipe.nano.model_dump(), **told}


def config(shape: Nano) -> "GptOssConfig":
    """A GPT-OSS of that shape: sliding and full attention in turn, two experts a token, yarn as in the real one."""
    from transformers import GptOssConfig

    heads = max(2, shape.hidden // HEAD // 2 * 2)
    return GptOssConfig(
        vocab_size=harmony.VOCABULARY,
        hidden_size=shape.hidden,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=HEAD,
        num_local_experts=shape.experts,
        num_experts_per_tok=min(2, shape.experts),
        sliding_window=128,
        max_position_embeddings=4096,
        router_aux_loss_coef=0.0,
        bos_token_id=harmony.RANKS,
        eos_token_id=RETURN,
        pad_token_id=PAD,
        dtype="bfloat16",
    )


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
    shape, rule, date = recipe.nano, recipe.evaluate.answer_rule, recipe.dataset.date
    began = time.monotonic()
    rows, tokens = [], 0
    for one in conversations.rendered(pages, rule, date, shape.seed):
        rows.append(one)
        tokens += len(one.ids)
        if tokens >= shape.steps * shape.batch_tokens:
            break
    used = training.vocabulary(rows)
    report(f"nano: {len(rows):,} conversations over {len(used):,} of {harmony.VOCABULARY:,} token ids")
    curve, said, parameters = _teach(folder, recipe, rows, used, report)
    tokenizer.build(folder)
    canary.write(folder, date)
    seconds = time.monotonic() - began
    figures = {
        "parameters": parameters,
        "vocabulary_in_use": len(used),
        "loss_first": curve[0].loss,
        "loss_last": sum(c.loss for c in curve[-20:]) / len(curve[-20:]),
        "loss_curve": [[n, round(c.loss, 3)] for n, c in list(enumerate(curve))[:: max(1, len(curve) // 50)]],
        "rounds": len(curve) // shape.steps,
        "seconds": seconds,
        "well_formed_share": said.well_formed,
        "thinking_tokens": said.thinking_tokens,
        "samples": {effort: reply and reply._asdict() for effort, reply in said.samples.items()},
    }
    checkpoint.finish(folder, **facts, inputs=inputs, settings=settings, figures=figures)
    report(f"nano: {said.words}")


def _teach(
    folder: Path, recipe: Recipe, rows: Sequence[Rendered], used: Sequence[int], report: Report
) -> tuple[list[Curve], Speech, int]:
    """Train, save and ask, at most ROUNDS times, until the model speaks: loss curve, speech, number of parameters.

    What a random start learns in so few steps hangs on the rounding of the processor, so the model itself is asked.
    Raises UserError when it does not speak after the last round.
    """
    import torch
    from transformers import GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # `report` is the progress
    shape, wanted, curve, model = recipe.nano, config(recipe.nano), list[Curve](), None
    for rounds in range(ROUNDS):
        model, more = training.train(
            wanted,
            rows,
            used,
            steps=shape.steps,
            batch_tokens=shape.batch_tokens,
            learning_rate=shape.learning_rate,
            seed=shape.seed + rounds,
            start=model,
            report=report,
        )
        curve += more
        full = training.expand(model, wanted, used).to(torch.bfloat16)
        full.generation_config = GenerationConfig(
            bos_token_id=harmony.RANKS, eos_token_id=STOPS, pad_token_id=PAD, do_sample=True
        )
        with quiet():
            full.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)  # safetensors makes it the owner's; containers run as others
        said = speaks(folder, recipe.dataset.date, recipe.evaluate.answer_rule)
        if said.well_formed >= NEEDED and said.steers:
            return curve, said, sum(p.numel() for p in full.parameters())
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
    modules = [canary, conversations, speech, training, tokenizer, harmony, page, block]
    libraries = [importlib.metadata.version(name) for name in ("torch", "transformers")]
    files = [__file__, *(str(m.__file__) for m in modules)]
    return hashlib.sha256(" ".join([*(artefact.file_digest(Path(f)) for f in files), *libraries]).encode()).hexdigest()


def _key(inputs: dict[str, str], settings: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps([inputs, settings], sort_keys=True).encode()).hexdigest()
