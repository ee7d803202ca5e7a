"""Bring a CloudFormation stack to a template, or remove it: change set, execution, waiting, and what went wrong.

Flows of steps. They look before they do anything, so that one which was stopped anywhere is taken up by starting over.
Knows nothing of images and weights.
"""

import json
import re
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from deploy.steps import Call, Result, Step
from deploy.targets.sagemaker import events
from tune.errors import UserError

TAG, OURS = "gptoss-kit", "rendered by gptoss-kit"  # a tag's key, and what the description of a rendered template says
SAME = re.compile(r"(?i)didn't contain changes|no updates are to be performed")
PENDING = ("CREATE_PENDING", "CREATE_IN_PROGRESS")  # of a change set
EMPTY = "REVIEW_IN_PROGRESS"  # a stack of which there is a change set and nothing else
STATUS = re.compile(r"[A-Z]+(_[A-Z]+)*")
# What a stack that cannot be updated as it is needs first.
STUCK = {
    "ROLLBACK_COMPLETE": "deploy destroy FOLDER, then deploy push FOLDER: its first start failed, and nothing is in it",
    "ROLLBACK_FAILED": "deploy destroy FOLDER, then deploy push FOLDER",
    "CREATE_FAILED": "deploy destroy FOLDER, then deploy push FOLDER",
    "DELETE_FAILED": "deploy destroy FOLDER",
    "UPDATE_ROLLBACK_FAILED": "aws cloudformation continue-update-rollback --region {region} --stack-name {name}, "
    "then deploy push FOLDER",
}


class Stack(NamedTuple):
    """Where a stack is. `machine`: what its endpoint runs on, for words."""

    name: str
    region: str
    machine: str

    def call(self, method: str, *, missing: bool = False, **arguments: Any) -> Call:
        """A call of CloudFormation about it."""
        return Call(
            sdk="boto3",
            service="cloudformation",
            region=self.region,
            method=method,
            arguments={"StackName": self.name, **arguments},
            missing=missing,
        )

    @property
    def remove(self) -> str:
        return f"aws cloudformation delete-stack --region {self.region} --stack-name {self.name}"


Looking = Generator[Step, Result, dict[str, Any]]


def state(at: Stack, id: str = "stack", what: str = "") -> Looking:
    """What CloudFormation says of the stack; {} when there is none. Raises UserError when another tool made it."""
    found = yield Step(
        id=id, what=what or f"look at the stack {at.name}", action=at.call("describe_stacks", missing=True), again=True
    )
    first: dict[str, Any] = next(iter(found.get("Stacks") or [{}]), {})
    if status(first) not in ("", EMPTY) and not _ours(first):
        what = f"the stack {at.name} in {at.region} is not one of ours"
        why = "neither a tag nor its description says so: a push would replace what is in it, and destroy remove it"
        raise UserError(what, why=why, fix="another name in recipe.toml, or another [deploy.sagemaker] region")
    return first


def _ours(stack: Mapping[str, Any]) -> bool:
    """Whether a push made it, or somebody by hand with a rendered template."""
    return OURS in str(stack.get("Description")) or any(tag.get("Key") == TAG for tag in stack.get("Tags") or [])


def status(stack: Mapping[str, Any]) -> str:
    """Its status; "" of none, and of what a dry run has in its place."""
    found = str(stack.get("StackStatus") or "")
    return found if STATUS.fullmatch(found) else ""


def under_way(found: str) -> bool:
    """Whether a stack of that status is changing by itself."""
    return found.endswith("_IN_PROGRESS") and found != EMPTY


def settled(at: Stack, what: str) -> Looking:
    """Wait until nothing changes any more, and tell each event as it comes. What the stack is then; {} if gone."""
    told, news = 0, what
    while True:
        # The number makes a new step of each look after news, which is told; other looks are silent and wait.
        found = yield from state(at, f"stack-{told}", news)
        if not under_way(status(found)):
            return found
        shown = events.newest((yield from _events(at)), at.name)
        if len(shown) > told:
            news = "; ".join(events.words(e) for e in shown[told:][-3:])
            told = len(shown)


def _events(at: Stack) -> Generator[Step, Result, list[events.Event]]:
    found = yield Step(
        id="stack-events",
        what="look at what happens in it",
        action=at.call("describe_stack_events", missing=True),
        again=True,
    )
    return [e for e in found.get("StackEvents") or [] if isinstance(e, Mapping)]


