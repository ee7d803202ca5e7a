"""One model on several machines: deployment in; a LeaderWorkerSet (leaderworkerset.x-k8s.io/v1) and its neighbours out.

A replica is a group of pods. The first has the server and the supervisor, the others the engine alone (start.py). A
container that ends is started again in its place: the first one's engine ends with it, and waits for it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.spec import API_KEY, Deployment
from deploy.targets.documents import lettered
from deploy.targets.kubernetes import pod
from serve import parts

API, GROUP = "leaderworkerset.x-k8s.io/v1", "leaderworkerset.x-k8s.io"
KIND, VERSION = "LeaderWorkerSet", "0.6"  # which is the first that tells a pod its rank
FIRST, OTHER = "inference", "engine"  # components: callers are sent to the first
MARK = "gptoss-kit/template"  # annotation of each pod: of what it was made


def name(d: Deployment) -> str:
    """Not the deployment's: the controller makes a headless Service by it, which callers could not use."""
    return f"{lettered(d.name)}-hosts"


def manifests(d: Deployment, spec: Mapping[str, Any], served: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The set, and who may speak to its pods. `spec`: of a pod; `served`: the container of the first one's."""
    meta = pod.metadata(d, name(d))
    held: dict[str, Any] = {
        "size": d.hosts,
        "restartPolicy": "None",
        "leaderTemplate": _template(d, FIRST, spec, {**served, "env": [*served["env"], _address()]}),
        "workerTemplate": _template(d, OTHER, spec, _engine(served)),
    }
    mark = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:16]
    for template in (held["leaderTemplate"], held["workerTemplate"]):
        template["metadata"]["annotations"] = {MARK: mark}
    made = {
        "replicas": pod.replicas(d),
        "startupPolicy": "LeaderCreated",
        # No surge: with it a set of one replica never rolled out, until a version that is not known of every cluster.
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {"maxSurge": 0, "maxUnavailable": 1},
        },
        "leaderWorkerTemplate": held,
    }
    # The hosts' ports among each other ask for no key.
    among, asked = {"from": [{"podSelector": members(d)}]}, {"ports": [{"protocol": "TCP", "port": d.port}]}
    policy = {"podSelector": members(d), "policyTypes": ["Ingress"], "ingress": [among, asked]}
    return [
        {"apiVersion": API, "kind": KIND, "metadata": meta, "spec": made},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": policy},
    ]


def mark(manifests: Sequence[Mapping[str, Any]]) -> str:
    """What the pods of rendered manifests carry."""
    made = next(each for each in manifests if each["kind"] == KIND)
    return str(made["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["metadata"]["annotations"][MARK])


def members(d: Deployment) -> dict[str, Any]:
    """The label selector of all its pods."""
    either = {"key": "app.kubernetes.io/component", "operator": "In", "values": [FIRST, OTHER]}
    return {"matchLabels": {"app.kubernetes.io/name": lettered(d.name)}, "matchExpressions": [either]}


def selected(d: Deployment) -> str:
    """The same as kubectl takes it."""
    return f"app.kubernetes.io/name={lettered(d.name)},app.kubernetes.io/component in ({FIRST},{OTHER})"


def _template(d: Deployment, component: str, spec: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, Any]:
    labels = {**pod.labels(d), "app.kubernetes.io/component": component}
    return {"metadata": {"labels": labels}, "spec": {**spec, "containers": [container]}}


def _engine(served: Mapping[str, Any]) -> dict[str, Any]:
    """The container without a server: nothing to probe, no port of callers', no key to ask them for."""
    without = {"ports", "lifecycle", "startupProbe", "readinessProbe", "livenessProbe"}
    env = [given for given in served["env"] if given["name"] != API_KEY]
    return {key: value for key, value in served.items() if key not in without} | {"env": [*env, _address()]}


def _address() -> dict[str, Any]:
    """By which the other hosts reach this one."""
    return {"name": parts.OWN, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
