"""The files of an export, made side by side: each by a thread that reads and writes for itself, and kept when whole.

In: a base's values with an adapter's changes, and the folder of a run. Out: shards, index, config and tokenizer there,
and what was counted. Knows no stage and no manifest.
"""

import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from tune import artefact
from tune.checkpoint import COMPANIONS
from tune.errors import UserError
from tune.weights import resume, shards, stream, tensors
from tune.weights.plan import Tally, plan
from tune.weights.resume import Part
from tune.weights.stream import Shard
from tune.weights.tensors import Weights
from tune.weights.values import Values

SHARD_BYTES = 2_000_000_000
AT_ONCE = 8  # files, where there are as many cores
EXPERTS_AT_ONCE = 4  # where experts are made anew: each takes a third of a GB
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


class Files(NamedTuple):
    """What was made: the names in the folder, each shard as it was written, the counts of all, and figures; of
    them `seconds` is of this run's writing, hashing and comparing."""

    names: list[str]
    written: dict[str, artefact.Written]
    tally: Tally
    figures: dict[str, Any]


def write(
    state: Part, values: Values, config: Mapping[str, Any], kind: Weights, report: Callable[[str], None]
) -> Files:
    """Write weights, config, tokenizer and generation settings into the state's folder; what is there already stays.

    Raises Unfinished when the disk has no room, UserError on values that are no number and without a tokenizer.
    """
    started = time.monotonic()
    parts = _parts(values, config, kind, Tally())
    sizes = {s.file: sum(spec.bytes for item in s.items for spec in item.specs.values()) for s in parts}
    heavy = bool(values.deltas) and any(delta.is_experts for delta in values.deltas.values())
    at_once = EXPERTS_AT_ONCE if heavy or not tensors.is_mxfp4(config) else AT_ONCE
    with ThreadPoolExecutor(_threads(len(parts), AT_ONCE)) as pool:
        records = dict(zip(sizes, pool.map(state.finished, sizes), strict=True))
    beside = companions(values.folder)
    left = sum(size for file, size in sizes.items() if not records[file])
    try:
        shards.require_space(state.folder, left + sum(p.stat().st_size for p in beside))
    except UserError as e:
        raise Unfinished(e.what, why=e.why, fix=e.fix) from None
    there = sum(record is not None for record in records.values())
    kept = f", {there} of {len(parts)} files are there" if there else ""
    report(f"{kind}: {sum(sizes.values()) / 1e9:.2f} GB{kept}")
    missing = [n for n, shard in enumerate(parts) if records[shard.file] is None]
    stop = Event()
    with ThreadPoolExecutor(_threads(len(missing), at_once)) as pool:
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
    for path in beside:
        shutil.copyfile(path, state.folder / path.name)
    names = [*sizes, *stream.write_index(state.folder, parts), "config.json", *(p.name for p in beside)]
    figures = {"tensors": len(found), "bytes": sum(sizes.values()), "bytes_compared": copied}
    return Files(names, written, whole_tally, {**figures, "seconds": round(time.monotonic() - started, 1)})


def _worst(made: Mapping[Future[resume.Record], str], state: Part, there: int, of: int) -> BaseException:
    """The error to tell when files ended with several: one that space does not mend before that of a full disk."""
    errors = [e for done in made if not done.cancelled() and (e := done.exception())]
    first = next((e for e in errors if not isinstance(e, Unfinished)), errors[0])
    if not isinstance(first, Unfinished):
        return first
    whole = there + sum(not done.cancelled() and done.exception() is None for done in made)
    why = f"{whole} of {of} files are finished and stay in {state.folder}; {first.why}"
    return Unfinished(first.what, why=why, fix=first.fix)


def _threads(files: int, at_once: int) -> int:
    return max(1, min(files, len(os.sched_getaffinity(0)), at_once))


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
    settings["transformers_version"] = transformers_version(config)
    if kind == "mxfp4":
        settings["quantization_config"] = config.get("quantization_config", QUANTIZATION)
    return settings


def transformers_version(config: Mapping[str, Any]) -> str:
    """What config.json has to name: the base's, or the one that is installed."""
    return str(config.get("transformers_version") or importlib.metadata.version("transformers"))


def companions(folder: Path) -> list[Path]:
    """Tokenizer and generation settings. Raises UserError when there is no tokenizer: nothing could serve it."""
    found = sorted({path for pattern in COMPANIONS for path in folder.glob(pattern)})
    if not any(path.name == "tokenizer.json" for path in found):
        raise UserError(f"{folder} has no tokenizer.json", fix="copy the model again, with its tokenizer")
    return found
