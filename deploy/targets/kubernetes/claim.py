"""The weights' way into the cluster: a claim for a disk, and a pod without a GPU through which they are copied to it.

Copied beside their place, proven there by their digest, then moved: what lies in the place is whole. Makes data and
words of a command line; does nothing.
"""

import math
from typing import Any

from deploy.spec import Deployment
from deploy.targets.kubernetes import pod

LIVES = 6 * 3600  # seconds: a pod that somebody forgot ends
# Arguments: folder, digest, and where it moves once it is proven. Nothing is moved onto itself.
PROVE = (
    "import os, sys; from pathlib import Path; from tune import checkpoint; "
    "here, digest, place = sys.argv[1:]; "
    "found = checkpoint.verify(Path(here), remake='copy it again'); "
    "sys.exit('another checkpoint lies there') if found.digest != digest else None; "
    "None if here == place else os.rename(here, place)"
)


def claim(d: Deployment, weights_gb: float) -> dict[str, Any]:
    """Room for two checkpoints of this size: the next one is copied while this one serves."""
    several = d.hosts > 1 or pod.replicas(d) > 1 or d.scaling.max_replicas > 1
    size = math.ceil(2.4 * weights_gb * 1e9 / 2**30) + 1
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": pod.metadata(d, d.table["claim"]),
        "spec": {
            "accessModes": ["ReadWriteMany" if several else "ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{size}Gi"}},
        },
    }


def filler_name(d: Deployment) -> str:
    return f"{d.table['claim'][:58]}-fill".replace("--", "-")


def filler(d: Deployment) -> dict[str, Any]:
    """The pod to copy through."""
    meta = pod.metadata(d, filler_name(d))
    meta["labels"] = {**meta["labels"], "app.kubernetes.io/component": "weights"}  # no Service sends anybody here
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LIVES,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": pod.owner(),
        "tolerations": pod.tolerations(),  # a disk that one node mounts may be bound to a GPU node
        "containers": [
            {
                "name": "fill",
                "image": d.image,
                "imagePullPolicy": pod.policy(d),
                "command": ["sleep", str(LIVES)],
                "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                "securityContext": pod.hardened(),
                "volumeMounts": [
                    {"name": "weights", "mountPath": pod.CLAIMED},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                ],
            }
        ],
        "volumes": [
            {"name": "weights", "persistentVolumeClaim": {"claimName": d.table["claim"]}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if pod.pull(d):
        spec["imagePullSecrets"] = pod.pull(d)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def part(d: Deployment) -> str:
    """Where the weights lie until they are proven."""
    folder, _, name = d.model_path.rpartition("/")
    return f"{folder}/.{name}.part"


def prove(d: Deployment, here: str) -> tuple[str, ...]:
    """What is run in the pod: exit 0 when the weights lie in their place, which they are moved to once proven."""
    return ("python3", "-c", PROVE, here, d.digest, d.model_path)
