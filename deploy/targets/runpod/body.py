"""The bodies of RunPod's REST v2 requests: a deployment in, JSON of POST /v2/serverless or POST /v2/pods out.

Values of secrets are never here: RunPod puts them in where it finds {{ RUNPOD_SECRET_name }}.
"""

import math
from typing import Literal

from deploy.spec import CUDA, Deployment
from tune.deploy import Runpod

Kind = Literal["load-balancer", "queue", "pod"]
MOUNT = "/runpod-volume"  # where a serverless worker finds its network volume; a pod is told the same
QUEUE_DELAY = 4  # seconds that a job waits before another worker is started
SPARE = 20  # GB of disk for what the container writes: compile caches, logs
# GPUs as pods name them: `id` of GET /v2/catalog/gpus. Endpoints name a pool, which deploy/hardware.toml has.
GPUS = {
    "L4": "NVIDIA L4",
    "L40S": "NVIDIA L40S",
    "A100-80GB": "NVIDIA A100-SXM4-80GB",
    "H100": "NVIDIA H100 80GB HBM3",
    "RTX-PRO-6000": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    "H200": "NVIDIA H200",
    "B200": "NVIDIA B200",
}


def table(deployment: Deployment) -> Runpod:
    """[deploy.runpod] as it was when the deployment was made."""
    return Runpod.model_validate(deployment.table)


def kind(deployment: Deployment) -> Kind:
    """What is made; "auto" as the recipe's replicas mean it."""
    return table(deployment).chosen(deployment.scaling.min_replicas)


def health_port(deployment: Deployment) -> int:
    """Where balanced.py tells RunPod's load balancer how the server is."""
    return deployment.port + 1


def endpoint(deployment: Deployment, weights_gb: float) -> dict[str, object]:
    """The body of POST /v2/serverless. `weights_gb` in 10^9 bytes."""
    balanced = kind(deployment) == "load-balancer"
    told, scaling = table(deployment), deployment.scaling
    port, health = str(deployment.port), str(health_port(deployment))
    doors = {"PORT": port, "PORT_HEALTH": health, "HEALTH_CHECK_PATH": "/ping"} if balanced else {}
    signal: dict[str, object] = {"type": "QUEUE_DELAY", "queueDelay": QUEUE_DELAY}
    if balanced:
        signal = {"type": "REQUEST_COUNT", "requestCount": scaling.concurrency}
    body: dict[str, object] = {
        "name": deployment.name,
        "type": "LOAD_BALANCER" if balanced else "QUEUE",
        "gpu": {"pools": [deployment.machine], "count": deployment.gpus, "minCudaVersion": CUDA},
        "workers": {
            "min": scaling.min_replicas,
            "max": scaling.max_replicas,
            "idleTimeout": scaling.idle_seconds,
        },
        "scaling": signal,
        "timeout": deployment.limits.request_seconds * 1000,
        "flashboot": "FLASHBOOT" if told.flashboot else "OFF",
        **_container(deployment, weights_gb, doors),
    }
    if balanced:
        body["ports"] = [f"{port}/http", f"{health}/http"]
    if told.weights == "volume":
        body["networkVolumes"] = [told.volume]
    return body


def pod(deployment: Deployment, weights_gb: float) -> dict[str, object]:
    """The body of POST /v2/pods. `weights_gb` in 10^9 bytes. Raises KeyError for a GPU of no name: a finding before."""
    told = table(deployment)
    body: dict[str, object] = {
        "name": deployment.name,
        "cloud": "SECURE",  # the community's hosts are strangers'
        "gpu": {"id": GPUS[deployment.gpu], "count": deployment.gpus, "minCudaVersion": CUDA},
        "ports": [f"{deployment.port}/http"],
        **_container(deployment, weights_gb, {}),
    }
    if told.weights == "volume":
        body["mounts"] = {"network": [{"volumeId": told.volume, "path": MOUNT}]}
    return body


def change(body: dict[str, object]) -> dict[str, object]:
    """The body of the PATCH that brings what is there to a body of POST: without what cannot change."""
    fixed = {"type"} if "type" in body else {"gpu", "cloud", "dataCenterIds"}
    return {key: value for key, value in body.items() if key not in fixed}


def _container(deployment: Deployment, weights_gb: float, doors: dict[str, str]) -> dict[str, object]:
    """What a pod and a worker have alike."""
    told = table(deployment)
    secrets = {key: "{{ RUNPOD_SECRET_" + name + " }}" for key, name in deployment.secrets.items()}
    within = math.ceil(1.2 * weights_gb) if told.weights == "image" else 0
    found: dict[str, object] = {
        "image": deployment.image,
        "disk": SPARE + within,
        "env": {**deployment.env, **secrets, **doors},
    }
    if told.datacenter:
        found["dataCenterIds"] = [told.datacenter]
    if told.credential:
        found["registry"] = told.credential
    return found
