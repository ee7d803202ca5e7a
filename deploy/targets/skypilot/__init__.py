"""SkyPilot: one YAML that serves on whichever cloud is cheapest, as a SkyServe service or on one machine.

The image of ours runs as SkyPilot's own environment (image_id docker:...). Field names are those of skypilot 0.14.1
(sky/utils/schemas.py), and so are the clouds (sky/skylet/constants.py).
"""

import math
import shlex
from typing import Any

from deploy.findings import finding, inline
from deploy.spec import API_KEY, ROOT, Deployment
from deploy.targets import Context
from deploy.targets.documents import dump, lettered
from deploy.targets.template import fill, verbatim
from serve.findings import Finding

LEEWAY = 60  # seconds that our own limit gets, which says why, before SkyServe's is reached
CLOUDS = (
    *("aws", "azure", "gcp", "ibm", "lambda", "scp", "oci", "kubernetes", "runpod", "vast", "vsphere", "cudo"),
    *("fluidstack", "paperspace", "primeintellect", "do", "nebius", "ssh", "slurm", "hyperbolic", "seeweb"),
    *("shadeform", "yotta", "mithril", "verda"),
)
# SkyPilot may put a Python of its own first; the engine's is the one that the image's `vllm` names in its first line.
RUN = f"""set -e
engine="$(head -n 1 "$(command -v vllm)" | cut -c 3-)"
export PATH="$(dirname "$engine"):$PATH" PYTHONPATH={ROOT}
exec python3 {ROOT}/start.py
"""
SOURCE = "The checkpoint, seen from here: "


def findings(deployment: Deployment) -> list[Finding]:
    """What SkyPilot would refuse, or do other than the recipe says."""
    d, found = deployment, list[Finding]()
    table, scaling = d.table, d.scaling
    if API_KEY not in d.secrets:
        what = f"the endpoint answers everyone on the internet: no {API_KEY} among its secrets"
        fix = f"[deploy.skypilot] secrets = {inline({**d.secrets, API_KEY: 'vllm-key'})}, and export {API_KEY}"
        found.append(finding("D053", what, why="SkyPilot opens the port, and asks nobody who they are", fix=fix))
    if not (table["serve"] and table["tls_key"]):
        what = "requests, answers and the key go over the internet as plain text"
        fix = "[deploy.skypilot] serve = true, tls_key and tls_cert, or a proxy of yours with TLS in front"
        found.append(finding("D094", what, fix=fix))
    for cloud in table["clouds"]:
        if cloud not in CLOUDS:
            fix = f"[deploy.skypilot] clouds out of {', '.join(CLOUDS)}"
            found.append(finding("D096", f"SkyPilot knows no cloud called {cloud}", fix=fix))
    if "/" not in d.image:
        what = f"the image {d.image} names no registry, so no machine can pull it"
        fix = '[deploy] registry = "ghcr.io/<your account>"'
        found.append(finding("D050", what, fix=fix))
    if not table["serve"]:
        fix = "[deploy.skypilot] serve = true"
        if scaling.max_replicas > 1:
            found.append(finding("D055", f"one machine is no {scaling.max_replicas} replicas", fix=fix))
        if scaling.min_replicas == 0:
            what = "one machine runs, and is billed, until it is taken down"
            found.append(finding("D023", what, why="min_replicas = 0 becomes 1", fix=fix))
    return found


def task(d: Deployment, context: Context) -> dict[str, Any]:
    """The task, with its service unless it is one machine. Sizes in GB, as SkyPilot has them."""
    weights = context.weights_gb
    resources: dict[str, Any] = {
        "accelerators": {d.machine.partition(":")[0]: d.gpus},
        "image_id": f"docker:{d.image}",
        "memory": f"{math.ceil(1.2 * weights) + 8}+",
        # The image, what it unpacks to, the weights, and again as they are copied; never less than SkyPilot's own.
        "disk_size": max(256, 100 + math.ceil(2.2 * weights)),
        "ports": d.port,
    }
    if d.table["clouds"]:
        resources["any_of"] = [{"infra": cloud} for cloud in d.table["clouds"]]
    found: dict[str, Any] = {"name": lettered(d.name), "resources": resources}
    if d.table["weights"] != "image":
        found["file_mounts"] = {d.model_path: d.table["bucket"] or context.checkpoint}
    if d.secrets:
        found["secrets"] = dict.fromkeys(d.secrets)  # filled by --secret NAME from the environment
    if d.table["serve"]:
        found["service"] = service(d)
    return {**found, "run": RUN}


def service(d: Deployment) -> dict[str, Any]:
    """How SkyServe keeps, asks and scales the replicas."""
    scaling = d.scaling
    policy: dict[str, Any] = {"min_replicas": scaling.min_replicas}
    if scaling.max_replicas > scaling.min_replicas:
        policy |= {
            "max_replicas": scaling.max_replicas,
            # SkyServe counts requests that come, not those in flight: by Little's law, these a second.
            "target_qps_per_replica": round(scaling.concurrency / d.table["answer_seconds"], 3),
            "downscale_delay_seconds": scaling.idle_seconds,
        }
    found: dict[str, Any] = {
        "ports": d.port,
        "readiness_probe": {
            "path": "/readyz",
            "initial_delay_seconds": d.limits.startup_seconds + LEEWAY,
            "timeout_seconds": 5,
            # The server restarts an engine that hangs or dies by itself; SkyServe's own time would end it meanwhile.
            "consecutive_failure_threshold_timeout": d.limits.startup_seconds + LEEWAY,
        },
        "replica_policy": policy,
        "load_balancing_policy": "least_load",
        "load_balancer": {"stream_timeout_seconds": d.limits.request_seconds},
    }
    if d.table["tls_key"]:
        found["tls"] = {"keyfile": d.table["tls_key"], "certfile": d.table["tls_cert"]}
    return found


def told(d: Deployment) -> str:
    """The words by which secrets are taken from the environment."""
    return shlex.join(word for name in d.secrets for word in ("--secret", name))


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    d = deployment
    words = {"called": lettered(d.name), "told": told(d), "keyed": "yes" if API_KEY in d.secrets else ""}
    return {
        "service.yaml": dump([task(d, context)], d, SOURCE + context.checkpoint),
        "Dockerfile": fill("Dockerfile.jinja", d, context),
        "start.py": verbatim("start.py"),
        "README.md": fill("skypilot/README.md.jinja", d, context, **words),
    }
