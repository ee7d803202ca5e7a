"""Flags for the engine: which are refused, which are read, and that the engine knows them by these names."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from serve import engine_flags
from serve.command import Options
from serve.engine_flags import COUNTED, REFUSED, SHORT
from serve.memory import Tuning
from serve.vllm_flags import TAKES

FLAGS = list(TAKES)


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("--model", "FOLDER"),
        ("--mode=x", "FOLDER"),
        ("--served_model_name", "--name"),
        ("--hos", "--host"),
        ("--port=1", "--port"),
        ("--middleware", "serve's own"),
        ("--config", "after the --"),
        ("--hf-token", "nothing is fetched"),
        ("--max-model-len", "--max-model-len before the --"),
        ("--max-mod", "--max-model-len before the --"),
        ("--dtype=half", "checkpoints are bfloat16"),
        ("--tokenizer", "the one in FOLDER"),
        ("--tokenizer_mode=slow", "the one in FOLDER"),
        ("--tokenizer-revision", "the one in FOLDER"),
        ("--skip-tokenizer-init", "the one in FOLDER"),
        ("--chat-template", "harmony library"),
        ("--chat-template-content-format", "harmony library"),
        ("--default-chat-template-kwargs.reasoning_effort", "harmony library"),
        ("--trust-request-chat-template", "harmony library"),
        ("--enable-prompt-embeds", "harmony library"),
        ("--reasoning-parser", "one parser"),
        ("--reasoning-parser-plugin", "one parser"),
        ("--tool-call-parser", "one parser"),
        ("--tool-parser-plugin", "one parser"),
        ("--no-enable-auto-tool-choice", "come back empty"),
        ("--no-enable-scale-out", "is checked through it"),
        ("--tokens-only", "ids instead of text"),
        ("--hf-overrides.num_experts_per_tok", "config.json"),
        ("--hf-config-path", "config.json"),
        ("--model-class-overrides", "config.json"),
        ("--disable-sliding-window", "config.json"),
        ("--quantization", "how weights are packed"),
        ("--quantization-config", "how weights are packed"),
        ("-q", "how weights are packed"),
        ("--help", "--help=all shows every flag"),
        ("-h", "--help=all shows every flag"),
        ("--load-format", "files in FOLDER"),
        ("--revision", "files in FOLDER"),
        ("--code-revision", "files in FOLDER"),
        ("--generation-config", "generation_config.json"),
        ("--override-generation-config.eos_token_id", "generation_config.json"),
        ("--runner", "chat model"),
        ("--convert", "chat model"),
        ("--pooler-config", "chat model"),
        ("--uds", "--host and --port"),
        ("--grpc", "--host and --port"),
        ("--headless", "--host and --port"),
        ("--ssl-keyfile", "use --tls-cert"),
        ("--ssl-certfile", "use --tls-cert"),
        ("--enable-lora", "use --adapter"),
        ("--lora-modules", "use --adapter"),
        ("--max-loras", "use --adapter"),
    ],
)
def test_what_was_checked_cannot_be_replaced(flag, instead):
    with pytest.raises(ValidationError, match=instead):
        Options(extra=(flag, "x"))


def test_engine_flags_that_only_begin_alike_pass():
    extra = (
        "--model-impl",
        "vllm",
        "--config-format",
        "hf",
        "--api-server-count",
        "1",
        "-tp",
        "2",
        "--max-num-seqs=4",
    )
    assert Options(extra=extra).extra == extra


def meant(word):
    """What the engine's parser makes of an abbreviation: the flags that it begins."""
    return [f for f in FLAGS if f.startswith(word)]


def test_every_flag_that_is_judged_is_one_of_the_engines():
    assert len(FLAGS) > 400
    assert [f for f in (*REFUSED, *COUNTED) if f not in FLAGS] == []


@pytest.mark.engine
def test_the_list_of_flags_is_the_installed_engines():
    code = """
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
actions = make_arg_parser(FlexibleArgumentParser())._actions
print(json.dumps({name: action.nargs for action in actions for name in action.option_strings}))
"""
    code = "import json" + code
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    most = {None: 1, "?": 1, 0: 0, "+": None}
    assert {name: most[n] for name, n in json.loads(out.splitlines()[-1]).items()} == TAKES


