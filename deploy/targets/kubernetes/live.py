"""Push, look at, undo and remove a Kubernetes render, by kubectl and helm: rendered folder in, flows of steps out.

Everything is said to the cluster that kubectl is set to; a push to another one than the last is refused. What is there
is looked for by name, and of secrets the names alone. Starts nothing itself.
"""

from collections.abc import Generator
from pathlib import Path

from deploy.live import Live
from deploy.spec import API_KEY, Deployment
from deploy.steps import Command, Flow, Result, Step
from deploy.targets import image
from deploy.targets.documents import lettered
from deploy.targets.kubernetes import filling, kinds, pod
from deploy.targets.kubernetes.filling import APPLY, do, kubectl
from evalsuite.asking.client_info import ClientInfo
from tune.errors import UserError


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:
    """Image, weights, then what is applied: first as a dry run of the cluster's own, then for good, and waited for."""
    d = deployment
    cluster = yield from _cluster(live)
    yield from _namespace(d)
    yield from _secrets(d)
    yield image.build(d.image, filling.checkpoint(d, folder) if d.table["weights"] == "image" else "")
    if "/" in d.image:
        yield image.upload(d.image)
    if d.table["weights"] == "claim":
        yield from filling.fill(d, folder, live)
    yield from _applied(d)
    return (f"{d.model} is ready in {cluster}, namespace {d.table['namespace']}", *(yield from _address(d)))


def _applied(d: Deployment) -> Flow:
    """The folder's manifests, and its chart: tried, applied, waited for."""
    manifests = ("--filename", "manifests.yaml")
    yield do("try", "the cluster checks what it would be given", (*APPLY, "--dry-run=server", *manifests), d)
    what = f"{'settings' if _stack(d) else 'the endpoint'} in namespace {d.table['namespace']}"
    yield do("apply", "apply manifests.yaml", (*APPLY, *manifests), d, makes=what, remove=str(kubectl(d, *_removal(d))))
    if not _stack(d):
        yield do("ready", f"wait until {lettered(d.name)} is ready", _ready(d), d, shows=True, again=True)
        return ()
    yield Step(
        id="chart",
        what=f"install the chart {kinds.CHART} {kinds.CHART_VERSION}, and wait until it is ready",
        action=_helm(
            d,
            *("upgrade", "--install", lettered(d.name), kinds.CHART, "--repo", kinds.CHARTS),
            *("--version", kinds.CHART_VERSION, "--values", "values.yaml", "--atomic"),
            *("--timeout", f"{kinds.patience(d)}s"),
            shows=True,
        ),
        makes=f"the Helm release {lettered(d.name)}",
        remove=f"helm uninstall {lettered(d.name)} --namespace {d.table['namespace']} --wait",
        again=True,
    )
    return ()


