"""Checkpoint and options to the engine's argument list and environment. Pure; no secret enters either.

Flags are those of vLLM 0.32. Knows which flag does what and why; starts nothing.
"""

import sys
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from serve.effort import EffortPolicy
from serve.middleware import SETTINGS, Settings
from tune.checkpoint import Checkpoint

Device = Literal["cpu", "cuda"]

# GPT-OSS prompts come from the harmony library. A template that a tokenizer carries would only mislead, and looking for
# one loads the tokenizer again (4 s of start-up).
NO_TEMPLATE = "{{ 'gpt-oss prompts are rendered by the harmony library' }}"

# vLLM binds its threads to the first cores of the machine, so a second server would share those and leave the
# rest idle. On a small machine the scheduler places them better.
SMALL_MACHINE = 4


# Flags that would undo what was checked, or show a secret, and what to say instead.
OURS = {
    "--model": "the model is FOLDER",
    "--served-model-name": "use --name",
    "--host": "use --host before the --",
    "--port": "use --port before the --",
    "--api-key": "it would show the key to every process and log; use --api-key-env NAME",
    "--middleware": "requests pass serve's own",
    "--config": "a file can hold any flag; write the flags after the --",
}


class Options(BaseModel):
    """How to serve. `extra` goes to the engine after ours, so it wins, but for the flags in OURS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0: a free one is chosen at the start
    name: str = ""  # what clients call the model; the checkpoint's name if empty
    key_env: str = ""  # the environment variable that holds the API key; no key if empty
    policy: EffortPolicy = EffortPolicy()
    max_model_len: int = Field(default=2048, gt=0)
    sequences: int = Field(default=16, gt=0)  # longest ones that fit the CPU engine's cache at once
    drain: int = Field(default=10, ge=0)  # seconds that requests under way get at a stop
    max_body: int = Field(default=8 * 2**20, gt=0)
    sagemaker: bool = False
    extra: tuple[str, ...] = ()

    @field_validator("extra")
    @classmethod
    def _ours_stay(cls, extra: tuple[str, ...]) -> tuple[str, ...]:
        for word in extra:
            flag = word.split("=")[0].replace("_", "-")
            # vLLM takes abbreviations
            meant = next((f for f in OURS if len(flag) > 2 and f.startswith(flag)), None)
            if meant:
                raise ValueError(f"{word.split('=')[0]} is not for the engine: {OURS[meant]}")
        return extra


class Command(NamedTuple):
    """What starts the engine: program and arguments, and what is added to the environment."""

    argv: list[str]
    env: dict[str, str]


def served_names(checkpoint: Checkpoint, options: Options) -> list[str]:
    """What `/v1/models` lists: the plain name, and the one by which a report is matched to its checkpoint."""
    return [options.name or checkpoint.name, checkpoint.served_name]


def settings(checkpoint: Checkpoint, options: Options) -> Settings:
    """What the middleware is told."""
    return Settings(
        policy=options.policy,
        digest=checkpoint.digest,
        key_env=options.key_env,
        max_body=options.max_body,
        drain=options.drain,
        sagemaker=options.sagemaker,
    )


def build(checkpoint: Checkpoint, options: Options, *, device: Device, kv_bytes: int, cores: int) -> Command:
    """The engine's command line and environment. `checkpoint.folder` is taken as it is: a container has other paths.

    `kv_bytes`: key/value cache of a CPU engine; a GPU sizes its own.
    """
    argv = [sys.executable, "-m", "serve.launcher", "--model", str(checkpoint.folder)]
    argv += ["--served-model-name", *served_names(checkpoint, options)]
    argv += ["--host", options.host, "--port", str(options.port)]
    argv += ["--max-model-len", str(options.max_model_len), "--dtype", "bfloat16"]
    # Without both tool flags a chat answer that calls a tool comes back empty.
    argv += ["--enable-auto-tool-choice", "--tool-call-parser", "openai", "--reasoning-parser", "openai_gptoss"]
    argv += ["--chat-template", NO_TEMPLATE]
    argv += ["--middleware", "serve.middleware.Door"]
    # Opens .../render, which says what ids a prompt becomes; the middleware keeps the rest of that group shut.
    argv += ["--enable-scale-out"]
    argv += ["--disable-fastapi-docs", "--disable-access-log-for-endpoints", "/health,/metrics,/ping"]
    env = {
        SETTINGS: settings(checkpoint, options).model_dump_json(),
        "VLLM_SYSTEM_START_DATE": checkpoint.prompt_date,  # else the prompt says today, not the date of training
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",  # the folder is whole: nothing to look up
    }
    if device == "cpu":
        argv += ["--enforce-eager", "--kv-cache-memory-bytes", str(kv_bytes)]
        if cores <= SMALL_MACHINE:
            env |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(max(1, cores - 1))}
    return Command([*argv, *options.extra], env)
