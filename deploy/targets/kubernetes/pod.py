"""The pod that serves, as every kind of Kubernetes render has it: deployment in; container, volumes and nodes out.

A pod is one machine: its GPUs, and those of its group, share one model by the engine's own parallelism. What it serves
stands in a ConfigMap of its own digest, so that a rollout undone is the old options too, whatever image goes by the
tag. Knows no Deployments, LeaderWorkerSets, InferenceServices and charts.
"""

import hashlib
import json
import math
from typing import Any

from deploy.spec import ROOT, Deployment
from deploy.targets.documents import lettered
from serve import parts
from tune.artefact import VERSION

USER = 10001  # nobody's id on the node, and no root
PERIOD = 10  # seconds between two looks of a probe
LEEWAY = 60  # seconds that our own limits get, which say why, before Kubernetes' are reached
LONGER = 10  # times hang_after: what the supervisor gives an engine that computes all the while (serve.pulse)
ROUTED = 5  # seconds until nobody is sent to a pod that ends
ENDING = 15  # seconds past the drain until the last process is gone (serve.processes)
SHARED_GIB = 16  # of shared memory, through which the GPUs' processes speak
CLAIMED, CACHE = "/models", "/cache"
SETTINGS = "deployment.json"
SOURCE = "gptoss-kit/checkpoint"  # annotation: where the checkpoint lies, seen from the rendered folder
# What GPU feature discovery writes as nvidia.com/gpu.product: the name that the driver has, dashes for spaces.
PRODUCTS = {
    "L4": ("NVIDIA-L4",),
    "A10G": ("NVIDIA-A10G",),
    "L40S": ("NVIDIA-L40S",),
    "A100-80GB": ("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"),
    "H100": ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
    "RTX-PRO-6000": (
        "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
        "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition",
    ),
    "H200": ("NVIDIA-H200", "NVIDIA-H200-NVL"),
    "B200": ("NVIDIA-B200",),
}
LABEL = "nvidia.com/gpu.product"


def labels(d: Deployment) -> dict[str, str]:
    """Of everything that is made; `selector` has those that stay."""
    more = {"app.kubernetes.io/version": d.digest[:16], "app.kubernetes.io/managed-by": "gptoss-kit"}
    return {**selector(d), **more}


def selector(d: Deployment) -> dict[str, str]:
    return {"app.kubernetes.io/name": lettered(d.name), "app.kubernetes.io/component": "inference"}


def metadata(d: Deployment, name: str = "") -> dict[str, Any]:
    """`name`: if it is not the deployment's."""
    return {
        "name": name or lettered(d.name),
        "namespace": d.table["namespace"],
        "labels": labels(d),
        "annotations": {"gptoss-kit/rendered-by": VERSION, "gptoss-kit/model": d.model},
    }


def replicas(d: Deployment) -> int:
    """Where none is started or ended by itself."""
    return max(1, d.scaling.min_replicas)


def settings(d: Deployment, checkpoint: str) -> dict[str, Any]:
    """The ConfigMap that holds what start.py reads. `checkpoint`: its path from the rendered folder."""
    text = json.dumps({"settings": {"deployment": d.model_dump(mode="json")}}, indent=1, sort_keys=True)
    meta = metadata(d, settings_name(d))
    meta["annotations"] = {**meta["annotations"], SOURCE: checkpoint}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta,
        "immutable": True,
        "data": {SETTINGS: text},
    }


def settings_name(d: Deployment) -> str:
    return f"{lettered(d.name)}-{hashlib.sha256(d.model_dump_json().encode()).hexdigest()[:10]}"


def env(d: Deployment) -> list[dict[str, Any]]:
    """Places that may be written to, and secrets by name: the Secret's key is the variable's own name."""
    # The id has no name in the image, and torch asks for one.
    places = {"HOME": CACHE, "XDG_CACHE_HOME": CACHE, "USER": "gptoss", "LOGNAME": "gptoss"}
    given = [{"name": name, "value": value} for name, value in places.items()]
    return given + [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name, secret in d.secrets.items()
    ]


def volumes(d: Deployment) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "settings", "configMap": {"name": settings_name(d)}},
        {"name": "cache", "emptyDir": {}},  # compiled kernels: made anew by each pod
        {"name": "tmp", "emptyDir": {}},
    ]
    if d.table["weights"] == "claim":
        found.append({"name": "weights", "persistentVolumeClaim": {"claimName": d.table["claim"], "readOnly": True}})
    if processes(d) > 1:
        found.append({"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": f"{SHARED_GIB}Gi"}})
    return found