def test_a_refused_flag_is_refused_in_every_spelling_that_the_engine_takes():
    tried = 0
    for flag, instead in REFUSED.items():
        under = "--" + flag[2:].replace("-", "_")
        short = [flag[:n] for n in range(3, len(flag)) if meant(flag[:n]) == [flag]]
        for word in (flag, f"{flag}=x", under, f"{under}=x", f"{flag}.key", f"{flag}.key=x", *short):
            tried += 1
            with pytest.raises(ValueError, match="is not for the engine") as error:
                engine_flags.read(("--seed", "7", word, "x"))
            assert instead in str(error.value) or word in short
    assert tried > 300


@pytest.mark.parametrize("word", ["-q", "-qfp8", "-q=fp8"])
def test_the_short_form_of_quantization_is_refused(word):
    with pytest.raises(ValueError, match="is not for the engine: how weights are packed"):
        engine_flags.read((word, "fp8"))


def test_every_other_flag_of_the_engine_passes():
    rest = [f for f in FLAGS if f not in {*REFUSED, *COUNTED, *SHORT}]
    assert len(rest) > 300
    for flag in rest:
        words = {0: (flag, flag), 1: (flag, "1", f"{flag}=1"), None: (flag, "1", "2", f"{flag}=1")}[TAKES[flag]]
        assert engine_flags.read(words) == Tuning(), flag


MULTI = (
    '{"kv_connector":"MultiConnector","kv_connector_extra_config":'
    '{"connectors":[{"kv_connector":"NixlConnector"},{"kv_connector":"%s"}]}}'
)


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--tensor-parallel-size 2", "tensor_parallel", 2),
        ("--tensor_parallel_size=2", "tensor_parallel", 2),
        ("-tp 4", "tensor_parallel", 4),
        ("-tp=4", "tensor_parallel", 4),
        ("-tp 4 --tensor-parallel-size 2", "tensor_parallel", 2),
        ("-pp 3", "pipeline_parallel", 3),
        ("--pipeline-parallel-size=3", "pipeline_parallel", 3),
        ("-dp 2", "data_parallel", 2),
        ("--nnodes 2 --node-rank 1 --master-addr 10.0.0.1", "hosts", 2),
        ("-n 3", "hosts", 3),
        ("-n4", "hosts", 4),
        ("--max-cudagraph-capture-size 512", "graphs", 51),
        ("--gpu-memory-utilization 0.5", "utilisation", 0.5),
        ("--device-memory-utilization=0.95", "utilisation", 0.95),
        ("--kv-cache-dtype fp8_e4m3", "cache_element", 1),
        ("--kv-cache-dtype bfloat16", "cache_element", 2),
        ("--kv-cache-dtype nvfp4", "cache_element", 2),
        ("--kv-cache-memory-bytes 4G", "cache_bytes", 4 * 2**30),
        ("--max-num-batched-tokens 16k", "batched_tokens", 16_000),
        ("--max-num-batched-tokens=2K", "batched_tokens", 2048),
        ("--max-num-seqs 64", "sequences", 64),
        ("--enforce-eager", "eager", True),
        ("--enforce-eager --no-enforce-eager", "eager", False),
        ("--load-format runai_streamer", "eager", False),
        ("--watermark -0.5", "eager", False),
        ("--cudagraph-capture-sizes 1 2 4 --seed 7", "graphs", 3),
        ("--disable-hybrid-kv-cache-manager", "hybrid", False),
        ("--disable-hybrid-kv-cache-manager --no-disable-hybrid-kv-cache-manager", "hybrid", True),
        ("--enable-prefix-caching", "hybrid", True),
        ("--kv-offloading-backend lmcache --kv-offloading-size 8", "hybrid", False),
        ("--kv-offloading-backend native --kv-offloading-size 8", "hybrid", True),
        ('--kv-transfer-config {"kv_connector":"NixlConnector","kv_role":"kv_both"}', "hybrid", True),
        ('--kv-transfer-config={"kv_connector":"LMCacheConnectorV1"}', "hybrid", False),
        ('--kv-transfer-config {"kv_connector":"NixlConnector","kv_connector_module_path":"m"}', "hybrid", False),
        ("--kv-transfer-config.kv_connector LMCacheMPConnector", "hybrid", False),
        ("--kv-transfer-config.kv_connector=MooncakeConnector", "hybrid", True),
        (f"--kv-transfer-config {MULTI % 'MoRIIOConnector'}", "hybrid", True),
        (f"--kv-transfer-config {MULTI % 'FlexKVConnectorV1'}", "hybrid", False),
    ],
)
def test_what_decides_memory_is_read(words, field, value):
    found = engine_flags.read(words.split())
    assert getattr(found, field) == value
    assert found.model_copy(update={field: Tuning.model_fields[field].default}) == Tuning()
    assert Options(extra=tuple(words.split())).tuning == found


