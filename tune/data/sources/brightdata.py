"""URLs behind bot walls, fetched by Bright Data's Web Unlocker through its SDK: a batch at once, then one by one.

In: URLs, the zone to bill, and the token in BRIGHTDATA_API_TOKEN and nowhere else. Out: answers, or why there are
none. The requests are those of the SDK's `scrape_url`, made through its public engine: `scrape_url` hides all headers,
and behind an outer 200 the API tells in x-brd-status-code what became of the page and in x-brd-error what went wrong
(docs.brightdata.com, Web Unlocker API error codes). It never tries again either; that is done here.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tune.data.sources.asking import (
    ATTEMPTS,
    Answer,
    Ask,
    Body,
    FetchError,
    Got,
    Ledger,
    Trouble,
    Wait,
    media,
    patience,
    together,
)
from tune.errors import UserError

NAME = "brightdata"
TOKEN = "BRIGHTDATA_API_TOKEN"  # noqa: S105 - the variable's name
BATCH = 10  # URLs asked for at once
TIMEOUT = 90  # seconds a request

_REFUSED = re.compile(r"\b(401|403|407)\b")


@contextmanager
def asking(
    zone: str, ledger: Ledger, *, base_url: str = "", wait: Wait = asyncio.sleep, timeout: float = TIMEOUT
) -> Iterator[Ask]:
    """What asks for URLs. Each successful request is billed. Redirects are followed where nobody sees them.

    `base_url` stands in for the API's own address, `wait` is what sleeps, `timeout` is in seconds. Raises UserError
    when the token is missing, and while asking when the API refuses it or the zone.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(f"{TOKEN} is not set", why="Bright Data needs it", fix=f"export {TOKEN}=...")
    if not re.fullmatch(r"[!-~]+", token):
        raise UserError(f"{TOKEN} is no token", why="it holds spaces, breaks or other signs", fix=f"mend {TOKEN}")
    from brightdata import BrightDataClient
    from brightdata.exceptions import BrightDataError

    try:
        # auto_create_zones would create zones that are billed.
        client = BrightDataClient(token=token, timeout=timeout, auto_create_zones=False)
    except BrightDataError as e:
        what, fix = "the Bright Data SDK refuses the token", f"mend {TOKEN}"
        raise UserError(what, why=_tidy(str(e), token), fix=fix) from None
    if base_url:
        client.engine.BASE_URL = base_url
    with asyncio.Runner() as runner:
        ledger.by_brightdata = True
        runner.run(client.__aenter__())

        def ask(urls: Iterable[str], got: Got, *, most: int) -> None:
            async def once(url: str) -> Answer:
                await ledger.take(wait)
                return await _once(client, url, zone, token, ledger, most)

            todo = list(urls)
            for start in range(0, len(todo), BATCH):
                runner.run(_batch(todo[start : start + BATCH], once, got, ledger, wait))

        try:
            yield ask
        finally:
            runner.run(client.__aexit__(None, None, None))


async def _batch(urls: list[str], once: Callable[[str], Any], got: Got, ledger: Ledger, wait: Wait) -> None:
    """All at once; what was in trouble one after the other, in as many rounds as there are attempts left."""
    troubles: dict[str, Trouble] = {}

    async def one(url: str) -> None:
        try:
            got(url, await once(url))
        except Trouble as e:
            troubles[url] = e
        except FetchError as e:
            got(url, e)

    await together(urls, one, BATCH)
    for attempt in range(ATTEMPTS - 1):
        again, seconds = [url for url in urls if url in troubles], 0.0
        for url in [*again]:
            try:
                seconds = max(seconds, patience(troubles[url], attempt, ledger))
            except FetchError as e:
                again.remove(url)
                del troubles[url]
                got(url, e)
        if not again:
            break
        await wait(seconds)
        for url in again:
            trouble = troubles.pop(url)
            if ledger.spent:
                got(url, FetchError(f"{trouble}, and {ledger.spent}", trouble.status))
            else:
                await one(url)
    for url, trouble in troubles.items():
        got(url, FetchError(f"{trouble}, {ATTEMPTS} times", trouble.status))


async def _once(client: Any, url: str, zone: str, token: str, ledger: Ledger, most: int) -> Answer:
    """One request of the Web Unlocker. Raises FetchError, and UserError when the token or the zone is refused."""
    import aiohttp
    from brightdata.exceptions import AuthenticationError, BrightDataError

    asked = {"zone": zone, "url": url, "format": "raw", "method": "GET"}
    try:
        async with client.engine.post_to_url(f"{client.engine.BASE_URL}/request", json_data=asked) as response:
            if response.history:
                raise FetchError("the API sent its answer elsewhere")  # what is there is nobody's page
            headers = {name.lower(): value for name, value in response.headers.items()}
            body = Body({"content-length": headers.get("content-length", "")}, most)  # aiohttp has unpacked it
            async for part in response.content.iter_chunked(1 << 16):
                ledger.received += len(part)
                body.add(part)
            data = body.whole()
            charset = _tidy(response.charset or "", token)
            status, words = response.status, data[:10_000].decode(errors="replace")
    except AuthenticationError as e:
        raise _refusal(zone, _status(str(e))) from None
    except (BrightDataError, aiohttp.ClientError, OSError) as e:
        raise Trouble(_tidy(f"{type(e).__name__}: {e}", token)) from None
    except ValueError as e:  # such as credentials for any host in ~/.netrc beside the token
        raise FetchError(_tidy(f"{type(e).__name__}: {e}", token)) from None
    _refuse(status, headers, words.replace(url, ""), zone, token)
    if not data:
        raise Trouble("an empty answer")
    ledger.billed += 1
    if token.encode() in data:
        raise FetchError("it holds the token, which must not be kept")
    return Answer(url, media(_tidy(headers.get("content-type", ""), token)), charset, data)


def _refuse(outer: int, headers: Mapping[str, str], words: str, zone: str, token: str) -> None:
    """Raise what the status, the API's or else the page's, stands for; return when it is a success."""
    inner = headers.get("x-brd-status-code", "")
    status = int(inner) if outer == 200 and inner.isdecimal() else outer
    told = headers.get("x-brd-error", "") or headers.get("x-brd-err-msg", "")
    if status == 407 or (outer == 400 and re.search(r"\bzone\b", words, re.IGNORECASE)):
        raise _refusal(zone, status)
    code = headers.get("x-brd-error-code", "") or headers.get("x-brd-err-code", "")
    said = told or (words if outer != 200 else "")
    reason = f"HTTP {status}" + (f" ({code})" if code else "") + (f": {said}" if said else "")
    if status == 429 or status >= 500 or (told and status < 400):
        raise Trouble(_tidy(reason, token), status, headers.get("retry-after", ""))
    if not 200 <= status < 300:
        raise FetchError(_tidy(reason, token), status)


def _refusal(zone: str, status: int) -> UserError:
    return UserError(
        f"Bright Data refuses the token or the zone {zone} (HTTP {status})",
        why=f"{TOKEN} is wrong or expired, or has no right to that zone",
        fix=f"mend {TOKEN} or collect.zone, then tune collect",
    )


def _status(problem: str) -> int:
    found = _REFUSED.search(problem)
    return int(found[1]) if found else 401


def _tidy(problem: str, token: str) -> str:
    """One short line that cannot hold the token, whatever the server echoed."""
    return re.sub(r"\s+", " ", problem.replace(token, "***"))[:200]
