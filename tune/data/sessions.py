"""The interactive examples of a page, run when the page is from this machine; what a URL gave is never executed.

In: a page and its sections. Out: each section's verified statements. The run itself is doctests's.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from tune.data import doctests
from tune.data.block import Section
from tune.data.page import Page


def verified(
    page: Page, parts: Sequence[Section], counts: Counter[str]
) -> Iterator[tuple[Section, list[doctests.Step] | None]]:
    """Sections in order, with the statements that Python ran as the page shows; None where nothing may be run.

    `counts` learns the outcomes: see doctests.verified.
    """
    if page.url:
        yield from ((section, None) for section in parts)
        return
    # Docstrings leave out the import of what they document.
    prelude = f"from {page.module} import *" if page.id.startswith("stdlib:") else ""
    code = tuple("\n\n".join(block for block in section.code if ">>> " in block) for section in parts)
    found, outcomes = _run(code, prelude)
    counts.update(outcomes)
    yield from zip(parts, found, strict=True)


@lru_cache(maxsize=1)  # a page's examples and its open-book questions come one after the other
def _run(code: tuple[str, ...], prelude: str) -> tuple[list[list[doctests.Step]], Counter[str]]:
    outcomes: Counter[str] = Counter()
    return doctests.verified(code, prelude, outcomes), outcomes
