"""A dry run of a flow: its steps as far as they can be told before the platform is asked, and as lines to read.

Each look is answered by something that stands for any answer. Does nothing at a platform.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from deploy import live, secrets
from deploy.running import removed, unfilled
from deploy.steps import Command, Flow, Request, Result, Step
from tune.errors import UserError
from tune.terminal import escaped

SHOWN = re.compile(r"<([a-z][a-z0-9-]*(?:\.[A-Za-z0-9_-]+)+)>")  # a Placeholder in a text
# In people's words, where its last key would not do.
WORDS = {
    "account.Account": "number of the account",
    "cluster.out": "name of the cluster",
    "address.out": "its address",
    "digest.out": "digest of the image",
    "image.imageDetails.0.imageDigest": "digest of the image",
    "image-pushed.imageDetails.0.imageDigest": "digest of the image",
}


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


def worded(text: str) -> str:
    """The text with words in the place of every Placeholder."""
    return SHOWN.sub(lambda m: f"<{WORDS.get(m[1]) or _word(m[1])}>", text)


def _word(placeholder: str) -> str:
    """`its` and the last key; what a program prints has none, and is named by its step."""
    step, *keys = (key for key in placeholder.split(".") if not key.isdigit())
    last = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", keys[-1]).lower()
    return f"what {step} shows" if last == "out" else f"its {last}"


def rehearse(begin: Callable[[], Flow], *, there: bool = True) -> tuple[list[Step], tuple[str, ...]]:
    """The steps of a flow when nothing is done, and its last lines. Each look is answered by an Unknown, or, where
    nothing is `there` yet, one that allows for that by {}; the flow is begun anew with an Unknown if it cannot go on
    from that. Where a flow waits for something, or what it does next hangs on the answer, the last line says so.
    Raises the UserError of a flow that does not begin."""
    found = set[str]()  # looks at what must be there, such as a secret
    while True:
        steps, says, lacked = _rehearse(begin(), found, there)
        if lacked in {"", *found}:
            return steps, says
        found.add(lacked)


def _rehearse(flow: Flow, found: set[str], there: bool) -> tuple[list[Step], tuple[str, ...], str]:
    """With the id of the look that the flow could not go on from, or ""."""
    steps, seen, absent = list[Step](), set[tuple[str, str]](), False
    result: Result | None = None
    try:
        while True:
            step = next(flow) if result is None else flow.send(result)
            mark = (step.id, live.digest(step.action))
            if mark in seen:
                return steps, (f"then {step.id} is asked again until it is so",), ""
            seen.add(mark)
            steps.append(step)
            may_lack = not isinstance(step.action, Command) and step.action.missing
            absent = may_lack and not there and step.id not in found
            result = {} if absent else Unknown(step.id)
    except StopIteration as end:
        return steps, tuple(f"in the end: {worded(line)}" for line in end.value or ()), ""
    except UserError as e:
        if not steps:
            raise  # it hangs on nothing that a platform says
        return steps, (f"then, unless the platform has it: {worded(e.what)}",), steps[-1].id if absent else ""
    except (TypeError, ValueError, LookupError, AttributeError):
        return steps, ("what follows hangs on what the platform answers",), ""


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
        lines.append(f"  makes {unfilled(step.makes + removed(step.remove))}")
    return [escaped(worded(line)) for line in lines]


def _json(body: Any) -> list[str]:
    if body in (None, {}):
        return []
    text = json.dumps(body, indent=1, ensure_ascii=False, default=str)
    return [f"  {line}" for line in secrets.cleaned(text).splitlines()]
