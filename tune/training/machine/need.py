"""What training a base's LoRA takes: bytes, steps and time, estimated before anything large is loaded.

In: a config.json and [train] settings. Out: figures. Looks at no machine and loads no model.
"""

from collections.abc import Mapping
from math import ceil, prod
from typing import Any, Literal, NamedTuple

from tune.errors import UserError
from tune.recipe import Train
from tune.training.loss import GPU_LOGITS, LOGITS
from tune.weights import lora, tensors

Backend = Literal["peft", "packed", "unsloth"]
SLICE = 1 << 28  # values of packed experts that are decoded at a time: 0.5 GB in bf16
LIBRARIES = 800_000_000  # a process with torch and transformers imported
CONTEXT = 550_000_000  # CUDA's own, of each process
TILE = 4096 * 32768  # logits at a time on a GPU: TRL's TOKEN_CHUNK_SIZE and _CHUNKED_LOGPROB_CHUNK_SIZE


class Need(NamedTuple):
    """Bytes that LoRA training holds at its peak, of a GPU or of RAM. `process` is what no tensor counts."""

    weights: int
    adapter: int
    activations: int
    process: int = LIBRARIES

    @property
    def peak(self) -> int:
        """What torch.cuda.max_memory_allocated shows."""
        return self.weights + self.adapter + self.activations

    @property
    def total(self) -> int:
        return self.process + self.peak


def need(
    config: Mapping[str, Any],
    settings: Train,
    max_tokens: int,
    *,
    backend: Backend,
    gpu: bool,
    base_is_mxfp4: bool,
    shards: int = 1,
) -> Need:
    """An estimate, held against peaks measured on an H100 by tests/test_tune_need.py.

    Weights: bf16 on a GPU, float32 on a CPU; "packed" and "unsloth" keep a base's MXFP4 experts as the file has them,
    and "packed" leaves an embedding of its own on the host. Adapter: float32 value and gradient, and Adam's two
    moments in float32 or, with adamw_8bit, in a byte each: 16 or 10 bytes a parameter, and 4 more where processes
    exchange gradients. Activations: on a GPU each layer's input (of "packed" in bf16, else in float32, the norms'
    dtype) and one layer computed again, with the experts decoded for it ("packed": SLICE of them at a time) or the
    logits at hand; on a CPU what every layer keeps. With targets "all" PEFT adds an expert's change to the whole
    weight: three more of gate_up. `shards`: GPUs that FSDP spreads weights over; two layers, the embedding and the
    head are then whole at a time.
    """
    if backend != "peft" and not base_is_mxfp4:
        raise UserError(
            f'train.backend = "{backend}" needs a base in MXFP4',
            why="it keeps the experts as the files have them, and this base's are 16 bit",
            fix='set train.backend = "peft"',
        )
    size, shape = (2 if gpu else 4), tensors.shape_of(config)
    stored = tensors.tensors(shape, "merged" if backend == "peft" else "mxfp4")
    if backend == "packed" and gpu and not shape.tie_word_embeddings:
        del stored["model.embed_tokens.weight"]
    held = {name: prod(t.shape) * (1 if t.dtype == "U8" else size) for name, t in stored.items()}
    weights = sum(held.values())
    if shards > 1:
        layer = sum(n for name, n in held.items() if name.startswith("model.layers.0."))
        weights = ceil(weights / shards) + 2 * layer + weights - layer * shape.num_hidden_layers
    each = (10 if settings.optimizer == "adamw_8bit" else 16) + (4 if world(settings) > 1 else 0)
    activations = _activations(shape, config, settings, max_tokens, backend=backend, gpu=gpu)
    return Need(weights, parameters(config, settings) * each, activations, CONTEXT if gpu else LIBRARIES)


