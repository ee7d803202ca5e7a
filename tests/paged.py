"""work/pages for tests: a finished stage whose pages are the installed Python's own, or any that a test brings."""

from collections.abc import Sequence
from pathlib import Path

from tune import artefact
from tune.artefact import Artefact
from tune.data import page
from tune.data.page import Page
from tune.data.sources import stdlib


def of(modules: Sequence[str]) -> list[Page]:
    """The pages of these modules of the standard library."""
    return [found for found in stdlib.pages(modules, topics=False) if isinstance(found, Page)]


def collected(work: Path, modules: Sequence[str], held: Sequence[Page], taught: Sequence[Page]) -> Artefact:
    """Write work/pages as `tune collect` leaves it when `modules` are held out."""
    folder = work / "pages"
    folder.mkdir(parents=True, exist_ok=True)
    for name, pages in (("held_out", held), ("pages", taught), ("failures", ())):
        page.write(folder / f"{name}.jsonl", pages)
    return artefact.finish(folder, "pages", settings={"held_out": sorted(modules)})
