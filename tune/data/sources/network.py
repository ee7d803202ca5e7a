"""Pages from the network: who finds the URLs and who fetches them, as the recipe has it.

In: [collect], the folder of what was fetched, and the run's ledger. Out: pages, failures and twins. Knows the two ways
of finding and the two of fetching by name, and nothing of what either does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tune.data.page import Failure, Page
from tune.data.sources import brightdata, remote, site, web
from tune.data.sources.address import under
from tune.data.sources.asking import Ledger
from tune.data.sources.remote import Fetch
from tune.recipe import Collect


def pages(section: Collect, cache: Path, ledger: Ledger, report: Callable[[str], None]) -> Iterator[Page | Failure]:
    """A page, a failure or a twin for each URL, in the order of the URLs. `cache` has a folder for each who fetches.

    Raises UserError when the site, the token or the zone cannot be used, or the disk is full.
    """
    ledger.budget = section.max_requests
    with _opened(section, cache, ledger) as fetch:
        urls = list(dict.fromkeys(section.urls))
        if section.source == "site":
            urls, ledger.found = site.find(section.url, section.max_pages, fetch)
            report(ledger.found)
        yield from remote.pages(urls, fetch)


@contextmanager
def _opened(section: Collect, cache: Path, ledger: Ledger) -> Iterator[Fetch]:
    if section.by_brightdata:
        with brightdata.asking(section.zone, ledger) as ask:
            yield Fetch(brightdata.NAME, cache / brightdata.NAME, ask)
    else:
        with web.asking(ledger, within=under(section.url) if section.source == "site" else None) as ask:
            yield Fetch(web.NAME, cache / web.NAME, ask)
