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
from tune.data.sources.asking import Ask, Ledger
from tune.data.sources.remote import Fetch
from tune.recipe import Collect


def pages(section: Collect, cache: Path, ledger: Ledger, report: Callable[[str], None]) -> Iterator[Page | Failure]:
    """A page, a failure or a twin for each URL, in the order of the URLs. `cache` has a folder for each who fetches.

    Raises UserError when the site, the token or the zone cannot be used, or the disk is full.
    """
    ledger.budget = section.max_requests
    start = site.start_of(section.url) if section.source == "site" else ""
    with _opened(section, start, ledger) as (name, ask):
        fetch, urls = Fetch(name, cache / name, ask, report, ledger), list(dict.fromkeys(section.urls))
        if start:
            urls, ledger.found = site.find(start, section.max_pages, fetch)
            report(ledger.found)
        yield from remote.pages(urls, fetch)


@contextmanager
def _opened(section: Collect, start: str, ledger: Ledger) -> Iterator[tuple[str, Ask]]:
    if section.by_brightdata:
        with brightdata.asking(section.zone, ledger) as ask:
            yield brightdata.NAME, ask
    else:
        with web.asking(ledger, within=under(start) if start else None) as ask:
            yield web.NAME, ask
