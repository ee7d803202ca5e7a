"""Take a push back, or all of them away: the record, what was kept of each release, and the flow of a target, joined.

Prints nothing and asks nobody: see deploy/pushing.py.
"""

from dataclasses import replace

from deploy import beside, changes, kept, running, secrets, targets
from deploy import live as record
from deploy.findings import finding
from deploy.folder import RENDER, Rendered
from deploy.hands import Hands
from deploy.live import Done, Live
from deploy.pushing import Pushed, Say, Sure, again, alone, serving
from deploy.spec import Deployment
from deploy.steps import Flow
from tune.errors import UserError

PLACE = {"region", "table"}  # of a deployment: where it is, and as which kind of thing


def rollback(at: Rendered, hands: Hands, say: Say, sure: Sure, *, no_gate: bool = False) -> Pushed:
    """Bring the endpoint back to the last finished release before the newest, by the folder that was pushed then; what
    came after it then stands under `taken_back`. Raises UserError when it was pushed without a PASS, unless `no_gate`,
    and when its folder is no longer kept."""
    operator = targets.operator(at.deployment.target)
    with alone(at) as live:
        seen, old = back(at, live, no_gate=no_gate)
        *earlier, before, newest = seen.releases
        sure(announced(at, seen, old))
        flow = operator.rollback(old.deployment, old.folder, seen)
        given = list[Done]()
        there, go_on = replace(hands, folder=old.folder), again("rollback", at, no_gate)
        theirs = serving(live.releases)
        says = running.drive(flow, there, theirs=theirs, keep=given.append, say=say, go_on=go_on)
        anew = {step.id for step in given}  # where it is now, which need not be where it was
        before = before.model_copy(update={"steps": (*(s for s in before.steps if s.id not in anew), *given)})
        after = live.releases[len(earlier) + 1 :]
        live = live.model_copy(update={"releases": (*earlier, before), "taken_back": (*live.taken_back, *after)})
        record.write(at.folder, live)
    if at.digest != before.folder_digest:
        which = "the render that was taken back" if at.digest == newest.folder_digest else "another render"
        says = (*says, f"FOLDER still holds {which}, of {at.deployment.model}: deploy push FOLDER would send that")
    return Pushed(live, says)


def announced(at: Rendered, seen: Live, old: Rendered) -> list[str]:
    """What a rollback is about to do, in lines: from which release to which, and what differs."""
    before, newest = seen.releases[-2:]
    lines = [f"back from {newest.model} of {newest.at} to {before.model} of {before.at}, {before.gate[:80]}"]
    try:
        now = at if newest.folder_digest == at.digest else kept.of(at.folder, newest)
        changed = changes.between(now.deployment.model_dump(mode="json"), old.deployment)
        lines += [
            f"  {line}" for line in changed or ["the same deployment, rendered by other code or at another place"]
        ]
    except UserError:
        lines.append("  what differs is not known: the folder that was pushed last is not kept")
    return [*map(secrets.cleaned, lines), *beside.told(at.folder, old.deployment, "rollback replaces it")]


def back(at: Rendered, live: Live, *, no_gate: bool) -> tuple[Live, Rendered]:
    """The record as a rollback goes by it, the last finished release but for the newest right before that; and what was
    pushed then. Raises UserError where there is none, or where it was pushed without a PASS, unless `no_gate`."""
    pushed = live.last.folder_digest if live.last and live.last.finished else ""  # again: nothing to go back to
    ends = [n for n, old in enumerate(live.releases[:-1]) if old.finished and old.folder_digest != pushed]
    if not ends:
        what = f"{at.deployment.name} has no release to go back to"
        why = f"{len(live.releases)} recorded in {record.place(at.folder)}, no other finished before the newest"
        raise UserError(what, why=why, fix=f"{RENDER}, of the checkpoint that is to run; then deploy push FOLDER")
    before = live.releases[ends[-1]]
    if not (before.gate.startswith("PASS ") or no_gate):
        fix = "deploy rollback FOLDER --no-gate goes back all the same"
        problem = finding("D056", f"{before.model} of {before.at} was pushed without a PASS: {before.gate}", fix=fix)
        raise UserError(f"{at.deployment.name} is not brought back\n{problem}")
    seen = live.model_copy(update={"releases": (*live.releases[: ends[-1] + 1], live.releases[-1])})
    return seen, kept.of(at.folder, before)


def destroy(at: Rendered, hands: Hands, say: Say, sure: Sure) -> Pushed:
    """Remove what pushes have made, those that were taken back too, as far as it is this deployment's alone; the record
    then holds no release."""
    with alone(at) as live:
        ever = (*live.taken_back, *live.releases)
        made = {d.makes for d in running.standing(d for r in ever for d in r.steps).values()}
        head = f"removes what is there of {at.deployment.name}"
        head += ", but for what others may use, which is told at the end; pushes made:" if made else ""
        shared = beside.told(at.folder, at.deployment, "removes that, too") if made else []
        sure([head, *(f"  {d}" for d in sorted(made)), *shared])
        says = running.drive(removal(at, live), hands, say=say, go_on=again("destroy", at))
        live = live.model_copy(update={"releases": (), "taken_back": ()})
        record.write(at.folder, live)
        kept.forget(at.folder, ever)
    return Pushed(live, says)


def removal(at: Rendered, live: Live) -> Flow:
    """The flow of each place that was pushed to: releases may differ in region, namespace and kind."""
    ever, lost = live.model_copy(update={"releases": (*live.taken_back, *live.releases)}), list[str]()
    places = dict[str, Deployment]()
    for release in reversed(ever.releases):
        try:
            found = at if release.folder_digest == at.digest else kept.of(at.folder, release)
        except UserError as e:
            lost.append(f"{e.what}: if it was for another place, look there")
            continue
        places.setdefault(found.deployment.model_dump_json(include=PLACE), found.deployment)
    if not places or lost:
        places.setdefault(at.deployment.model_dump_json(include=PLACE), at.deployment)
    operator, lines = targets.operator(at.deployment.target), list[str]()
    for deployment in places.values():
        lines += yield from operator.destroy(deployment, ever)
    return tuple(dict.fromkeys([*lines, *lost]))
