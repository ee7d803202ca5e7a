"""What the flows at RunPod share: addresses, steps that look and change, and what may be taken from an answer.

Whatever RunPod answers is data: an id is held to a pattern before it stands in a URL, a word is one line, cut.
"""

import re
from collections.abc import Mapping
from typing import Any

from deploy.live import Live
from deploy.spec import Deployment
from deploy.steps import Command, Request, Step
from deploy.targets.runpod.body import change, kind
from tune.errors import UserError
from tune.terminal import one_line

API = "https://api.runpod.io/v2"
KEY = "RUNPOD_API_KEY"
SHOWN = re.compile(r"<[A-Za-z.-]{1,60}>")  # what a dry run has in the place of an answer
ID = re.compile(rf"[A-Za-z0-9_-]{{1,64}}|{SHOWN.pattern}")
SECONDS = 15  # of a log that are shown
# A key in an argument could be read by every process of this machine: curl reads it from its input.
TAIL = (
    'printf "Authorization: Bearer %s" "$RUNPOD_API_KEY" | curl --silent --show-error --no-buffer'
    f' --max-time {SECONDS} --header @- "$0" || test $? = 28'
)


def url(deployment: Deployment) -> str:
    return f"{API}/{'pods' if kind(deployment) == 'pod' else 'serverless'}"


def thing(deployment: Deployment) -> str:
    return "pod" if kind(deployment) == "pod" else "endpoint"


def look(id: str, deployment: Deployment, path: str, *, missing: bool = False) -> Step:
    """A step that reads, at each push anew."""
    action = Request(method="GET", url=f"{url(deployment)}{path}", key_env=KEY, missing=missing)
    return Step(id=id, what=f"look at {thing(deployment)}s{path}", action=action, again=True)


def patch(step: str, deployment: Deployment, id: str, body: dict[str, Any]) -> Step:
    """Bring it to a body: as a PATCH, which leaves out what cannot change."""
    action = Request(method="PATCH", url=f"{url(deployment)}/{id}", body=change(body), key_env=KEY)
    return Step(id=step, what=f"change the {thing(deployment)} {id}", action=action)


def tail(step: str, what: str, url: str) -> Step:
    action = Command(argv=("sh", "-c", TAIL, url), needs=(KEY,), shows=True)
    return Step(id=step, what=f"show the log of {what} for {SECONDS} s", action=action, again=True)


def curl(method: str, url: str) -> str:
    return (
        'printf "Authorization: Bearer %s" "$RUNPOD_API_KEY" | '
        f"curl --fail-with-body --header @- --request {method} {url}"
    )


def known(live: Live) -> str:
    """The id of what was pushed. Raises UserError when nothing was."""
    if not (found := recorded(live)):
        raise UserError(f"{live.name} was not pushed", fix="deploy push FOLDER")
    return identity({"id": found})


def recorded(live: Live) -> str:
    """The id that the record has, of what was made or found last; empty when nothing was."""
    done = (d for r in reversed(live.releases) for d in reversed(r.steps) if d.id in ("create", "find", "rollback"))
    return next((str(d.result["id"]) for d in done if d.result.get("id")), "")


def identity(answer: Mapping[str, Any]) -> str:
    """The id in an answer. Raises UserError when it is none that can stand in a URL."""
    found = str(answer.get("id", ""))
    if not ID.fullmatch(found):
        raise UserError(
            "RunPod's answer has no id that can be used", why=one_line(found, 100), fix="look in its console"
        )
    return found


def holds(there: Any, wanted: Any) -> bool:
    """Whether an answer has all that is wanted; it may have more."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(k in there and holds(there[k], v) for k, v in wanted.items())
    return bool(there == wanted)


def word(text: object) -> str:
    return one_line(str(text or "unknown"), 60)


def number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
