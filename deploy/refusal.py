"""A platform's no in a user's words: a status and what was said in, a UserError with the next step out.

What was said is a stranger's text: one line, cut, without anything that looks like a secret. Asks nobody.
"""

import re
from collections.abc import Iterable

from deploy import secrets
from deploy.folder import RENDER
from tune.errors import UserError


class Perhaps(UserError):
    """What was asked for may have been done all the same: its answer was lost, or it failed half-way."""


AGAIN = "the same command again: what is done is not done twice"
FULL = re.compile(r"(?i)quota|limit\s?exceeded|exceeded .{0,40}limit|too many (workers|endpoints|instances)")
EMPTY = re.compile(r"(?i)capacity|no longer any|not enough (resources|gpus?)|out of stock|no .{0,20}available")
BROKE = re.compile(r"(?i)balance|billing|payment|credit|not enough funds")

# What to say of a status: what the platform did, and the fix. {key}: how its key is given.
STATUSES = {
    400: (
        "does not take what was sent",
        "deploy push FOLDER --dry-run shows what is sent; mend recipe.toml, then {render}",
    ),
    401: ("refuses the key", "{key}"),
    402: ("asks for money first", "look at the account's balance, then the same command again"),
    403: ("does not allow it", "give the key the right for it, or: {key}"),
    404: ("does not have it", "check names and region in recipe.toml; deploy status FOLDER says what is there"),
    405: ("does not know such a request", "a newer gptoss-kit may know its new API"),
    409: (
        "says that it is there already, or is changing just now",
        "deploy status FOLDER, then the same command again",
    ),
    410: ("has it no longer", "a newer gptoss-kit may know its new API"),
    422: (
        "does not take what was sent",
        "deploy push FOLDER --dry-run shows what is sent; mend recipe.toml, then {render}",
    ),
    429: ("is asked too often", "wait a while, then " + AGAIN),
}


def full(text: str) -> bool:
    """Whether it speaks of a quota, of missing capacity or of money: what no waiting of seconds mends."""
    return any(pattern.search(text) for pattern in (FULL, EMPTY, BROKE))


def of(what: str, status: int, text: str, *, key: str, names: Iterable[str] = ()) -> UserError:
    """The error of a refused action; `status` 0 is of a program that failed, which has none.

    `text`: what the platform said; `key`: how its key is given, for the fix; `names`: variables whose values must not
    be shown."""
    shown = secrets.said(text, names)
    does, fix = STATUSES.get(status, ("failed", AGAIN))
    if status >= 500:
        does, fix = "has a fault of its own", f"look at its status page, then {AGAIN}"
    if status != 401 and BROKE.search(shown):
        does, fix = STATUSES[402]
    elif status != 401 and FULL.search(shown):
        does, fix = "has reached your quota", "ask it for a higher quota, or choose another [deploy] gpu or region"
    elif status != 401 and EMPTY.search(shown):
        does, fix = "has no capacity", "another [deploy] gpu or region, or later " + AGAIN
    why = f"it answered {status}{f': {shown}' if shown else ''}" if status else shown
    kind = Perhaps if status == 0 or (status >= 500 and status != 503) else UserError
    return kind(f"{what}: the platform {does}", why=why, fix=fix.format(key=key, render=RENDER))


def unreachable(what: str, where: str, error: BaseException, *, sent: bool, names: Iterable[str] = ()) -> UserError:
    """`sent`: the request may have been taken, and only its answer was lost."""
    from tune.errors import distrust

    why = secrets.said(f"{type(error).__name__}: {error}".removesuffix(": "), names)
    if sent:
        why += "; it may have been done all the same"
    kind = Perhaps if sent else UserError
    return kind(
        f"{what}: {where} {'gave no answer' if sent else 'cannot be reached'}", why=why, fix=distrust(error) or AGAIN
    )


def no_variable(name: str, what: str) -> UserError:
    """A key that is not there."""
    return UserError(f"{what}: the environment variable {name} is not set", fix=f"export {name}=...")


def no_program(name: str, what: str) -> UserError:
    """A platform's tool that is not installed."""
    ways = {
        "modal": 'pip install "modal>=1.6"',
        "sky": 'pip install "skypilot"',
        "docker": "install Docker: https://docs.docker.com/engine/install/",
        "kubectl": "install kubectl: https://kubernetes.io/docs/tasks/tools/",
        "helm": "install Helm: https://helm.sh/docs/intro/install/",
        "aws": "install the AWS CLI: https://docs.aws.amazon.com/cli/",
        "hf": 'pip install "huggingface_hub"',
    }
    return UserError(
        f"{what}: there is no program {name}", why="it is not on PATH", fix=ways.get(name, f"install {name}")
    )


def no_library(sdk: str, what: str) -> UserError:
    """An SDK that is not installed."""
    extra = {"boto3": "aws", "huggingface_hub": "train"}[sdk]
    return UserError(f"{what}: {sdk} is not installed", fix=f'pip install "gptoss-kit[{extra}]"')
