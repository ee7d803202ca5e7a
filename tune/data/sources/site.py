"""The pages under an address, found by themselves: by its sitemaps, else Sphinx's objects.inv, else its links.

In: an address such as https://docs.example.org/guide/, and a way of fetching. Out: URLs under it, in an order that
depends on nothing but the site, and one line that says how they were found. What robots.txt disallows is left out.
Knows nothing about what the pages say.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from tune.data.sources import inventory, remote, sitemap
from tune.data.sources.address import cleaned, folder, page_of, same_host, under
from tune.data.sources.asking import FetchError, checked, unzipped
from tune.data.sources.kept import Html
from tune.data.sources.remote import Fetch
from tune.data.sources.web import AGENT
from tune.errors import UserError

if TYPE_CHECKING:
    from protego import Protego

SITEMAPS = 200  # files that are read of one site
DEPTH = 3  # of index files within index files
ROBOTS = 512_000  # bytes: RFC 9309 asks for as many
BELIEVED = 86_400.0  # seconds that a kept robots.txt is: RFC 9309, 2.4
SLOWEST = 60.0  # seconds between requests, whatever robots.txt asks: a thousand pages take 17 hours then
GZIP = b"\x1f\x8b"


@dataclass
class _Found:
    """URLs in the order in which they were found, at most `most`; the number of those left out, by reason."""

    start: str
    most: int
    rules: "Protego"
    urls: dict[str, None] = field(default_factory=dict)
    out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)  # what was broken on the way
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.inside = under(self.start)

    def add(self, url: str) -> bool:
        """Take a URL, unless it is there already or has to be left out."""
        if not url or url in self.seen:
            return False
        self.seen.add(url)
        if not self.inside(url):
            self.out["elsewhere"] += 1
        elif len(self.urls) >= self.most:
            self.out["over collect.max_pages"] += 1
        elif not self.rules.can_fetch(url, AGENT):
            self.out["disallowed by robots.txt"] += 1
        else:
            self.urls[url] = None
            return True
        return False


def start_of(url: str) -> str:
    """The address to start from, without query and fragment. Raises UserError when it is none."""
    try:
        parts = urlsplit(checked(url))
    except FetchError as e:
        raise UserError(f"collect.url is {e}", fix="edit recipe.toml") from None
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path or "/", "", ""))


def find(start: str, most: int, fetch: Fetch) -> tuple[list[str], str]:
    """At most `most` URLs under `start`, and how they were found: "site: 40 URLs by 1 sitemap, 3 elsewhere".

    Raises UserError when it is disallowed, or when nobody can say whether it is.
    """
    rules = _rules(urljoin(start, "/robots.txt"), fetch)
    if not rules.can_fetch(start, AGENT):
        raise UserError(
            f"robots.txt disallows {start}",
            why="its owner does not want it read by programs",
            fix="ask the owner for the files, or edit collect.url in recipe.toml",
        )
    fetch.ledger.allowed = lambda url: rules.can_fetch(url, AGENT)
    fetch.ledger.delay, notes = _pace(rules)
    for note in notes:
        fetch.report(note)
    for way in (_by_sitemaps, _by_inventory, _by_links):
        found = _Found(start, most, rules, notes=notes)
        how = way(found, fetch)
        if found.urls.keys() - {start}:  # a sitemap that names the front page alone tells nothing
            break
    told = [f"{n:,} {why}" for why, n in sorted(found.out.items())]
    urls = f"{len(found.urls):,} URL{'s' * (len(found.urls) != 1)}"
    return list(found.urls), ", ".join([f"site: {urls} by {how}", *told, *notes])


def _rules(url: str, fetch: Fetch) -> "Protego":
    """What robots.txt says. One that is not there (4xx) allows everything, and one that cannot be had disallows
    everything: RFC 9309, 2.3.1.3 and 2.3.1.4."""
    from protego import Protego

    try:
        text = remote.file(url, fetch, ROBOTS, BELIEVED).decode("utf-8", errors="replace")
    except FetchError as e:
        if not 400 <= e.status < 500 or e.status == 429:
            why = f"{e}; without it nobody knows what may be read (RFC 9309)"
            raise UserError(f"{url} cannot be had", why=why, fix="check collect.url, then tune collect") from None
        text = ""
    return Protego.parse(text)


def _pace(rules: "Protego") -> tuple[float, list[str]]:
    """Seconds between requests that robots.txt asks for (Crawl-delay, or Request-rate), at most SLOWEST, and a note."""
    rate = rules.request_rate(AGENT)
    asked = max(rules.crawl_delay(AGENT) or 0.0, rate.seconds / rate.requests if rate else 0.0)
    if asked > SLOWEST:
        return SLOWEST, [f"robots.txt asks for {asked:,.15g} s between requests, and {SLOWEST:g} s are kept"]
    return asked, [f"{asked:.15g} s between requests, as robots.txt asks"] if asked else []


def _by_sitemaps(found: _Found, fetch: Fetch) -> str:
    """The sitemaps on this host that robots.txt names; when they tell nothing, those where sitemaps usually lie."""
    usual = ([urljoin(folder(found.start), "sitemap.xml")], [urljoin(found.start, "/sitemap.xml")])
    seen: set[str] = set()
    read = 0
    for group in (found.rules.sitemaps, *usual):
        level = list(group)
        for _ in range(DEPTH):
            further: list[str] = []
            for url in dict.fromkeys(level):
                if url not in seen and same_host(url, found.start) and len(seen) < SITEMAPS:
                    seen.add(url)
                    read += _sitemap(url, found, fetch, further.append)
            level = further
        if found.urls.keys() - {found.start}:
            break
    return f"{read} sitemap{'s' * (read != 1)}"


def _sitemap(url: str, found: _Found, fetch: Fetch, further: Callable[[str], object]) -> bool:
    """Whether it could be read. One that breaks off tells nothing: what comes after the break is missing."""
    try:
        data = remote.file(url, fetch, sitemap.LARGEST)
        data = unzipped(data, sitemap.LARGEST) if data.startswith(GZIP) else data
        sitemap.read(data, len, len)  # to its end, before any of it is believed
    except (FetchError, ValueError) as e:
        if not (isinstance(e, FetchError) and 400 <= e.status < 500):
            found.notes.append(f"no sitemap at {url} ({e})")
        return False
    sitemap.read(data, lambda loc: found.add(cleaned(loc, url, found.start)), further)
    return True


def _by_inventory(found: _Found, fetch: Fetch) -> str:
    """The pages that Sphinx lists in objects.inv for other projects to link to."""
    url = urljoin(folder(found.start), "objects.inv")
    try:
        names = inventory.pages(remote.file(url, fetch, inventory.LARGEST))
    except (FetchError, ValueError) as e:
        if not (isinstance(e, FetchError) and 400 <= e.status < 500):
            found.notes.append(f"no inventory at {url} ({e})")
        return "objects.inv"
    for name in names:
        found.add(page_of(name, url, found.start))
    return "objects.inv"


def _by_links(found: _Found, fetch: Fetch) -> str:
    """Breadth first from the start: all links of a level, in the order of its pages, are the next one."""
    found.add(found.start)
    level, depth = [found.start], 0
    while level:
        got = (page for _, page in remote.html(level, fetch) if isinstance(page, Html))
        level = [link for page in got for link in _links(page, found.start) if found.add(link)]
        depth += bool(level)
        fetch.report(f"site: {len(found.urls):,} pages found, {depth} links deep")
    return f"links, {depth} deep"


def _links(page: Html, start: str) -> Iterable[str]:
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(page.text)
    told = tree.css_first("base[href]")
    base = (cleaned(told.attributes["href"] or "", page.at, start) if told else "") or page.at
    links = (node.attributes["href"] or "" for node in tree.css("a[href]"))
    return dict.fromkeys(page_of(link, base, start) for link in links)
