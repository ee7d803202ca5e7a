"""The weights' way into the cluster, as kubectl's steps: a claim, a pod to copy through, the copy, its proof.

What a push of the folder has proven before is not copied again. Starts nothing itself.
"""

from pathlib import Path

from deploy.live import Live
from deploy.spec import Deployment
from deploy.steps import Action, Command, Flow, Step
from deploy.targets.documents import load
from deploy.targets.kubernetes import claim, pod
from deploy.targets.source import prove

APPLY = ("apply", "--server-side", "--field-manager=gptoss-kit")
NODE_SECONDS = 1800  # that a node may take to come, and to pull the image


def kubectl(d: Deployment, *words: str, shows: bool = False, lists: bool = False) -> Command:
    """In the deployment's namespace."""
    return Command(argv=("kubectl", "--namespace", d.table["namespace"], *words), shows=shows, lists=lists)


def do(
    id: str, what: str, words: tuple[str, ...], d: Deployment, *, shows: bool = False, again: bool = False, **more: str
) -> Step:
    """One command of kubectl's in the deployment's namespace."""
    return Step(id=id, what=what, action=kubectl(d, *words, shows=shows), again=again, **more)


def checkpoint(d: Deployment, folder: Path) -> str:
    """Where the checkpoint lies, as the first manifest has it. Raises UserError unless it is that of the deployment."""
    first = load((folder / "manifests.yaml").read_text(encoding="utf-8"))[0]
    return prove(d, folder, str(first["metadata"]["annotations"][pod.SOURCE]))


def fill(d: Deployment, folder: Path, live: Live) -> Flow:
    """The claim, and in it the checkpoint, unless a push of this folder has proven that it lies there."""
    name, filler = d.table["claim"], claim.filler_name(d)
    look = ("get", "persistentvolumeclaim", name, "--ignore-not-found", "--output", "name")
    there = yield do("claim", f"look for the claim {name}", look, d, again=True)
    is_there = str(there["out"]).strip() == f"persistentvolumeclaim/{name}"
    proven = do("proven", "digest the weights there, and put them in their place", _exec(d, claim.part(d)), d)
    if is_there and _was_done(live, proven.action):
        return ()
    if not is_there:
        made = f"the claim {name}, and a disk"
        remove = f"kubectl --namespace {d.table['namespace']} delete persistentvolumeclaim {name}"
        yield do("claim-made", "make it", (*APPLY, "--filename", "claim.yaml"), d, makes=made, remove=remove)
    end = ("delete", "pod", filler, "--ignore-not-found")
    remove = f"kubectl --namespace {d.table['namespace']} {' '.join(end)}"
    yield do("fill-before", "no such pod is left of an earlier time", end, d, again=True)
    made_of = (*APPLY, "--filename", "fill.yaml")
    yield do(
        "fill",
        "a pod to copy through",
        made_of,
        d,
        makes=f"the pod {filler}, until the weights are copied",
        remove=remove,
        again=True,
    )
    wait = ("wait", "--for=condition=Ready", f"--timeout={NODE_SECONDS}s", f"pod/{filler}")
    yield do("fill-ready", "wait until it runs", wait, d, again=True)
    whole = Step(
        id="lies-there",
        what="whether the weights lie there, whole: it digests them",
        action=kubectl(d, *_exec(d, d.model_path), lists=True),
        again=True,
    )
    if str((yield whole)["code"]) != "0":
        clear = ("exec", filler, "--", "rm", "-rf", claim.part(d), d.model_path)  # of this digest alone
        yield do("clear", "remove what is not whole", clear, d, again=True)
        copy = ("cp", "--retries=10", checkpoint(d, folder), f"{filler}:{claim.part(d)}")
        yield do("copy", "copy the checkpoint", copy, d, again=True, makes=f"{d.model_path} in the claim {name}")
        yield proven
    yield do("filled", "the pod has done its part", end, d, again=True, ends="fill")
    return ()


def _exec(d: Deployment, here: str) -> tuple[str, ...]:
    return ("exec", claim.filler_name(d), "--", *claim.prove(d, here))


def _was_done(live: Live, action: Action) -> bool:
    return any(done.action == action for release in live.releases for done in release.steps)
