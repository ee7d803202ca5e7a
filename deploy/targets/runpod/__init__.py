"""RunPod, by its REST v2: a load-balancing endpoint, a queue endpoint with a worker, or a pod.

endpoint.json and pod.json are the bodies of the requests that make them. The weights lie in the image or on a network
volume that is filled once.
"""

import json

from deploy.findings import finding, inline
from deploy.spec import API_KEY, Deployment
from deploy.targets import Context
from deploy.targets.runpod.body import GPUS, endpoint, kind, pod, table
from deploy.targets.template import fill, verbatim
from serve.findings import Finding

REQUEST_CAP = 330  # seconds; the load balancer answers 524 after that
NO_WORKER_CAP = 120  # seconds; the load balancer answers 400 when no worker is ready by then
SHORTEST, KEPT = 5, 86_400  # seconds: the least a queue lets a job run; how long it keeps one, waiting and running
ARTEFACT = {"load-balancer": "endpoint.json", "queue": "endpoint.json", "pod": "pod.json"}
ENTRY = {"load-balancer": "balanced.py", "queue": "handler.py", "pod": ""}  # what starts start.py, if not the image


def findings(deployment: Deployment) -> list[Finding]:
    found = {"load-balancer": _balancer, "queue": _queue, "pod": _pod}[kind(deployment)](deployment)
    found += _volume(deployment)
    if kind(deployment) != "pod" and API_KEY in deployment.secrets:
        what = f"{API_KEY} among the secrets, where RunPod asks for its own key"
        why = "the engine would ask for a key as well, even the supervisor, which has none: it would never be ready"
        others = inline({key: name for key, name in deployment.secrets.items() if key != API_KEY})
        found.append(finding("D082", what, why=why, fix=f"[deploy.runpod] secrets = {others}"))
    if "/" not in deployment.image:
        what = f"the image {deployment.image} names no registry, so RunPod cannot pull it"
        fix = '[deploy] registry = "docker.io/<your account>"'
        found.append(finding("D050", what, fix=fix))
    return found


def _balancer(deployment: Deployment) -> list[Finding]:
    found = []
    seconds = deployment.limits.request_seconds
    if seconds > REQUEST_CAP:
        what = f"RunPod's load balancer ends a request after {REQUEST_CAP} s, request_seconds is {seconds}"
        fix = f'[deploy] request_seconds = {REQUEST_CAP}, or [deploy.runpod] type = "queue"'
        found.append(finding("D020", what, fix=fix))
    if deployment.scaling.min_replicas == 0:
        what = f"with min_replicas = 0 a first request gets 400 after {NO_WORKER_CAP} s, before vLLM has loaded"
        fix = '[deploy] min_replicas = 1, or [deploy.runpod] type = "queue", which waits for a cold start'
        found.append(finding("D022", what, fix=fix))
    return found


def _queue(deployment: Deployment) -> list[Finding]:
    limits = deployment.limits
    most = KEPT - limits.startup_seconds
    if SHORTEST <= limits.request_seconds <= most:
        return []
    what = f"request_seconds is {limits.request_seconds}: RunPod's queue takes {SHORTEST} to {most:,}"
    why = f"it keeps a job for {KEPT:,} s, of which a cold start takes up to {limits.startup_seconds:,}"
    return [finding("D087", what, why=why, fix=f"[deploy] request_seconds between {SHORTEST} and {most}")]


def _pod(deployment: Deployment) -> list[Finding]:
    found = []
    if API_KEY not in deployment.secrets:
        what = "RunPod's proxy lets everyone reach a pod, and the server there has no key to ask for"
        named = inline({**deployment.secrets, API_KEY: "name-of-a-secret"})
        fix = f"[deploy.runpod] secrets = {named}, and a secret of that name in RunPod's console"
        found.append(finding("D086", what, fix=fix))
    if deployment.scaling.max_replicas > 1 or deployment.scaling.min_replicas == 0:
        what = "a pod is one replica, which runs and costs until it is stopped"
        fix = '[deploy] min_replicas = 1 and max_replicas = 1, or [deploy.runpod] type = "auto"'
        found.append(finding("D089", what, fix=fix))
    if deployment.gpu not in GPUS:
        what = f"no name of RunPod's is known for a pod with a {deployment.gpu}"
        found.append(finding("D010", what, fix=f"[deploy] gpu = one of {', '.join(GPUS)}"))
    return found


def _volume(deployment: Deployment) -> list[Finding]:
    told = table(deployment)
    if told.weights == "image":
        if not told.volume:
            return []
        what = f"the network volume {told.volume} is named, and the weights are in the image"
        return [finding("D088", what, fix='[deploy.runpod] weights = "volume", or volume left out')]
    lacks = [key for key, value in (("volume", told.volume), ("datacenter", told.datacenter)) if not value]
    if not lacks:
        return []
    what = f'[deploy.runpod] weights = "volume", without {" and ".join(lacks)}'
    fix = "make one in RunPod's console, under Storage, and put its id and datacenter there"
    return [finding("D088", what, why="a worker runs only where its volume is", fix=fix)]


def files(deployment: Deployment, context: Context) -> dict[str, str]:
    made = kind(deployment)
    body = pod(deployment, context.weights_gb) if made == "pod" else endpoint(deployment, context.weights_gb)
    texts = {
        ARTEFACT[made]: json.dumps(body, indent=2) + "\n",
        "build.json": json.dumps({"checkpoint": context.checkpoint}, indent=2) + "\n",
        "Dockerfile": fill("runpod/Dockerfile.jinja", deployment, context),
        "start.py": verbatim("start.py"),
        "README.md": fill("runpod/README.md.jinja", deployment, context),
    }
    if made == "queue":
        texts["requirements.txt"] = verbatim("runpod/requirements.txt")
    if entry := ENTRY[made]:
        texts[entry] = verbatim(f"runpod/{entry}")
    return texts
