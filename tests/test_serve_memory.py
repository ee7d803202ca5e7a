"""What serving takes: the formulas against published figures, against one measured engine, and one answer for all."""

import json
import subprocess
import sys

import pytest
from checkpoints import GPT_OSS, write_weights

from deploy import sizing
from serve import fitting, memory
from serve.command import Options
from serve.engine_flags import WINDOWED
from serve.machine import Machine, kernel
from serve.memory import GIB, Tuning
from tune.nano import scratch
from tune.recipe import Nano
from tune.weights.shards import read_header
from tune.weights.tensors import shape_of, tensors

NANO = shape_of(scratch.config(Nano()).to_dict())
SMALL, LARGE = GPT_OSS["openai/gpt-oss-20b"], GPT_OSS["openai/gpt-oss-120b"]
H100 = int(79.2 * GIB)


def stored_bytes(shape, weights):
    return sum(t.bytes for t in tensors(shape, weights).values())


def need(shape, weights="mxfp4", length=8192, **tuning):
    return memory.need(shape, tensors(shape, weights), Tuning(**tuning), length)


@pytest.mark.parametrize(("name", "kv_8k_mib"), [("openai/gpt-oss-20b", 195.0), ("openai/gpt-oss-120b", 292.5)])
def test_cache_of_the_published_models(name, kv_8k_mib):
    """24 and 36 KiB a token, and the windows."""
    shape = GPT_OSS[name]
    assert memory.kv_bytes(shape, 8192) / 2**20 == kv_8k_mib
    assert memory.kv_bytes(shape, 64) == memory.kv_bytes(shape, 32) * 2  # within the window all layers grow


def near(measured):
    return pytest.approx(measured, rel=0.05)


NINE = ("--cudagraph-capture-sizes", "1", "2", "4", "8", "16", "32", "64", "128", "256")
# By vLLM 0.32 on H100s of 80 GB, MXFP4, 8,192 tokens: GiB of weights and of cache on each, and the cache's tokens.
REPORTED = [
    (SMALL, (), 13.03, 56.72, 1_237_927),
    (SMALL, NINE, 13.03, 57.1, 1.245e6),
    (SMALL, ("--enforce-eager",), 13.03, 58.0, 1.265e6),
    (LARGE, (), 61.43, 8.33, 121_169),
    (LARGE, ("--tensor-parallel-size", "2"), 31.44, 38.11, 1_109_012),
]


@pytest.mark.parametrize(("shape", "extra", "weights", "cache", "tokens"), REPORTED)
def test_what_h100s_were_seen_to_take(shape, extra, weights, cache, tokens):
    """What is around weights and cache is the rest of the engine's share. The engine counts its tokens as requests that
    fit times their length. The captured graphs' own 0.77 and 0.23 GiB are less than the engine sets aside for them
    before, which is what its cache lacks. Not measured: H200, other GPUs, data-parallel ones, fp8 caches."""
    told = Options(extra=extra).tuning.model_copy(update={"kernel": kernel("NVIDIA H100 80GB HBM3")})
    fit = memory.fit(memory.need(shape, tensors(shape, "mxfp4"), told, 8192), H100, told)
    assert fit.need.weights / GIB == pytest.approx(weights, rel=0.015)
    assert (fit.need.weights + fit.need.overhead) / GIB == pytest.approx(0.92 * 79.2 - cache, rel=0.015)
    assert fit.room / GIB == near(cache)
    assert fit.room / fit.need.kv_request * 8192 == near(tokens)


def test_what_was_seen_of_the_large_model_with_marlins_kernel():
    """vllm#23278, an older vLLM with graphs, 8,192 batched tokens."""
    assert need(LARGE).overhead / GIB == near(7.45)


def test_the_kernel_follows_the_gpu():
    assert kernel("H200") == kernel("NVIDIA H100 80GB HBM3") == "triton"
    assert kernel("NVIDIA A100-SXM4-80GB") == kernel("B200") == kernel("") == "marlin"
    assert kernel("H100", adapted=True) == "marlin"


@pytest.mark.parametrize("length", [2048, 131_072])
def test_sliding_layers_keep_every_token_without_the_hybrid_cache(length):
    wide = Options(extra=("--disable-hybrid-kv-cache-manager",)).tuning
    assert memory.request_bytes(LARGE, length, wide) == 36 * length * 2048
    assert memory.kv_bytes(LARGE, length, hybrid=False) == 36 * length * 2048
    narrow = memory.request_bytes(LARGE, length, Tuning())
    assert narrow < memory.request_bytes(LARGE, length, wide) or length == 2048
    asked = [memory.kv_budget(LARGE, max_model_len=length, sequences=16, hybrid=h) for h in (True, False)]
    assert asked[1] == 16 * 36 * length * 2048 * 3 // 2 > asked[0]


