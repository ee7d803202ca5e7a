import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from serve import command
from serve.command import Options
from serve.effort import EffortPolicy
from serve.middleware import SETTINGS, Settings
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.recipe import Serve

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
    policy = EffortPolicy(default="low", maximum="medium", spelling="map")
    told = {"max_body": 9, "drain": 3, "sagemaker": True, "max_model_len": 777, "raw_completions": True}
    told |= {"keys": "/keys.toml", "reasoning_content": True, "max_concurrent": 5, "strict_format": True}
    settings = Settings.model_validate_json(build(Options(policy=policy, key_env="K", **told)).env[SETTINGS])
    names = ("python-docs", FOUND.served_name)
    assert settings == Settings(policy=policy, digest=FOUND.digest, key_env="K", names=names, **told)


def test_no_secret_enters_argv_or_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    built = build(Options(key_env="MY_KEY"))
    assert "sk-very-secret" not in json.dumps(built)
    for flag in ("--api-key", "--api-key=x", "--api_key", "--api_key=x", "--api-k", "--api"):
        with pytest.raises(ValidationError, match="--api-key-env"):
            Options(extra=("--seed", "7", flag, "x"))


def test_extra_arguments_come_last_so_that_they_win():
    assert build(Options(extra=("--seed", "7"))).argv[-2:] == ["--seed", "7"]


def test_sizes_of_the_recipe_are_told_and_those_after_the_dashes_win():
    assert "parallel-size" not in " ".join(build(device="cuda").argv)
    options = command.options(Serve(tensor_parallel=2, data_parallel=4))
    told = ["--tensor-parallel-size", "2", "--data-parallel-size", "4"]
    assert build(options, device="cuda").argv[-4:] == told
    assert options.tuning.gpus == 8
    both = command.options(Serve(tensor_parallel=2), data_parallel=3, extra=("-tp", "4"))
    assert build(both, device="cuda").argv[-6:] == [
        "--tensor-parallel-size",
        "2",
        "--data-parallel-size",
        "3",
        "-tp",
        "4",
    ]
    assert (both.tuning.tensor_parallel, both.tuning.gpus) == (4, 12)
    with pytest.raises(UserError, match="--tensor-parallel: Input should be greater than 0"):
        command.options(Serve(), tensor_parallel=0)


def test_a_cpu_engine_gets_the_cache_that_was_reckoned_and_a_gpu_sizes_its_own():
    assert after(build(kv_bytes=268_435_456).argv, "--kv-cache-memory-bytes") == "268435456"
    assert "--kv-cache-memory-bytes" not in build(device="cuda").argv


def test_two_servers_on_a_small_machine_are_not_bound_to_the_same_core():
    small, large = build(cores=2).env, build(cores=32).env
    assert (small["VLLM_CPU_OMP_THREADS_BIND"], small["OMP_NUM_THREADS"]) == ("nobind", "1")
    assert "OMP_NUM_THREADS" not in large
    gpu = build(device="cuda")
    assert "--enforce-eager" not in gpu.argv
    assert "OMP_NUM_THREADS" not in gpu.env


CHOSEN = {
    "adapters": {"mine": "work/lora"},
    "adapter_rank": 8,
    "adapter_slots": 3,
    "default_effort": "low",
    "max_effort": "medium",
    "allowed_efforts": ("low", "medium"),
    "spelling": "strict",
    "thinking_tokens": {"low": 9},
    "keys": "keys.toml",
    "reasoning_content": True,
    "strict_format": True,
    "max_model_len": 777,
    "profile": "latency",
    "tensor_parallel": 2,
    "data_parallel": 3,
    "drain": 3,
    "hang_after": 4,
    "max_body": 9,
    "max_concurrent": 5,
    "raw_completions": True,
}


def test_every_key_of_the_recipe_reaches_the_options():
    assert CHOSEN.keys() == Serve.model_fields.keys(), "a new key of [serve] needs its place here"
    efforts = {"default": "low", "maximum": "medium", "allowed": ("low", "medium")}
    policy = EffortPolicy(**efforts, spelling="strict", thinking_tokens={"low": 9})
    rest = {k: CHOSEN[k] for k in CHOSEN if k in Options.model_fields}
    assert command.options(Serve(**CHOSEN)) == Options(policy=policy, **rest)
    assert command.options(Serve()) == Options()


@pytest.mark.parametrize("key", CHOSEN)
def test_what_was_given_wins_over_the_recipe_and_none_is_not_given(key):
    changed, plain = Serve(**CHOSEN), command.options(Serve())
    back = (
        {"default_effort": "medium", "max_effort": "medium"}
        if "effort" in key
        else {key: Serve.model_fields[key].default if key != "thinking_tokens" else {"low": 8}}
    )
    assert command.options(changed, **back) != command.options(changed)
    assert command.options(changed, **dict.fromkeys(back)) == command.options(changed)
    given = CHOSEN if "effort" in key else {key: CHOSEN[key]}
    assert command.options(Serve(), **given) != plain


@pytest.mark.parametrize(
    ("section", "given", "default"),
    [
        ({}, {"max_effort": "low"}, "low"),
        ({}, {"max_effort": "high"}, "medium"),
        ({"max_effort": "low"}, {}, "low"),
        ({"max_effort": "low"}, {"max_effort": "medium"}, "medium"),
        ({"max_effort": "high"}, {"max_effort": "low"}, "low"),
        ({"default_effort": "low"}, {"max_effort": "medium"}, "low"),
    ],
)
def test_a_default_that_nobody_set_follows_the_maximum(section, given, default):
    assert command.options(Serve(**section), **given).policy.default == default


def test_what_is_allowed_bounds_the_recipe_s_maximum():
    policy = command.options(Serve(), allowed_efforts=("low", "medium")).policy
    assert (policy.allowed, policy.maximum, policy.default) == (("low", "medium"), "medium", "medium")
    assert command.options(Serve(allowed_efforts=("medium", "low"))).policy == policy
    assert command.options(Serve(max_effort="medium"), allowed_efforts=("low", "high")).policy.maximum == "low"
    with pytest.raises(UserError, match="default or maximum medium is not among those allowed, low, high"):
        command.options(Serve(), allowed_efforts=("low", "high"), default_effort="medium")


@pytest.mark.parametrize(
    ("section", "given", "says"),
    [
        ({"default_effort": "high"}, {"max_effort": "low"}, "[serve] default_effort high is above the maximum, --max"),
        (
            {"max_effort": "medium"},
            {"default_effort": "high"},
            "--default-effort high is above the maximum, [serve] max",
        ),
        (
            {},
            {"allowed_efforts": ("low",), "default_effort": "high"},
            "--default-effort high is above the maximum, --allowed-efforts low",
        ),
        ({}, {"max_model_len": 0}, "--max-model-len: "),
        ({}, {"drain": -1}, "--drain: "),
        ({}, {"max_body": 0}, "--max-body: "),
        ({}, {"thinking_tokens": {"low": 0}}, "--thinking-tokens: "),
        ({}, {"thinking_tokens": {"lwo": 9}}, "--thinking-tokens: "),
        ({}, {"extra": ("--model", "x")}, "--model is not for the engine"),
    ],
)
def test_what_cannot_be_is_refused_with_its_own_name(section, given, says):
    with pytest.raises(UserError) as error:
        command.options(Serve(**section), **given)
    assert error.value.what.startswith(says), error.value.what
