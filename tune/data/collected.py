"""What tune collect says at its end: one table, of every source.

In: the figures of the artefact, and what this run asked of the network. Out: text. What a run asked is in no artefact:
a second run asks nothing and has the same pages. Knows nothing about how pages are had.
"""

import re
from collections.abc import Mapping
from typing import Any

from tune.data.sources.asking import Ledger
from tune.terminal import one_line

KINDS = 12  # of failures, that the table names
_KIND = re.compile(r"(?:\(| to https?:|: |; |, )")  # where a reason goes into particulars


def kind(reason: str) -> str:
    """The kind of a failure: its reason up to what is one page's own."""
    return _KIND.split(reason)[0].strip()[:60] or "unknown"


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent first."""
    return dict(sorted(counts.items(), key=lambda told: (-told[1], told[0])))


def table(figures: Mapping[str, Any], ledger: Ledger, price: float = 0.0) -> str:
    """Lines of a name and a number. `price` is dollars for 1,000 requests that Bright Data bills; 0: unknown."""
    rows = [
        (name.replace("_", " "), f"{figures[name]:,}")
        for name in ("pages", "characters", "code_blocks", "tables", "held_out", "twins", "failures")
        if figures.get(name) or name in {"pages", "characters", "failures"} & figures.keys()
    ]
    by = [*figures.get("failures_by", {}).items()]
    rows += [(f"  {one_line(kind)}", f"{n:,}") for kind, n in by[:KINDS]]
    if by[KINDS:]:
        rows.append(("  of other kinds", f"{sum(n for _, n in by[KINDS:]):,}"))
    if ledger.requests:
        rows += [("requests", f"{ledger.requests:,}"), ("bytes received", f"{ledger.received:,}")]
    if ledger.by_brightdata:
        rows.append(("requests billed", f"{ledger.billed:,}"))
        if price:
            rows.append(("cost, estimated", f"${ledger.billed * price / 1000:,.2f}"))
    names, numbers = (max(map(len, column)) for column in zip(*rows, strict=True))
    head = [one_line(ledger.found, 600)] if ledger.found else []
    return "\n".join([*head, *(f"{name:<{names}}  {number:>{numbers}}" for name, number in rows)])