def test_what_the_padding_kernel_was_seen_to_take():
    assert need(LARGE).weights / GIB == pytest.approx(65.97, rel=0.005)  # vllm#23278
    assert need(LARGE, "merged").weights == stored_bytes(LARGE, "merged")


@pytest.mark.parametrize("weights", ["merged", "mxfp4"])
@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_tensor_parallel_engines_share_what_vllm_shares(shape, weights):
    stored = tensors(shape, weights)
    held = {n: memory.held(n, t, shape, Tuning(tensor_parallel=2)) for n, t in stored.items()}
    layer = "model.layers.0"
    for name in ("self_attn.q_proj.weight", "self_attn.k_proj.bias", "self_attn.o_proj.weight", "self_attn.sinks"):
        assert held[f"{layer}.{name}"] * 2 == stored[f"{layer}.{name}"].bytes
    assert held["lm_head.weight"] * 2 == stored["lm_head.weight"].bytes
    for name in ("self_attn.o_proj.bias", "mlp.router.weight", "mlp.router.bias", "input_layernorm.weight"):
        assert held[f"{layer}.{name}"] == stored[f"{layer}.{name}"].bytes
    assert held[f"{layer}.mlp.experts.gate_up_proj_bias"] * 2 == stored[f"{layer}.mlp.experts.gate_up_proj_bias"].bytes
    assert held[f"{layer}.mlp.experts.down_proj_bias"] == stored[f"{layer}.mlp.experts.down_proj_bias"].bytes
    expert = f"{layer}.mlp.experts.down_proj" + ("_blocks" if weights == "mxfp4" else "")
    wide = 1536 / 1440 * 3072 / 2880 if weights == "mxfp4" else 1  # a half of 2,880, and 2,880, as Marlin pads them
    assert held[expert] * 2 == pytest.approx(stored[expert].bytes * wide)