def sound(at: Stack, found: Mapping[str, Any], *, before: bool) -> Generator[Step, Result, None]:
    """Raises UserError when a stack is in no state that a push may begin with, or ends with."""
    now = status(found)
    bad = now in STUCK if before else now in STUCK or now.endswith(("ROLLBACK_COMPLETE", "_FAILED"))
    if not bad:
        return
    why = events.cause(events.newest((yield from _events(at)), at.name))
    stuck = STUCK.get(now, "").format(region=at.region, name=at.name)
    hint = events.hint(why, machine=at.machine, name=at.name, region=at.region)
    back = now == "UPDATE_ROLLBACK_COMPLETE"
    what = f"the stack {at.name} is {now}" + (": what ran before runs again" if back else "")
    raise UserError(what, why=why, fix=stuck if before else "; ".join(filter(None, (hint, stuck))))


def apply(at: Stack, change: str, body: str, parameters: Mapping[str, str]) -> Generator[Step, Result, bool]:
    """Bring the stack to a template with parameters. `change` names this pair. False when it is that already."""
    found = yield from settled(at, f"look at the stack {at.name}")
    yield from sound(at, found, before=True)
    kind = "CREATE" if status(found) in ("", EMPTY) else "UPDATE"
    yield from _discard(at, change)
    answer = yield Step(
        id="change-set",
        what=f"ask CloudFormation what {'making' if kind == 'CREATE' else 'updating'} the stack {at.name} would change",
        action=at.call(
            "create_change_set",
            ChangeSetName=change,
            ChangeSetType=kind,
            TemplateBody=body,
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
            Tags=[{"Key": TAG, "Value": at.name}],
        ),
        makes=f"the stack {at.name}, empty so far" if kind == "CREATE" else "",
        remove=at.remove if kind == "CREATE" else "",
        again=True,
    )
    if answer.get("unchanged") is True or not (yield from _ready(at, change)):
        return False
    yield Step(
        id="execute",
        what=f"{'make' if kind == 'CREATE' else 'update'} the stack {at.name}: an endpoint takes minutes to an hour",
        action=at.call("execute_change_set", ChangeSetName=change),
        makes=f"the stack {at.name} with its endpoint, which costs while it runs",
        remove=at.remove,
        again=True,
    )
    yield from sound(at, (yield from settled(at, "wait for the stack")), before=False)
    return True


def _ready(at: Stack, change: str) -> Generator[Step, Result, bool]:
    """Wait for a change set; False when it changes nothing."""
    while True:
        found = yield Step(
            id="change-set-state",
            what="wait for the answer",
            action=at.call("describe_change_set", ChangeSetName=change),
            again=True,
        )
        now = str(found.get("Status") or "")
        if now not in PENDING:
            break
    if now != "FAILED":
        return True
    said = str(found.get("StatusReason") or "")
    yield from _discard(at, change)
    if SAME.search(said):
        return False
    why = events.words({"LogicalResourceId": change, "ResourceStatus": now, "ResourceStatusReason": said})
    hint = events.hint(said, machine=at.machine, name=at.name, region=at.region)
    raise UserError(f"CloudFormation refuses the change of the stack {at.name}", why=why, fix=hint)


def _discard(at: Stack, change: str) -> Generator[Step, Result, None]:
    """Remove a change set that an earlier push left: its name would be taken."""
    found = yield Step(
        id="change-set-left",
        what="look for a change set that was left",
        action=at.call("describe_change_set", missing=True, ChangeSetName=change),
        again=True,
    )
    if STATUS.fullmatch(str(found.get("Status") or "")):
        yield Step(
            id="change-set-gone",
            what="remove the change set",
            action=at.call("delete_change_set", missing=True, ChangeSetName=change),
            again=True,
        )


def remove(at: Stack) -> Generator[Step, Result, bool]:
    """Delete the stack and wait until it is gone; False when it was gone already."""
    found = yield from settled(at, f"look at the stack {at.name}")
    if not found:
        return False
    yield Step(
        id="delete",
        what=f"delete the stack {at.name} in {at.region}",
        action=at.call("delete_stack", missing=True),
        again=True,
    )
    found = yield from settled(at, "wait until it is gone")
    if status(found) not in ("", "DELETE_COMPLETE"):
        yield from sound(at, found, before=False)
        raise UserError(f"the stack {at.name} is {status(found)}", fix="deploy destroy FOLDER")
    return True


def text(template: str) -> str:
    """A rendered template as it is sent: without the spaces that are for people."""
    return json.dumps(json.loads(template), separators=(",", ":"))