def _activations(
    shape: tensors.Shape, config: Mapping[str, Any], settings: Train, max_tokens: int, *, backend: Backend, gpu: bool
) -> int:
    size, tokens, layers = (2 if gpu else 4), settings.batch * max_tokens, shape.num_hidden_layers
    h, i, heads = shape.hidden_size, shape.intermediate_size, shape.num_attention_heads
    rows: int = tokens * config.get("num_experts_per_tok", 4)
    gate_up = shape.num_local_experts * 2 * i * h
    attention = tokens * (8 * h + 4 * heads * shape.head_dim) * size
    if not gpu:
        layer = attention + 4 * heads * max_tokens * tokens * size + rows * (6 * i + 2 * h) * size
        slice_ = min(gate_up, SLICE) * size if backend == "packed" else 0
        return layer * layers + slice_ + 4 * 4 * min(LOGITS, tokens * shape.vocab_size)
    if backend == "packed":
        parts = ceil(gate_up / SLICE)
        layer = gate_up * size // parts + attention + rows * (3 * h + 5 * i // parts) * size
        return layers * tokens * h * size + max(layer, GPU_LOGITS * 6)
    decoded = {"peft": 3 * gate_up * size if settings.targets == "all" else 0, "unsloth": gate_up * size * 3 // 2}
    layer = attention + 2 * rows * (3 * i + h) * size + decoded[backend]
    loss = min(TILE, tokens * 32768) * size + 2 * tokens * h * 4
    return layers * tokens * h * 4 + max(layer, loss)


def parameters(config: Mapping[str, Any], settings: Train) -> int:
    """Trainable parameters: rank x (in + out) of each weight that is tuned, of each expert's too with targets "all"."""
    shape = tensors.shape_of(config)
    named = tensors.tensors(shape, "merged")
    attention = sum(sum(t.shape) for n, t in named.items() if n.split(".")[-2] in lora.TARGETS and n.endswith("weight"))
    h, i = shape.hidden_size, shape.intermediate_size
    experts = shape.num_hidden_layers * shape.num_local_experts * ((2 * i + h) + (i + h))
    return settings.rank * (attention + (experts if settings.targets == "all" else 0))


def world(settings: Train) -> int:
    """Processes that train together, one a GPU."""
    return settings.gpus * max(1, len(settings.hosts))


def steps(rows: int, settings: Train) -> int:
    """Optimizer steps of a training over `rows`, as transformers' Trainer counts them
    (`Trainer.set_initial_training_values`, with accelerate's even batches).

    Raises UserError when one step asks for more rows than there are.
    """
    each = settings.batch * settings.accumulate * world(settings)
    if each > rows:
        raise UserError(
            f"a step learns from {each} rows, and there are {rows}",
            why=f"batch {settings.batch} x accumulate {settings.accumulate} x {world(settings)} GPUs",
            fix="lower train.accumulate or train.batch",
        )
    if settings.max_steps > 0:
        return settings.max_steps
    batches = ceil(ceil(rows / settings.batch) / world(settings))  # of each process
    return ceil(settings.epochs * ceil(batches / settings.accumulate))


def looking(rows: int, total: int, settings: Train, seconds: float) -> float:
    """Seconds of all looks at `rows` held-out rows in `total` steps, at most: before, after, and every eval_every steps
    between. `seconds` are of a micro-batch's forward and backward pass; the first is the lesser half."""
    looks = 2 + ((total - 1) // settings.eval_every if settings.eval_every else 0)
    return looks * ceil(rows / (settings.batch * world(settings))) * seconds / 2


def eta(seconds_a_step: float, total: int, *, looking: float = 0.0) -> str:
    """How long `total` steps take, from the seconds that a step took in rehearsal and those of all looks."""
    minutes, seconds = divmod(round(seconds_a_step * total + looking), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next((n for n, (value, _) in enumerate(parts) if value), 2)
    shown = " ".join(f"{value} {unit}" for value, unit in parts[first : first + 2])
    return f"{total} steps of {seconds_a_step:.2f} s: about {shown}"
