"""Pages and failures, as they are found -> the three files of the stage, a page in memory at a time.

In: a source's findings, and the modules that questions come from. Out: pages.jsonl, held_out.jsonl, failures.jsonl, and
what is in them. Of pages that say the same one that is held out stays alone. Knows nothing about recipes, manifests and
where pages come from.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune.data import page
from tune.data.collected import kind, ranked
from tune.data.html import REDIRECT
from tune.data.page import Failure, Page
from tune.data.sources.remote import Twin

PAGES, HELD_OUT, FAILURES = "pages.jsonl", "held_out.jsonl", "failures.jsonl"
TOLD = 3  # failures that an error gives as its reasons


@dataclass
class Written:
    """What is in the files."""

    weights: Counter[str] = field(default_factory=Counter)  # of the pages: see `_weights`
    held_out: Counter[str] = field(default_factory=Counter)  # pages, by the reason
    kinds: Counter[str] = field(default_factory=Counter)  # of failures
    losses: Counter[str] = field(default_factory=Counter)  # reasons of failures but redirects, without particulars
    first: list[Failure] = field(default_factory=list)
    twins: int = 0

    @property
    def figures(self) -> dict[str, Any]:
        """Those of the manifest."""
        return {
            "pages": self.weights["pages"],
            "failures": self.kinds.total(),
            "failures_by": ranked(self.kinds),
            "twins": self.twins,
            "held_out": self.held_out.total(),
            "held_out_by": dict(sorted(self.held_out.items())),
            "characters": self.weights["characters"],
            "code_blocks": self.weights["code_blocks"],
            "tables": self.weights["tables"],
        }


def write(
    folder: Path, found: Iterable[Page | Failure], modules: Sequence[str], report: Callable[[str], None]
) -> Written:
    """Write each where it belongs, in order; twins behind all failures. Failures are reported as they come."""
    out, twins = Written(), list[Failure]()
    free, held = set[bytes](), dict[bytes, str]()  # digests of what pages say
    with page.writer(folder / FAILURES) as fail:
        with page.writer(folder / PAGES) as keep, page.writer(folder / HELD_OUT) as hold:
            for one in found:
                if isinstance(one, Twin):
                    twins.append(one)
                elif isinstance(one, Failure):
                    fail(one)
                    _count(one, out)
                    report(f"failed: {one.id}: {one.reason}")
                elif why := one.held_out(modules):
                    hold(one)
                    held[_said(one)] = one.id
                    out.held_out[why.reason] += 1
                else:
                    keep(one)
                    free.add(_said(one))
                    out.weights.update(_weights(one))
        if not free.isdisjoint(held):
            twins += _taken_out(folder / PAGES, held, out)
        for one in twins:
            fail(one)
    out.twins = len(twins)
    return out


def _count(failure: Failure, out: Written) -> None:
    out.kinds[kind(failure.reason)] += 1
    out.first += [failure][: TOLD - len(out.first)]
    if not failure.reason.startswith(REDIRECT):
        out.losses[re.sub(r"0x\w+|'[^']*'|\d[\d,]*", "…", failure.reason)] += 1


def _taken_out(path: Path, held: Mapping[bytes, str], out: Written) -> list[Failure]:
    """Write the file anew without the pages that say what one held out does; those as its twins."""
    twins = list[Failure]()
    with page.writer(path) as keep:  # the old file stays until it is whole
        for one in page.Pages(path):
            if other := held.get(_said(one)):
                twins.append(Twin(id=one.id, reason=f"the same as {other}, which is held out"))
                out.weights.subtract(_weights(one))
            else:
                keep(one)
    return twins


def _weights(one: Page) -> dict[str, int]:
    return {
        "pages": 1,
        "characters": len(one.text),
        "code_blocks": sum(block.kind == "code" for block in one.blocks),
        "tables": sum(block.kind == "table" for block in one.blocks),
    }


def _said(one: Page) -> bytes:
    return hashlib.blake2b("\0".join(block.model_dump_json() for block in one.blocks).encode(), digest_size=16).digest()
