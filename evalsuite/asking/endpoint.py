"""One arm's server as a user names it: its address, its key, and the model that it serves.

In: a URL, a model or none, the name of a variable. Out: an Endpoint, a client for it, and the Server that it lists.
Nothing secret is part of an address. Asks no questions, but where no models are listed: for one token.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict

from evalsuite.asking import access
from evalsuite.asking.access import key as key
from evalsuite.asking.pace import Pace
from evalsuite.asking.patience import patiently
from evalsuite.asking.reply import safe, shown
from evalsuite.asking.stream import UNREADABLE
from evalsuite.replies.server import DIGEST, Server
from tune.errors import UserError, distrust

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_SECONDS, READ_SECONDS = 10.0, 300.0  # read: between two tokens, a queue before the first included
LONGEST, MOST = 1000, 10  # characters of an id or a listed entry, and ids of a list, that are kept and shown
VOLATILE = {"id", "created", "permission"}  # of a listed model: vLLM makes up the last two anew in every answer


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
    `name@digest16` id if there is one; `key_env` names the environment variable that holds the key.

    The rest is a platform's, as in client_info.ClientInfo: `retry` are statuses that mean "not yet" there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address
    model: str = ""
    key_env: str = ""
    signed: Literal["", "sagemaker"] = ""
    region: str = ""
    headers: dict[str, str] = {}
    retry: tuple[int, ...] = ()
    patience_seconds: int = 600
    lists: bool = True
    answer_seconds: int = 0

    @property
    def base_url(self) -> str:
        return self.url if urlsplit(self.url).path else f"{self.url}/v1"

    def pace(self, most: int, tell: Callable[[str], None] = lambda _: None) -> Pace:
        """How it is asked, at most so many requests at a time."""
        return Pace(most, tell, self.retry, self.patience_seconds if self.retry else None)

    @property
    def door(self) -> access.Door:
        """Its key, none without `key_env`, and headers, in values. Raises UserError as `access.door`."""
        return access.door(self.key_env, self.signed, self.region, self.headers)


def client(endpoint: Endpoint) -> "AsyncOpenAI":
    """Without a key it sends a placeholder: else it would send this machine's OPENAI_API_KEY. A signed token is made
    anew for whichever request needs it."""
    from openai import AsyncOpenAI, Timeout

    timeout, door = Timeout(READ_SECONDS, connect=CONNECT_SECONDS), endpoint.door

    async def anew() -> str:
        return door.bearer()

    given = anew if endpoint.signed else door.bearer() or access.NONE
    return AsyncOpenAI(
        base_url=endpoint.base_url, api_key=given, default_headers=door.headers, max_retries=0, timeout=timeout
    )


async def served(
    client: "AsyncOpenAI", endpoint: Endpoint, name: str, report: Callable[[str], None] = lambda _: None
) -> Server:
    """Who answers there, after one request that proves address and key, asked again while the platform says "not yet",
    which `report` is told. `name`: base, tuned or endpoint.

    Where the platform routes no list of models, the model is taken on the endpoint's own word, and its digest from the
    header of one reply, if the platform lets it through.
    """
    from openai import APIConnectionError, OpenAIError, PermissionDeniedError
    from openai import AuthenticationError as WrongKey

    fails = "does not list its models" if endpoint.lists else "does not answer"
    form = "a list of models" if endpoint.lists else "a streamed chat completion"
    where = endpoint.base_url if name == "endpoint" else f"the {name} endpoint {endpoint.base_url}"
    asking = client.with_options(timeout=READ_SECONDS if endpoint.retry else 20)  # some hold a request while they start
    listing = asking.models.with_raw_response.list if endpoint.lists else lambda: _one_token(asking, endpoint.model)
    try:
        told = partial(_waiting, report, name)
        response: Any = await patiently(listing, endpoint.retry, endpoint.patience_seconds, told)
        if not endpoint.lists:
            return await _taken(response, endpoint, where)
        listed = {m.id: m for m in response.parse().data}
        cards = {m: c.model_dump(mode="json", exclude=VOLATILE) for m, c in listed.items() if _usable(m)}
        if not cards:
            raise ValueError
        entries = {m: _brief(json.dumps(card, sort_keys=True)) for m, card in cards.items()}
    except (WrongKey, PermissionDeniedError):
        sent, fix = _shown_key(endpoint, name)
        raise UserError(f"{where} refuses {sent}", fix=fix) from None
    except APIConnectionError as e:
        why = safe(e.__cause__ or e, client)
        raise UserError(f"{where} cannot be reached", why=why, fix=distrust(e) or "serve run") from None
    except OpenAIError as e:
        why = safe(e, client)
        raise UserError(f"{where} {fails}", why=why, fix="check the address") from None
    except UNREADABLE:
        why = f"what {'/models' if endpoint.lists else '/chat/completions'} answers there is not {form}"
        raise UserError(f"{where} {fails}", why=why, fix="check the address") from None
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
    digest = isinstance(own, str) and re.fullmatch("[0-9a-f]{64}", own)
    stamp = str(own) if digest else _stamp(response.headers, where)
    return Server(
        url=endpoint.base_url,
        model=model,
        names=names,
        header=stamp,
        root=_brief(root) if isinstance(root, str) else "",
        listed=entries[model],
        max_model_len=length if type(length) is int and 0 < length < 1 << 40 else None,
    )


async def _one_token(client: "AsyncOpenAI", model: str) -> Any:
    """The reply, as it begins, to a request for one token."""
    hello: Any = [{"role": "user", "content": "Hello."}]
    return await client.chat.completions.with_raw_response.create(
        model=model, messages=hello, max_completion_tokens=1, stream=True
    )


async def _taken(response: Any, endpoint: Endpoint, where: str) -> Server:
    """The model on the endpoint's word. A reply may call itself by the plain name of a `name@digest16`."""
    stamp = _stamp(response.headers, where)
    async with response.parse() as chunks:
        named = {chunk.model async for chunk in chunks if chunk.choices and chunk.model}
    plain = DIGEST.sub("", endpoint.model)
    names = (plain,) if plain in named - {endpoint.model} else ()
    return Server(url=endpoint.base_url, model=endpoint.model, names=names, header=stamp)


