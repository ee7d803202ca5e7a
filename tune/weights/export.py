"""The export stage: adapter + base -> a checkpoint in work/merged, work/mxfp4 or work/lora, checkpoint.json last.

Streams tensor by tensor: at most one output shard is in memory. Knows file layouts; the arithmetic is lora's and
mxfp4's. Refuses an adapter of another base, one that changes nothing, and a disk that is too small.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tune import artefact, checkpoint
from tune.checkpoint import Checkpoint, Facts, Format
from tune.data import dataset
from tune.errors import UserError
from tune.recipe import Recipe
from tune.weights import canary, lora, mxfp4, shards, tensors
from tune.weights.base_model import Base, base_of
from tune.weights.shards import Item
from tune.weights.tensors import Tensor, Weights

SHARD_BYTES = 4_000_000_000
COMPANIONS = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*", "generation_config.json")
QUANTIZATION = {  # as OpenAI's own releases say it
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}


class Source(NamedTuple):
    """The base's tensors and the changes to add."""

    folder: Path
    specs: dict[str, Tensor]
    deltas: dict[str, lora.Delta]

    def tensor(self, name: str) -> Any:
        return shards.tensor(self.folder, self.specs, name)


class Tally(NamedTuple):
    """What writing did, filled as tensors are made: values changed by tensor; squared error and square by group."""

    changed: dict[str, int]
    errors: dict[str, list[tuple[float, float]]]

    def figures(self) -> dict[str, Any]:
        rmse = {}
        for group, pairs in self.errors.items():
            error, square = (sum(part) for part in zip(*pairs, strict=True))
            rmse[group] = (error / square) ** 0.5 if square else 0.0
        return {
            "changed_tensors": sum(n > 0 for n in self.changed.values()),
            "changed_values": sum(self.changed.values()),
            **({"mxfp4_relative_rmse": rmse} if rmse else {}),
        }


