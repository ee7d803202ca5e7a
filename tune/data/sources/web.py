"""URLs as a page source: fetched one after the other through httpx, kept on disk, retried when the server asks.

In: URLs and a cache folder. Out: pages and failures. What a URL gave is kept under the digest of the URL, so an
interrupted run, or one with failures, asks only for what is missing; delete the folder to ask again.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tune.artefact import write_text
from tune.data.html import LARGEST, decode, parse
from tune.data.page import Failure, Page

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 4
PATIENCE = 120.0  # seconds: a server that asks for a longer pause fails the page
AGENT = "gptoss-kit (documentation collector)"


class FetchError(Exception):
    """Why a URL gave no page, in one line."""


def pages(
    urls: Sequence[str], cache: Path, *, wait: Callable[[float], object] = time.sleep
) -> Iterator[Page | Failure]:
    """A page or a failure for each URL, in order.

    429 and 5xx answers and broken connections are tried again, up to four times in all, after the pause that
    Retry-After names or else 1, 2, 4 seconds and a little. `wait` is what sleeps.
    """
    import httpx

    timeout = httpx.Timeout(30.0, connect=10.0)
    with httpx.Client(follow_redirects=True, timeout=timeout, headers={"User-Agent": AGENT}) as client:
        for url in urls:
            html = cached(cache, url)
            try:
                if html is None:
                    html = _fetch(client, checked(url), wait)
                    keep(cache, url, html)
                yield page(url, html, "web")
            except (FetchError, ValueError) as e:
                yield Failure(id=f"web:{url}", reason=str(e) or type(e).__name__)


def page(url: str, html: str, source: str) -> Page:
    """The page that a URL's HTML makes. Raises ValueError when there is none in it."""
    document = parse(html)
    return Page(
        id=f"{source}:{url}",
        title=document.title,
        module=document.module or urlsplit(url).hostname or "web",
        blocks=document.blocks,
        source=source,
        licence=document.licence,
        url=url,
    )


def checked(url: str) -> str:
    """The URL itself. Raises FetchError when it is not a plain http or https one."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
    except ValueError:
        plain = False
    if not plain:
        raise FetchError("not an http or https URL without a user name")
    return url


def cached(cache: Path, url: str) -> str | None:
    """The HTML that this URL gave before, if it was kept whole."""
    try:
        kept = json.loads(_slot(cache, url).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(kept["html"]) if isinstance(kept, dict) and kept.get("url") == url and "html" in kept else None


def keep(cache: Path, url: str, html: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    write_text(_slot(cache, url), json.dumps({"url": url, "html": html}))


def pause(attempt: int, asked: str = "") -> float:
    """Seconds to wait after attempt `attempt`: what Retry-After asks (seconds or a date), else 2^attempt or so."""
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return float(2**attempt) * (1 + random.random() / 4)


def _slot(cache: Path, url: str) -> Path:
    return cache / f"{hashlib.sha256(url.encode()).hexdigest()}.json"


def _fetch(client: "httpx.Client", url: str, wait: Callable[[float], object]) -> str:
    import httpx

    problem = ""
    for attempt in range(ATTEMPTS):
        asked = ""
        try:
            with client.stream("GET", url) as response:
                if response.is_success:
                    return _body(response)
                problem = f"HTTP {response.status_code}"
                if response.status_code != 429 and response.status_code < 500:
                    raise FetchError(problem)
                asked = response.headers.get("retry-after", "")
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            problem = f"{type(e).__name__}: {e}".rstrip(": ")
        if attempt + 1 < ATTEMPTS:
            seconds = pause(attempt, asked)
            if seconds > PATIENCE:
                raise FetchError(f"{problem}, and the server asks to wait {seconds:.0f} s")
            wait(seconds)
    raise FetchError(f"{problem}, {ATTEMPTS} times")


def _body(response: "httpx.Response") -> str:
    kind = response.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
    if kind not in {"text/html", "application/xhtml+xml"}:
        raise FetchError(f"{kind}, not HTML")
    data = bytearray()
    for part in response.iter_bytes():
        data += part
        if len(data) > LARGEST:
            raise FetchError(f"more than {LARGEST:,} bytes")
    return decode(bytes(data), response.charset_encoding or "")
