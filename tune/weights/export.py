"""The export stage: adapter + base -> a checkpoint in work/merged, work/mxfp4 or work/lora, checkpoint.json last.

Weights are streamed into work/<format>.part, which a killed run leaves and the next one takes up. How each tensor is
made is plan.py's, the arithmetic lora's and mxfp4's, what engines take of an adapter adapter.py's. Refuses an adapter
of another base, one that changes nothing, one that MXFP4 would erase, and a disk that is too small.
"""

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from tune import artefact, checkpoint
from tune.artefact import Artefact
from tune.checkpoint import Checkpoint, Facts, Format
from tune.data import dataset, row
from tune.data.row import Row
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import adapter, canary, held_out, lora, resume, shards, stream, tensors
from tune.weights.base_model import COMPANIONS, Base, base_of
from tune.weights.plan import Tally, moves, plan
from tune.weights.resume import Part
from tune.weights.stream import Shard
from tune.weights.tensors import Weights
from tune.weights.values import Values

SHARD_BYTES = 2_000_000_000
AT_ONCE = 6  # files, where there are as many cores
SURVIVES = 0.9  # of what an adapter does to experts: less is refused
ASKED = 16  # held-out rows, spread over all pages; held_out.TOKENS bounds them further
QUANTIZATION = {  # as OpenAI's own releases say it
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}


class Unfinished(UserError):
    """An export that goes on where it stopped once there is room."""


