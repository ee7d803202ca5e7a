"""What a request shows at an endpoint's door: a bearer token and headers, in values, as variables and AWS give them.

In: names of environment variables, never values. Out: a Door, which is never printed or written. Asks nobody.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from tune.errors import UserError

HEADER = r"^[A-Za-z][A-Za-z0-9-]{0,63}$"
OURS = {"authorization", "host", "connection", "transfer-encoding", "accept", "content-type", "content-length"}
NONE = "none"  # a client needs some key: without one it would send this machine's OPENAI_API_KEY


class Door(NamedTuple):
    """`bearer` gives the token for a request that is sent now, "" for none."""

    bearer: Callable[[], str]
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"Door({', '.join(self.headers)})"

    def sent(self) -> dict[str, str]:
        """All of it, as headers of one request."""
        key = self.bearer()
        return {**({"Authorization": f"Bearer {key}"} if key else {}), **self.headers}

    def hidden(self, text: str) -> str:
        """The text without any of these values, should a server echo one."""
        for value in (self.bearer(), *self.headers.values()):
            text = without(text, value)
        return text


def door(
    key_env: str = "", signed: Literal["", "sagemaker"] = "", region: str = "", headers: Mapping[str, str] | None = None
) -> Door:
    """The values. Raises UserError, which never shows one, when a variable is not set or AWS has no credentials."""
    told = {name: key(env, "value") for name, env in (headers or {}).items()}
    for name in told:
        if not re.fullmatch(HEADER, name) or name.lower() in OURS:
            raise UserError(f"{name[:80]!r} is no header of a key", fix="give a name such as Modal-Key")
    if signed:
        from evalsuite.asking.signed import signer

        return Door(signer(region), told)
    found = key(key_env) if key_env else ""
    return Door(lambda: found, told)


def key(env: str, what: str = "key") -> str:
    """The API key that the environment variable `env` holds. Raises UserError, which never shows it."""
    found = os.environ.get(env, "")
    if not found:
        raise UserError(f"the environment variable {env} is not set", fix=f"export {env}=...")
    if not re.fullmatch(r"[\x21-\x7e]+", found):
        what = f"the {what} in ${env} holds a line break or a character that no header can carry"
        raise UserError(what, fix=f"export {env} again, the key alone")
    return found


def without(text: str, secret: str) -> str:
    """The text without a secret that is long enough to be one, and without any signed token."""
    text = re.sub(r"sagemaker-api-key-[A-Za-z0-9+/=]+", "***", text)
    return text.replace(secret, "***") if len(secret) > 4 else text