def _stamp(headers: Mapping[str, str], where: str) -> str:
    stamp = headers.get("x-model-digest", "")
    if not re.fullmatch("([0-9a-f]{64})?", stamp):
        why, fix = f"it is {shown(stamp)[:80]!r}, and no sha256", "serve run, on the checkpoint that you mean"
        raise UserError(f"{where} sends an x-model-digest that is no digest", why=why, fix=fix)
    return stamp


def _shown_key(endpoint: Endpoint, name: str) -> tuple[str, str]:
    """What was shown at the door, by the names of variables, and what to do about it."""
    if endpoint.signed:
        allowed = "sagemaker:InvokeEndpoint on it and sagemaker:CallWithBearerToken"
        return "a token signed with the AWS credentials found here", f"use credentials that may {allowed}"
    if envs := [*filter(None, [endpoint.key_env]), *endpoint.headers.values()]:
        return f"the key in {' and '.join(f'${env}' for env in envs)}", f"export {envs[0]}=..."
    return "requests without a key", f"name its variable by --{name}-key-env"


def _waiting(report: Callable[[str], None], name: str, why: str) -> None:
    report(f"{name} is waited for: {why}")


def _usable(name: object) -> bool:
    """An id that a request can carry and a report can show."""
    return isinstance(name, str) and 0 < len(name) <= LONGEST and name.isprintable()


def _brief(text: str) -> str:
    """The text, or its sha256 where it is too long, or no text, for a file."""
    if len(text) <= LONGEST and text.isprintable():
        return text
    return f"sha256 {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
