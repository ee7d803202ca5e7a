"""RunPod: a load-balancing serverless endpoint (REST v2). The weights lie in the image."""

import json
import math

from deploy.findings import finding
from deploy.spec import CUDA, Deployment
from deploy.targets import Context
from deploy.targets.template import fill, verbatim
from serve.findings import Finding

REQUEST_CAP = 330  # seconds; the load balancer answers 524 after that
NO_WORKER_CAP = 120  # seconds; the load balancer answers 400 when no worker is ready by then


def findings(deployment: Deployment) -> list[Finding]:
    found = []
    seconds = deployment.limits.request_seconds
    if seconds > REQUEST_CAP:
        what = f"RunPod's load balancer ends a request after {REQUEST_CAP} s, request_seconds is {seconds}"
        found.append(finding("D020", what, fix=f"[deploy] request_seconds = {REQUEST_CAP}"))
    if deployment.scaling.min_replicas == 0:
        what = f"with min_replicas = 0 a first request gets 400 after {NO_WORKER_CAP} s, before vLLM has loaded"
        fix = "[deploy] min_replicas = 1, or send a request and wait before you measure"
        found.append(finding("D022", what, fix=fix))
    if "/" not in deployment.image:
        what = f"the image {deployment.image} names no registry, so RunPod cannot pull it"
        fix = '[deploy] registry = "docker.io/<your account>", then deploy render runpod again'
        found.append(finding("D050", what, fix=fix))
    return found


def body(deployment: Deployment, weights_gb: float) -> dict[str, object]:
    """The create-endpoint request of POST /v2/serverless. `weights_gb` in 10^9 bytes."""
    port, scaling = str(deployment.port), deployment.scaling
    secrets = {key: "{{ RUNPOD_SECRET_" + name + " }}" for key, name in deployment.secrets.items()}
    doors = {"PORT": port, "PORT_HEALTH": port, "HEALTH_CHECK_PATH": "/health"}
    return {
        "name": deployment.name,
        "type": "LOAD_BALANCER",
        "image": deployment.image,
        "gpu": {"pools": [deployment.machine], "count": deployment.gpus, "minCudaVersion": CUDA},
        "workers": {
            "min": scaling.min_replicas,
            "max": scaling.max_replicas,
            "idleTimeout": scaling.idle_seconds,
        },
        "scaling": {"type": "REQUEST_COUNT", "requestCount": scaling.concurrency},
        "timeout": deployment.limits.request_seconds * 1000,
        "disk": 20 + math.ceil(1.2 * weights_gb),
        "ports": [f"{port}/http"],
        "env": {**deployment.env, **secrets, **doors},
    }


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    return {
        "endpoint.json": json.dumps(body(deployment, context.weights_gb), indent=2) + "\n",
        "Dockerfile": fill("Dockerfile.jinja", deployment, context),
        "start.py": verbatim("start.py"),
        "README.md": fill("runpod/README.md.jinja", deployment, context),
    }