def processes(d: Deployment) -> int:
    """Of the engine that share one model, on all hosts."""
    return d.gpus * d.hosts


def mounts(d: Deployment) -> list[dict[str, Any]]:
    """Where the container has its volumes."""
    places = {"cache": CACHE, "tmp": "/tmp", "shared": "/dev/shm"}  # noqa: S108
    there = [v["name"] for v in volumes(d)]
    found: list[dict[str, Any]] = [
        {"name": "settings", "mountPath": f"{ROOT}/{SETTINGS}", "subPath": SETTINGS, "readOnly": True}
    ]
    found += [{"name": name, "mountPath": places[name]} for name in there if name in places]
    if "weights" in there:
        found.append({"name": "weights", "mountPath": CLAIMED, "readOnly": True})
    return found


def resources(d: Deployment, weights_gb: float) -> dict[str, Any]:
    """GPUs as a limit, which is a request too; memory to read the weights through, and what the engine itself takes."""
    gib = math.ceil(1.2 * weights_gb * 1e9 / 2**30) + 8
    gib += SHARED_GIB if processes(d) > 1 else 0
    gpus = {"nvidia.com/gpu": str(d.gpus)}
    return {"requests": {"cpu": str(4 * d.gpus), "memory": f"{gib}Gi", **gpus}, "limits": gpus}


def probes(d: Deployment) -> dict[str, Any]:
    """Started: proven and open, within the start-up time and a moment. Ready: /readyz. Alive: the supervisor answers.

    It restarts an engine that hangs or dies by itself, and /livez stays 200 meanwhile; so Kubernetes waits longer than
    it ever takes to notice, and ends only a pod whose supervisor is lost.
    """

    def look(path: str, failures: int) -> dict[str, Any]:
        http = {"path": path, "port": d.port}
        return {"httpGet": http, "periodSeconds": PERIOD, "timeoutSeconds": 5, "failureThreshold": failures}

    starts = d.limits.startup_seconds + (parts.JOIN if d.hosts > 1 else 0)
    alive = LONGER * d.options.hang_after + LEEWAY
    return {
        "startupProbe": look("/readyz", math.ceil((starts + LEEWAY) / PERIOD)),
        "readinessProbe": look("/readyz", 3),
        "livenessProbe": look("/livez", math.ceil(alive / PERIOD)),
    }


def grace(d: Deployment) -> int:
    """Seconds from the order to end until the kill."""
    return ROUTED + d.options.drain + ENDING


def hardened() -> dict[str, Any]:
    """The container's rights."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container(d: Deployment, weights_gb: float, name: str = "server") -> dict[str, Any]:
    """Our image as it starts by itself. `lifecycle` is left to the kinds that may have one."""
    return {
        "name": name,
        "image": d.image,
        "imagePullPolicy": policy(d),
        "env": env(d),
        "ports": [{"name": "http", "containerPort": d.port}],
        "resources": resources(d, weights_gb),
        **probes(d),
        "securityContext": hardened(),
        "volumeMounts": mounts(d),
    }


def policy(d: Deployment) -> str:
    """Built anew it has the same tag, and another engine in it where that was named by a tag which has moved; an image
    without a registry was loaded into the nodes by hand."""
    return "Always" if "/" in d.image else "IfNotPresent"


def nodes(d: Deployment) -> list[dict[str, Any]]:
    """Node selector terms: those whose GPU is the one that sizes were reckoned with."""
    wanted = [d.table["product"]] if d.table["product"] else list(PRODUCTS[d.gpu])
    return [{"matchExpressions": [{"key": LABEL, "operator": "In", "values": wanted}]}]


def affinity(d: Deployment) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": nodes(d)}}}


def tolerations() -> list[dict[str, Any]]:
    """The taint that GPU nodes mostly have."""
    return [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def owner() -> dict[str, Any]:
    """Pod-level rights: files of volumes are the group's, changed only where they are not yet."""
    return {"runAsNonRoot": True, "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch"}


def pull(d: Deployment) -> list[dict[str, str]]:
    return [{"name": d.table["pull_secret"]}] if d.table["pull_secret"] else []
