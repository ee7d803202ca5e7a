"""The memory that serving a GPT-OSS checkpoint takes, for every command. Pure, in bytes.

In: the architecture, the stored tensors, what the engine is told. Out: what one GPU needs, and how that sits on it.
Exact for stored weights and cache; what the engine needs around them is measured, or estimated where it says so.
Knows nothing about the machine at hand.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tune.weights.tensors import MXFP4_BLOCK, Shape, Tensor

BF16 = 2

# Memory that vLLM 0.32's three CPU processes take before weights and cache: the sum of their proportional set sizes was
# 2.8 GB on x86-64 with a 0.1 GB checkpoint and 0.2 GB of cache (2026-11); rounded up.
ENGINE_OVERHEAD_CPU = 3 * 2**30

GIB = 2**30
# H100 of 80 GB, MXFP4, 8,192 batched tokens, 0.92 of 79.2 GiB (vLLM 0.32, 2026-11). 20b: 13.03 GiB of weights, and
# without CUDA graphs 58.0 GiB of cache, so 1.83 GiB of activations, workspaces and context. With its 83 graphs 56.7,
# with 9 of them 57.1: before it captures, the engine sets 1.30 and 0.90 GiB aside, where they took 0.77 and 0.23. 120b
# on one and on two: 61.43 and 31.44 GiB, caches of 8.33 and 38.11: no more around them than around the 20b. With
# Marlin's kernel 7.45 GiB in all for 128 experts followed from vllm#23278, an older one; between and beyond a line.
# Estimates.
GRAPHS, GRAPHS_EACH, GRAPHS_LAYERS = 0.851 * GIB, 0.00541 * GIB, 24
CONTEXT = 0.5 * GIB  # estimated share of the 1.83 that does not follow the batch
ACTIVATIONS, ACTIVATIONS_EXPERT, EXPERTS = 1.33 * GIB, 3.67 / 96 * GIB, 32
BATCH = 8192
GATHERED = 8 * BF16  # estimated bytes, in hidden sizes, of a token that comes from another data-parallel GPU's batch
# What multiplies MXFP4 experts, and the multiples that it pads them to: columns of an expert, hidden size
# (fused_moe/oracle/mxfp4.py:816). Triton's also swizzles the scales in tiles (triton_kernels hopper_scale.py).
Kernel = Literal["marlin", "triton"]
PADS: dict[Kernel, tuple[int, int]] = {"marlin": (128, 256), "triton": (64, 1)}
SCALE_ROWS, SCALE_GROUPS = 256, 4
BLOCK = 16  # tokens of a cache block
IN_FLIGHT = 2  # steps that the engine schedules ahead, for which sliding layers keep room


class Tuning(BaseModel):
    """What the engine is told that decides its memory. The defaults are its own, with the batch of a large GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensor_parallel: int = Field(default=1, gt=0)
    pipeline_parallel: int = Field(default=1, gt=0)
    data_parallel: int = Field(default=1, gt=0)
    hosts: int = Field(default=1, gt=0)  # that share all of these
    utilisation: float = Field(default=0.92, gt=0, le=1)
    cache_element: int = BF16  # bytes of one number in the cache
    cache_bytes: int = Field(default=0, ge=0)  # 0: what is left
    batched_tokens: int = Field(default=BATCH, gt=0)
    sequences: int = Field(default=0, ge=0)  # requests at once; 0: the engine's default, not counted
    eager: bool = False  # no CUDA graphs
    expert_parallel: bool = False  # each GPU holds some experts whole, not a share of each
    kernel: Kernel = "marlin"  # of MXFP4 experts; the engine chooses it by the GPU
    graphs: int = Field(default=83, ge=0)  # sizes of batch that the engine captures of GPT-OSS, 1 to 1,024
    hybrid: bool = True  # sliding layers keep their window; False: each keeps every token

    @property
    def gpus(self) -> int:
        """GPUs that the engine takes of each host."""
        return _share(self.tensor_parallel * self.pipeline_parallel * self.data_parallel, self.hosts)


