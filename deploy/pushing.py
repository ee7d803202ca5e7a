"""Push a rendered folder, take a push back, remove it: the gate, the record and the flow of a target, joined.

Prints nothing and asks nobody: `say` takes lines of progress, `sure` answers before anything is made or removed. One
at a time a folder, by a lock that a killed run lets go.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from deploy import live as record
from deploy import receipt, running, secrets, sizing, targets
from deploy.findings import finding
from deploy.folder import KIND, Rendered, prove, read
from deploy.hands import Hands
from deploy.live import Done, Live, Release
from deploy.spec import Deployment
from deploy.steps import Flow, Step
from serve.findings import Finding
from tune import artefact
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
    again = "--no-gate pushes it all the same, and the record says so"
    problem: Finding = (
        finding("D057", why, fix=f"evalsuite compare and deploy render again; {again}")
        if proof
        else finding("D056", f"{deployment.model} is not gated: {why}", fix=f"deploy render with --report; {again}")
    )
    raise UserError(f"{deployment.name} is not pushed\n{problem}")


def push(folder: Path, hands: Hands, say: Say, sure: Sure, *, no_gate: bool = False) -> Pushed:
    """Make the endpoint, or bring it to what was rendered; a push that was interrupted is taken up where it stopped.

    Raises UserError for a folder or receipt that does not do, before anything is sent, and for every refusal of the
    platform, with what was made until then recorded.
    """
    with _alone(read(folder)) as live:
        before, at = live, prove(folder)
        right = gate(at.deployment, no_gate=no_gate)
        operator, go_on = targets.operator(at.deployment.target), _again("push", at, no_gate)
        last = live.last
        resumed = last if last and not last.finished and last.folder_digest == at.digest else None
        sure(announced(at.deployment, foreseen(at, live), resumed))
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
        earlier = [step for release in others for step in release.steps]
        says = running.drive(flow, hands, done=now.steps, earlier=earlier, keep=keep, say=say, go_on=go_on)
        live = _put(live, live.releases[-1].model_copy(update={"finished": True}))
        record.write(at.folder, live)
    return Pushed(live, says)


def rollback(at: Rendered, hands: Hands, say: Say, sure: Sure) -> Pushed:
    """Bring the endpoint back to the release before; the newest one then stands under `taken_back`, and what is there
    is the newest again."""
    operator = targets.operator(at.deployment.target)
    with _alone(at) as live:
        if len(live.releases) < 2:
            what = f"{at.deployment.name} has no release to go back to"
            raise UserError(what, why=f"{len(live.releases)} recorded in {record.place(at.folder)}", fix="deploy push")
        before, newest = live.releases[-2:]
        sure([f"back from {newest.model} of {newest.at} to {before.model} of {before.at}, {before.gate[:21]}"])
        flow = operator.rollback(at.deployment, live)
        says = running.drive(flow, hands, say=say, go_on=_again("rollback", at))
        live = live.model_copy(
            update={"releases": live.releases[:-1], "taken_back": (*live.taken_back, live.releases[-1])}
        )
        record.write(at.folder, live)
    return Pushed(live, says)


def destroy(at: Rendered, hands: Hands, say: Say, sure: Sure) -> Pushed:
    """Remove what pushes have made, as far as it is this deployment's alone; the record then holds no release."""
    operator = targets.operator(at.deployment.target)
    with _alone(at) as live:
        made = {d.makes for r in live.releases for d in r.steps if d.makes}
        head = f"removes what is there of {at.deployment.name}"
        head += ", but for what others may use, which is told at the end; pushes made:" if made else ""
        sure([head, *(f"  {d}" for d in sorted(made))])
        says = running.drive(operator.destroy(at.deployment, live), hands, say=say, go_on=_again("destroy", at))
        live = live.model_copy(update={"releases": ()})
        record.write(at.folder, live)
    return Pushed(live, says)


def flow(command: str, at: Rendered) -> Flow:
    """The flow of a command by its name, for a look or a dry run."""
    operator, live = targets.operator(at.deployment.target), known(at)
    if command == "push":
        return operator.push(at.deployment, at.folder, live)
    made: Flow = getattr(operator, command)(at.deployment, live)
    return made


def known(at: Rendered) -> Live:
    """What has been done with the folder."""
    return record.read(at.folder, at.deployment.target, at.deployment.name)


def foreseen(at: Rendered, live: Live) -> list[Step]:
    """The steps of a push, as far as they can be told before the platform is asked."""
    operator = targets.operator(at.deployment.target)
    return running.rehearse(lambda: operator.push(at.deployment, at.folder, live), there=bool(live.releases))[0]


def announced(deployment: Deployment, steps: Sequence[Step], resumed: Release | None) -> list[str]:
    """What a push is about to do, in lines: of which model, what it makes, what it costs."""
    lines = [f"{deployment.model} on {deployment.target}, {deployment.gpus} x {deployment.gpu} ({deployment.machine})"]
    done = {d.id for d in resumed.steps} if resumed else set()
    lines += [f"  makes {s.makes}{' (done before)' if s.id in done else ''}" for s in steps if s.makes]
    return [*map(secrets.cleaned, lines), f"  cost: {cost(deployment)}"]


def cost(deployment: Deployment) -> str:
    """The dated price in words, an hour and a month."""
    try:
        offer = sizing.lent(deployment.target, deployment.gpu, deployment.gpus)
    except UserError as e:
        return f"not known: {e.what}"
    scaling = deployment.scaling
    least = max(1, scaling.min_replicas) if deployment.target == "sagemaker" else scaling.min_replicas
    return sizing.cost(offer, least, max(least, scaling.max_replicas))


@contextmanager
def _alone(at: Rendered) -> Iterator[Live]:
    """The record, while nobody else pushes or renders the folder. Raises UserError at once when somebody does."""
    with artefact.writing(at.folder.resolve(), KIND):  # as the record's place
        yield known(at)


def _put(live: Live, newest: Release) -> Live:
    return live.model_copy(update={"releases": (*live.releases[:-1], newest)})


def _again(command: str, at: Rendered, no_gate: bool = False) -> str:
    return f"deploy {command} {quote(str(at.folder))}{' --no-gate' if no_gate else ''}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
