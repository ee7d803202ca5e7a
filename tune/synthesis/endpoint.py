"""Chat requests to any OpenAI-compatible endpoint -> replies, each kept on disk under the digest of what was asked.

In: bodies, where to ask, a folder. Out: replies in the order of the bodies. What is kept is never asked again, so that
a second run needs no endpoint, and an interrupted one goes on. Knows nothing about what is asked.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from tune.artefact import write_text
from tune.errors import UserError

if TYPE_CHECKING:
    from openai import OpenAI

AT_ONCE = 32  # requests under way: what keeps a GPU busy, and the most that an interruption asks twice
ATTEMPTS = 5  # the openai client waits 0.5 to 8 s between them, or what Retry-After says
TIMEOUT = 300.0  # seconds for a reply
GIVEN_UP = 20  # failures in a row: the endpoint is gone, and not one request bad


class Reply(NamedTuple):
    """What came: text and tokens, or in place of them why nothing did."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    problem: str = ""


class Where(NamedTuple):
    """An endpoint, with or without `/v1`. `key_env`: the environment variable that holds its key; "" for none."""

    url: str
    key_env: str


_Job = tuple[Mapping[str, Any], "Future[Reply]"]


def ask(bodies: Iterable[Mapping[str, Any]], where: Where, cache: Path) -> Iterator[Reply]:
    """A reply to each body, in order. At most twice AT_ONCE are held at a time.

    Raises UserError when the key's variable is not set, the endpoint refuses the key or the form of the request, or
    when GIVEN_UP of them fail in a row.
    """
    failed = 0
    clients = list["OpenAI"]()  # made when the first request is not on file
    rest = iter(bodies)
    under_way: list[Future[Reply]] = []
    jobs: SimpleQueue[_Job | None] = SimpleQueue()
    for _ in range(AT_ONCE):
        threading.Thread(target=_work, args=(jobs, where, cache, clients), daemon=True).start()
    try:
        while True:
            for body in islice(rest, AT_ONCE):
                under_way.append(Future())
                jobs.put((body, under_way[-1]))
            if not under_way:
                return
            reply = under_way.pop(0).result()
            failed = failed + 1 if reply.problem else 0
            if failed == GIVEN_UP:
                raise UserError(
                    f"{where.url} failed {failed} times in a row",
                    why=reply.problem,
                    fix="tune synthesize goes on where it stopped",
                )
            yield reply
    finally:
        for future in under_way:
            future.cancel()
        for _ in range(AT_ONCE):
            jobs.put(None)


def _work(jobs: "SimpleQueue[_Job | None]", where: Where, cache: Path, clients: "list[OpenAI]") -> None:
    """What a thread does until it is told to end. A daemon, unlike a pool's: Ctrl-C waits for no server that hangs."""
    while job := jobs.get():
        body, future = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(_one(body, where, cache, clients))
            except BaseException as e:  # noqa: BLE001 - whoever waits for the reply raises it
                future.set_exception(e)


def _one(body: Mapping[str, Any], where: Where, cache: Path, clients: "list[OpenAI]") -> Reply:
    slot = cache / f"{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}.json"
    try:
        return Reply(**json.loads(slot.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass  # not kept, or not whole
    if not clients:
        clients.append(_client(where))
    reply = _send(clients[0], body, where)
    if not reply.problem:
        cache.mkdir(parents=True, exist_ok=True)
        write_text(slot, json.dumps(reply._asdict()))
    return reply


def _client(where: Where) -> "OpenAI":
    from openai import OpenAI

    key = os.environ.get(where.key_env, "").strip() if where.key_env else "none"
    if not key:
        raise UserError(
            f"{where.key_env} is not set", why="[synthesis] key_env names it", fix=f"export {where.key_env}=..."
        )
    url = where.url if where.url.rstrip("/").endswith("/v1") else f"{where.url.rstrip('/')}/v1"
    return OpenAI(base_url=url, api_key=key, max_retries=ATTEMPTS - 1, timeout=TIMEOUT)


def _send(client: "OpenAI", body: Mapping[str, Any], where: Where) -> Reply:
    from openai import APIStatusError, AuthenticationError, BadRequestError, NotFoundError, OpenAIError
    from openai import PermissionDeniedError as Denied

    try:
        got = client.chat.completions.create(**body)
        [choice], usage = got.choices, got.usage
        if choice.finish_reason == "length":
            return Reply("", 0, 0, "cut off at max_tokens")
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return Reply(choice.message.content or "", *tokens)
    except (AuthenticationError, Denied) as e:
        sent = (
            f"the key in ${where.key_env}" if where.key_env else "requests without a key; name its variable by key_env"
        )
        raise UserError(f"{where.url} refuses {sent}", why=f"HTTP {e.status_code}", fix="mend [synthesis]") from None
    except (BadRequestError, NotFoundError) as e:
        raise UserError(
            f"{where.url} refuses what it is asked (HTTP {e.status_code})", why=_tidy(e, client), fix="mend [synthesis]"
        ) from None
    except APIStatusError as e:
        return Reply("", 0, 0, f"HTTP {e.status_code}")
    except OpenAIError as e:
        return Reply("", 0, 0, _tidy(e.__cause__ or e, client))
    except (ValueError, TypeError, AttributeError):
        return Reply("", 0, 0, "a reply that is no chat completion")


def _tidy(problem: BaseException, client: "OpenAI") -> str:
    """One short line without the key, whatever the server echoed."""
    return " ".join(f"{type(problem).__name__}: {problem}".replace(client.api_key, "***").split())[:200]
