import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from serve import command, memory
from serve.command import Options
from serve.effort import EffortPolicy
from serve.middleware import SETTINGS, Settings
from tune.checkpoint import Checkpoint

FOUND = Checkpoint(
    folder=Path("/m"),
    name="python-docs",
    base="nano",
    format="merged",
    prompt_date="2026-01-01",
    prompt_fingerprint="f" * 64,
    digest="0123456789abcdef" * 4,
)


def build(options=Options(), **given):  # noqa: B008
    return command.build(FOUND, options, **{"device": "cpu", "kv_bytes": 1, "cores": 2, **given})


def after(argv, flag):
    return argv[argv.index(flag) + 1]


def test_a_folder_of_another_machine_is_left_as_it_is():
    there = FOUND.model_copy(update={"folder": Path("/opt/../m")})
    assert after(command.build(there, Options(), device="cuda", kv_bytes=0, cores=1).argv, "--model") == "/opt/../m"


def test_the_engine_gets_both_names_and_the_date_of_training():
    argv, env = build()
    at = argv.index("--served-model-name")
    assert argv[at + 1 : at + 3] == ["python-docs", FOUND.served_name]
    assert env["VLLM_SYSTEM_START_DATE"] == FOUND.prompt_date
    assert command.served_names(FOUND, Options(name="mine")) == ["mine", FOUND.served_name]


def test_the_middleware_reads_what_the_command_says():
    options = Options(policy=EffortPolicy(default="low"), key_env="K", max_body=9, drain=3, sagemaker=True)
    settings = Settings.model_validate_json(build(options).env[SETTINGS])
    assert settings == command.settings(FOUND, options)
    assert (settings.policy.default, settings.digest, settings.key_env) == ("low", FOUND.digest, "K")


def test_no_secret_enters_argv_or_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    built = build(Options(key_env="MY_KEY"))
    assert "sk-very-secret" not in json.dumps(built)
    for flag in ("--api-key", "--api-key=x", "--api_key", "--api_key=x", "--api-k", "--api"):
        with pytest.raises(ValidationError, match="--api-key-env"):
            Options(extra=("--seed", "7", flag, "x"))


def test_extra_arguments_come_last_so_that_they_win():
    assert build(Options(extra=("--seed", "7"))).argv[-2:] == ["--seed", "7"]


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
        "--",
        "--max-num-seqs=4",
    )
    assert Options(extra=extra).extra == extra


def test_two_servers_on_a_small_machine_are_not_bound_to_the_same_core():
    small, large = build(cores=2).env, build(cores=32).env
    assert (small["VLLM_CPU_OMP_THREADS_BIND"], small["OMP_NUM_THREADS"]) == ("nobind", "1")
    assert "OMP_NUM_THREADS" not in large
    gpu = build(device="cuda")
    assert "--enforce-eager" not in gpu.argv
    assert "OMP_NUM_THREADS" not in gpu.env


@pytest.mark.parametrize(
    ("name", "billions", "packed_gib", "bf16_gib", "kv_8k_mib"),
    # The model card's parameters and checkpoint sizes; 24 and 36 KiB of cache a token, and the windows.
    [("openai/gpt-oss-20b", 20.91, 12.8, 39.0, 195.0), ("openai/gpt-oss-120b", 116.83, 60.8, 217.6, 292.5)],
)
def test_memory_of_the_published_models(name, billions, packed_gib, bf16_gib, kv_8k_mib):
    shape = memory.GPT_OSS[name]
    assert memory.parameters(shape) / 1e9 == pytest.approx(billions, abs=0.005)
    assert memory.weight_bytes(shape, "mxfp4") / 2**30 == pytest.approx(packed_gib, abs=0.05)
    assert memory.weight_bytes(shape, "merged") / 2**30 == pytest.approx(bf16_gib, abs=0.05)
    assert memory.kv_bytes(shape, 8192) / 2**20 == kv_8k_mib
    assert memory.kv_bytes(shape, 64) == memory.kv_bytes(shape, 32) * 2  # within the window all layers grow


def test_tensor_names_and_shapes_are_those_that_transformers_writes():
    torch = pytest.importorskip("torch")
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=2,
    )
    with torch.device("meta"):
        model = GptOssForCausalLM(config)
    real = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shape = memory.shape_of(config.to_dict())
    assert {name: tensor.shape for name, tensor in memory.tensors(shape, "merged").items()} == real
    assert shape.full_layers == config.layer_types.count("full_attention")
