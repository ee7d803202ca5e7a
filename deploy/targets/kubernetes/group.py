"""One model on several machines: deployment in; a LeaderWorkerSet (leaderworkerset.x-k8s.io/v1) and its neighbours out.

A replica is a group of pods. The first has the server and the supervisor, the others the engine alone (start.py), each
on a node of its own. A pod that ends is started again by itself: the first one's engine ends with it, and waits for it.
"""

from typing import Any

from deploy.spec import API_KEY, Deployment
from deploy.targets.documents import lettered
from deploy.targets.kubernetes import pod
from serve import parts

API, GROUP = "leaderworkerset.x-k8s.io/v1", "leaderworkerset.x-k8s.io"
FIRST, OTHER = "inference", "engine"  # components: callers are sent to the first


def name(d: Deployment) -> str:
    """Not the deployment's: the controller makes a headless Service by it, which callers could not use."""
    return f"{lettered(d.name)}-hosts"


def manifests(d: Deployment, spec: dict[str, Any], served: dict[str, Any]) -> list[dict[str, Any]]:
    """The set, and who may speak to its pods. `spec`: of the first one's pod; `served`: the container in it."""
    spare = d.table["spare"]
    rolling = {"maxSurge": int(spare), "maxUnavailable": int(not spare)}
    first, other = spec, {**spec, "containers": [_engine(served)]}
    served["env"] = [*served["env"], _address()]
    template = {
        "size": d.options.tuning.hosts,
        "restartPolicy": "None",
        "leaderTemplate": _template(d, FIRST, first),
        "workerTemplate": _template(d, OTHER, other),
    }
    found = {
        "replicas": pod.replicas(d),
        "startupPolicy": "LeaderCreated",
        "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": rolling},
        "leaderWorkerTemplate": template,
    }
    among = {"from": [{"podSelector": members(d)}]}
    asked = {"ports": [{"protocol": "TCP", "port": d.port}]}
    policy = {"podSelector": members(d), "policyTypes": ["Ingress"], "ingress": [among, asked]}
    return [
        {"apiVersion": API, "kind": "LeaderWorkerSet", "metadata": pod.metadata(d, name(d)), "spec": found},
        # The hosts' ports among each other ask for no key.
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": pod.metadata(d, name(d)),
            "spec": policy,
        },
    ]


def members(d: Deployment) -> dict[str, Any]:
    """The label selector of all its pods."""
    parts = {"key": "app.kubernetes.io/component", "operator": "In", "values": [FIRST, OTHER]}
    return {"matchLabels": {"app.kubernetes.io/name": lettered(d.name)}, "matchExpressions": [parts]}


def selected(d: Deployment) -> str:
    """The same as kubectl takes it."""
    return f"app.kubernetes.io/name={lettered(d.name)},app.kubernetes.io/component in ({FIRST},{OTHER})"


def _template(d: Deployment, component: str, spec: dict[str, Any]) -> dict[str, Any]:
    # Two hosts of one model on a node would take each other's GPUs for their own.
    apart = {"labelSelector": members(d), "topologyKey": "kubernetes.io/hostname"}
    away = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    labels = {**pod.labels(d), "app.kubernetes.io/component": component}
    return {"metadata": {"labels": labels}, "spec": {**spec, "affinity": {**spec["affinity"], **away}}}


def _engine(served: dict[str, Any]) -> dict[str, Any]:
    """The container without a server: nothing to probe, no port of callers', no key to ask them for."""
    without = {"ports", "lifecycle", "startupProbe", "readinessProbe", "livenessProbe"}
    env = [given for given in served["env"] if given["name"] != API_KEY]
    return {key: value for key, value in served.items() if key not in without} | {"env": [*env, _address()]}


def _address() -> dict[str, Any]:
    """By which the other hosts reach this one."""
    return {"name": parts.OWN, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
