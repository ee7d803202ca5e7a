"""Pages of URLs, whoever fetches them: kept answers first, then the network; a page or a failure for each, in order.

In: URLs and a `Fetch`, a way of asking with the folder that its answers are kept in. Out: pages, failures and twins.
What came is kept at once and read from there, a page at a time. What is no page (see `no_page`) is a failure and is not
kept. Knows nothing about how URLs are found or asked for.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

from tune.data import apart
from tune.data import html as reader
from tune.data.inline import squeezed
from tune.data.page import Failure, Page
from tune.data.sources import kept, no_page
from tune.data.sources.asking import Answer, Ask, FetchError, Ledger, checked
from tune.data.sources.kept import Html

CHUNK = 40  # URLs that are asked for before their pages are read
SECONDS = 60.0  # of processor time that one page may take to read
_HTML = {"text/html", "application/xhtml+xml"}


class Twin(Failure):
    """A page that is another one under a second address. `reason` names the one that stays."""


@dataclass
class Fetch:
    """A way of asking. `name` is that of its pages' source; `cache` its own folder."""

    name: str
    cache: Path
    ask: Ask
    report: Callable[[str], None] = lambda _: None  # progress
    ledger: Ledger = field(default_factory=Ledger)
    failed: dict[str, FetchError] = field(default_factory=dict)  # asked for once in a run
    proven: set[str] = field(default_factory=set)  # what is kept of them is a page: looked at once in a run


def pages(urls: Sequence[str], fetch: Fetch) -> Iterator[Page | Failure]:
    """A page or a failure for each URL, in order. Of pages that are the same the first one stays.

    The same are those with equal blocks, and those with one title whose addresses, or the canonical ones that they
    name, are equal. There are sites whose every page names the front page as its canonical address.
    """
    known: dict[bytes, str] = {}  # a digest of what no two pages share: whose it is
    count = 0
    for url, got in html(urls, fetch):
        try:
            if isinstance(got, FetchError):
                raise got
            made = page(url, got.text, fetch.name)
        except (FetchError, ValueError) as e:
            yield Failure(id=f"{fetch.name}:{url}", reason=squeezed(str(e)) or type(e).__name__)
            continue
        names = _names(made, got)
        twin = next((known[name] for name in names if name in known), "")
        known |= {name: twin or url for name in names if name not in known}
        if twin:
            yield Twin(id=made.id, reason=f"the same as {twin}")
        else:
            count += 1
            fetch.report(f"page {count}: {made.id}")
            yield made


def html(urls: Sequence[str], fetch: Fetch) -> Iterator[tuple[str, Html | FetchError]]:
    """Each URL and its HTML, or why there is none, in order; asked for once a run. Raises UserError as asking does."""
    for start in range(0, len(urls), CHUNK):
        chunk = urls[start : start + CHUNK]
        _ask([url for url in dict.fromkeys(chunk) if not _is_there(url, fetch)], fetch)
        for url in chunk:
            gone = FetchError(f"what was kept of it is gone from {fetch.cache}")
            yield url, fetch.failed.get(url) or kept.html(fetch.cache, url) or gone


def _is_there(url: str, fetch: Fetch) -> bool:
    """Whether there is nothing to ask: it failed, or what it gave is kept and still taken for a page."""
    if url in fetch.failed or url in fetch.proven:
        return True
    try:
        old = kept.html(fetch.cache, checked(url))
    except FetchError as e:
        fetch.failed[url] = e
        return True
    if old and not no_page.why(old.text):
        fetch.proven.add(url)
        return True
    return False


def _ask(urls: Sequence[str], fetch: Fetch) -> None:
    def got(url: str, answer: Answer | FetchError) -> None:
        try:
            text, at = _html(answer)
        except FetchError as e:
            fetch.failed[url] = e
        else:
            kept.keep_html(fetch.cache, url, text, at)
            fetch.proven.add(url)

    if urls:
        fetch.ask(urls, got, most=reader.LARGEST)


def file(url: str, fetch: Fetch, most: int, age: float = math.inf) -> bytes:
    """A file that is no page, of at most `most` bytes; kept, and believed for `age` seconds. Raises FetchError."""
    old = kept.file(fetch.cache, url, age)
    if old is not None:
        return old
    found: list[Answer | FetchError] = []
    fetch.ask([checked(url)], lambda _, answer: found.append(answer), most=most)
    if isinstance(found[0], FetchError):
        raise found[0]
    kept.keep_file(fetch.cache, url, found[0].data)
    return found[0].data


def page(url: str, html: str, source: str) -> Page:
    """The page that a URL's HTML makes. Raises ValueError when there is none in it."""
    document = apart.call(SECONDS, apart.MEMORY, reader.parse, html)
    return Page(
        id=f"{source}:{url}",
        title=document.title,
        module=document.module or urlsplit(url).hostname or "web",
        blocks=document.blocks,
        source=source,
        licence=document.licence,
        url=url,
    )


def _html(answer: Answer | FetchError) -> Html:
    """The HTML in an answer. Raises FetchError when it is none, or no page."""
    if isinstance(answer, FetchError):
        raise answer
    if answer.kind not in _HTML:
        raise FetchError(f"{answer.kind[:60]}, not HTML")
    try:
        text = reader.decode(answer.data, answer.charset)
    except ValueError as e:
        raise FetchError(str(e)) from None
    if reason := no_page.why(text):
        raise FetchError(reason)
    return Html(text, answer.at)


def _names(page: Page, got: Html) -> list[bytes]:
    """What of a page no other one may share: its blocks, and its title with each address that it goes by. Digests."""
    from selectolax.lexbor import LexborHTMLParser

    said = json.dumps([block.model_dump(mode="json") for block in page.blocks], sort_keys=True)
    link = LexborHTMLParser(got.text).css_first("link[rel=canonical][href]")
    addresses = {page.url, got.at}
    if link:
        with suppress(ValueError):  # no address
            canonical = urldefrag(urljoin(got.at, (link.attributes["href"] or "").strip())).url
            addresses |= {canonical} if urlsplit(canonical).path.strip("/") else set()
    names = [said, *(f"{page.title}\0{address}" for address in sorted(addresses))]
    return [hashlib.sha256(name.encode()).digest()[:16] for name in names]