def export(recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> Checkpoint:
    """Make work/<format>, or keep it when its inputs and facts are the same.

    Figures: tensors, bytes, values changed in bf16, and for experts quantized here the relative RMSE by group.
    Raises UserError as the module says, and when the adapter or the base is missing, unfinished or was changed.
    """
    kind: Format = recipe.export.format
    folder, source = recipe.work / kind, recipe.work / "adapter"
    adapter = artefact.read(source, "adapter", remake="tune train")
    base = base_of(recipe)
    date = recipe.dataset.date
    if adapter.inputs.get("base") != base.digest:
        why = f"it was trained on {adapter.settings.get('base')}, the recipe's base is {base.name}"
        raise UserError("the adapter in work/adapter is of another base", why=why, fix="tune train")
    if adapter.settings.get("date", date) != date:
        why = f"its prompts say {adapter.settings['date']}, dataset.date is {date}"
        raise UserError("the adapter in work/adapter was trained on another date", why=why, fix="tune dataset")
    if (recipe.work / dataset.KIND).exists() and adapter.inputs.get("dataset") != dataset.read(recipe).digest:
        raise UserError("the adapter in work/adapter was trained on another dataset", fix="tune train")
    inputs = {"adapter": adapter.digest, "base": base.digest}
    settings = {"export": recipe.export.model_dump(mode="json")}  # the base is an input, wherever it lies
    facts = Facts(name=recipe.project.name, base=base.name, format=kind, prompt_date=date)
    stated, needed = checkpoint.stated(settings, facts), [] if kind == "lora" else [checkpoint.CANARY]
    if artefact.is_current(folder, checkpoint.KIND, inputs=inputs, settings=stated, files=needed):
        current = checkpoint.read(folder)
        report(f"{kind}: {current.served_name} is there already")
        return current
    artefact.verify(source, adapter, remake="tune train")

    deltas = lora.read(source)
    specs, config = shards.headers(base.folder), shards.config(base.folder)
    faults = tensors.differences(base.folder, specs, tensors.expected(config), dtypes=False)  # they become bf16
    problems = [*map(str, faults), *lora.fits(deltas, specs)]
    if problems:
        raise UserError(
            f"{base.folder} and the adapter do not fit together", why="; ".join(problems[:3]), fix="tune train"
        )

    def fill(fresh: Path) -> None:
        if kind == "lora":
            figures = _adapter(fresh, source, base, Source(base.folder, specs, deltas))
        else:
            figures = _write(fresh, Source(base.folder, specs, deltas), config, kind, report)
            report(f"{kind}: asking the weights about a fixed prompt, to compare with what an engine makes of them")
            canary.write(fresh, date)
        checkpoint.finish(fresh, **facts, inputs=inputs, settings=settings, figures=figures)

    artefact.remake_folder(folder, checkpoint.KIND, fill)
    return checkpoint.read(folder)


def plan(source: Source, config: Mapping[str, Any], kind: Weights, tally: Tally) -> list[Item]:
    """What a checkpoint of this kind holds, in order: attention merged, experts in the kind's layout, the rest as is.

    Making the items fills `tally`.
    """
    native, wanted = tensors.is_mxfp4(config), tensors.tensors(tensors.shape_of(config), kind)
    items: list[Item] = []
    for name, spec in source.specs.items():
        stem = name.removesuffix("_blocks")
        pair = {n: wanted[n] for n in (f"{stem}_blocks", f"{stem}_scales") if n in wanted}
        if name in source.deltas:
            items.append(_one(name, spec.shape, partial(_merged, source, name, tally)))
        elif native and name.endswith("_scales"):
            continue  # goes with its blocks
        elif native and name != stem and kind == "mxfp4":
            items.append(Item(pair, partial(_copied, source, pair)))
        elif native and name != stem:
            items.append(_one(stem, wanted[stem].shape, partial(_dequantized, source, stem)))
        elif kind == "mxfp4" and name.endswith(tensors.PROJECTIONS):
            items.append(Item(pair, partial(_quantized, source, name, tally)))
        else:
            items.append(_one(name, spec.shape, partial(source.tensor, name)))
    return items


def _one(name: str, shape: tuple[int, ...], make: Callable[[], Any]) -> Item:
    """An item of one bf16 tensor."""
    import torch

    return Item({name: Tensor(shape, "BF16")}, lambda: {name: make().to(torch.bfloat16)})


def _write(
    fresh: Path, source: Source, config: Mapping[str, Any], kind: Weights, report: Callable[[str], None]
) -> dict[str, Any]:
    tally = Tally({}, defaultdict(list))
    items = plan(source, config, kind, tally)
    total = sum(spec.bytes for item in items for spec in item.specs.values())
    companions = _companions(source.folder)
    shards.require_space(fresh, total + sum(p.stat().st_size for p in companions))
    report(f"{kind}: {total / 1e9:.2f} GB")
    settings = {key: value for key, value in config.items() if key != "quantization_config"}
    settings |= {"dtype": "bfloat16"}
    settings.pop("torch_dtype", None)
    if kind == "mxfp4":
        settings["quantization_config"] = config.get("quantization_config", QUANTIZATION)
    written = shards.write(fresh, items, shard_bytes=SHARD_BYTES, report=report)
    if faults := tensors.differences(fresh, written, tensors.expected(settings)):
        raise RuntimeError(f"the {kind} checkpoint is not a GPT-OSS: {faults[0]}")  # a bug of ours
    if not any(tally.changed.values()):
        raise lora.unchanged(fresh, "every weight in bf16 equals the base's")
    (fresh / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    for path in companions:
        shutil.copyfile(path, fresh / path.name)
    return {"tensors": len(written), "bytes": total, **tally.figures()}


def _adapter(fresh: Path, adapter: Path, base: Base, source: Source) -> dict[str, Any]:
    """The adapter beside the base's config and tokenizer; the base itself stays where it is."""
    tally = Tally({}, defaultdict(list))
    for name in source.deltas:
        _merged(source, name, tally)
    if not any(tally.changed.values()):
        raise lora.unchanged(adapter, "every weight in bf16 equals the base's")
    files = [adapter / lora.FILES[1], base.folder / "config.json", *_companions(base.folder)]
    shards.require_space(fresh, sum(p.stat().st_size for p in files))
    for path in files:
        shutil.copyfile(path, fresh / path.name)  # not its mode: safetensors makes files that only their owner reads
    settings = json.loads((adapter / lora.FILES[0]).read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = "../nano" if base.reference == "nano" else base.reference
    (fresh / lora.FILES[0]).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return {"tensors": 2 * len(source.deltas), "bytes": files[0].stat().st_size, **tally.figures()}


def _merged(source: Source, name: str, tally: Tally) -> Any:
    merged, tally.changed[name] = lora.merge(source.tensor(name), source.deltas[name])
    return merged


def _copied(source: Source, names: Iterable[str]) -> dict[str, Any]:
    return {name: source.tensor(name) for name in names}


def _quantized(source: Source, name: str, tally: Tally) -> dict[str, Any]:
    """Blocks and scales of bf16 experts [E, in, out], expert by expert, as [E, out, in/32, 16]."""
    import torch

    blocks, scales = [], []
    for number, expert in enumerate(source.tensor(name)):
        values = expert.T.float().contiguous().numpy()
        try:
            block, scale = mxfp4.quantize(values)
        except ValueError as e:
            raise UserError(
                f"{name}, expert {number}, cannot be quantized", why=str(e), fix="another copy of the base"
            ) from None
        tally.errors[name.rsplit(".", 1)[1]].append(mxfp4.squared_error(values, block, scale))
        blocks.append(torch.from_numpy(block))
        scales.append(torch.from_numpy(scale))
    return {f"{name}_blocks": torch.stack(blocks), f"{name}_scales": torch.stack(scales)}


def _dequantized(source: Source, stem: str) -> Any:
    """bf16 experts [E, in, out] of blocks and scales."""
    import torch

    pairs = zip(source.tensor(f"{stem}_blocks"), source.tensor(f"{stem}_scales"), strict=True)
    return torch.stack(
        [torch.from_numpy(mxfp4.dequantize(b.numpy(), s.numpy())).to(torch.bfloat16).T for b, s in pairs]
    )


def _companions(folder: Path) -> list[Path]:
    """Tokenizer and generation settings. Raises UserError when there is no tokenizer: nothing could serve it."""
    found = sorted({path for pattern in COMPANIONS for path in folder.glob(pattern)})
    if not any(path.name == "tokenizer.json" for path in found):
        raise UserError(f"{folder} has no tokenizer.json", fix="copy the model again, with its tokenizer")
    return found
