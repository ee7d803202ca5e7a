"""What is applied, by [deploy.kubernetes] kind: deployment in; manifests, or the values of a Helm chart, as data out.

plain: Deployment (of several machines a replica, group's LeaderWorkerSet), Service and, with several replicas, a
PodDisruptionBudget. kserve: an InferenceService (serving.kserve.io/v1beta1). production-stack: values of vLLM's chart,
whose engine is our image all the same.
"""

from typing import Any

from deploy.spec import Deployment
from deploy.targets.documents import lettered
from deploy.targets.kubernetes import group, pod

CHART, CHART_VERSION = "vllm-stack", "0.1.12"
CHARTS = "https://vllm-project.github.io/production-stack"
CHART_GRACE = 30  # seconds from the order to end until the kill: the chart leaves Kubernetes' own
ROUTER = "router-service"
PATIENCE = 600  # seconds that a node and an image may take to come, beside the start-up


def manifests(d: Deployment, checkpoint: str, weights_gb: float) -> list[dict[str, Any]]:
    """What `kubectl apply` gets; for the chart, what it does not make itself. Sizes in 10^9 bytes."""
    first = pod.settings(d, checkpoint)
    if d.table["kind"] == "kserve":
        return [first, inference_service(d, weights_gb)]
    return [first, *(plain(d, weights_gb) if d.table["kind"] == "plain" else [])]


def plain(d: Deployment, weights_gb: float) -> list[dict[str, Any]]:
    """A fixed number of replicas: no metric that says how busy they are reaches Kubernetes without an adapter."""
    served = pod.container(d, weights_gb)
    # Whoever is still sent here while the pod leaves the Service is answered as before.
    served["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(pod.ROUTED)]}}}
    spec = pod_spec(d, served)
    several = d.hosts > 1
    found = group.manifests(d, spec, served) if several else [_deployment(d, spec)]
    port = {"name": "http", "port": 80, "targetPort": "http"}
    meta = pod.metadata(d, lettered(d.name))
    service = {"type": "ClusterIP", "selector": pod.selector(d), "ports": [port]}
    found.append({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service})
    if pod.replicas(d) > 1:
        whose = group.members(d) if several else {"matchLabels": pod.selector(d)}
        budget = {"maxUnavailable": 1, "selector": whose}
        found.append({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": budget})
    return found


def _deployment(d: Deployment, template: dict[str, Any]) -> dict[str, Any]:
    spare = d.table["spare"]
    spec = {
        "replicas": pod.replicas(d),
        "selector": {"matchLabels": pod.selector(d)},
        # A GPU for a second pod is seldom free: without one a rollout with a surge would wait for ever.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": int(spare), "maxUnavailable": int(not spare)},
        },
        "progressDeadlineSeconds": d.limits.startup_seconds + PATIENCE,
        "template": {"metadata": {"labels": pod.labels(d)}, "spec": template},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": pod.metadata(d, lettered(d.name)),
        "spec": spec,
    }


def pod_spec(d: Deployment, served: dict[str, Any]) -> dict[str, Any]:
    """Everything of the pod that a Deployment lets one say."""
    found = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service called vllm would give the engine a VLLM_PORT
        "terminationGracePeriodSeconds": pod.grace(d),
        "securityContext": pod.owner(),
        "affinity": pod.affinity(d),
        "tolerations": pod.tolerations(),
        "containers": [served],
        "volumes": pod.volumes(d),
    }
    return found | ({"imagePullSecrets": pod.pull(d)} if pod.pull(d) else {})


def scales(d: Deployment) -> bool:
    """Whether replicas come and go."""
    return d.scaling.max_replicas > d.scaling.min_replicas


def inference_service(d: Deployment, weights_gb: float) -> dict[str, Any]:
    """KServe's: by Knative where replicas come and go, by requests in flight; else a Deployment of KServe's own.

    Knative has its own way to end a pod, and takes no pod-level rights, grace period and lifecycle.
    """
    name = "kserve-container"
    served = pod.container(d, weights_gb, name)
    scaling = d.scaling
    predictor: dict[str, Any] = {
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "timeout": d.limits.request_seconds,
    }
    if scales(d):
        predictor |= {
            "scaleMetric": "concurrency",
            "scaleTarget": scaling.concurrency,
            "containerConcurrency": 0,  # our own limit says 503 and when to come again
            "affinity": pod.affinity(d),
            "tolerations": pod.tolerations(),
            "containers": [served],
            "volumes": pod.volumes(d),
            **({"imagePullSecrets": pod.pull(d)} if pod.pull(d) else {}),
        }
        served["ports"] = [{"name": "http1", "containerPort": d.port}]  # Knative's word for HTTP/1.1
        notes = {
            "serving.kserve.io/deploymentMode": "Knative",
            "serving.knative.dev/progress-deadline": f"{d.limits.startup_seconds + PATIENCE}s",
            "autoscaling.knative.dev/scale-to-zero-pod-retention-period": f"{scaling.idle_seconds}s",
        }
    else:
        served["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(pod.ROUTED)]}}}
        spare = d.table["spare"]
        strategy = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": int(spare), "maxUnavailable": int(not spare)},
        }
        predictor |= {"deploymentStrategy": strategy, **pod_spec(d, served)}
        notes = {"serving.kserve.io/deploymentMode": "Standard", "serving.kserve.io/autoscalerClass": "external"}
    meta = pod.metadata(d)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {**meta, "annotations": {**meta["annotations"], **notes}},
        "spec": {"predictor": predictor},
    }


