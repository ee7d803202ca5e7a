"""URLs fetched directly, through httpx: a few at a time, tried again when the server asks, redirects followed.

In: URLs. Out: answers, whole and within a size, or why there are none. Knows nothing about pages or the cache.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tune.data.sources.asking import Answer, Ask, Body, FetchError, Got, Ledger, Trouble, Wait, insist, media, together

if TYPE_CHECKING:
    import httpx

NAME = "web"
AT_ONCE = 4  # requests under way, whatever the hosts: what a browser of one reader may do
HOPS = 10  # redirects that are followed
TIMEOUT = 30.0  # seconds without a byte
WHOLE = 120.0  # seconds for one answer, however it drips
AGENT = "gptoss-kit (documentation collector)"


@contextmanager
def asking(
    ledger: Ledger,
    *,
    within: Callable[[str], bool] | None = None,
    wait: Wait = asyncio.sleep,
    timeout: float = TIMEOUT,
    whole: float = WHOLE,
) -> Iterator[Ask]:
    """What asks for URLs. A redirect from inside `within` must not leave it.

    `wait` is what sleeps between attempts; `timeout` and `whole` are in seconds.
    """
    import httpx

    with asyncio.Runner() as runner:
        limits = httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None)
        headers = {
            "User-Agent": AGENT,
            "Accept-Encoding": "gzip",
            "Accept": "text/html, application/xhtml+xml, */*;q=0.5",
        }
        client = httpx.AsyncClient(follow_redirects=False, timeout=limits, headers=headers)

        calm: defaultdict[str, _Host] = defaultdict(_Host)

        def ask(urls: Iterable[str], got: Got, *, most: int) -> None:
            async def one(url: str) -> None:
                host, rests = calm[urlsplit(url).netloc], 0

                async def once() -> Answer:
                    nonlocal rests
                    async with host.lock:  # somebody may be waiting as that host asked
                        rests = host.rests
                        await ledger.take(wait)
                    return await _follow(client, url, ledger, most, within, wait, whole)

                async def rest(trouble: Trouble, seconds: float) -> None:
                    if trouble.status == 429 or trouble.asked:
                        await host.rest(rests, wait, seconds)
                    else:
                        await wait(seconds)

                try:
                    found: Answer | FetchError = await insist(once, ledger, rest)
                except FetchError as e:
                    found = e
                got(url, found)

            runner.run(together(urls, one, AT_ONCE))

        try:
            yield ask
        finally:
            runner.run(client.aclose())


class _Host:
    """Lets nobody ask a host while one is waiting because the host asked to: it said so to all of them."""

    def __init__(self) -> None:
        self.lock, self.rests = asyncio.Lock(), 0

    async def rest(self, rests: int, wait: Wait, seconds: float) -> None:
        """Wait, unless somebody else did since there had been so many rests."""
        async with self.lock:
            if self.rests == rests:
                await wait(seconds)
                self.rests += 1


async def _follow(
    client: "httpx.AsyncClient",
    url: str,
    ledger: Ledger,
    most: int,
    within: Callable[[str], bool] | None,
    wait: Wait,
    whole: float,
) -> Answer:
    """The answer at the end of the redirects. Raises FetchError for a loop, and where one leads to no allowed place."""
    import httpx

    seen = [url]
    while True:
        try:
            async with asyncio.timeout(whole), client.stream("GET", seen[-1]) as response:
                if response.next_request is None:
                    return await _answer(response, ledger, most)
                target = str(response.next_request.url.copy_with(fragment=None))
        except TimeoutError:
            raise Trouble(f"no whole answer in {whole:g} s") from None
        except httpx.TimeoutException:
            raise Trouble("no answer in time") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as e:
            raise FetchError(f"no address that can be asked: {e}") from None
        except httpx.HTTPError as e:
            raise Trouble(f"{type(e).__name__}: {e}".rstrip(": ")) from None
        if target in seen:
            raise FetchError(f"a redirect loop at {target}")
        if len(seen) > HOPS:
            raise FetchError(f"more than {HOPS} redirects")
        inside = within is not None and within(url)  # a sitemap may lie outside, and elsewhere
        if not target.startswith(("http://", "https://")) or (inside and within and not within(target)):
            raise FetchError(f"a redirect to {target}, which is elsewhere")
        if inside and not ledger.allowed(target):
            raise FetchError(f"a redirect to {target}, which robots.txt disallows")
        seen.append(target)
        await ledger.take(wait)


async def _answer(response: "httpx.Response", ledger: Ledger, most: int) -> Answer:
    status = response.status_code
    if status == 429 or status >= 500:
        raise Trouble(f"HTTP {status}", status, response.headers.get("retry-after", ""))
    if not response.is_success:
        raise FetchError(f"HTTP {status}", status)
    body = Body(response.headers, most)
    async for part in response.aiter_raw(1 << 16):
        ledger.received += len(part)
        body.add(part)
    kind = media(response.headers.get("content-type", ""))
    return Answer(str(response.url), kind, response.charset_encoding or "", body.whole())
