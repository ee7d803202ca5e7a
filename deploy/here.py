"""A deployment made to run on this machine: rendered Deployment, checkpoint and machine in, the same for here out.

Port, paths and what the platform would add are translated; what a CPU engine does not take is left out and named.
Starts nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from deploy.spec import Deployment, Target
from deploy.targets import start
from serve import command, contents, memory, parts
from serve.command import Options
from serve.findings import require
from serve.machine import Machine
from tune.checkpoint import Checkpoint
from tune.deploy import Runpod
from tune.errors import UserError

# The path by which each platform knows that its container is ready, and what it adds to the container's command.
HEALTH: Mapping[Target, str] = {
    "compose": "/readyz",
    "modal": "/readyz",
    "runpod": "/readyz",  # what handler.py waits for; behind a load balancer, below
    "sagemaker": "/ping",
    "huggingface": "/health",
    "kubernetes": "/readyz",
    "skypilot": "/readyz",
}
ARGUMENTS: Mapping[Target, tuple[str, ...]] = {"sagemaker": ("serve",)}
STOP: Mapping[Target, int] = {"sagemaker": 30}  # seconds from SIGTERM to SIGKILL, where the platform has its own
EXIT = 20  # seconds past the drain elsewhere
BALANCED = "balanced.py"  # RunPod's load balancer asks this one, at the port after the server's
PING = "/ping"
LOOPBACK = "127.0.0.1"


class Here(NamedTuple):
    """`deployment` as start.py reads it; `notes`: what is other than at the platform, a line each."""

    deployment: dict[str, Any]
    health: str
    arguments: tuple[str, ...]
    grace: int  # seconds from SIGTERM until it must have ended
    notes: tuple[str, ...]
    entry: str = "start.py"
    env: Mapping[str, str] = {}  # what the platform sets beside the secrets
    asked: int = 0  # the port of `health`, if it is not the server's
    hosts: tuple[Mapping[str, str], ...] = ({},)  # what the platform tells each host; the first has the server


def translate(deployment: Deployment, found: Checkpoint, machine: Machine, port: int) -> Here:
    """The deployment for this machine. Raises UserError when the checkpoint cannot be served here."""
    options, notes = deployment.options.model_copy(update={"host": LOOPBACK, "port": port}), []
    if found.digest != deployment.digest:
        notes.append(f"{found.served_name} stands in for {deployment.model}: the way there is tried, not that model")
    if machine.device == "cpu":
        options, left = on_cpu(options)
        notes += [f"left out, since this engine is for CPUs: {left}"] if left else []
    hosts = options.tuning.hosts
    if hosts > 1:
        notes.append(f"{hosts} hosts are {hosts} processes of this machine, each with its part of the engine")
    inside = contents.look(found, options)
    require(inside.problems, f"{found.folder} cannot be served")
    cache = _cache(found, inside, options, machine) if machine.device == "cpu" else 0
    built = command.build(
        found.model_copy(update={"folder": found.folder.resolve()}),
        options,
        device=machine.device,
        kv_bytes=cache,
        cores=machine.cores,
        dtype="bfloat16" if machine.bfloat16 else "float32",
    )
    here = {
        **deployment.model_dump(mode="json"),
        "model": found.served_name,
        "digest": found.digest,
        "format": found.format,
        "model_path": str(found.folder.resolve()),
        "port": port,
        "args": built.argv,
        "env": built.env,
        "options": options.model_dump(mode="json"),
    }
    target = deployment.target
    grace = STOP.get(target, options.drain + EXIT)
    kind = Runpod.model_validate(deployment.table).chosen(deployment.scaling.min_replicas) if target == "runpod" else ""
    if kind == "queue":
        notes.append("left out: handler.py, since the queue whose jobs it takes is RunPod's alone")
    told = _ranks(hosts) if hosts > 1 else ({},)
    made = Here(here, HEALTH[target], ARGUMENTS.get(target, ()), grace, tuple(notes), hosts=told)
    if kind != "load-balancer":
        return made
    env = {"PORT": str(port), "PORT_HEALTH": str(port + 1), "HEALTH_CHECK_PATH": PING}
    return made._replace(health=PING, entry=BALANCED, env=env, asked=port + 1)


def on_cpu(options: Options) -> tuple[Options, str]:
    """The options without what they say of GPUs, and those words. A host among several is one processor's."""
    told = {"profile": "none", "profiled": (), "profile_env": {}, "data_parallel": 1}
    plain = options.model_copy(update={**told, "tensor_parallel": 1})
    left = " ".join(word for word in options.engine if word not in plain.engine)
    return plain.model_copy(update={"tensor_parallel": options.tuning.hosts}), left


def _ranks(hosts: int) -> tuple[dict[str, str], ...]:
    """What LeaderWorkerSet and the pod's own address tell each of them, all of this machine."""
    here = {start.FIRST: LOOPBACK, parts.OWN: LOOPBACK}
    return tuple({start.RANK: str(rank), **here} for rank in range(hosts))


def _cache(found: Checkpoint, inside: contents.Contents, options: Options, machine: Machine) -> int:
    """Bytes of cache that a CPU engine is told to keep, as `serve run` reckons them. Raises UserError without room."""
    if inside.shape is None:
        raise RuntimeError("a checkpoint without problems has a shape")  # a bug of ours, not of the user
    wider = 1 if machine.bfloat16 else 2
    length, element = options.max_model_len, memory.BF16 * wider
    kept = memory.kv_budget(inside.shape, max_model_len=length, sequences=options.sequences, element=element)
    need = sum(t.bytes for t in inside.tensors.values()) * wider + kept + memory.ENGINE_OVERHEAD_CPU
    if need > machine.memory:
        why = f"it takes {need / memory.GIB:.1f} GiB, {machine.memory / memory.GIB:.1f} GiB can be used"
        raise UserError(f"this machine's memory does not hold {found.folder}", why=why, fix="--checkpoint work/nano")
    return kept
