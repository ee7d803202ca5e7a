"""Push, look at, undo and remove a Kubernetes render, by kubectl and helm: rendered folder in, flows of steps out.

Everything is said to the cluster that kubectl is set to; a push to another one than the last is refused. What is there
is looked for by name, and of secrets the names alone. Starts nothing itself.
"""

from pathlib import Path

from deploy.live import Live
from deploy.spec import API_KEY, Deployment
from deploy.steps import LOOKS_APART, Command, Flow, Step
from deploy.targets import image
from deploy.targets.documents import lettered, load
from deploy.targets.kubernetes import cluster, filling, group, kinds, pod
from deploy.targets.kubernetes.filling import APPLY, do, kubectl
from evalsuite.asking.client_info import ClientInfo
from tune.errors import UserError

SETS = f"leaderworkersets.{group.GROUP}"
READY = "{.status.conditions[?(@.type=='Ready')].status}"  # of a pod, whatever containers others put into it
MADE_OF = (
    "jsonpath={range .items[*]}{.metadata.labels.app\\.kubernetes\\.io/component} "
    f"{{.metadata.annotations.{group.MARK}}} {READY}{{'\\n'}}{{end}}"
)


def push(deployment: Deployment, folder: Path, live: Live) -> Flow:
    """Image, weights, then what is applied: first as a dry run of the cluster's own, then for good, and waited for."""
    d = deployment
    where = yield from cluster.current(live)
    _same(d, live)
    yield from cluster.known(d)
    yield from cluster.namespace(d)
    yield from cluster.secrets(d)
    yield image.build(d.image, filling.checkpoint(d, folder) if d.table["weights"] == "image" else "")
    if "/" in d.image:
        yield image.upload(d.image)
    if d.table["weights"] == "claim":
        yield from filling.fill(d, folder, live)
    yield from _applied(d, folder)
    return (f"{d.model} is ready in {where}, namespace {d.table['namespace']}", *(yield from _address(d)))


def _applied(d: Deployment, folder: Path) -> Flow:
    """The folder's manifests, and its chart: tried, applied, waited for."""
    manifests = ("--filename", "manifests.yaml")
    yield do("try", "the cluster checks what it would be given", (*APPLY, "--dry-run=server", *manifests), d)
    what = f"{_made(d)} in namespace {d.table['namespace']}"
    yield do("apply", "apply manifests.yaml", (*APPLY, *manifests), d, makes=what, remove=str(kubectl(d, *_removal(d))))
    if d.hosts > 1:
        yield from _whole(d, folder)
        return ()
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
    ready = sum(line.split()[-1:] == ["True"] for line in lines)
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


def rollback(deployment: Deployment, folder: Path, live: Live) -> Flow:
    """Apply what was rendered then: its image has a tag of its own, its weights a place of their own in the claim."""
    d = deployment
    where = yield from cluster.current(live)
    _same(d, live)
    yield from cluster.secrets(d)
    yield from _applied(d, folder)
    return (f"{d.model} is ready again in {where}, namespace {d.table['namespace']}", *(yield from _address(d)))


def destroy(deployment: Deployment, live: Live) -> Flow:
    """All but what is not only ours: the claim with its weights, the namespace, secrets and images."""
    d = deployment
    where = yield from cluster.current(live)
    if _stack(d):
        action = _helm(d, "uninstall", lettered(d.name), "--ignore-not-found", "--wait")
        yield Step(id="uninstall", what="remove the Helm release", action=action, again=True)
    if d.hosts > 1:  # the first of each group before the others, without which its requests could not end
        yield do("set", f"remove {_made(d)}", _removal(d, SETS), d, again=True)
        gone = ("wait", "--for=delete", f"--timeout={pod.grace(d) + pod.LEEWAY}s", "pod", "--selector", _selected(d))
        yield do("gone", "wait until requests under way are answered, and its pods gone", gone, d, again=True)
    yield do("delete", "remove what carries our labels", _removal(d), d, again=True)
    left = ["the image in your registry", "secrets"]
    if d.table["weights"] == "claim":
        left.insert(0, f"the claim {d.table['claim']} with its weights (kubectl delete --filename claim.yaml)")
    return (f"{d.name} is gone from {where}", f"kept, since others may use it: {'; '.join(left)}")


