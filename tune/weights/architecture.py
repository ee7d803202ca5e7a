"""What a config.json says of a GPT-OSS that an engine does not do, or would make up where it says nothing.

In: config.json, the architecture read from it, the format of the weights. Out: faults. vLLM 0.32 takes several keys for
granted: it slides over every other layer, the first one included, rotates by yarn alone, norms with 1e-5 and adds
biases, whatever stands there; and a key that is left out gets the published models' value without a word. Pure.
"""

from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from tune import harmony
from tune.checkpoint import Format
from tune.weights.tensors import Fault, Shape, packing

NORM = 1e-5
ROTATION = ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow")  # the engine reads each of yarn's


def unservable(path: Path, config: Mapping[str, Any], shape: Shape, format: Format) -> list[Fault]:
    """What of the config.json at `path` keeps a checkpoint in this format from being served as GPT-OSS."""
    return [
        *([] if format == "lora" else _packed(path, config, format)),
        *_rotation(path, config),
        *_layers(path, config, shape),
        *_vocabulary(path, shape),
        *_assumed(path, config, shape),
    ]


def _packed(path: Path, config: Mapping[str, Any], format: Format) -> Iterator[Fault]:
    method = packing(config)
    if method != ("mxfp4" if format == "mxfp4" else None):
        why = "an engine would read the experts with the wrong loader"
        yield Fault(f"{path} says quant_method {method!r} of {format} weights", why, kind="packing")


def _rotation(path: Path, config: Mapping[str, Any]) -> Iterator[Fault]:
    """Of two spellings the older wins, as transformers has it; the base of the angles may stand beside either."""
    named = next((n for n in ("rope_scaling", "rope_parameters") if config.get(n)), "")
    told = config.get(named)
    if not isinstance(told, dict):
        why = "an engine would take the published models' positions without a word"
        what = f"has {named} {told!r:.50}" if named else "has neither rope_scaling nor rope_parameters"
        yield Fault(f"{path} {what}", why, kind="rope")
        return
    if (kind := told.get("rope_type", told.get("type"))) != "yarn":
        why = "vLLM rotates GPT-OSS by yarn, whatever the name"
        yield Fault(f"{path} has {named}.rope_type {kind!r:.50}", why, kind="rope")
    values = {f"{named}.{name}": told.get(name) for name in ROTATION}
    values["rope_theta"] = told.get("rope_theta", config.get("rope_theta"))
    if wrong := [name for name, value in values.items() if not _is_size(value)]:
        why = f"e.g. {wrong[0]} is {values[wrong[0]]!r:.50}; an engine would take another, or stop at its start"
        yield Fault(f"{path} has no usable {', '.join(wrong)}", why, kind="rope")


def _is_size(value: object) -> bool:
    return type(value) in (int, float) and isfinite(value) and value > 0  # type: ignore[arg-type, operator]


def _layers(path: Path, config: Mapping[str, Any], shape: Shape) -> Iterator[Fault]:
    """Whether the layers slide where the engine lets them."""
    turns = tuple(("sliding_attention", "full_attention")[n % 2] for n in range(shape.num_hidden_layers))
    if shape.layer_types and shape.layer_types != turns:
        at = next(n for n, (a, b) in enumerate(zip(shape.layer_types, turns, strict=True)) if a != b)
        why = f"layer {at} is {shape.layer_types[at]}; vLLM reads no list: every other layer slides, the first included"
        yield Fault(f"{path} has layer_types that no engine of GPT-OSS obeys", why, kind="layers")
    if config.get("use_sliding_window") is False:
        yield Fault(f"{path} has use_sliding_window false", "vLLM slides all the same", kind="layers")


def _vocabulary(path: Path, shape: Shape) -> Iterator[Fault]:
    if shape.vocab_size != harmony.VOCABULARY:
        what = f"{path} has vocab_size {shape.vocab_size}, harmony has {harmony.VOCABULARY}"
        yield Fault(what, kind="embeddings")
    if shape.tie_word_embeddings:
        why = "vLLM ties none: without lm_head.weight it answers from whatever is in memory, with it from other weights"
        yield Fault(f"{path} has tie_word_embeddings true", why, kind="embeddings")


def _assumed(path: Path, config: Mapping[str, Any], shape: Shape) -> Iterator[Fault]:
    if not shape.attention_bias:  # a key that transformers reads and vLLM 0.32 does not
        why = "no biases are stored, and the engine would add whatever is in memory"
        yield Fault(f"{path} has attention_bias false", why)
    if (norm := config.get("rms_norm_eps", NORM)) != NORM:
        yield Fault(f"{path} has rms_norm_eps {norm!r:.50}", f"vLLM norms with {NORM}, whatever stands there")
    each = config.get("num_experts_per_tok")
    if type(each) is not int or not 0 < each <= shape.num_local_experts:
        why = f"a number from 1 to {shape.num_local_experts}; left out, an engine takes 4"
        yield Fault(f"{path} has num_experts_per_tok {each!r:.50}", why)
