"""Drive a flow: its steps one after the other, done by Hands or only shown, each kept as soon as it is done.

Comes in: a Flow, what an unfinished release did already. Goes out: the flow's last lines. After any failure, Ctrl-C
included, says what is there and what removes it. Knows no target and no platform.
"""

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from deploy import live, secrets
from deploy.hands import Hands
from deploy.live import Done
from deploy.steps import Action, Command, Flow, Request, Result, Step
from tune.errors import UserError
from tune.terminal import one_line

LOOK_AGAIN = 5.0  # seconds between two looks at the same thing, by a flow that waits for it
FIELD = re.compile(r"\{([A-Za-z_]\w*(?:\.\w+)*)\}")


class Placeholder(str):
    """What a dry run has in the place of an answer: any part of it is named after where it would stand. As a list it
    has one entry."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> "Placeholder":
        return Placeholder(f"{str(self).removesuffix('>')}.{key}>")

    def __iter__(self) -> Iterator["Placeholder"]:
        return iter([self[0]])

    def get(self, key: Any, _default: Any = None) -> "Placeholder":
        """As a mapping's."""
        return self[key]

    def __int__(self) -> int:
        return 0


class Unknown(dict[str, Any]):
    """The result of a step that was not done: every key is there, with a Placeholder."""

    def __init__(self, id: str) -> None:
        super().__init__()
        self.id = id

    def __getitem__(self, key: str) -> Placeholder:
        return Placeholder(f"<{self.id}.{key}>")

    def __contains__(self, key: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True

    def get(self, key: str, _default: Any = None) -> Placeholder:
        """As a mapping's: it is there."""
        return self[key]


def drive(
    flow: Flow,
    hands: Hands,
    *,
    dry: bool = False,
    done: Sequence[Done] = (),
    keep: Callable[[Done], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    go_on: str = "",
) -> tuple[str, ...]:
    """Do the steps, or with `dry` say what would be sent and touch nothing; returns the lines that the flow ends with.

    `done`: the steps of an unfinished release. One with the same id and action is not done again, its kept result
    is sent back, unless the step is `again`. `keep` is called with each step as soon as it is done; a step that makes
    something is sent back no more than what is kept of it, so that a first push and one taken up again are the same.
    A flow that asks the very same thing once more waits for something: LOOK_AGAIN seconds lie between; a dry run ends
    there. `go_on`: the command that goes on after a failure. Raises what Hands raises.
    """
    before = {d.id: d for d in done}
    made = [*done]
    seen: set[tuple[str, str]] = set()
    trying: Step | None = None
    result: Result | None = None
    try:
        while True:
            step = flow.send(result) if result is not None else next(flow)
            mark = (step.id, live.digest(step.action))
            waits = mark in seen
            seen.add(mark)
            if dry:
                if waits:
                    say(f"{step.id}: is asked again until it is so; a dry run ends here")
                    flow.close()
                    return ()
                for line in shown(step):
                    say(line)
                result = Unknown(step.id)
                continue
            known = before.get(step.id)
            if known and not step.again and live.digest(known.action) == mark[1]:
                say(f"{step.what}: done before")
                result = known.result
                continue
            if waits:
                time.sleep(LOOK_AGAIN)
            else:
                say(step.what)
            harmless(step.action)
            trying = step
            given = hands.do(step.action)
            trying = None
            now = finished(step, given)
            made.append(now)
            keep(now)
            result = given if step.again else now.result
    except StopIteration as end:
        return tuple(end.value or ())
    except (UserError, KeyboardInterrupt):
        if not dry:
            for line in remains(made, trying, go_on):
                say(line)
        raise


def finished(step: Step, given: Result) -> Done:
    """The step with what may be kept of its result. What a platform said is quoted in the command that removes it."""
    result = live.kept(given)
    makes = FIELD.sub(lambda m: _field(result, m), step.makes)
    remove = FIELD.sub(lambda m: shlex.quote(_field(result, m)), step.remove)
    return Done(id=step.id, what=step.what, action=step.action, result=result, makes=makes, remove=remove)


def remains(made: Sequence[Done], trying: Step | None, go_on: str) -> list[str]:
    """What is there now, with the command that removes each, and the command that goes on."""
    there = {d.id: d for d in made if d.makes}
    lines = [f"  {d.makes}{f'    remove: {d.remove}' if d.remove else ''}" for d in there.values()]
    if trying and trying.makes and trying.id not in there:
        lines.append(f"  perhaps: {trying.makes}{f'    remove: {trying.remove}' if trying.remove else ''}")
    head = ["what was made is still there:"] if lines else []
    return [*head, *lines, *([f"go on: {go_on}"] if go_on else [])]


def harmless(action: Action) -> None:
    """Raises UserError when an action carries a secret: it would stand in the record, and in a list of processes."""
    text = json.dumps(action.model_dump(mode="json"), ensure_ascii=False)
    if found := secrets.kinds(text):
        raise UserError(
            f"a step would send what looks like {found[0]}",
            why="what is sent is recorded beside the folder",
            fix="keep the value at the target as a secret and put its name under [deploy] secrets",
        )


def shown(step: Step) -> list[str]:
    """A step as it would be done, in lines: variables by name, no values."""
    action = step.action
    lines = [f"# {step.what}"]
    if isinstance(action, Command):
        lines += [f"$ {action}", *(f"  needs ${name}" for name in action.needs)]
    elif isinstance(action, Request):
        lines += [str(action), f"  Authorization: Bearer ${action.key_env}", *_json(action.body)]
    else:
        where = f"  region {action.region}" if action.region else ""
        lines += [f"{action}{where}", *_json(action.arguments)]
    if step.makes:
        lines.append(f"  makes: {step.makes}{f'; remove: {step.remove}' if step.remove else ''}")
    return [secrets.cleaned(line) for line in lines]


def _json(body: Any) -> list[str]:
    if body in (None, {}):
        return []
    return [f"  {line}" for line in json.dumps(body, indent=1, ensure_ascii=False, default=str).splitlines()]


def _field(result: Mapping[str, Any], match: "re.Match[str]") -> str:
    """A part of a result, by its path of keys; {path} itself where there is none."""
    found: Any = result
    for key in match[1].split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return one_line(str(found), 200) if isinstance(found, str | int | float) else match[0]