@pytest.mark.parametrize("weights", ["merged", "mxfp4"])
def test_data_parallel_engines_share_the_experts_alone_and_the_caches_add_up(weights):
    stored = tensors(SMALL, weights)
    held = {n: memory.held(n, t, SMALL, Tuning(data_parallel=2)) for n, t in stored.items()}
    as_tensor = {n: memory.held(n, t, SMALL, Tuning(tensor_parallel=2)) for n, t in stored.items()}
    for name in stored:
        assert held[name] == (as_tensor[name] if ".experts." in name else stored[name].bytes), name
    fits = {}
    for ways in (1, 2):
        tuning = Tuning(data_parallel=ways)
        fits[ways] = memory.fit(memory.need(SMALL, stored, tuning, 8192), H100, tuning)
    assert fits[2].need.kv_request == fits[1].need.kv_request
    assert fits[2].requests > 2 * fits[1].requests
    assert fits[2].requests == 2 * (fits[2].room // fits[2].need.kv_request)


def test_expert_parallel_engines_hold_some_experts_whole():
    """And pad 2,880 columns once, to 2,944, where two halves of 1,440 are padded to 1,536 each."""
    shape = GPT_OSS["openai/gpt-oss-20b"]
    stored = {n: t for n, t in tensors(shape, "mxfp4").items() if n.endswith(("_blocks", "_scales"))}
    share = {
        apart: sum(
            memory.held(n, t, shape, Tuning(tensor_parallel=2, expert_parallel=apart)) for n, t in stored.items()
        )
        for apart in (True, False)
    }
    assert share[True] / share[False] == pytest.approx(2944 / (2 * 1536), abs=1e-6)


def test_several_hosts_are_asked_for_their_part():
    assert Tuning(tensor_parallel=8, data_parallel=2, hosts=2).gpus == 8


def test_pipeline_stages_share_layers_and_each_holds_the_vocabulary():
    stored = tensors(LARGE, "merged")
    apart = sum(t.bytes for n, t in stored.items() if ".layers." not in n)
    whole = stored_bytes(LARGE, "merged")
    assert need(LARGE, "merged", pipeline_parallel=2).weights == apart + (whole - apart) // 2
    assert need(LARGE, "merged", pipeline_parallel=5).weights == apart + (whole - apart) * 8 // 36


@pytest.mark.parametrize(
    ("tuning", "share"),
    [({}, 1), ({"cache_element": 1}, 0.5), ({"tensor_parallel": 8}, 1 / 8), ({"pipeline_parallel": 2}, 0.5)],
)
def test_a_requests_cache_follows_what_the_engine_is_told(tuning, share):
    # 12 layers of all tokens, and 12 of a window and two steps ahead, in blocks of 16 and one more; 2 KiB a token.
    near_rows = 127 + 2 * 8192
    rows = 12 * 131_072 + 12 * (-(-near_rows // 16) * 16 + 16)
    assert memory.request_bytes(SMALL, 131_072, Tuning(**tuning)) == rows * 2048 * share


def test_the_engines_other_flags_reach_the_fit():
    plain = memory.fit(need(SMALL), H100, Tuning())
    assert memory.fit(need(SMALL), H100, Tuning(utilisation=0.5)).usable == H100 // 2
    assert memory.fit(need(SMALL), H100, Tuning(sequences=7)).requests == 7
    assert (
        need(SMALL, batched_tokens=16_384).overhead > need(SMALL).overhead > need(SMALL, batched_tokens=2048).overhead
    )
    fixed = memory.fit(need(SMALL), H100, Tuning(cache_bytes=4 * GIB))
    assert (fixed.room, fixed.usable) == (4 * GIB, H100)
    assert memory.fit(need(SMALL), H100, Tuning(cache_bytes=70 * GIB)).requests == 0 < plain.requests


ENGINES = """
import json
from types import SimpleNamespace as Names
import torch
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.v1.base import supports_hma
from vllm.v1.core.kv_cache_utils import unify_hybrid_kv_cache_specs
from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

row = {"block_size": 16, "num_kv_heads": 8, "head_size": 64, "dtype": torch.bfloat16}
taken = {}
for length in (2048, 8192, 131072):
    alone = Names(decode_context_parallel_size=1)
    told = Names(max_in_flight_tokens=2 * 8192, model_config=Names(max_model_len=length), parallel_config=alone)
    kinds = [FullAttentionSpec(**row) if n % 2 else SlidingWindowSpec(sliding_window=128, **row) for n in range(36)]
    specs = dict(zip(map(str, range(36)), kinds))
    taken[length] = [sum(s.max_memory_usage_bytes(told) for s in specs.values())]
    unify_hybrid_kv_cache_specs(specs)
    taken[length].append(sum(s.max_memory_usage_bytes(told) for s in specs.values()))
known = {}
for name in KVConnectorFactory._registry:
    try:
        known[name] = supports_hma(KVConnectorFactory.get_connector_class_by_name(name))
    except ImportError:  # of a package that is not here
        pass
print(json.dumps([taken, known]))
"""


@pytest.mark.engine
def test_the_engine_reserves_what_is_reckoned_byte_for_byte_and_windows_beside_the_same_connectors():
    out = subprocess.run([sys.executable, "-c", ENGINES], capture_output=True, text=True, check=True).stdout
    taken, known = json.loads(out.splitlines()[-1])
    for length, found in taken.items():
        assert found == [memory.request_bytes(LARGE, int(length), Tuning(hybrid=h)) for h in (True, False)]
    known.pop("MultiConnector")  # it windows when all of its own do
    assert len(known) > 10
    assert {name for name, keeps in known.items() if keeps} == WINDOWED & known.keys()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Headers of both published models in both formats, as files whose weights are holes."""
    folder, found = tmp_path_factory.mktemp("published"), {}
    for name, shape in GPT_OSS.items():
        for weights in ("merged", "mxfp4"):
            path = folder / f"{shape.num_local_experts}-{weights}.safetensors"
            write_weights(path, tensors(shape, weights))
            found[name, weights] = (shape, read_header(path))
    return found


@pytest.mark.parametrize("length", [2048, 32_768, 131_072])
def test_deploy_and_serve_say_the_same_of_every_gpu(published, length):
    options, seen = Options(max_model_len=length), []
    for (_, weights), (shape, stored) in published.items():
        for name, gpu in sizing.hardware().gpu.items():
            planned = sizing.on(name, gpu, sizing.Load(shape, stored, options, weights))
            size, figures = gpu.memory, {}
            there = Machine(device="cuda", cores=8, memory=size, total=size, vllm="0.32.0", name=name)
            problems = list(fitting.on_gpu(shape, stored, options, there, figures))
            assert (planned.requests > 0) == (problems == []), (name, weights, length)
            assert (planned.need.weights, planned.need.kv_request) == (figures["weight_bytes"], figures["cache_bytes"])
            parts = [figures[f"{part}_bytes"] for part in ("weight", "cache", "around")]
            assert sum(parts) == figures["need_bytes"]  # what is shown adds up
            seen.append(planned.requests > 0)
    assert len(seen) == 4 * len(sizing.hardware().gpu) == 32
    assert 10 < sum(seen) < 25


@pytest.mark.parametrize(
    ("shape", "weights", "gpu", "ways", "fits"),
    [
        (LARGE, "mxfp4", "A100-80GB", 1, False),
        (LARGE, "mxfp4", "A100-80GB", 2, True),
        (LARGE, "mxfp4", "H100", 1, True),
        (LARGE, "mxfp4", "H200", 1, True),
        (SMALL, "merged", "L40S", 1, False),
        (SMALL, "merged", "L40S", 2, True),
        (SMALL, "mxfp4", "L4", 1, True),
        (LARGE, "merged", "H100", 4, True),
        (LARGE, "merged", "H100", 2, False),
    ],
)
def test_preflight_counts_the_gpus_that_share_a_model(shape, weights, gpu, ways, fits):
    size = sizing.hardware().gpu[gpu].memory
    there = Machine(device="cuda", cores=8, memory=size, total=size, gpus=ways, vllm="0.32.0", name=gpu)
    options = Options(extra=("-tp", str(ways)))
    problems = list(fitting.on_gpu(shape, tensors(shape, weights), options, there, {}))
    assert [p.what for p in problems] == ([] if fits else ["the model does not fit into memory"])


def test_gpus_that_are_not_there_or_not_free_are_named():
    machine = Machine(device="cuda", cores=8, memory=H100, total=H100, gpus=2, vllm="0.32.0")

    def what(machine, *extra):
        found = fitting.on_gpu(SMALL, tensors(SMALL, "mxfp4"), Options(extra=extra), machine, {})
        return [p.what for p in found]

    assert what(machine, "-tp", "2") == []
    assert what(machine, "-tp", "2", "-pp", "2") == ["the engine is told to take 4 GPUs, 2 can be seen"]
    assert what(machine, "-tp", "2", "-dp", "2") == ["the engine is told to take 4 GPUs, 2 can be seen"]
    busy = machine.model_copy(update={"memory": H100 // 2})
    assert what(busy) == ["another program holds memory of the GPU"]
    assert what(busy, "--gpu-memory-utilization", "0.4") == []
    told = ("--kv-cache-memory-bytes", "1G")  # then it takes no more, but its share has to be free all the same
    assert what(busy, *told) == ["another program holds memory of the GPU"]
    assert what(busy, *told, "--gpu-memory-utilization", "0.1") == []
    assert what(machine.model_copy(update={"memory": 2**30}), *told, "--gpu-memory-utilization", "0.01") == [
        "another program holds memory of the GPU"
    ]
    assert what(machine.model_copy(update={"memory": 0, "total": 0})) == ["no GPU answers"]


@pytest.mark.parametrize("length", [2048, 8192, 131_072])
@pytest.mark.parametrize("shape", [SMALL, LARGE, NANO])
def test_a_cpu_engines_cache_holds_the_sequences_in_the_blocks_that_it_hands_out(shape, length):
    """Blocks of 128 tokens for each kind of layer; a sliding one's window may begin inside a block, so one more."""
    block = 128 * 2 * shape.num_key_value_heads * shape.head_dim * memory.BF16
    full, sliding = shape.full_layers, shape.num_hidden_layers - shape.full_layers
    one = block * (full * -(-length // 128) + sliding * (-(-min(length, shape.sliding_window) // 128) + 1))
    asked = memory.kv_budget(shape, max_model_len=length, sequences=16)
    assert 16 * one <= asked <= max(128 * 2**20, 2 * 16 * one)


def test_each_worker_of_a_cpu_engine_takes_a_cache_of_its_own():
    machine, stored, takes = Machine(device="cpu", cores=2, memory=64 * GIB, amx=True), tensors(SMALL, "merged"), {}
    for ways in (1, 2):
        figures = {}
        assert list(fitting.on_cpu(SMALL, stored, Options(tensor_parallel=ways), machine, figures, None)) == []
        takes[ways] = figures["need_bytes"]
    assert takes[2] - takes[1] == figures["cache_bytes"] > 0
