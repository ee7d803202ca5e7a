"""Push a rendered folder, take a push back, remove it: the gate, the record and the flow of a target, joined.

Prints nothing and asks nobody: `say` takes lines of progress, `sure` answers before anything is made or removed. One
at a time a folder, by a lock that a killed run lets go.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from deploy import dryrun, kept, receipt, running, secrets, sizing, targets
from deploy import live as record
from deploy.findings import finding
from deploy.folder import KIND, Rendered, prove, read, uncached
from deploy.hands import Hands
from deploy.live import Done, Live, Release
from deploy.spec import Deployment
from deploy.steps import Flow, Step
from evalsuite.asking.client_info import ClientInfo
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
        uncached(folder)
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
        try:
            if prove(folder).digest != at.digest:
                raise UserError(f"{folder} was rendered anew while it was pushed", fix="deploy push again")
        except UserError:  # some of it may have been sent: no push takes these steps for done
            record.write(at.folder, _put(live, live.releases[-1].model_copy(update={"folder_digest": ""})))
            raise
        kept.keep(at)
        live = _put(live, live.releases[-1].model_copy(update={"finished": True}))
        record.write(at.folder, live)
    return Pushed(live, says)


def rollback(at: Rendered, hands: Hands, say: Say, sure: Sure, *, no_gate: bool = False) -> Pushed:
    """Bring the endpoint back to the last finished release before the newest, by the folder that was pushed then; what
    came after it then stands under `taken_back`. Raises UserError when it was pushed without a PASS, unless `no_gate`,
    and when its folder is no longer kept."""
    operator = targets.operator(at.deployment.target)
    with _alone(at) as live:
        seen, old = back(at, live, no_gate=no_gate)
        *earlier, before, newest = seen.releases
        sure([f"back from {newest.model} of {newest.at} to {before.model} of {before.at}, {before.gate[:80]}"])
        flow = operator.rollback(old.deployment, old.folder, seen)
        there = replace(hands, folder=old.folder)
        says = running.drive(flow, there, say=say, go_on=_again("rollback", at, no_gate))
        after = live.releases[len(earlier) + 1 :]
        live = live.model_copy(update={"releases": (*earlier, before), "taken_back": (*live.taken_back, *after)})
        record.write(at.folder, live)
    return Pushed(live, says)


def back(at: Rendered, live: Live, *, no_gate: bool) -> tuple[Live, Rendered]:
    """The record as a rollback goes by it, the last finished release but for the newest right before that; and what was
    pushed then. Raises UserError where there is none, or where it was pushed without a PASS, unless `no_gate`."""
    ends = [n for n, release in enumerate(live.releases[:-1]) if release.finished]
    if not ends:
        what = f"{at.deployment.name} has no release to go back to"
        why = f"{len(live.releases)} recorded in {record.place(at.folder)}, none finished before the newest"
        raise UserError(what, why=why, fix="deploy push")
    before = live.releases[ends[-1]]
    if not (before.gate.startswith("PASS ") or no_gate):
        fix = "deploy push a folder with a report; --no-gate goes back all the same"
        problem = finding("D056", f"{before.model} of {before.at} was pushed without a PASS: {before.gate}", fix=fix)
        raise UserError(f"{at.deployment.name} is not brought back\n{problem}")
    seen = live.model_copy(update={"releases": (*live.releases[: ends[-1] + 1], live.releases[-1])})
    return seen, kept.of(at.folder, before)


def destroy(at: Rendered, hands: Hands, say: Say, sure: Sure) -> Pushed:
    """Remove what pushes have made, as far as it is this deployment's alone; the record then holds no release."""
    operator = targets.operator(at.deployment.target)
    with _alone(at) as live:
        made = {d.makes for d in running.standing(d for r in live.releases for d in r.steps).values()}
        head = f"removes what is there of {at.deployment.name}"
        head += ", but for what others may use, which is told at the end; pushes made:" if made else ""
        sure([head, *(f"  {d}" for d in sorted(made))])
        says = running.drive(operator.destroy(subject(at, live), live), hands, say=say, go_on=_again("destroy", at))
        gone = (*live.releases, *live.taken_back)
        live = live.model_copy(update={"releases": ()})
        record.write(at.folder, live)
        kept.forget(at.folder, gone)
    return Pushed(live, says)


def client(at: Rendered) -> ClientInfo:
    """How clients reach it. Raises UserError when it was not pushed, or when the record does not say."""
    live = known(at)
    there = standing(at, live).deployment
    try:
        return targets.operator(at.deployment.target).client(there, live)
    except (ValueError, LookupError, TypeError, AttributeError):
        what = f"{record.place(at.folder)} does not say how {at.deployment.name} is reached"
        raise UserError(what, why="what it keeps of a step is not what a push keeps", fix="deploy push again") from None


def standing(at: Rendered, live: Live) -> Rendered:
    """What answers by the record: what the last finished release was rendered as, which need not be what the folder
    holds now. Raises UserError when no push was finished."""
    last = next((release for release in reversed(live.releases) if release.finished), None)
    if last is None:
        what = f"{at.deployment.name} was not pushed from here{' to the end' if live.releases else ''}"
        raise UserError(what, why=f"{record.place(at.folder)} has no finished release", fix=_again("push", at))
    return at if last.folder_digest == at.digest else kept.of(at.folder, last)


def subject(at: Rendered, live: Live) -> Deployment:
    """What is to be looked at or removed: what was pushed last, which may be in another place than the folder says now.
    What the folder holds, where a push has not come to its end or what it was of is not kept."""
    if live.last is None or not live.last.finished:
        return at.deployment
    try:
        return standing(at, live).deployment
    except UserError:
        return at.deployment


def flow(command: str, at: Rendered, *, no_gate: bool = False) -> Flow:
    """The flow of a command by its name, for a look or a dry run."""
    operator, live = targets.operator(at.deployment.target), known(at)
    if command == "push":
        return operator.push(at.deployment, at.folder, live)
    if command == "rollback":
        seen, old = back(at, live, no_gate=no_gate)
        return operator.rollback(old.deployment, old.folder, seen)
    made: Flow = getattr(operator, command)(subject(at, live), live)
    return made


def known(at: Rendered) -> Live:
    """What has been done with the folder."""
    return record.read(at.folder, at.deployment.target, at.deployment.name)


def foreseen(at: Rendered, live: Live) -> list[Step]:
    """The steps of a push, as far as they can be told before the platform is asked."""
    operator = targets.operator(at.deployment.target)
    return dryrun.rehearse(lambda: operator.push(at.deployment, at.folder, live), there=bool(live.releases))[0]


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
    asked = deployment.scaling.model_dump(include={"min_replicas", "max_replicas"})
    section = Deploy.model_validate({**asked, deployment.target: deployment.table})
    return sizing.cost(offer, *sizing.replicas(deployment.target, section))


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
