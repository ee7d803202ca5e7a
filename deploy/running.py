"""Drive a flow: its steps one after the other, done by Hands or only shown, each kept as soon as it is done.

Comes in: a Flow, and what an unfinished release has done already. Goes out: the lines that the flow ends with. After
any failure, Ctrl-C included, it says what is there and what removes it. Knows no target and no platform.
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
from deploy.refusal import Perhaps
from deploy.steps import Action, Command, Flow, Request, Result, Step
from tune.errors import UserError
from tune.terminal import escaped, one_line

LOOK_AGAIN = 5.0  # seconds between two looks at the same thing, by a flow that waits for it
FIELD = re.compile(r"\{([A-Za-z_]\w*(?:\.\w+)*)\}")


class Placeholder(str):
    """What a dry run has in the place of an answer, `<step.key>`: any part of it is named after where it would stand.
    As a list it has one entry."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> "Placeholder":
        return Placeholder(f"{str(self).removesuffix('>')}.{key}>")

    def __iter__(self) -> Iterator["Placeholder"]:
        return iter([self[0]])

    def get(self, key: Any, _default: Any = None) -> "Placeholder":
        """As a mapping's: it is there."""
        return self[key]


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
    earlier: Sequence[Done] = (),
    keep: Callable[[Done], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    go_on: str = "",
) -> tuple[str, ...]:
    """Do the steps; with `dry` say what would be sent, and touch nothing (`rehearse`). Returns the flow's last lines.

    `done`: the steps of an unfinished release. One with the same id and action is not done again, and its kept result
    is sent back, unless the step is `again`. `keep` is called with each step as soon as it is done; a step that is not
    `again` is sent no more than what is kept of its result (live.kept), so that a push and one taken up again see the
    same. A flow that asks the very same thing once more waits for something: LOOK_AGAIN seconds lie between.
    `earlier`: steps of other releases, whose things may be there too; `go_on`: the command that goes on after a
    failure. Raises what Hands raises.
    """
    if dry:
        steps, end = rehearse(flow)
        for step in steps:
            for line in shown(step):
                say(line)
        return end
    before, seen = {d.id: d for d in done}, set[tuple[str, str]]()
    made, trying = [*earlier, *done], None
    result: Result | None = None
    try:
        while True:
            step = next(flow) if result is None else flow.send(result)
            mark = (step.id, live.digest(step.action))
            known = before.get(step.id)
            if known and not step.again and live.digest(known.action) == mark[1]:
                say(f"{step.what}: done before")
                result = known.result
                continue
            if mark in seen:
                time.sleep(LOOK_AGAIN)
            else:
                say(step.what)
            seen.add(mark)
            harmless(step.action)
            trying = step
            given = hands.do(step.action)
            now = finished(step, given)
            made.append(now)
            trying = None
            keep(now)
            result = given if step.again else now.result
    except StopIteration as end:
        return tuple(end.value or ())
    except BaseException as e:
        unsure = trying if isinstance(e, Perhaps) or not isinstance(e, UserError) else None
        for line in remains(made, unsure, go_on):
            say(line)
        raise


def rehearse(flow: Flow, *, there: bool = True) -> tuple[list[Step], tuple[str, ...]]:
    """The steps of a flow when nothing is done, and its last lines. Each look is answered by an Unknown, or, where
    nothing is `there` yet and the look allows for that, by {}. Where a flow waits for something, or what it does next
    hangs on the answer, the last line says so."""
    steps, seen = list[Step](), set[tuple[str, str]]()
    result: Result | None = None
    try:
        while True:
            step = next(flow) if result is None else flow.send(result)
            mark = (step.id, live.digest(step.action))
            if mark in seen:
                return steps, (f"then {step.id} is asked again until it is so",)
            seen.add(mark)
            steps.append(step)
            absent = isinstance(step.action, Command) or not step.action.missing or there
            result = Unknown(step.id) if absent else {}
    except StopIteration as end:
        return steps, tuple(end.value or ())
    except UserError as e:
        return steps, (f"then, unless the platform has it: {e.what}",)
    except (TypeError, ValueError, LookupError, AttributeError):
        return steps, ("what follows hangs on what the platform answers",)


def finished(step: Step, given: Result) -> Done:
    """The step with what may be kept of its result. What a platform said is quoted in the command that removes it."""
    result = live.kept(given)
    makes = FIELD.sub(lambda m: _field(result, m) or m[0], step.makes)
    remove = FIELD.sub(lambda m: shlex.quote(found) if (found := _field(result, m)) else m[0], step.remove)
    return Done(id=step.id, what=step.what, action=step.action, result=result, makes=makes, remove=remove)


def remains(made: Sequence[Done], trying: Step | None = None, go_on: str = "") -> list[str]:
    """What is there now, with the command that removes each, and the command that goes on. `trying`: what may be."""
    there = {d.id: d for d in made if d.makes}
    lines = [f"  {d.makes}{_removed(d.remove)}" for d in there.values()]
    if trying and trying.makes and trying.id not in there:
        lines.append(f"  perhaps: {trying.makes}{_removed(trying.remove)}")
    head = ["what was made is still there:"] if lines else []
    return [*head, *lines, *([f"go on: {go_on}"] if go_on else [])]


def harmless(action: Action) -> None:
    """Raises UserError when an action carries a secret: it would stand in the record, and in a list of processes."""
    text = json.dumps(action.model_dump(mode="json"), ensure_ascii=False)
    looks = secrets.kinds(text) or ["the value of a variable that holds one" for v in secrets.values() if v in text]
    if looks:
        raise UserError(
            f"a step would send what looks like {looks[0]}",
            why="what is sent is recorded beside the folder",
            fix="keep the value at the target as a secret and put its name under [deploy] secrets",
        )


def shown(step: Step) -> list[str]:
    """A step as it would be done, in lines: variables by name, no values."""
    action, lines = step.action, [f"# {step.what}"]
    if isinstance(action, Command):
        needs = f"   (needs {', '.join(f'${name}' for name in action.needs)})" if action.needs else ""
        lines += [f"$ {secrets.cleaned(str(action))}{needs}"]
    elif isinstance(action, Request):
        lines += [str(action), f"  Authorization: Bearer ${action.key_env}", *_json(action.body)]
    else:
        where = f"   (region {action.region})" if action.region else ""
        lines += [f"{action}{where}", *_json(action.arguments)]
    if step.makes:
        lines.append(f"  makes {step.makes}{_removed(step.remove)}")
    return [escaped(line) for line in lines]


def _removed(command: str) -> str:
    return f"    removed by: {command}" if command else ""


def _json(body: Any) -> list[str]:
    if body in (None, {}):
        return []
    text = json.dumps(body, indent=1, ensure_ascii=False, default=str)
    return [f"  {line}" for line in secrets.cleaned(text).splitlines()]


def _field(result: Mapping[str, Any], match: "re.Match[str]") -> str:
    """A part of a result, by its path of keys; "" where there is none."""
    found: Any = result
    for key in match[1].split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return one_line(str(found), 200) if isinstance(found, str | int | float) else ""
