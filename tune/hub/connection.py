"""The Hub as push and pull speak to it: names, the token, and every failure as one message.

What the library and the Hub say may hold the token, or a URL that is signed: `clean` goes over all of it, the
library's own warnings included. Knows nothing about checkpoints.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tune.artefact import VERSION
from tune.errors import UserError
from tune.weights import stream

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKENS = "https://huggingface.co/settings/tokens"
LOGIN = f"make a token with the right for it (to push: write) at {TOKENS}, then: hf auth login"
SHOWN = 300  # characters of what somebody else's program says
SECRETS = (
    (re.compile(r"(https?://)[^/\s@]*@"), r"\1"),  # a password before the host
    (re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*"), r"\1?…"),  # a signature after the path
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\"]+"), r"\1 …"),
    (re.compile(r"\bhf_\w+"), "…"),
)


class _Cleaned(logging.Filter):
    """Goes over what the library warns of."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args, record.exc_info = clean(record.getMessage()), (), None
        return True


def name(given: str) -> str:
    """OWNER/NAME as it is. Raises UserError when the Hub would not take it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(given)
        if given.count("/") != 1:
            raise HFValidationError("It has no owner.")
    except HFValidationError as e:
        why = f"{clean(str(e))} The Hub takes OWNER/NAME of letters, digits, '-', '_' and '.', 96 at most"
        raise UserError(f"{given!r:.120} is no name of a model on the Hub", why=why, fix="name it OWNER/NAME") from None
    return given


def session(*, write: bool) -> "HfApi":
    """The library's client, with the token of HF_TOKEN, else the one that `hf auth login` stored.

    `write`: a token is needed, and its account and right are looked at. Raises UserError.
    """
    from huggingface_hub import HfApi, constants

    for handler in logging.getLogger("huggingface_hub").handlers:
        if not any(isinstance(known, _Cleaned) for known in handler.filters):
            handler.addFilter(_Cleaned())
    if constants.is_offline_mode():
        raise _offline()
    with told("the token"):
        token = _token()
    if write and not token:
        raise UserError("there is no token to write to the Hub with", why="HF_TOKEN is not set", fix=LOGIN)
    api = HfApi(token=token or False, library_name="gptoss-kit", library_version=VERSION)
    if write:
        with told("the token"):
            access = (api.whoami().get("auth") or {}).get("accessToken") or {}
        if access.get("role") == "read":
            raise UserError("the token may read and not write", why="its role on the Hub is read", fix=LOGIN)
    return api


def has_token() -> bool:
    """Whether HF_TOKEN is set, or `hf auth login` stored a token."""
    with told("the token"):
        return bool(_token())


@contextmanager
def told(what: str, again: str = "") -> Iterator[None]:
    """Turn what the library raises into a UserError about `what`; `again` is the command that goes on afterwards."""
    import httpx
    from huggingface_hub.errors import OIDCError

    try:
        yield
    except (httpx.HTTPError, OSError, ValueError, RuntimeError, OIDCError) as e:
        raise _explained(e, what, again) from None


def clean(text: str) -> str:
    """Text without tokens, passwords and signatures."""
    try:
        token = _token()
    except Exception:  # noqa: BLE001 - a token that cannot be had cannot be shown either
        token = ""
    text = text.replace(token, "…") if token else text
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text


def _token() -> str:
    from huggingface_hub import get_token

    return get_token() or ""


def _offline() -> UserError:
    why = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    return UserError("the Hub is not to be asked", why=why, fix="unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE")


def _explained(raised: BaseException, what: str, again: str) -> UserError:
    """The error of the chain that says most, in the user's words."""
    import httpx
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    chain, e = list[BaseException](), raised
    while e and e not in chain:
        chain.append(e)
        e = e.__cause__ or e.__context__  # type: ignore[assignment]
    if any(isinstance(e, OfflineModeIsEnabled) for e in chain):
        return _offline()
    for e in chain:
        if isinstance(e, HfHubHTTPError):
            return _refused(e, what, again)
        if isinstance(e, OSError) and stream.is_full(e):
            fix = f"free some space, then: {again}" if again else "free some space"
            return UserError(f"{what}: the disk is full", why=e.strerror or "", fix=fix)
    later = f"once it answers again: {again}" if again else "the same command again, once it answers"
    for e in chain:
        if isinstance(e, httpx.HTTPError):
            said = clean(str(e).partition("\n")[0] or type(e).__name__)[:SHOWN]
            return UserError(f"{what}: {clean(constants.ENDPOINT)} cannot be reached", why=said, fix=later)
    why = clean(" ".join(str(chain[-1]).split()))[:SHOWN]
    return UserError(f"{what}: the transfer broke off", why=why, fix=again or "the same command again")


def _refused(e: "Exception", what: str, again: str) -> UserError:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if not isinstance(e, HfHubHTTPError):
        raise TypeError(type(e).__name__)
    status = e.response.status_code
    said = clean(" ".join((e.server_message or "").split()))[:SHOWN]
    why = f"the Hub answered {status}" + (f": {said}" if said else "")
    if isinstance(e, GatedRepoError):
        return UserError(f"{what}: its owner lets in whom they choose", why=why, fix="ask on its page, then log in")
    if isinstance(e, RevisionNotFoundError):
        return UserError(f"{what} has no such revision", why=why, fix="take a commit of its page, Files, History")
    if isinstance(e, RepositoryNotFoundError) and _token() and status != 401:
        fix = "check the name, and that the token may see it: hf auth whoami"
        return UserError(f"{what}: there is no such model", why=f"{why}, as it does for a private one", fix=fix)
    if isinstance(e, RepositoryNotFoundError) and not _token():
        return UserError(f"{what}: there is no such model", why=f"{why}, and it saw no token", fix="hf auth login")
    if status == 401:
        return UserError(f"{what}: the Hub does not know the token", why=why, fix=LOGIN)
    if status == 403:
        return UserError(f"{what}: the token has not the right", why=why, fix=LOGIN)
    if status in (409, 412):
        return UserError(f"{what} was changed meanwhile", why=why, fix=again or "the same command again")
    if status == 429 or status >= 500:
        fix = f"in some minutes: {again}" if again else "the same command in some minutes"
        return UserError(f"{what}: the Hub is busy", why=why, fix=fix)
    return UserError(f"{what}: the Hub refuses", why=why, fix="hf auth whoami")
