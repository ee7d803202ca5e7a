"""Kubernetes, for those who outgrow one machine: plain manifests, KServe's InferenceService, or values of vLLM's chart;
a LeaderWorkerSet where one model takes several machines.

Each runs an image of ours, so nothing of the server is lost. The cluster is the user's: its namespace, secrets, storage
classes and GPU operator are looked for and never made, but for a namespace and a claim.
"""

import re
import shlex

from deploy.findings import finding, inline
from deploy.spec import API_KEY, Deployment
from deploy.targets import Context
from deploy.targets.documents import dump, lettered
from deploy.targets.kubernetes import claim, cluster, kinds, pod
from deploy.targets.template import fill, verbatim
from serve.findings import Finding

NAME = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # of a Secret
KNATIVE_CAP = 600  # seconds
SHIM = """
# The chart can start nothing but `vllm serve ...`: here that is our start.
COPY --chmod=0755 vllm /opt/gptoss-kit/bin/vllm
ENV PATH=/opt/gptoss-kit/bin:$PATH
"""


def findings(deployment: Deployment) -> list[Finding]:
    """What a cluster would do other than the recipe says, and what is taken for granted of it."""
    d, found = deployment, list[Finding]()
    kind, scaling = d.table["kind"], d.scaling
    elsewhere = ', or [deploy.kubernetes] kind = "kserve"' if d.hosts == 1 else ""
    if API_KEY not in d.secrets:
        what = f"whoever reaches the pods in the cluster is answered: no {API_KEY} among its secrets"
        named = inline({**d.secrets, API_KEY: "vllm-key"})
        found.append(finding("D090", what, fix=f"[deploy.kubernetes] secrets = {named}, the name of a Secret"))
    for key, secret in d.secrets.items():
        if not re.fullmatch(NAME, secret):
            what = f"secrets.{key} = {secret!r} is no name that a Secret can have"
            fix = (
                f'[deploy.kubernetes] secrets = {{ {key} = "{_spelled(secret)}" }}, with the others that it is to have'
            )
            found.append(finding("D097", what, why="small letters, digits and -", fix=fix))
    if kind == "kserve" and kinds.scales(d) and d.limits.request_seconds > KNATIVE_CAP:
        what = f"Knative ends a request after {KNATIVE_CAP} s, request_seconds is {d.limits.request_seconds}"
        fix = f"[deploy] request_seconds = {KNATIVE_CAP}, or as many replicas at least as at most"
        found.append(finding("D020", what, why="its max-revision-timeout-seconds, as it comes", fix=fix))
    if kind == "kserve" and scaling.min_replicas == 0:
        what = f"with min_replicas = 0 a first request waits {d.limits.request_seconds} s for a replica, then gets 504"
        fix = "[deploy] min_replicas = 1, or ask again until one has started, as a deployment's own client does"
        found.append(finding("D022", what, why="a start takes longer", fix=fix))
    if "/" not in d.image:
        what = f"the image {d.image} names no registry, so the nodes cannot pull it"
        fix = '[deploy] registry = "ghcr.io/<your account>"'
        found.append(finding("D050", what, fix=fix))
    if not d.table["product"]:
        what = f"pods go to nodes whose {pod.LABEL} is {' or '.join(pod.PRODUCTS[d.gpu])}"
        why = "NVIDIA's GPU operator labels them so; without the label a pod stays Pending"
        fix = f"[deploy.kubernetes] product = what kubectl get nodes -L {pod.LABEL} shows"
        found.append(finding("D091", what, why=why, fix=fix))
    if scaling.min_replicas == 0 and kind != "kserve":
        what = f"a {kind} deployment keeps one replica and its GPU{'s' if pod.processes(d) > 1 else ''}"
        fix = f"[deploy] min_replicas = 1{elsewhere}"
        found.append(finding("D023", what, why="min_replicas = 0 becomes 1", fix=fix))
    if kind != "kserve" and scaling.max_replicas > pod.replicas(d):
        what = f"a {kind} deployment stays at {pod.replicas(d)} of at most {scaling.max_replicas} replicas"
        why = "without an adapter no metric of the server's reaches Kubernetes' autoscaler"
        fix = f"[deploy] max_replicas = {pod.replicas(d)}{elsewhere}"
        found.append(finding("D055", what, why=why, fix=fix))
    if kind == "production-stack":
        found += _stack(d)
    if d.table["weights"] == "claim" and max(d.hosts, pod.replicas(d), scaling.max_replicas) > 1:
        what = f"the claim {d.table['claim']} is asked for as ReadWriteMany: its storage class has to have that"
        fix = '[deploy.kubernetes] weights = "image", or a claim of a class that several nodes mount'
        found.append(finding("D093", what, why="its pods run on several nodes", fix=fix))
    return found


def _spelled(name: str) -> str:
    return name.lower().replace("_", "-").strip("-")


def _stack(d: Deployment) -> list[Finding]:
    what = "the chart's router sees no engine's load and sends requests to one after the other"
    why = "it asks /metrics without a key, and the server shows that to nobody without one"
    fix = '[deploy.kubernetes] kind = "plain", where a Service does the same without a router'
    found = [finding("D092", what, why=why, fix=fix)] if API_KEY in d.secrets else []
    most = kinds.CHART_GRACE - pod.ENDING
    if d.options.drain > most:
        what = f"the chart's pods are killed {kinds.CHART_GRACE} s after they are asked to end, [serve] drain is"
        found.append(finding("D024", f"{what} {d.options.drain}", fix=f"[serve] drain = {most}"))
    return found


def words(d: Deployment) -> dict[str, str]:
    """What README says beside the deployment."""
    return {
        "called": lettered(d.name),
        "hosts": str(d.hosts),
        "lws": cluster.SETS[2],
        "service": kinds.service(d),
        "chart": f"{kinds.CHART} --repo {kinds.CHARTS} --version {kinds.CHART_VERSION}",
        "patience": str(kinds.patience(d)),
        "filler": claim.filler_name(d),
        "part": claim.part(d),
        "prove": shlex.join(claim.prove(d, claim.part(d))),
    }


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    d, gigabytes = deployment, context.weights_gb
    stack = d.table["kind"] == "production-stack"
    found = {
        "manifests.yaml": dump(kinds.manifests(d, context.checkpoint, gigabytes), d),
        "Dockerfile": fill("Dockerfile.jinja", d, context) + (SHIM if stack else ""),
        "start.py": verbatim("start.py"),
        "README.md": fill("kubernetes/README.md.jinja", d, context, **words(d)),
    }
    if stack:
        found["values.yaml"] = dump([kinds.values(d, gigabytes)], d)
        found["vllm"] = "#!/bin/sh\n# vllm serve ...: whatever it is told, start.py knows better.\n"
        found["vllm"] += "exec python3 /opt/gptoss-kit/start.py\n"
    if d.table["weights"] == "claim":
        found["claim.yaml"] = dump([claim.claim(d, gigabytes)], d)
        found["fill.yaml"] = dump([claim.filler(d)], d)
    return found
