"""What a cluster has to have before something is applied there, as steps that look: deployment in, flows out.

Which cluster it is, that it knows what is applied, the namespace, and secrets by their names alone. Makes nothing but a
namespace.
"""

from collections.abc import Generator

from deploy.live import Live
from deploy.spec import Deployment
from deploy.steps import Command, Flow, Result, Step
from deploy.targets.kubernetes import group
from deploy.targets.kubernetes.filling import do
from tune.errors import UserError

# By what is applied: its API, what an administrator calls it, and how it is installed.
SERVING = ("serving.kserve.io", "KServe", "https://kserve.github.io/website/docs/install/overview")
SETS = (group.GROUP, f"{group.KIND} {group.VERSION} or later", "https://lws.sigs.k8s.io/docs/installation/")


def current(live: Live) -> Generator[Step, Result, str]:
    """Which cluster. Raises UserError when it is not the one of the last push."""
    action = Command(argv=("kubectl", "config", "current-context"))
    before = str(live.gave("cluster").get("out", "")).strip()
    now = str((yield Step(id="cluster", what="which cluster", action=action, again=True))["out"]).strip()
    if before and now != before and not now.startswith("<"):
        fix = f"kubectl config use-context {before}, or render into another folder"
        raise UserError(f"kubectl is set to {now!r}, this folder was pushed to {before!r}", fix=fix)
    return now


def known(d: Deployment) -> Flow:
    """Raises UserError where the cluster does not know what is to be applied."""
    wanted = SETS if d.hosts > 1 else SERVING if d.table["kind"] == "kserve" else None
    if wanted:
        api, called, where = wanted
        look = Command(argv=("kubectl", "api-resources", "--api-group", api, "--output", "name"), lists=True)
        found = yield Step(id="known", what=f"whether the cluster has {called}", action=look, again=True)
        if str(found["code"]) == "0" and not str(found["out"]).strip():  # else some other API of it is ill
            fix = f"an administrator of the cluster installs it: {where}"
            raise UserError(f"the cluster does not know {called}", why=f"no resources of {api}", fix=fix)
    return ()


def namespace(d: Deployment) -> Flow:
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


def secrets(d: Deployment) -> Flow:
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