def values(d: Deployment, weights_gb: float) -> dict[str, Any]:
    """Of the chart. It starts nothing but `vllm serve ...`, which in our image is start.py (see the file `vllm`)."""
    repository, _, tag = d.image.rpartition(":")
    asked, key = pod.resources(d, weights_gb), d.secrets.get("VLLM_API_KEY", "")
    checks = pod.probes(d)
    for each in checks.values():
        del each["timeoutSeconds"]  # no value of the chart's
        each["initialDelaySeconds"] = 0
    model = {
        "name": lettered(d.name),
        "repository": repository,
        "tag": tag,
        "modelURL": d.model_path,
        "replicaCount": pod.replicas(d),
        "requestCPU": int(asked["requests"]["cpu"]),
        "requestMemory": asked["requests"]["memory"],
        "requestGPU": d.gpus,
        "env": [each for each in pod.env(d) if each["name"] != "VLLM_API_KEY"],  # the chart gives that itself
        "extraVolumes": pod.volumes(d),
        "extraVolumeMounts": pod.mounts(d),
        "nodeSelectorTerms": pod.nodes(d),
    }
    if d.table["pull_secret"]:
        model["imagePullSecret"] = d.table["pull_secret"]
    spare = d.table["spare"]
    engine = {
        "enableEngine": True,
        "containerPort": d.port,
        "imagePullPolicy": pod.policy(d),
        "modelSpec": [model],
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": int(spare), "maxUnavailable": int(not spare)},
        },
        "securityContext": pod.owner(),
        "containerSecurityContext": pod.hardened(),
        "tolerations": pod.tolerations(),
        **checks,
    }
    if key:
        engine["vllmApiKey"] = {"secretName": key, "secretKey": "VLLM_API_KEY"}
    # Its other ways to share out requests ask the engines' /metrics, for which ours want the key that it does not send.
    return {"servingEngineSpec": engine, "routerSpec": {"enableRouter": True, "routingLogic": "roundrobin"}}


def service(d: Deployment) -> str:
    """The Service that callers reach, where the address is not KServe's."""
    return lettered(d.name) + (f"-{ROUTER}" if d.table["kind"] == "production-stack" else "")


def patience(d: Deployment) -> int:
    """Seconds that a rollout of all replicas may take, one after the other."""
    return min(7000, pod.replicas(d) * (d.limits.startup_seconds + PATIENCE))