def client(deployment: Deployment, live: Live) -> ClientInfo:
    """Through `kubectl port-forward`, which README shows; KServe's through the address that it gave itself."""
    d = deployment
    url = f"http://127.0.0.1:{d.port}"
    if d.table["kind"] == "kserve":
        url = str(live.gave("address").get("out", "")).strip()
        if not url.startswith(("http://", "https://")):
            raise UserError(
                f"KServe has not said where {d.name} is", fix="deploy status FOLDER, then deploy push FOLDER"
            )
    retry = (429, 502, 503, 504) if d.table["kind"] == "kserve" else (429, 502, 503)
    return ClientInfo(
        base_url=f"{url}/v1",
        retry=retry,
        model=d.model,
        key_env=API_KEY if API_KEY in d.secrets else "",
        answer_seconds=d.limits.request_seconds if d.table["kind"] == "kserve" and kinds.scales(d) else 0,
        patience_seconds=d.limits.startup_seconds,
    )


def _removal(d: Deployment, made: str = "") -> tuple[str, ...]:
    """Of what was `made`, else of everything but claims, whose weights other releases may use."""
    several = f"{SETS},networkpolicies.networking.k8s.io," if d.hosts > 1 else ""
    made = made or f"{several}deployments,services,poddisruptionbudgets,configmaps,pods"
    made += ",inferenceservices.serving.kserve.io" if d.table["kind"] == "kserve" else ""
    ours = f"app.kubernetes.io/managed-by=gptoss-kit,app.kubernetes.io/name={lettered(d.name)}"
    return ("delete", made, "--ignore-not-found", "--selector", ours)


def _made(d: Deployment) -> str:
    """What is applied, in words: by the same ones two releases take each other's place."""
    if _stack(d):
        return "settings of the Helm release"
    if d.table["kind"] == "kserve":
        return f"the InferenceService {lettered(d.name)}"
    return f"the LeaderWorkerSet {group.name(d)}" if d.hosts > 1 else f"the Deployment {lettered(d.name)}"


def _same(d: Deployment, live: Live) -> None:
    """Raises UserError where what serves is of another kind: it would keep its GPUs beside the new one."""
    before = next((s for r in reversed(live.releases) if r.finished for s in r.steps if s.id == "apply"), None)
    here = f"{_made(d)} in namespace {d.table['namespace']}"
    if before and before.makes and before.makes != here:
        why = f"{here} would not take its place, and both would hold GPUs"
        raise UserError(
            f"{before.makes} was pushed from here", why=why, fix="deploy destroy FOLDER, then deploy push FOLDER"
        )


def _whole(d: Deployment, folder: Path) -> Flow:
    """Wait until the first host of each group is ready, made of these manifests: it is when all of its hosts serve."""
    wanted = group.mark(load((folder / "manifests.yaml").read_text(encoding="utf-8")))
    look = kubectl(d, "get", "pods", "--selector", _selected(d), "--output", MADE_OF, lists=True)
    step = Step(id="ready", what=f"wait until {_wanted(d)} are ready", action=look, again=True)
    ready = 0
    for _ in range(kinds.patience(d) // LOOKS_APART + 1):
        lines = [line.split() for line in str((yield step)["out"]).splitlines()]
        first = [line for line in lines if line[:1] == [group.FIRST]]
        ready = first.count([group.FIRST, wanted, "True"])
        if ready == len(first) == pod.replicas(d):
            return ()
    why = f"{ready} of {pod.replicas(d)} are ready as they were rendered"
    fix = f"see why: {kubectl(d, 'describe', 'pods', '--selector', _selected(d))}; then deploy push FOLDER"
    raise UserError(f"{group.name(d)} is not ready within {kinds.patience(d)} s", why=why, fix=fix)


def _stack(d: Deployment) -> bool:
    return bool(d.table["kind"] == "production-stack")


def _helm(d: Deployment, *words: str, shows: bool = False) -> Command:
    return Command(argv=("helm", *words, "--namespace", d.table["namespace"]), shows=shows)


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
    if d.hosts > 1:
        return group.selected(d)
    return ",".join(f"{key}={value}" for key, value in pod.selector(d).items())


def _container(d: Deployment) -> str:
    return {"plain": "server", "kserve": "kserve-container", "production-stack": "vllm"}[d.table["kind"]]


def _columns() -> str:
    """Of a pod: its name, phase, and whether it is ready, last."""
    return f"jsonpath={{range .items[*]}}{{.metadata.name}} {{.status.phase}} {READY}{{'\\n'}}{{end}}"


def _wanted(d: Deployment) -> str:
    if d.table["kind"] == "kserve" and kinds.scales(d):
        return f"{d.scaling.min_replicas} to {d.scaling.max_replicas}"
    return f"{pod.replicas(d)} x {d.hosts} hosts" if d.hosts > 1 else str(pod.replicas(d))
