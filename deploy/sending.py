"""Send a Request of a step: its JSON out, tried again where that is safe, within a budget of seconds.

GET, PUT, PATCH and DELETE are tried again after 429, 5xx and a broken connection; a POST, which could make a thing
twice, after 429, 503 and a refused connection alone: then it was not taken. Knows no platform.
"""

import json
import os
import random
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from deploy import refusal
from deploy.steps import Request, Result
from tune.artefact import VERSION
from tune.errors import UserError

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS, READ_SECONDS, WHOLE_SECONDS = 10.0, 60.0, 180.0
LARGEST = 16 * 2**20  # bytes of an answer
PASSING = frozenset({429, 500, 502, 503, 504})  # statuses that may be gone in a moment
NOT_TAKEN = frozenset({429, 503})  # with which nothing was done
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before a second try, doubled at each


def key(env: str, what: str) -> str:
    """What the variable holds. Raises UserError, which never shows it."""
    found = os.environ.get(env, "")
    if not found:
        raise refusal.no_variable(env, what)
    if not re.fullmatch(r"[\x21-\x7e]+", found):
        what = f"the key in ${env} holds a line break or a character that no header can carry"
        raise UserError(what, fix=f"export {env} again, the key alone")
    return found


def send(action: Request, *, patience: float, routes: Mapping[str, str]) -> Result:
    """The JSON that came, an array as {"items": [...]}, nothing as {}. Raises UserError for every refusal."""
    import httpx

    what = str(action)
    bearer = key(action.key_env, what)
    url = next(
        (to + action.url.removeprefix(real) for real, to in routes.items() if action.url.startswith(real)), action.url
    )
    headers = {"authorization": f"Bearer {bearer}", "user-agent": f"gptoss-kit/{VERSION}", "accept": "application/json"}
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    safe, left, wait = action.method != "POST", patience, FIRST_WAIT
    with httpx.Client(headers=headers, timeout=timeout, follow_redirects=False) as http:
        while True:
            try:
                status, told, body = _once(http, action, url)
            except httpx.HTTPError as e:
                unsent = isinstance(e, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                if not (safe or unsent) or wait > left:
                    raise refusal.unreachable(
                        what, action.url.split("/")[2], e, sent=not unsent, names=[action.key_env]
                    ) from None
                pause = wait
            else:
                again = status in (PASSING if safe else NOT_TAKEN) and not refusal.full(message(body))
                pause = max(wait, told) if again else 0
                if not again or pause > left:
                    return _answer(action, status, body)
            time.sleep(pause)
            left -= pause
            wait = min(wait * 2, LONGEST_WAIT) * random.uniform(0.9, 1.1)


def _once(http: "httpx.Client", action: Request, url: str) -> tuple[int, float, bytes]:
    """Status, seconds that it asks to wait, and body. Raises httpx.HTTPError, also for a body that has no end."""
    import httpx

    until = time.monotonic() + WHOLE_SECONDS
    given: dict[str, Any] = {} if action.body is None else {"json": action.body}
    parts, size = list[bytes](), 0
    with http.stream(action.method, url, **given) as answer:
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > LARGEST or time.monotonic() > until:
                raise httpx.ReadError("its answer is too long, or does not end")
        return answer.status_code, after(answer.headers.get("retry-after", "")), b"".join(parts)


def after(text: str) -> float:
    """Seconds that a Retry-After header asks for; 0 for one that says nothing."""
    if seconds := re.fullmatch(r"[0-9]{1,6}", text.strip()):
        return float(seconds[0])  # not of `text`: strip takes more off than float does, U+001F
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def message(body: bytes) -> str:
    """What an error's body says: the words under the usual keys of JSON, else the text."""
    try:
        found = json.loads(body)
    except ValueError:
        return re.sub(r"<[^>]*>", " ", body[:4000].decode("utf-8", "replace"))
    for _ in range(3):
        if isinstance(found, list) and found:
            found = found[0]
        if isinstance(found, dict):
            keys = ("message", "detail", "error", "title", "errors", "msg")
            found = next((found[k] for k in keys if found.get(k)), json.dumps(found))
    return found if isinstance(found, str) else json.dumps(found)


def _answer(action: Request, status: int, body: bytes) -> Result:
    what = str(action)
    if status == 404 and action.missing:
        return {}
    if not 200 <= status < 300:
        raise refusal.of(what, status, message(body), key=f"export {action.key_env}=...", names=[action.key_env])
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        why = f"it answered {status} with what is no JSON; it may have been done all the same"
        raise refusal.Perhaps(f"{what}: the answer cannot be read", why=why, fix=refusal.AGAIN) from None
    return found if isinstance(found, dict) else {"items": found} if isinstance(found, list) else {"value": found}