def export(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Checkpoint:
    """Make work/<format>, or keep it when its inputs and facts are the same.

    Figures: tensors, bytes, values changed in bf16; for experts quantized here the relative RMSE by projection, for
    experts that the adapter changes how much of it was written (`expert_deltas`), for both how far that moves the model
    on held-out rows (`held_out`). Raises UserError as the module says, on values that are no number, and when the
    adapter or the base is missing, unfinished or was changed.
    """
    if recipe.export.format == "gguf":
        raise RuntimeError("gguf is weights/gguf.py's to make")  # a bug of ours
    kind: Format = recipe.export.format
    folder, source, part = recipe.work / kind, recipe.work / "adapter", recipe.work / f"{kind}.part"
    trained = artefact.read(source, "adapter", remake="tune train")
    base = base_of(recipe)
    _require_its_own(recipe, trained, base)
    inputs = {"adapter": trained.digest, "base": base.digest}
    settings = {"export": recipe.export.model_dump(mode="json", exclude_defaults=True) | {"format": kind}}
    facts = Facts(name=recipe.project.name, base=base.name, format=kind, prompt_date=recipe.dataset.date)
    stated, needed = checkpoint.stated(settings, facts), [] if kind == "lora" else [checkpoint.CANARY]
    if artefact.is_current(folder, checkpoint.KIND, inputs=inputs, settings=stated, files=needed):
        shutil.rmtree(part, ignore_errors=True)  # of other inputs
        current = checkpoint.read(folder)
        report(f"{kind}: {current.served_name} is there already")
        return current
    artefact.verify(source, trained, remake="tune train")

    deltas = lora.read(source)
    specs, config = shards.headers(base.folder), shards.config(base.folder)
    faults = tensors.differences(base.folder, specs, tensors.expected(config), dtypes=False)  # they become bf16
    problems = [*map(str, faults), *lora.fits(deltas, specs)]
    if problems:
        raise UserError(
            f"{base.folder} and the adapter do not fit together", why="; ".join(problems[:3]), fix="tune train"
        )

    def fill(fresh: Path) -> None:
        written: dict[str, artefact.Written] = {}
        with Values(base.folder, specs, deltas) as values:
            if kind == "lora":
                figures = _adapter(fresh, source, base, values)
            else:
                key = {"inputs": inputs, "format": kind, "version": artefact.VERSION, "shard_bytes": SHARD_BYTES}
                state = resume.open_part(part, key)
                files, figures = _weights(state, values, config, kind, report)
                tally = Tally(**figures.pop("counted"))
                written = figures.pop("written")
                figures |= tally.figures()
                if not any(tally.changed.values()):
                    raise lora.unchanged(source, "every weight in bf16 equals the base's")
                _require_survival(recipe, trained, tally, figures)
                if kind == "mxfp4" and (tally.errors or tally.deltas) and (rows := _rows(recipe, config)):
                    report(f"{kind}: asking both models about held-out rows, to see what quantization did")
                    with Values(state.folder) as packed, Values(base.folder, specs) as plain:
                        figures["held_out"] = held_out.figures(plain, values, packed, rows)
                report(f"{kind}: asking the weights about a fixed prompt, to compare with what an engine makes of them")
                canary.write(state.folder, recipe.dataset.date)
                state.place([*files, checkpoint.CANARY], fresh)
        checkpoint.finish(fresh, **facts, inputs=inputs, settings=settings, figures=figures, known=written)

    try:
        artefact.remake_folder(folder, checkpoint.KIND, fill)
    except Unfinished:
        raise
    except UserError:
        shutil.rmtree(part, ignore_errors=True)  # the same command would end the same way
        raise
    shutil.rmtree(part, ignore_errors=True)
    return checkpoint.read(folder)


def _require_its_own(recipe: Recipe, trained: Artefact, base: Base) -> None:
    """Raise UserError when the adapter is of another base, date or dataset than the recipe's."""
    date = recipe.dataset.date
    if trained.inputs.get("base") != base.digest:
        why = f"it was trained on {trained.settings.get('base')}, the recipe's base is {base.name}"
        raise UserError("the adapter in work/adapter is of another base", why=why, fix="tune train")
    if trained.settings.get("date", date) != date:
        why = f"its prompts say {trained.settings['date']}, dataset.date is {date}"
        raise UserError("the adapter in work/adapter was trained on another date", why=why, fix="tune dataset")
    if (recipe.work / dataset.KIND).exists() and trained.inputs.get("dataset") != dataset.read(recipe).digest:
        raise UserError("the adapter in work/adapter was trained on another dataset", fix="tune train")


def _weights(
    state: Part, values: Values, config: Mapping[str, Any], kind: Weights, report: Callable[[str], None]
) -> tuple[list[str], dict[str, Any]]:
    """Everything but the canary, in the state's folder. Returns its files, and figures with `counted`, a tally's,
    and `written`, each shard as it was written.

    Files are made side by side, each by a thread that reads and writes for itself.
    """
    parts = _parts(values, config, kind, Tally())
    sizes = {s.file: sum(spec.bytes for item in s.items for spec in item.specs.values()) for s in parts}
    with ThreadPoolExecutor(_threads(len(parts))) as pool:
        records = dict(zip(sizes, pool.map(state.finished, sizes), strict=True))
    companions = _companions(values.folder)
    left = sum(size for file, size in sizes.items() if not records[file])
    try:
        shards.require_space(state.folder, left + sum(p.stat().st_size for p in companions))
    except UserError as e:
        raise Unfinished(e.what, why=e.why, fix=e.fix) from None
    there = sum(record is not None for record in records.values())
    kept = f", {there} of {len(parts)} files are there" if there else ""
    report(f"{kind}: {sum(sizes.values()) / 1e9:.2f} GB{kept}")
    missing = [n for n, shard in enumerate(parts) if records[shard.file] is None]
    stop = Event()
    with ThreadPoolExecutor(_threads(len(missing))) as pool:
        made = {pool.submit(_one, state, values, config, kind, n, stop): parts[n].file for n in missing}
        try:
            for count, done in enumerate(as_completed(made), there + 1):
                records[made[done]] = done.result()
                report(f"wrote {made[done]}, {count} of {len(parts)}")
        except Unfinished:
            pool.shutdown(cancel_futures=True)  # those that are begun may fit
            raise _worst(made, state, there, len(parts)) from None
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    whole_tally, copied, written = Tally(), 0, {}
    for shard in parts:
        record = records[shard.file]
        if record is None:
            raise RuntimeError(f"{shard.file} has no record")  # a bug of ours
        whole_tally.add(record.counted["tally"])
        copied += record.counted["copied"]
        written[shard.file] = artefact.Written(record.sha256, (state.folder / shard.file).stat().st_size)
    settings = _settings(config, kind)
    found = {name: spec for s in parts for name, spec in shards.read_header(state.folder / s.file).items()}
    if faults := tensors.differences(state.folder, found, tensors.expected(settings)):
        raise RuntimeError(f"the {kind} checkpoint is not a GPT-OSS: {faults[0]}")  # a bug of ours
    artefact.write_text(state.folder / "config.json", json.dumps(settings, indent=2) + "\n")
    for path in companions:
        shutil.copyfile(path, state.folder / path.name)
    files = [*sizes, *stream.write_index(state.folder, parts), "config.json", *(p.name for p in companions)]
    figures = {"tensors": len(found), "bytes": sum(sizes.values()), "bytes_compared": copied}
    return files, {**figures, "counted": whole_tally.count(), "written": written}


def _worst(made: Mapping[Future[resume.Record], str], state: Part, there: int, of: int) -> BaseException:
    """The error to tell when files ended with several: one that space does not mend before that of a full disk."""
    errors = [e for done in made if not done.cancelled() and (e := done.exception())]
    first = next((e for e in errors if not isinstance(e, Unfinished)), errors[0])
    if not isinstance(first, Unfinished):
        return first
    whole = there + sum(not done.cancelled() and done.exception() is None for done in made)
    why = f"{whole} of {of} files are finished and stay in {state.folder}; {first.why}"
    return Unfinished(first.what, why=why, fix=first.fix)


def _threads(files: int) -> int:
    return max(1, min(files, len(os.sched_getaffinity(0)), AT_ONCE))


def _parts(values: Values, config: Mapping[str, Any], kind: Weights, tally: Tally) -> list[Shard]:
    return stream.split(plan(values, config, kind, tally), SHARD_BYTES)


def _one(
    state: Part, values: Values, config: Mapping[str, Any], kind: Weights, number: int, stop: Event
) -> resume.Record:
    """Write one file and its record; nothing of it once `stop` is set. Raises Unfinished on a full disk."""
    tally = Tally()
    with Values(values.folder, values.specs, values.deltas) as own:
        shard = _parts(own, config, kind, tally)[number]
        shard = shard._replace(items=[i._replace(make=partial(_until, stop, i.make)) for i in shard.items])
        try:
            digest = stream.write(state.folder, shard)
            counted = {"copied": stream.require_copied(state.folder, shard, own), "tally": tally.count()}
            return state.finish(shard.file, digest, counted)
        except OSError as e:
            if not stream.is_full(e):
                raise
            raise Unfinished(
                f"the disk under {state.folder} is full",
                why=f"{shard.file} did not fit",
                fix="free some space, then the same command: it goes on there",
            ) from None


def _until(stop: Event, make: Callable[[], Iterable[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
    for made in make():
        if stop.is_set():
            raise CancelledError
        yield made


def _settings(config: Mapping[str, Any], kind: Weights) -> dict[str, Any]:
    """The export's config.json. Without transformers_version, transformers takes the tokenizer for a broken one."""
    settings = {key: value for key, value in config.items() if key not in ("quantization_config", "torch_dtype")}
    settings |= {"dtype": "bfloat16"}
    settings["transformers_version"] = config.get("transformers_version") or importlib.metadata.version("transformers")
    if kind == "mxfp4":
        settings["quantization_config"] = config.get("quantization_config", QUANTIZATION)
    return settings


def _require_survival(recipe: Recipe, trained: Artefact, tally: Tally, figures: dict[str, Any]) -> None:
    """Raise UserError when MXFP4 would erase what the adapter does to experts.

    Trained through the quantizer, what is written is what was trained, whatever the first figure says.
    """
    if not tally.deltas:
        return
    through = trained.settings.get("quantized", trained.figures.get("quantized", False)) is True
    figures["quantized_in_training"] = through
    if tally.survival >= SURVIVES or through or recipe.export.allow_lossy:
        return
    raise UserError(
        f"MXFP4 would keep {max(tally.survival, 0):.0%} of what the adapter does to the experts",
        why="a change that is small beside the steps between FP4 values is rounded away",
        fix="tune export --format merged, or --format lora; or --allow-lossy to write it all the same",
    )


def _rows(recipe: Recipe, config: Mapping[str, Any]) -> list[Row]:
    """Held-out rows of the recipe's dataset, [] when there is none."""
    path = recipe.work / dataset.KIND / "eval.jsonl"
    rows = row.read(path, tensors.shape_of(config).vocab_size) if path.is_file() else []
    return held_out.chosen(rows[:: max(1, len(rows) // ASKED)])


def _adapter(fresh: Path, source: Path, base: Base, values: Values) -> dict[str, Any]:
    """The adapter beside the base's config and tokenizer; the base itself stays where it is."""
    if wrong := adapter.unservable(values.deltas):
        raise UserError(
            "an engine cannot serve this adapter beside its base", why=wrong, fix="tune export --format merged"
        )
    changed = moves(values)
    if not any(changed.values()):
        raise lora.unchanged(source, "every weight in bf16 equals the base's")
    companions = [base.folder / "config.json", *_companions(base.folder)]
    size = (source / lora.FILES[1]).stat().st_size
    shards.require_space(fresh, size + sum(p.stat().st_size for p in companions))
    for path in companions[1:]:
        shutil.copyfile(path, fresh / path.name)  # not its mode: safetensors makes files that only their owner reads
    config = shards.config(base.folder)
    version = config.get("transformers_version") or importlib.metadata.version("transformers")
    settings = {**config, "transformers_version": version}
    (fresh / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    adapter.write(fresh, source, values.deltas, name="../nano" if base.reference == "nano" else base.reference)
    whole = not any(delta.is_experts for delta in values.deltas.values())
    return {
        "tensors": 2 * len(values.deltas),
        "bytes": (fresh / lora.FILES[1]).stat().st_size,
        "changed_tensors": sum(n > 0 for n in changed.values()),
        **({"changed_values": sum(changed.values())} if whole else {}),
    }


def _companions(folder: Path) -> list[Path]:
    """Tokenizer and generation settings. Raises UserError when there is no tokenizer: nothing could serve it."""
    found = sorted({path for pattern in COMPANIONS for path in folder.glob(pattern)})
    if not any(path.name == "tokenizer.json" for path in found):
        raise UserError(f"{folder} has no tokenizer.json", fix="copy the model again, with its tokenizer")
    return found