def kv_bytes(shape: Shape, tokens: int, *, element: int = BF16, hybrid: bool = True) -> int:
    """Bytes of key/value cache that one sequence of `tokens` tokens takes.

    2 (key and value) * kv heads * head size * `element` a token and layer; sliding layers keep their window only,
    as vLLM's hybrid cache does, on a CPU too, with prefix caching or without: blocks behind a window may stay cached,
    but are free to be taken. Without `hybrid` they keep everything.
    """
    row = 2 * shape.num_key_value_heads * shape.head_dim * element
    sliding = shape.num_hidden_layers - shape.full_layers
    return row * (shape.full_layers * tokens + sliding * (min(tokens, shape.sliding_window) if hybrid else tokens))


def kv_budget(shape: Shape, *, max_model_len: int, sequences: int, element: int = BF16, hybrid: bool = True) -> int:
    """Bytes of cache to ask a CPU engine for, so that `sequences` longest ones fit at once.

    A half more than the exact sum: the engine hands out blocks of 128 tokens and rounds both kinds of layer up.
    """
    return max(128 * 2**20, sequences * kv_bytes(shape, max_model_len, element=element, hybrid=hybrid) * 3 // 2)


def adapter_bytes(shape: Shape, *, rank: int, slots: int, experts: bool, element: int = BF16, ways: int = 1) -> int:
    """Bytes that each GPU keeps for `slots` adapters of `rank`, whether they are there or not: A [rank, in] and
    B [out, rank] of each weight. Of `ways` GPUs each holds its share of B; A is counted whole."""
    h, i = shape.hidden_size, shape.intermediate_size
    q, kv = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    inward, outward = 3 * h + q, q + 2 * kv + h
    if experts:
        inward, outward = inward + shape.num_local_experts * (h + i), outward + shape.num_local_experts * (2 * i + h)
    return shape.num_hidden_layers * slots * rank * (inward + _share(outward, ways)) * element


class Need(BaseModel):
    """What one GPU takes, in bytes. `kv_request`: cache of one request of `max_model_len` tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: int
    overhead: int  # an estimate, good to about 2 GiB
    kv_request: int
    max_model_len: int


class Fit(BaseModel):
    """A need on one GPU. `requests`: full-length ones that all models' caches hold at once; 0: it does not fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    need: Need
    usable: int  # bytes that the engine may take
    room: int  # bytes left for the cache; negative when the weights do not fit
    requests: int

    @property
    def words(self) -> str:
        """One sentence for people."""
        n = self.need
        return (
            f"{n.weights / GIB:.1f} GiB of weights and about {n.overhead / GIB:.1f} GiB around them in "
            f"{self.usable / GIB:.1f} GiB: the cache holds {self.requests:,} requests of {n.max_model_len:,} tokens"
        )


def need(shape: Shape, stored: Mapping[str, Tensor], tuning: Tuning, max_model_len: int) -> Need:
    """What each GPU takes of a checkpoint with these tensors; of unequal ones, the fullest."""
    layers = _share(shape.num_hidden_layers, tuning.pipeline_parallel)
    inside, apart = (
        sum(held(n, t, shape, tuning) for n, t in stored.items() if (".layers." in n) == within)
        for within in (True, False)
    )
    more = max(0, shape.num_local_experts - EXPERTS) if tuning.kernel == "marlin" else 0
    activations = ACTIVATIONS + ACTIVATIONS_EXPERT * more
    graphs = 0.0 if tuning.eager or not tuning.graphs else GRAPHS + GRAPHS_EACH * tuning.graphs
    gathered = GATHERED * shape.hidden_size * tuning.batched_tokens * (tuning.data_parallel - 1)
    graphs *= max(1, shape.num_hidden_layers / GRAPHS_LAYERS)
    return Need(
        weights=apart + inside * layers // shape.num_hidden_layers,
        overhead=int(CONTEXT + activations * tuning.batched_tokens / BATCH + graphs + gathered),
        kv_request=request_bytes(shape, max_model_len, tuning),
        max_model_len=max_model_len,
    )


def experts_width(shape: Shape, ways: int, kernel: Kernel = "marlin") -> tuple[int, int]:
    """Columns of each MXFP4 expert on one of the GPUs that share it: of the weights, and as vLLM 0.32 pads them."""
    width = _share(shape.intermediate_size // MXFP4_BLOCK, ways) * MXFP4_BLOCK
    return width, _up(width, PADS[kernel][0])


def packed_bytes(name: str, shape: Shape, *, experts: int, ways: int, kernel: Kernel) -> int:
    """Bytes of the blocks or scales of so many experts, shared by `ways` GPUs, on each, as the kernel lays them out."""
    width, hidden = experts_width(shape, ways, kernel)[1], _up(shape.hidden_size, PADS[kernel][1])
    rows, columns = (2 * width, hidden) if "gate_up" in name else (hidden, width)
    if name.endswith("_blocks"):
        return experts * rows * columns // 2
    groups = columns // MXFP4_BLOCK
    if kernel == "triton":
        rows, groups = _up(rows, SCALE_ROWS), _up(groups, SCALE_GROUPS)
    return experts * rows * groups


def held(name: str, tensor: Tensor, shape: Shape, tuning: Tuning) -> int:
    """Bytes of one tensor on one GPU. Tensor-parallel engines share out heads, vocabulary and the experts' width, and
    hold norms, router and the biases of sums on each; every pipeline stage holds both embeddings. Data-parallel ones
    have all of that but the experts whole: vLLM 0.32 shares their width out among tensor and data parallel GPUs."""
    ways = tuning.tensor_parallel * (tuning.data_parallel if ".experts." in name else 1)
    if name.endswith(("_blocks", "_scales")):
        apart = tuning.expert_parallel
        mine = _share(shape.num_local_experts, ways) if apart else shape.num_local_experts
        return packed_bytes(name, shape, experts=mine, ways=1 if apart else ways, kernel=tuning.kernel)
    whole = ("norm.weight", ".router.weight", ".router.bias", ".o_proj.bias", ".down_proj_bias")
    return tensor.bytes if name.endswith(whole) else _share(tensor.bytes, ways)


def request_bytes(shape: Shape, tokens: int, tuning: Tuning) -> int:
    """Bytes of cache on one GPU without which the engine refuses to start: one request of `tokens` tokens.

    It reserves more for sliding layers than they hold in the end (`kv_bytes`): their window and all steps in flight.
    """
    stages = tuning.pipeline_parallel
    heads = max(1, shape.num_key_value_heads // tuning.tensor_parallel)
    row = 2 * heads * shape.head_dim * tuning.cache_element
    sliding = shape.num_hidden_layers - shape.full_layers
    near = min(tokens, shape.sliding_window - 1 + max(IN_FLIGHT, stages) * tuning.batched_tokens)
    full_rows = _up(tokens, BLOCK)
    near_rows = _up(near, BLOCK) + BLOCK if tuning.hybrid else full_rows
    return row * (_share(shape.full_layers, stages) * full_rows + _share(sliding, stages) * near_rows)


def fit(need: Need, memory: int, tuning: Tuning) -> Fit:
    """How a need sits on a GPU of `memory` bytes: room = memory * utilisation - weights - overhead."""
    usable = memory if tuning.cache_bytes else int(memory * tuning.utilisation)
    room = usable - need.weights - need.overhead
    if tuning.cache_bytes:  # then the engine takes no more, and no heed of the utilisation
        room = tuning.cache_bytes if room >= tuning.cache_bytes else room - tuning.cache_bytes
    requests = max(0, room // need.kv_request)
    each = min(requests, tuning.sequences or requests)
    return Fit(need=need, usable=usable, room=room, requests=each * tuning.data_parallel)


def _up(size: int, multiple: int) -> int:
    return _share(size, multiple) * multiple


def _share(count: int, ways: int) -> int:
    return -(-count // ways)
