"""One arm's server as a user names it: its address, its key, and the model that it serves.

In: a URL, a model or none, the name of a variable. Out: an Endpoint, a client for it, and the Server that it lists. The
key is looked up here alone; neither it nor anything else secret is part of an address. Asks no questions.
"""

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict

from evalsuite.asking.reply import safe, shown
from evalsuite.asking.stream import UNREADABLE
from evalsuite.replies.server import DIGEST, Server
from tune.errors import UserError, distrust

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_SECONDS, READ_SECONDS = 10.0, 300.0  # read: between two tokens, a queue before the first included
LONGEST, MOST = 1000, 10  # characters of an id or a listed entry, and ids of a list, that are kept and shown
VOLATILE = {"id", "created", "permission"}  # of a listed model: vLLM makes up the last two anew in every answer


def key(env: str) -> str:
    """The API key that the environment variable `env` holds. Raises UserError, which never shows it."""
    found = os.environ.get(env, "")
    if not found:
        raise UserError(f"the environment variable {env} is not set", fix=f"export {env}=...")
    if not re.fullmatch(r"[\x21-\x7e]+", found):
        what = f"the key in ${env} holds a line break or a character that no header can carry"
        raise UserError(what, fix=f"export {env} again, the key alone")
    return found


def address(url: str) -> str:
    """The URL without a slash at its end. UserError when it is no http(s) URL, or holds what may be a secret."""
    shown = url.rpartition("@")[2].partition("?")[0]
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[^\x21-\x7e]", url):
        raise UserError(f"{shown!r} is not an http(s) URL", fix="give it as http://host:port/v1")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise UserError(
            f"the URL of {parts.hostname} holds a user name, a password or a query",
            why="addresses are written into reports",
            fix="give the key by --base-key-env, --tuned-key-env, --judge-key-env or --endpoint-key-env",
        )
    return url.rstrip("/")


Address = Annotated[str, AfterValidator(address)]


class Endpoint(BaseModel):
    """One arm's server. `url` with or without `/v1`; `model` empty: the one that /v1/models lists, by its
    `name@digest16` id if there is one; `key_env` names the environment variable that holds the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address
    model: str = ""
    key_env: str = ""

    @property
    def base_url(self) -> str:
        return self.url if urlsplit(self.url).path else f"{self.url}/v1"

    @property
    def key(self) -> str:
        """Empty without `key_env`. Raises UserError as `key` does."""
        return key(self.key_env) if self.key_env else ""


def client(endpoint: Endpoint) -> "AsyncOpenAI":
    """Without a key it sends a placeholder: else it would send this machine's OPENAI_API_KEY."""
    from openai import AsyncOpenAI, Timeout

    timeout = Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    return AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.key or "none", max_retries=0, timeout=timeout)


async def served(client: "AsyncOpenAI", endpoint: Endpoint, name: str) -> Server:
    """What is listed there, after one request that proves address and key. `name`: base, tuned or endpoint."""
    from openai import APIConnectionError, OpenAIError, PermissionDeniedError
    from openai import AuthenticationError as WrongKey

    where = endpoint.base_url if name == "endpoint" else f"the {name} endpoint {endpoint.base_url}"
    try:
        response = await client.with_options(timeout=20).models.with_raw_response.list()
        listed = {m.id: m for m in response.parse().data}
        cards = {m: c.model_dump(mode="json", exclude=VOLATILE) for m, c in listed.items() if _usable(m)}
        if not cards:
            raise ValueError
        entries = {m: _brief(json.dumps(card, sort_keys=True)) for m, card in cards.items()}
    except (WrongKey, PermissionDeniedError):
        sent = f"the key in ${endpoint.key_env}" if endpoint.key_env else "requests without a key"
        fix = f"export {endpoint.key_env}=..." if endpoint.key_env else f"name its variable by --{name}-key-env"
        raise UserError(f"{where} refuses {sent}", fix=fix) from None
    except APIConnectionError as e:
        why = safe(e.__cause__ or e, client.api_key)
        raise UserError(f"{where} cannot be reached", why=why, fix=distrust(e) or "serve run") from None
    except OpenAIError as e:
        why = safe(e, client.api_key)
        raise UserError(f"{where} does not list its models", why=why, fix="check the address") from None
    except UNREADABLE:
        why = "what /models answers there is not a list of models"
        raise UserError(f"{where} does not list its models", why=why, fix="check the address") from None
    named = [m for m in cards if not endpoint.model or m == endpoint.model or DIGEST.sub("", m) == endpoint.model]
    choice = [m for m in named if DIGEST.search(m)] or named
    if endpoint.model not in choice and len(choice) != 1:
        raise UserError(
            f"{where} does not serve {endpoint.model}" if not named else f"{where} serves several models",
            why=f"it lists {', '.join([*cards][:MOST])}{f' and {len(cards) - MOST} more' if len(cards) > MOST else ''}",
            fix=f"name one that it lists by --{name}-model",
        )
    model = endpoint.model if endpoint.model in choice else choice[0]
    root, length = (cards[model].get(name) for name in ("root", "max_model_len"))
    # vLLM replies under the first name it was given, whichever was asked for: one root is one model.
    names = tuple(m for m in cards if m != model and root and entries[m] == entries[model])[:MOST]
    own = cards[model].get("digest")  # of several models at one address each has its own, as `serve run` lists it
    told = isinstance(own, str) and re.fullmatch("[0-9a-f]{64}", own)
    stamp = str(own) if told else response.headers.get("x-model-digest", "")
    if not re.fullmatch("([0-9a-f]{64})?", stamp):
        why, fix = f"it is {shown(stamp)[:80]!r}, and no sha256", "serve run, on the checkpoint that you mean"
        raise UserError(f"{where} sends an x-model-digest that is no digest", why=why, fix=fix)
    return Server(
        url=endpoint.base_url,
        model=model,
        names=names,
        header=stamp,
        root=_brief(root) if isinstance(root, str) else "",
        listed=entries[model],
        max_model_len=length if type(length) is int and 0 < length < 1 << 40 else None,
    )


def _usable(name: object) -> bool:
    """An id that a request can carry and a report can show."""
    return isinstance(name, str) and 0 < len(name) <= LONGEST and name.isprintable()


def _brief(text: str) -> str:
    """The text, or its sha256 where it is too long, or no text, for a file."""
    if len(text) <= LONGEST and text.isprintable():
        return text
    return f"sha256 {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
