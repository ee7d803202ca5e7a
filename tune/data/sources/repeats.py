"""Blocks that stand at the edges of many pages of one set -> out of them: menus, breadcrumbs, dates of the build.

In: pages, and failures among them, as they come. Out: the failures at once, and the pages without those blocks when the
last one is there; until then they wait on disk. In memory are 8 bytes for each block, and one page. Only runs at a
page's begin and end are looked at: what repeats between is as often a table's head or a standing remark. Knows nothing
about formats and elements.
"""

import hashlib
import re
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tune.data.block import Block
from tune.data.page import Failure, Page

SHARE = 0.2  # of the pages: what stands on more of them is no page's own
FEWEST = 5  # pages
_DATE = re.compile(
    r"(?=[\dJFMASOND])"  # what it begins with: four times as fast
    r"(?:\d{4}-\d\d-\d\d|\d\d?:\d\d(?::\d\d)?|\d\d?[./]\d\d?[./]\d{4}|"
    r"(?:\d\d? )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.? (?:\d\d?,? )?\d{4})"
)


def without(
    found: Iterable[Page | Failure], room: Path | None = None, report: Callable[[str], None] = lambda _: None
) -> Iterator[Page | Failure]:
    """The pages without what repeats at their edges, in their order; how many blocks went is reported.

    Dates and times count as alike. A page that says nothing else stays as it is. `room` is a folder on a disk with
    space for all pages; the file there has no name and is gone with the process. Raises OSError when it is full.
    """
    on, number, gone = array("Q"), 0, 0
    with tempfile.TemporaryFile("w+", dir=room, encoding="utf-8") as waiting:
        for one in found:
            if isinstance(one, Failure):
                yield one
                continue
            waiting.write(one.model_dump_json() + "\n")
            number += 1
            on.extend({said for block in one.blocks if (said := _said(block))})
        often = _often(on, max(FEWEST, SHARE * number))
        waiting.seek(0)
        for line in waiting:
            page = Page.model_validate_json(line)
            kept = page.blocks
            if often:
                start = _run(page.blocks, often)
                end = len(page.blocks) - _run(reversed(page.blocks), often)
                kept = page.blocks[start:end] or page.blocks
            gone += len(page.blocks) - len(kept)
            yield page.model_copy(update={"blocks": kept})
    if gone:
        report(f"left out: {gone} blocks at the edges of pages that stand on many of them, such as menus")


def _often(on: "array[int]", least: float) -> set[int]:
    """What is there at least so many times."""
    import numpy as np

    said, counts = np.unique(np.array(on, np.uint64), return_counts=True)
    return {int(one) for one in said[counts >= least]}


def _run(blocks: Iterable[Block], often: set[int]) -> int:
    count = 0
    for block in blocks:
        if _said(block) not in often:
            break
        count += 1
    return count


def _said(block: Block) -> int:
    """64 bits of what a block says, on whatever day; 0 for code, which is never navigation."""
    if block.kind == "code":
        return 0
    said = _DATE.sub("#", f"{block.kind} {block.render()}")
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big")
