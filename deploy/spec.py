"""CONTRACT: Deployment, everything a target needs to render: recipe, checkpoint and receipt in, one frozen model out.

Holds names of secrets, never their values. Every text that a recipe or a manifest can set is held to a pattern here, so
that what is rendered needs no further escaping. Knows no target's file formats.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploy import kit
from deploy.receipt import Reason, Receipt
from serve import command, parts, profiles
from tune.checkpoint import Checkpoint
from tune.recipe import Recipe
from tune.section import EnvName, Positive, SecretName

Target = Literal["compose", "modal", "runpod", "sagemaker", "huggingface", "kubernetes", "skypilot"]
TARGETS: tuple[Target, ...] = get_args(Target)

# The engine version that serve.launcher knows, and the CUDA its image is built for: drivers and pools are chosen by it.
ENGINE = "vllm/vllm-openai:v0.32.0"
CUDA = "13.0"
# What sizing reckons with is what the engine is told; its own default of 16,384 batched tokens, on some, takes more.
TUNING = ("--gpu-memory-utilization", "0.92", "--max-num-batched-tokens", "8192")
API_KEY = "VLLM_API_KEY"  # under [deploy] secrets: what the server itself asks for, where the target asks nobody
ROOT = "/opt/gptoss-kit"  # where our code lies in the container
# What in an image start.py reads and its Dockerfile hangs on, beside the code; a queue's worker takes so many at once.
READ = ("target", "model", "digest", "engine", "model_path", "port", "args", "env", "options")
BUILT_BY = ("type", "kind", "weights")  # of a target's table
# Where the weights lie in the container ("": a folder that we name), and the port.
PLACES: dict[Target, tuple[str, int]] = {
    "compose": ("", 8000),
    "modal": ("", 8000),
    "runpod": ("", 8000),
    "sagemaker": ("/opt/ml/model", 8080),  # SageMaker's own contract
    "huggingface": ("/repository", 8000),  # likewise
    "kubernetes": ("", 8000),
    "skypilot": ("", 8000),
}


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scaling(Part):
    """`concurrency`: requests in flight a replica before another is started."""

    min_replicas: Annotated[int, Field(ge=0)]
    max_replicas: Positive
    concurrency: Positive
    idle_seconds: Positive


class Limits(Part):
    startup_seconds: Positive
    request_seconds: Positive
    max_model_len: Positive


class Deployment(Part):
    """One checkpoint on one target. `machine` is the target's own name for its GPUs; `table` is [deploy.TARGET], but
    for its secrets, which stand in `secrets` whichever table named them.

    `receipt` is None where somebody deploys what no report has passed, and then `ungated` says why they do.
    """

    schema_version: Literal[1] = 1
    target: Target
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,39}[a-z0-9])?$")
    model: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,40}@[0-9a-f]{16}$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    format: Literal["merged", "mxfp4"]
    receipt: Receipt | None
    ungated: Reason = ""
    receipt_days: Positive = 30  # how old a PASS may be when it is pushed
    engine: str
    image: str = Field(pattern=r"^[a-z0-9][a-z0-9.:/_-]{0,254}$")
    model_path: str = Field(pattern=r"^/[a-z0-9./-]{1,120}$")
    port: Annotated[int, Field(ge=1, le=65535)]
    args: tuple[str, ...]
    env: dict[EnvName, str]
    gpu: str
    gpus: Positive  # of one machine
    machine: str
    region: str
    options: command.Options
    scaling: Scaling
    limits: Limits
    secrets: dict[EnvName, SecretName]
    table: dict[str, Any] = {}

    @property
    def hosts(self) -> int:
        """Machines of one replica, which share the model."""
        return self.options.tuning.hosts

    @model_validator(mode="after")
    def _gated(self) -> Self:
        if (self.receipt is None) != bool(self.ungated):
            raise ValueError("a deployment has a receipt, or a reason why it has none")
        return self


def options(recipe: Recipe, target: Target) -> command.Options:
    """How the recipe serves on a target: as `serve run` would, but for host and port.

    No file of keys, and a key only by the name of its variable, where the target asks no caller for its own. Raises
    UserError where GPUs cannot be shared out among the recipe's hosts.
    """
    runpod = recipe.deploy.runpod.chosen(recipe.deploy.min_replicas) if target == "runpod" else ""
    told = command.options(
        recipe.serve,
        # The target's gateway reaches the container from outside it; a queue's jobs come to a worker inside.
        host="127.0.0.1" if runpod == "queue" else "0.0.0.0",  # noqa: S104
        port=PLACES[target][1],
        sagemaker=target == "sagemaker",
        key_env=API_KEY if asks(recipe, target) else "",
        keys="",
        adapters={},
        adapter_rank=0,
        adapter_slots=0,
    )
    told, hosts = placed(told, recipe.deploy.gpu), recipe.deploy.kubernetes.hosts
    return parts.counted(told, hosts) if target == "kubernetes" and hosts > 1 else told


def asks(recipe: Recipe, target: Target) -> bool:
    """Whether the server asks for a key: the recipe names a secret for it, and the target lets every caller through."""
    told = recipe.deploy
    open_to_all = {
        "modal": told.modal.auth == "key",
        "runpod": told.runpod.chosen(told.min_replicas) == "pod",
    }.get(target, target in {"compose", "kubernetes", "skypilot"})
    return open_to_all and API_KEY in told.named(target)


def placed(options: command.Options, gpu: str) -> command.Options:
    """The options with what the engine is told on such a GPU; the recipe's profile wins over TUNING."""
    return profiles.on(options, gpu, TUNING)


