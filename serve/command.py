"""A recipe and flags to Options; a checkpoint and Options to the engine's command line. Pure; no secret enters it.

Flags are those of vLLM 0.32. Knows which flag does what and why; starts nothing.
"""

import json
import sys
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from serve import engine_flags
from serve.adapters import ATTENTION, Room
from serve.budget import REASONING
from serve.effort import EffortPolicy, nearest
from serve.memory import Tuning
from serve.middleware import SETTINGS, Settings
from serve.tls import TLS, Pair
from tune.checkpoint import Checkpoint
from tune.errors import UserError
from tune.harmony import EFFORTS
from tune.recipe import Profile, Serve

Device = Literal["cpu", "cuda"]

# GPT-OSS prompts come from the harmony library. A template that a tokenizer carries would only mislead, and looking for
# one loads the tokenizer again (4 s of start-up).
NO_TEMPLATE = "{{ 'gpt-oss prompts are rendered by the harmony library' }}"

# vLLM binds its threads to the first cores of the machine, so a second server would share those and leave the
# rest idle. On a small machine the scheduler places them better.
SMALL_MACHINE = 4
ENGINE_HELP = "python -m serve.launcher --help=all"
KEPT = 8  # times the adapters at once that the engine keeps in main memory: those that were removed, too


class Options(BaseModel):
    """How to serve, here or when deployed. `extra` goes to the engine after ours: serve.engine_flags reads it.

    `profiled` and `profile_env` are what `profile` means on the GPU at hand: serve.profiles sets them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)  # 0: a free one is chosen at the start
    name: str = ""  # what clients call the model; the checkpoint's name if empty
    key_env: str = ""  # the environment variable that holds the API key; no key if empty
    keys: str = ""  # the file of more keys, each with a policy within ours
    tls_cert: str = ""  # the files of the certificate that clients are shown, and of its key; plain HTTP if empty
    tls_key: str = ""
    policy: EffortPolicy = EffortPolicy()
    max_model_len: int = Field(default=2048, gt=0)
    sequences: int = Field(default=16, gt=0)  # longest ones that fit the CPU engine's cache at once
    drain: int = Field(default=10, ge=0)  # seconds that requests under way get at a stop
    hang_after: int = Field(default=25, ge=0)  # seconds without a step before the engine is restarted; 0: never
    max_body: int = Field(default=8 * 2**20, gt=0)
    max_concurrent: int = Field(default=0, ge=0)  # requests under way at once; 0: no limit
    raw_completions: bool = False
    reasoning_content: bool = False
    strict_format: bool = False
    sagemaker: bool = False
    adapters: dict[str, str] = Field(default={}, exclude_if=lambda given: not given)  # name: its folder
    adapter_rank: int = Field(default=0, ge=0, exclude_if=lambda given: not given)  # 0: that of the adapters
    adapter_experts: bool = Field(default=False, exclude_if=lambda given: not given)  # room for those of experts too
    adapter_slots: int = Field(default=0, ge=0, exclude_if=lambda given: not given)  # 0: as many as there are, or 2
    profile: Profile = "none"
    profiled: tuple[str, ...] = ()
    profile_env: dict[str, str] = {}
    tensor_parallel: int = Field(default=1, gt=0)
    data_parallel: int = Field(default=1, gt=0)
    extra: tuple[str, ...] = ()

    @field_validator("extra")
    @classmethod
    def _ours_stay(cls, extra: tuple[str, ...]) -> tuple[str, ...]:
        engine_flags.read(extra)
        return extra

    @model_validator(mode="after")
    def _both(self) -> "Options":
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key go together")
        return self

    @property
    def tls(self) -> Pair | None:
        """What clients are shown."""
        return Pair(self.tls_cert, self.tls_key) if self.tls_cert else None

    @property
    def engine(self) -> tuple[str, ...]:
        """What the engine is told of its size and speed, in the order that lets the last win."""
        sizes = {"--tensor-parallel-size": self.tensor_parallel, "--data-parallel-size": self.data_parallel}
        parallel = [word for flag, size in sizes.items() if size > 1 for word in (flag, str(size))]
        return (*self.profiled, *parallel, *self.extra)

    @property
    def tuning(self) -> Tuning:
        """What the engine is told that decides its memory."""
        return engine_flags.read(self.engine)


def options(section: Serve, **given: Any) -> Options:
    """A recipe's [serve] and what was given beside it, which wins; None counts as not given.

    `given`: keys of that section and fields of Options. Raises UserError naming the flag or key that is at fault.
    """
    given = {name: value for name, value in given.items() if value is not None}
    asked = set(given)
    chosen = {name: given.pop(name, getattr(section, name)) for name in type(section).model_fields}
    default, allowed, wanted = (chosen.pop(key) for key in ("default_effort", "allowed_efforts", "max_effort"))
    maximum = nearest(wanted, allowed)
    most = "max_effort" if maximum == wanted else "allowed_efforts"

    def named(key: str) -> str:
        return f"--{key.replace('_', '-')}" if key in asked else f"[serve] {key}"

    if default and EFFORTS.index(default) > EFFORTS.index(maximum):
        raise UserError(
            f"{named('default_effort')} {default} is above the maximum, {named(most)} {maximum}",
            why="a request that names no effort would get more than any may have",
            fix=f"--default-effort {maximum}, or leave the default out: it follows the maximum",
        )
    try:
        efforts = {key: chosen.pop(key) for key in ("spelling", "thinking_tokens")}
        efforts |= {"maximum": maximum, "allowed": allowed, **({"default": default} if default else {})}
        policy = EffortPolicy.model_validate(efforts)
        return Options(policy=policy, **chosen, **given)
    except ValidationError as e:
        first = e.errors()[0]
        where = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"][:1] if part != "extra")
        fix = f"serve run --help; of what follows --, {ENGINE_HELP}" if "extra" in first["loc"] else "serve run --help"
        raise UserError(f"{where}{first['msg'].removeprefix('Value error, ')}", fix=fix) from None


class Command(NamedTuple):
    """What starts the engine: program and arguments, and what is added to the environment."""

    argv: list[str]
    env: dict[str, str]


def served_names(checkpoint: Checkpoint, options: Options) -> list[str]:
    """What `/v1/models` lists: the plain name, and the one by which a report is matched to its checkpoint."""
    return [options.name or checkpoint.name, checkpoint.served_name]


def settings(checkpoint: Checkpoint, options: Options, room: Room | None = None) -> Settings:
    """What the middleware is told."""
    return Settings(
        policy=options.policy,
        digest=checkpoint.digest,
        names=tuple(served_names(checkpoint, options)),
        key_env=options.key_env,
        keys=options.keys,
        max_body=options.max_body,
        max_concurrent=options.max_concurrent,
        drain=options.drain,
        sagemaker=options.sagemaker,
        max_model_len=options.max_model_len,
        raw_completions=options.raw_completions,
        reasoning_content=options.reasoning_content,
        strict_format=options.strict_format,
        adapters=room is not None,
    )


def build(
    checkpoint: Checkpoint,
    options: Options,
    *,
    device: Device,
    kv_bytes: int,
    cores: int,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    room: Room | None = None,
) -> Command:
    """The engine's command line and environment. `checkpoint.folder` is taken as it is: a container has other paths.

    `kv_bytes`: key/value cache of a CPU engine; a GPU sizes its own. `dtype`: what it computes in.
    """
    argv = [sys.executable, "-m", "serve.launcher", "--model", str(checkpoint.folder)]
    argv += ["--served-model-name", *served_names(checkpoint, options)]
    argv += ["--host", options.host, "--port", str(options.port)]
    argv += ["--max-model-len", str(options.max_model_len), "--dtype", dtype]
    # Without both tool flags a chat answer that calls a tool comes back empty.
    argv += ["--enable-auto-tool-choice", "--tool-call-parser", "openai", "--reasoning-parser", "openai_gptoss"]
    argv += ["--reasoning-config", json.dumps(REASONING)]  # else a budget of reasoning tokens is refused
    argv += ["--chat-template", NO_TEMPLATE]
    argv += ["--middleware", "serve.middleware.Door"]
    # Opens .../render, which says what ids a prompt becomes; the middleware keeps the rest of that group shut.
    argv += ["--enable-scale-out"]
    argv += ["--disable-fastapi-docs", "--disable-access-log-for-endpoints", "/health,/metrics,/ping"]
    env = {
        SETTINGS: settings(checkpoint, options, room).model_dump_json(),
        "VLLM_SYSTEM_START_DATE": checkpoint.prompt_date,  # else the prompt says today, not the date of training
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",  # the folder is whole: nothing to look up
    }
    if options.tls:
        env[TLS] = json.dumps(options.tls)
    if options.keys:
        env["VLLM_ENABLE_RESPONSES_API_STORE"] = "0"  # one store for all keys: each would read the others' answers
    if room:
        argv += ["--enable-lora", "--max-lora-rank", str(room.rank), "--max-loras", str(room.slots)]
        argv += ["--max-cpu-loras", str(KEPT * room.slots)]
        argv += ["--lora-target-modules", *ATTENTION, *(["experts"] if room.experts else [])]
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"  # a path that is the supervisor's alone
    if device == "cpu":
        argv += ["--enforce-eager", "--kv-cache-memory-bytes", str(kv_bytes)]
        if cores <= SMALL_MACHINE:
            env |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(max(1, cores - 1))}
    return Command([*argv, *options.engine], {**env, **options.profile_env})