def test_a_flag_that_decides_memory_is_written_in_full():
    tried = 0
    for flag in COUNTED:
        for word in (flag[:n] for n in range(2, len(flag))):
            if word in FLAGS or not meant(word) or word == "--":
                continue
            tried += 1
            with pytest.raises(ValueError, match=r"is short for|is not for the engine"):
                engine_flags.read((word, "2"))
    assert tried > 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("-tp two", "-tp two: not a number"),
        ("-tp", "-tp needs a value"),
        ("--tensor-parallel-size 0", "--tensor-parallel-size 0: "),
        ("--gpu-memory-utilization 1.5", "--gpu-memory-utilization 1.5: "),
        ("--load-format dummy", "the weights are the files in FOLDER"),
        ("--load_format=dummy", "the weights are the files in FOLDER"),
        ("--kv-transfer-config {", "--kv-transfer-config: not a JSON object"),
        ("--kv-transfer-config [1]", "--kv-transfer-config: not a JSON object"),
        ('--kv-transfer-config {"kv_connector":[]}', "--kv-transfer-config: not a JSON object"),
    ],
)
def test_a_value_that_cannot_be_is_named(words, says):
    with pytest.raises(ValidationError) as error:
        Options(extra=tuple(words.split()))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--no-such-flag 3", "--no-such-flag is no flag of vLLM 0.32: "),
        ("--max-num-seq-s 3", "--max-num-seq-s is no flag of vLLM 0.32: --max-num-seqs is one"),
        ("--drain=3", "--drain is no flag of vLLM 0.32: "),
        ("-tp2", "-tp2 is no flag of vLLM 0.32: "),
        ("--xyz", "serve's own stand before the --"),
        ("stray", "'stray' is no flag of the engine"),
        ("--seed 7 8", "'8' is no flag of the engine"),
        ("--enable-prefix-caching true", "'true' is no flag of the engine"),
        ("-- --seed 7", "'--' is no flag of the engine"),
        ("--enable-prefix-caching=true", "--enable-prefix-caching takes no value"),
        ("--enable-prefix-caching.a true", "--enable-prefix-caching.a takes no value"),
        ("--seed", "--seed needs a value"),
        ("--seed --enforce-eager", "--seed needs a value"),
        ("--speculative-config.method", "--speculative-config.method needs a value"),
        ("--cudagraph-capture-sizes", "--cudagraph-capture-sizes needs a value"),
        ("--enable-ep", "--enable-ep is short for several: --enable-ep-weight-filter, --enable-eplb"),
    ],
)
def test_what_the_engine_would_not_take_is_named_before_it_starts(words, says):
    with pytest.raises(ValidationError) as error:
        Options(extra=tuple(words.split()))
    assert says in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        ("--see", "7"),
        ("--seed=-1",),
        ("--seed", "-1"),
        ("-r1", "-r", "1"),
        ("-O3",),
        ("-O", "2", "-O=1"),
        ("--speculative_config.method", "-x", "--speculative-config.tokens=3", "-sc.a+", "b,c"),
        ("--speculative-config", '{"a": "-b c"}'),
        ("--fingerprint-value", "-a b"),
        ("--fingerprint-value=",),
    ],
)
def test_what_the_engine_takes_in_other_spellings_passes(words):
    assert Options(extra=words).tuning == Tuning()
