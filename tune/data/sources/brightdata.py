"""URLs behind bot walls as a page source: Bright Data's Web Unlocker through its SDK.

In: URLs, the zone to bill, a cache folder, and the token in BRIGHTDATA_API_TOKEN and nowhere else. Out: pages and
failures, made from HTML by the same function as the other sources. The SDK gives failures as results and never
retries; the retries are here. Knows nothing about what a page says.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tune.data.page import Failure, Page
from tune.data.sources.web import ATTEMPTS, FetchError, cached, checked, keep, page, pause
from tune.errors import UserError

TOKEN = "BRIGHTDATA_API_TOKEN"  # noqa: S105 - the variable's name
BATCH = 10  # URLs asked for at once, and the most that an interruption loses
TIMEOUT = 90  # seconds a request; the SDK heeds only the client's

_STATUS = re.compile(r"(?:API returned status |\()(\d{3})\b")


def pages(
    urls: Sequence[str],
    zone: str,
    cache: Path,
    *,
    base_url: str = "",
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Page | Failure]:
    """A page or a failure for each URL, in order. Each URL not in the cache is a billed request, when it succeeds.

    `base_url` stands in for the API's own address, `wait` is what sleeps. Raises UserError when the token is
    missing, or the API refuses it or the zone; what came before stays in the cache.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(f"{TOKEN} is not set", why="the brightdata source needs it", fix=f"export {TOKEN}=...")
    for start in range(0, len(urls), BATCH):
        batch = urls[start : start + BATCH]
        failures: dict[str, str] = {}
        missing = []
        for url in batch:
            try:
                if cached(cache, checked(url)) is None:
                    missing.append(url)
            except FetchError as e:
                failures[url] = str(e)
        for attempt in range(ATTEMPTS):
            again = []
            answers = _ask(missing, token, zone, base_url)
            for url, html, _ in answers:
                if html is not None:
                    keep(cache, url, html)
            bad = [(url, problem) for url, html, problem in answers if html is None]
            _refuse((problem for _, problem in bad), zone)
            for url, problem in bad:
                if _worth_retrying(problem) and attempt + 1 < ATTEMPTS:
                    again.append(url)
                else:
                    failures[url] = problem
            missing = again
            if not missing:
                break
            wait(pause(attempt))
        for url in batch:
            html = cached(cache, url)
            try:
                if html is None:
                    raise FetchError(failures[url])
                yield page(url, html, "brightdata")
            except (FetchError, ValueError) as e:
                yield Failure(id=f"brightdata:{url}", reason=str(e) or type(e).__name__)


def _ask(urls: Sequence[str], token: str, zone: str, base_url: str) -> list[tuple[str, str | None, str]]:
    """(url, html, "") or (url, None, problem) for each URL. Raises UserError when the SDK itself refuses."""
    if not urls:
        return []
    from brightdata import BrightDataClient
    from brightdata.exceptions import BrightDataError

    async def ask() -> list[tuple[str, str | None, str]]:
        # auto_create_zones would create zones that are billed.
        client = BrightDataClient(token=token, timeout=TIMEOUT, auto_create_zones=False)
        if base_url:
            client.engine.BASE_URL = base_url
        async with client:
            results = await client.scrape_url(list(urls), zone=zone)
        return [
            (url, r.data if r.success and isinstance(r.data, str) else None, _tidy(str(r.error or "no HTML"), token))
            for url, r in zip(urls, results, strict=True)
        ]

    try:
        return asyncio.run(ask())
    except BrightDataError as e:
        raise UserError(
            "the Bright Data SDK refuses the request", why=_tidy(str(e), token), fix=f"mend {TOKEN} or collect.zone"
        ) from None


def _refuse(problems: Iterable[str], zone: str) -> None:
    for status in map(_status, problems):
        if status in {401, 403}:
            raise UserError(
                f"Bright Data refuses the token or the zone {zone} (HTTP {status})",
                why=f"{TOKEN} is wrong or expired, or has no right to that zone",
                fix=f"mend {TOKEN} or collect.zone, then tune collect",
            )


def _status(problem: str) -> int:
    found = _STATUS.search(problem)
    return int(found[1]) if found else 0


def _worth_retrying(problem: str) -> bool:
    """429, 5xx, and what never got an HTTP answer: timeouts and broken connections."""
    status = _status(problem)
    return status == 0 or status == 429 or status >= 500


def _tidy(problem: str, token: str) -> str:
    """One short line that cannot hold the token, whatever the server echoed."""
    return re.sub(r"\s+", " ", problem.replace(token, "***"))[:200]
