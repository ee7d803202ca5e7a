"""Drive a flow: its steps one after the other, done by Hands, each kept as soon as it is done.

Comes in: a Flow, and what an unfinished release has done already. Goes out: the lines that the flow ends with. After
any failure, Ctrl-C included, it says what is there and what removes it. Knows no target and no platform.
"""

import json
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from deploy import live, secrets
from deploy.hands import Hands
from deploy.live import Done
from deploy.refusal import Perhaps
from deploy.steps import LOOKS_APART, Action, Flow, Result, Step
from tune.errors import UserError
from tune.terminal import one_line

LOOK_AGAIN = float(LOOKS_APART)
TERMINATED = 143  # as shells have it for SIGTERM
FIELD = re.compile(r"\{([A-Za-z_]\w*(?:\.\w+)*)\}")


def drive(
    flow: Flow,
    hands: Hands,
    *,
    done: Sequence[Done] = (),
    earlier: Sequence[Done] = (),
    theirs: Collection[str] = (),
    keep: Callable[[Done], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    go_on: str = "",
) -> tuple[str, ...]:
    """Do the steps. Returns the flow's last lines.

    `done`: the steps of an unfinished release. One with the same id and action is not done again, and its kept result
    is sent back, unless the step is `again`. `keep` is called with each step as soon as it is done; a step that is not
    `again` is sent no more than what is kept of its result (live.kept), so that a push and one taken up again see the
    same. A flow that asks the very same thing once more waits for something: LOOK_AGAIN seconds lie between.
    `earlier`: steps of other releases that were not finished, whose things may be there too; `theirs`: what was made by
    those that were, and serves: a failure does not offer to remove it. `go_on`: the command that goes on after one.
    Raises what Hands raises.
    """
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
            with _ended_by_terminate():
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
        ours = [d for d in made if d.makes not in theirs]
        for line in remains(ours, unsure if unsure and unsure.makes not in theirs else None, go_on):
            say(line)
        raise


def finished(step: Step, given: Result) -> Done:
    """The step with what may be kept of its result. What a platform said is quoted in the command that removes it."""
    result = live.kept(given)
    makes = FIELD.sub(lambda m: _field(result, m) or m[0], step.makes)
    remove = FIELD.sub(lambda m: shlex.quote(found) if (found := _field(result, m)) else m[0], step.remove)
    told = step.model_dump(include={"id", "what", "ends"})
    return Done(**told, action=step.action, result=result, makes=makes, remove=remove)


def remains(made: Sequence[Done], trying: Step | None = None, go_on: str = "") -> list[str]:
    """What is there now, with the command that removes each, and the command that goes on. `trying`: what may be."""
    there = standing(made)
    lines = [f"  {d.makes}{removed(d.remove)}" for d in there.values()]
    if trying and trying.makes and trying.id not in there:
        lines.append(f"  perhaps: {unfilled(trying.makes + removed(trying.remove))}")
    head = ["what was made is still there:"] if lines else []
    return [*head, *lines, *([f"go on: {go_on}"] if go_on else [])]


def standing(made: Iterable[Done]) -> dict[str, Done]:
    """Of these steps, the oldest first, those whose thing is there now, by id."""
    there: dict[str, Done] = {}
    for done in made:
        there.pop(done.ends, None)
        if done.makes:
            there[done.id] = done
    return there


def harmless(action: Action) -> None:
    """Raises UserError when an action carries a secret: it would stand in the record, and in a list of processes."""
    text = json.dumps(action.model_dump(mode="json"), ensure_ascii=False)
    looks = secrets.kinds(text) or [
        f"the value of ${name}" for name in secrets.held() if os.environ[name].strip() in text
    ]
    if looks:
        raise UserError(
            f"a step would send what looks like {looks[0]}",
            why="what is sent is recorded beside the folder",
            fix="keep the value at the target as a secret and put its name under [deploy] secrets",
        )


@contextmanager
def _ended_by_terminate() -> Iterator[None]:
    """SIGTERM is told like Ctrl-C: what was started ends too, and what is there is listed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def unfilled(text: str) -> str:
    """What a step makes, or what removes it, with words for what only its result will tell."""
    return FIELD.sub(lambda m: f"<its {m[1].replace('.', ' ')}>", text)


def removed(command: str) -> str:
    """The end of a line about something that is there."""
    return f"    removed by: {command}" if command else ""


def _field(result: Mapping[str, Any], match: "re.Match[str]") -> str:
    """A part of a result, by its path of keys; "" where there is none."""
    found: Any = result
    for key in match[1].split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return one_line(str(found), 200) if isinstance(found, str | int | float) else ""
