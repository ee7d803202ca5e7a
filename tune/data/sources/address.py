"""Addresses under a given one: whether another is, and its one spelling. Knows nothing about what lies there."""

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from tune.data.sources.asking import FetchError, checked

LONGEST = 2_048  # characters: the limit of sitemaps, taken for links too

# Files that links lead to and no page is in, and Sphinx's own listings, sources and highlighted code.
_NO_PAGE = re.compile(
    r"\.(?:zip|gz|bz2|xz|7z|tar|tgz|whl|jar|exe|dmg|deb|rpm|iso|pdf|epub|css|png|jpe?g|gif|svg|webp|avif|ico|woff2?|ttf"
    r"|mp[34]|ogg|wav|webm|mov)$"
    r"|/(?:genindex[^/]*?|(?:\w+-)?modindex)(?:\.html|/)?$|/search\.html$|/_(?:modules|sources|static|downloads|images)/",
    re.IGNORECASE,
)


def under(start: str) -> Callable[[str], bool]:
    """Whether an address lies under `start`: on the same host, in the same folder or one below it."""
    prefix = urlsplit(folder(start)).path

    def inside(url: str) -> bool:
        path = urlsplit(url).path or "/" if same_host(url, start) else ""
        steps = unquote(path).replace("\\", "/").split("/")
        return (path.startswith(prefix) or path + "/" == prefix) and not {".", ".."} & {*steps}

    return inside


def folder(start: str) -> str:
    """The folder that an address stands for: up to its last slash, or itself when its last part has no dot."""
    parts = urlsplit(start)
    above, _, last = (parts.path or "/").rpartition("/")
    path = f"{above}/" if "." in last or not last else f"{above}/{last}/"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def same_host(url: str, other: str) -> bool:
    """Whether both are addresses of one host and port. http and https are one host's two doors."""
    try:
        return _host(url) == _host(other)
    except FetchError:
        return False


def cleaned(link: str, base: str, start: str) -> str:
    """The address that a link on the page `base` leads to, without its fragment; "" when it is none that may be asked
    for. On `start`'s host it has the same scheme."""
    try:
        url = urljoin(base, link.strip())
        parts = urlsplit(url)
        scheme = urlsplit(start).scheme if same_host(url, start) else parts.scheme
        url = checked(urlunsplit((scheme, parts.netloc.lower(), parts.path or "/", parts.query, "")))
    except (FetchError, ValueError):
        return ""
    return url if len(url) <= LONGEST else ""


def page_of(link: str, base: str, start: str) -> str:
    """The same of a link that nobody says leads to a page: without its query, and "" for what is seen to be none."""
    url = cleaned(link, base, start).partition("?")[0]
    return "" if _NO_PAGE.search(urlsplit(url).path) else url


@lru_cache(1024)
def _host(url: str) -> tuple[str, int]:
    parts = urlsplit(checked(url))
    return parts.hostname or "", 0 if parts.port in {80, 443, None} else parts.port
