"""What never became a row, by reason, with samples: dropped.jsonl of a dataset, failures.jsonl of its pages.

In: JSON lines. Out: groups, the largest first. A line that cannot be read is counted as such. Memory is flat in lines.
"""

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tune.views.plain import cut, one_line

SAMPLES = 5  # of a reason
REASONS = 30  # that are told apart
REASON = 200  # characters of a reason
TEXT = 600  # characters of a sample's text
UNREADABLE = "a line that cannot be read"


class Sample(NamedTuple):
    """One thing that was lost: what it is called, and (name, text, its whole length when that was cut, else 0)."""

    name: str
    texts: tuple[tuple[str, str, int], ...]


class Group(NamedTuple):
    """All that one reason took. `total` may be more than a file of samples holds."""

    reason: str
    total: int
    samples: tuple[Sample, ...]


def dropped(path: Path, figures: Mapping[str, int]) -> list[Group]:
    """Examples by the reason that the dataset gives; samples when it wrote them down. `figures` has the counts."""
    found = _groups(path, lambda line: line["reason"], _example) if path.is_file() else {}
    counts = Counter({reason: group.total for reason, group in found.items()}) | Counter(
        {one_line(reason, REASON): n for reason, n in figures.items()}
    )
    return _largest([Group(r, n, found[r].samples if r in found else ()) for r, n in counts.items()])


def failures(path: Path) -> list[Group]:
    """Pages that could not be had."""
    found = _groups(path, lambda line: line["reason"], lambda line: Sample(one_line(str(line["id"]), 300), ()))
    return _largest(found.values())


def _example(line: Mapping[str, Any]) -> Sample:
    named = [str(line[key]) for key in ("kind", "page", "id") if line.get(key)]
    texts = [(key, str(line[key])) for key in ("detail", "question", "answer") if line.get(key)]
    return Sample(one_line(", ".join(named), 300), tuple((key, *cut(text, TEXT)) for key, text in texts))


def _groups(path: Path, why: Callable[[Any], Any], sample: Callable[[Any], Sample]) -> dict[str, Group]:
    counts, kept = Counter[str](), dict[str, list[tuple[int, int, Sample]]]()
    for number, line in enumerate(_lines(path)):
        try:
            read = json.loads(line)
            reason, one = one_line(str(why(read)), REASON), sample(read)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            reason, one = UNREADABLE, Sample(f"line {number + 1}", ())
        counts[reason] += 1
        if reason in kept or len(kept) < 4 * REASONS:
            drawn = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest())
            heap, entry = kept.setdefault(reason, []), (-drawn, number, one)
            (heapq.heappush if len(heap) < SAMPLES else heapq.heappushpop)(heap, entry)
    return {
        reason: Group(reason, n, tuple(one for _, _, one in sorted(kept.get(reason, []), key=lambda e: e[1])))
        for reason, n in counts.items()
    }


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as f:
            yield from f


def _largest(groups: Iterable[Group]) -> list[Group]:
    """The largest first; behind REASONS of them, the rest as one."""
    found = sorted(groups, key=lambda group: (-group.total, group.reason))
    rest = sum(group.total for group in found[REASONS:])
    return found[:REASONS] + ([Group(f"{len(found) - REASONS:,} other reasons", rest, ())] if rest else [])
