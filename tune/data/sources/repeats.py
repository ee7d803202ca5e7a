"""Blocks that stand at the edges of many pages of one set -> out of them: menus, breadcrumbs, dates of the build.

In: the blocks of every page. Out: those that remain, and how many went. Only runs at a page's begin and end are looked
at: what repeats between is as often a table's head or a standing remark. Knows nothing about formats and elements.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tune.data.block import Block

SHARE = 0.2  # of the pages: what stands on more of them is no page's own
FEWEST = 5  # pages
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d|\d\d?:\d\d(?::\d\d)?|\d\d?[./]\d\d?[./]\d{4}|"
    r"(?:\d\d? )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.? (?:\d\d?,? )?\d{4}"
)

Blocks = tuple[Block, ...]


def without(pages: Sequence[Blocks]) -> tuple[list[Blocks], int]:
    """The pages without what repeats at their edges, and the number of blocks taken out.

    Dates and times count as alike. A page that says nothing else stays as it is.
    """
    on = Counter(said for blocks in pages for said in {_said(block) for block in blocks} if said)
    often = {said for said, count in on.items() if count >= max(FEWEST, SHARE * len(pages))}
    out, gone = [], 0
    for blocks in pages:
        start = _run(blocks, often)
        end = len(blocks) - _run(reversed(blocks), often)
        kept = blocks[start:end] or blocks
        gone += len(blocks) - len(kept)
        out.append(kept)
    return out, gone


def _run(blocks: Iterable[Block], often: set[str]) -> int:
    count = 0
    for block in blocks:
        if _said(block) not in often:
            break
        count += 1
    return count


def _said(block: Block) -> str:
    """What a block says, on whatever day; nothing of code, which is never navigation."""
    return "" if block.kind == "code" else _DATE.sub("#", f"{block.kind} {block.render()}")
