"""Push a rendered folder: the gate, the record and the flow of a target, joined.

Prints nothing and asks nobody: `say` takes lines of progress, `sure` answers before anything is made or removed. One
at a time a folder, by a lock that a killed run lets go.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from deploy import beside, dryrun, kept, receipt, running, secrets, sizing, targets
from deploy import live as record
from deploy.findings import finding
from deploy.folder import KIND, RENDER, Rendered, prove, read, uncached
from deploy.hands import Hands
from deploy.live import Done, Live, Release
from deploy.spec import Deployment
from deploy.steps import Step
from serve.findings import Finding
from tune import artefact
from tune.deploy import Deploy
from tune.errors import UserError

Say = Callable[[str], None]
Sure = Callable[[Sequence[str]], None]  # told what is about to happen; raises to stop it


class Pushed(NamedTuple):
    """`says`: the flow's own last lines."""

    live: Live
    says: tuple[str, ...]


def gate(deployment: Deployment, *, no_gate: bool) -> str:
    """By what right it is pushed, for the record. Raises UserError without a fresh PASS, unless `no_gate`."""
    proof = deployment.receipt
    why = receipt.stale(proof, deployment.receipt_days) if proof else deployment.ungated
    if proof and not why:
        return f"PASS {proof.report}"
    if no_gate:
        return f"none: {why}"
    fix = f"evalsuite compare, then {RENDER}; or deploy push FOLDER --no-gate, and the record says so"
    problem: Finding = (
        finding("D057", why, fix=fix) if proof else finding("D056", f"{deployment.model} is not gated: {why}", fix=fix)
    )
    raise UserError(f"{deployment.name} is not pushed\n{problem}")


def push(folder: Path, hands: Hands, say: Say, sure: Sure, *, no_gate: bool = False) -> Pushed:
    """Make the endpoint, or bring it to what was rendered; a push that was interrupted is taken up where it stopped.

    Raises UserError for a folder or receipt that does not do, before anything is sent, and for every refusal of the
    platform, with what was made until then recorded.
    """
    with alone(read(folder)) as live:
        uncached(folder)
        before, at = live, prove(folder)
        right = gate(at.deployment, no_gate=no_gate)
        operator, go_on = targets.operator(at.deployment.target), again("push", at, no_gate)
        last = live.last
        resumed = last if last and not last.finished and last.folder_digest == at.digest else None
        shared = beside.told(folder, at.deployment, "push replaces it")
        sure([*announced(at.deployment, foreseen(at, live), resumed), *shared])
        kept.keep(at)
        if resumed:
            live = _put(live, resumed.model_copy(update={"gate": right}))
        else:
            new = Release(at=_now(), model=at.deployment.model, folder_digest=at.digest, gate=right)
            live = live.model_copy(update={"releases": (*live.releases, new)})
        record.write(at.folder, live)

        def keep(step: Done) -> None:
            nonlocal live
            now = live.releases[-1]
            steps = (*(s for s in now.steps if s.id != step.id), step)
            live = _put(live, now.model_copy(update={"steps": steps}))
            record.write(at.folder, live)

        flow = operator.push(at.deployment, at.folder, before)
        *others, now = live.releases
        stands = _last_finished(others)
        earlier = [step for release in others[stands + 1 :] for step in release.steps]
        theirs, done = serving(others[: stands + 1]), now.steps
        says = running.drive(flow, hands, done=done, earlier=earlier, theirs=theirs, keep=keep, say=say, go_on=go_on)
        try:
            if prove(folder).digest != at.digest:
                raise UserError(f"{folder} was rendered anew while it was pushed", fix=go_on)
        except UserError:  # some of it may have been sent: no push takes these steps for done
            record.write(at.folder, _put(live, live.releases[-1].model_copy(update={"folder_digest": ""})))
            raise
        live = _put(live, live.releases[-1].model_copy(update={"finished": True, "at": _now()}))
        record.write(at.folder, live)
    return Pushed(live, says)


def known(at: Rendered) -> Live:
    """What has been done with the folder."""
    return record.read(at.folder, at.deployment.target, at.deployment.name)


def foreseen(at: Rendered, live: Live) -> list[Step]:
    """The steps of a push, as far as they can be told before the platform is asked."""
    operator = targets.operator(at.deployment.target)
    return dryrun.rehearse(lambda: operator.push(at.deployment, at.folder, live), there=bool(live.releases))[0]


def announced(deployment: Deployment, steps: Sequence[Step], resumed: Release | None) -> list[str]:
    """What a push is about to do, in lines: of which model, what it makes, what it costs."""
    each = f"{deployment.gpus} x {deployment.gpu} ({deployment.machine})"
    each += f" on each of {deployment.hosts} hosts" if deployment.hosts > 1 else ""
    lines = [f"{deployment.model} on {deployment.target}, {each}"]
    done = {d.id for d in resumed.steps} if resumed else set()
    told = [(dryrun.worded(running.unfilled(s.makes)), s.id in done) for s in steps if s.makes]
    lines += [f"  makes {made}{' (done before)' if before else ''}" for made, before in told]
    pulled = [f for f in targets.load(deployment.target).findings(deployment) if f.id == "D050"]
    lines += [f"  warning: {each.what}, unless they have it already" for each in pulled]  # by hand
    return [*map(secrets.cleaned, lines), f"  cost: {cost(deployment)}"]


def cost(deployment: Deployment) -> str:
    """The dated price in words, an hour and a month."""
    try:
        offer = sizing.lent(deployment.target, deployment.gpu, deployment.gpus)
    except UserError as e:
        return f"not known: {e.what}"
    asked = deployment.scaling.model_dump(include={"min_replicas", "max_replicas"})
    section = Deploy.model_validate({**asked, deployment.target: deployment.table})
    return sizing.cost(offer, *sizing.replicas(deployment.target, section))


@contextmanager
def alone(at: Rendered) -> Iterator[Live]:
    """The record, while nobody else pushes or renders the folder. Raises UserError at once when somebody does."""
    with artefact.writing(at.folder.resolve(), KIND):  # as the record's place
        yield known(at)


def serving(releases: Sequence[Release]) -> frozenset[str]:
    """What these have made, in words: no failure of a later step offers to remove it."""
    made = running.standing(step for release in releases for step in release.steps)
    return frozenset(step.makes for step in made.values())


def _last_finished(releases: Sequence[Release]) -> int:
    """Its place; -1 when none was."""
    return max((n for n, release in enumerate(releases) if release.finished), default=-1)


def _put(live: Live, newest: Release) -> Live:
    return live.model_copy(update={"releases": (*live.releases[:-1], newest)})


def again(command: str, at: Rendered, no_gate: bool = False) -> str:
    """The command that goes on after a failure."""
    return f"deploy {command} {quote(str(at.folder))}{' --no-gate' if no_gate else ''}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