def status(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    """Pods and replicas as the cluster has them, and what they take."""
    d = deployment
    named = ("--selector", _selected(d))
    pods = yield do("pods", "look at the pods", ("get", "pods", *named, "--output", _columns()), d, again=True)
    lines = [line for line in str(pods["out"]).splitlines() if line.strip()]
    ready = sum(line.split()[-1:] == ["true"] for line in lines)
    return (
        f"{d.name}: {ready} of {len(lines)} pods ready; the recipe has {_wanted(d)}",
        *(f"  {' '.join(line.split())[:200]}" for line in lines),
        *(yield from _address(d)),
        f"each pod holds {d.machine} for as long as it is there; what that costs is your cluster's to say",
    )


def logs(deployment: Deployment, live: Live) -> Flow:  # noqa: ARG001
    d = deployment
    which = ("logs", "--selector", _selected(d), "--container", _container(d), "--tail=200", "--prefix")
    yield do("logs", "what the servers said last", which, d, shows=True, again=True)
    return ()


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:  # noqa: ARG001 - kubectl runs there
    """Apply what was rendered then: its image has a tag of its own, its weights a place of their own in the claim."""
    d = deployment
    cluster = yield from _cluster(live)
    yield from _secrets(d)
    yield from _applied(d)
    return (f"{d.model} is ready again in {cluster}, namespace {d.table['namespace']}", *(yield from _address(d)))


def destroy(deployment: Deployment, live: Live) -> Flow:
    """All but what is not only ours: the claim with its weights, the namespace, secrets and images."""
    d = deployment
    cluster = yield from _cluster(live)
    if _stack(d):
        action = _helm(d, "uninstall", lettered(d.name), "--ignore-not-found", "--wait")
        yield Step(id="uninstall", what="remove the Helm release", action=action, again=True)
    yield do("delete", "remove what carries our labels", _removal(d), d, again=True)
    left = ["the image in your registry", "secrets"]
    if d.table["weights"] == "claim":
        left.insert(0, f"the claim {d.table['claim']} with its weights (kubectl delete --filename claim.yaml)")
    return (f"{d.name} is gone from {cluster}", f"kept, since others may use it: {'; '.join(left)}")


def client(deployment: Deployment, live: Live) -> ClientInfo:
    """Through `kubectl port-forward`, which README shows; KServe's through the address that it gave itself."""
    d = deployment
    url = f"http://127.0.0.1:{d.port}"
    if d.table["kind"] == "kserve":
        url = str(live.gave("address").get("out", "")).strip()
        if not url.startswith(("http://", "https://")):
            raise UserError(f"KServe has not said where {d.name} is", fix="deploy status FOLDER, then push again")
    retry = (429, 502, 503, 504) if d.table["kind"] == "kserve" else (429, 502, 503)
    return ClientInfo(
        base_url=f"{url}/v1",
        retry=retry,
        model=d.model,
        key_env=API_KEY if API_KEY in d.secrets else "",
        answer_seconds=d.limits.request_seconds if d.table["kind"] == "kserve" and kinds.scales(d) else 0,
        patience_seconds=d.limits.startup_seconds,
    )


def _removal(d: Deployment) -> tuple[str, ...]:
    """Of everything but claims, whose weights other releases may use."""
    made = "deployments,services,poddisruptionbudgets,configmaps,pods"
    made += ",inferenceservices.serving.kserve.io" if d.table["kind"] == "kserve" else ""
    ours = f"app.kubernetes.io/managed-by=gptoss-kit,app.kubernetes.io/name={lettered(d.name)}"
    return ("delete", made, "--ignore-not-found", "--selector", ours)


def _stack(d: Deployment) -> bool:
    return bool(d.table["kind"] == "production-stack")


def _helm(d: Deployment, *words: str, shows: bool = False) -> Command:
    return Command(argv=("helm", *words, "--namespace", d.table["namespace"]), shows=shows)


def _cluster(live: Live) -> Generator[Step, Result, str]:
    """Which cluster. Raises UserError when it is not the one of the last push."""
    action = Command(argv=("kubectl", "config", "current-context"))
    before = str(live.gave("cluster").get("out", "")).strip()
    now = str((yield Step(id="cluster", what="which cluster", action=action, again=True))["out"]).strip()
    if before and now != before and not now.startswith("<"):
        fix = f"kubectl config use-context {before}, or render into another folder"
        raise UserError(f"kubectl is set to {now!r}, this folder was pushed to {before!r}", fix=fix)
    return now


def _namespace(d: Deployment) -> Flow:
    name = d.table["namespace"]
    if name == "default":  # every cluster has it, and none lets anyone remove it
        return ()
    look = Command(argv=("kubectl", "get", "namespace", name, "--ignore-not-found", "--output", "name"))
    there = yield Step(id="namespace", what=f"look for the namespace {name}", action=look, again=True)
    if str(there["out"]).strip() != f"namespace/{name}":
        make = Command(argv=("kubectl", "create", "namespace", name))
        remove = f"kubectl delete namespace {name}"
        yield Step(id="namespace-made", what="make it", action=make, makes=f"the namespace {name}", remove=remove)
    return ()


def _secrets(d: Deployment) -> Flow:
    """By name. Raises UserError that says how one is made without its value in any history."""
    for key, name in d.secrets.items():
        words = ("get", "secret", name, "--ignore-not-found", "--output", "name")
        id = f"secret-{key.lower().replace('_', '-')}"
        found = yield do(id, f"look for the Secret {name}", words, d, again=True)
        if not str(found["out"]).strip():
            namespace = d.table["namespace"]
            make = f"kubectl --namespace {namespace} create secret generic {name} --from-file={key}=/dev/stdin"
            fix = f'printf %s "${key}" | {make}'  # neither a history nor a list of processes has the value
            why = f"[deploy] secrets names it, for {key}"
            raise UserError(f"there is no Secret {name} in namespace {namespace}", why=why, fix=fix)
    return ()


def _ready(d: Deployment) -> tuple[str, ...]:
    name, limit = lettered(d.name), f"--timeout={kinds.patience(d)}s"
    if d.table["kind"] == "kserve":
        return ("wait", "--for=condition=Ready", limit, f"inferenceservice/{name}")
    return ("rollout", "status", f"deployment/{name}", limit)


def _address(d: Deployment) -> Flow:
    """Where callers find it, in words."""
    name = lettered(d.name)
    if d.table["kind"] == "kserve":
        look = ("get", "inferenceservice", name, "--output", "jsonpath={.status.url}")
        url = str((yield do("address", "where KServe has it", look, d, again=True))["out"]).strip()
        return (f"address: {url[:200]}/v1",)
    service = kinds.service(d)
    inside = f"http://{service}.{d.table['namespace']}.svc/v1"
    forward = f"kubectl --namespace {d.table['namespace']} port-forward service/{service} {d.port}:80"
    return (f"address: {inside} in the cluster; from here {forward}",)


def _selected(d: Deployment) -> str:
    if _stack(d):
        return f"model={lettered(d.name)},helm-release-name={lettered(d.name)}"
    if d.table["kind"] == "kserve":
        return f"serving.kserve.io/inferenceservice={lettered(d.name)}"
    return ",".join(f"{key}={value}" for key, value in pod.selector(d).items())


def _container(d: Deployment) -> str:
    return {"plain": "server", "kserve": "kserve-container", "production-stack": "vllm"}[d.table["kind"]]


def _columns() -> str:
    """Of a pod: its name, phase, and whether its first container is ready, last."""
    return "jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.containerStatuses[0].ready}{'\\n'}{end}"


def _wanted(d: Deployment) -> str:
    if d.table["kind"] == "kserve" and kinds.scales(d):
        return f"{d.scaling.min_replicas} to {d.scaling.max_replicas}"
    return str(pod.replicas(d))