def of(
    recipe: Recipe, checkpoint: Checkpoint, receipt: Receipt | None, target: Target, machine: str, ungated: str = ""
) -> Deployment:
    """The deployment of a proven checkpoint, or, with the reason `ungated`, of one without a receipt. Raises
    pydantic.ValidationError when a name is not safe to render."""
    slug = re.sub(r"[^a-z0-9]+", "-", checkpoint.name).strip("-")[:41].strip("-")
    folder, port = PLACES[target]
    mounted = target == "runpod" and recipe.deploy.runpod.weights == "volume"
    model_path = folder or f"{'/runpod-volume' if mounted else '/models'}/{slug}-{checkpoint.digest[:16]}"
    served = options(recipe, target)
    there = checkpoint.model_copy(update={"folder": Path(model_path)})
    server = command.build(there, served, device="cuda", kv_bytes=0, cores=1)  # a GPU engine sizes its own cache
    r = recipe.deploy
    made = Deployment(
        target=target,
        name=slug,
        model=checkpoint.served_name,
        digest=checkpoint.digest,
        format=checkpoint.format,  # type: ignore[arg-type]  # pydantic refuses "lora"
        receipt=receipt,
        ungated=ungated,
        receipt_days=r.receipt_days,
        engine=r.engine or ENGINE,
        image=f"{r.registry.rstrip('/')}/{slug}:{checkpoint.digest[:16]}".lstrip("/"),
        model_path=model_path,
        port=port,
        args=("python3", *server.argv[1:]),  # the first is the interpreter of this machine
        env=server.env,
        gpu=r.gpu,
        gpus=served.tuning.gpus,
        machine=machine,
        region=r.sagemaker.region if "region" in r.sagemaker.model_fields_set else r.region,
        options=served,
        scaling=Scaling(
            min_replicas=r.min_replicas,
            max_replicas=r.max_replicas,
            concurrency=r.concurrency,
            idle_seconds=r.idle_seconds,
        ),
        limits=Limits(
            startup_seconds=r.startup_seconds,
            request_seconds=r.request_seconds,
            max_model_len=recipe.serve.max_model_len,
        ),
        secrets=r.named(target),
        table=getattr(r, target).model_dump(mode="json", exclude={"secrets"}),
    )
    return Deployment.model_validate({**made.model_dump(), "image": f"{made.image}-{contents(made)}"})


def contents(deployment: Deployment) -> str:
    """8 hex characters that name what is in our image beside the weights: our code, and what it reads there. A recipe
    that serves otherwise is another image, never one that a platform has kept under the same name."""
    read = deployment.model_dump(mode="json", include={*READ})
    read["startup_seconds"] = deployment.limits.startup_seconds
    if deployment.target == "runpod":
        read["concurrency"] = deployment.scaling.concurrency
    built = {name: deployment.table.get(name) for name in BUILT_BY}
    return hashlib.sha256(f"{json.dumps([read, built], sort_keys=True)}{kit.digest()}".encode()).hexdigest()[:8]
