"""The side of the split that each page is on: pages that say nearly the same, as two releases of one do, share a side.

In: texts, one at a time. Out: groups of positions; the side of each page. MinHash (Broder 1997) over runs of words, and
banding (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4): linear, 300 bytes kept of a text.
Deterministic. Knows no files.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from tune.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIKE = 0.5  # Jaccard similarity of shingles, as estimated, from which two texts go together
SHINGLE = 5  # words
BANDS, ROWS = 24, 3  # texts of similarity s meet in a band with 1 - (1 - s^3)^24: 0.96 at 0.5, 0.999997 at 0.75
STEP = 1024  # runs of words, or pairs of texts, at a time

_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_SALTS = np.arange(BANDS * ROWS, dtype=np.uint64) * _SPREAD  # modulo 2^64, as everything here


def signatures(texts: Iterable[str]) -> "NDArray[np.uint32]":
    """A row of BANDS x ROWS numbers for each text."""
    return np.array([_signature(text) for text in texts], np.uint32).reshape(-1, BANDS * ROWS)


def groups(signatures: "NDArray[np.uint32]") -> list[int]:
    """For each text the position of the first one that it goes with: its own when there is none before it.

    Being alike is passed on: two texts may be in one group through a third alone.
    """
    first = list(range(len(signatures)))

    def root(i: int) -> int:
        while first[i] != i:
            i = first[i] = first[first[i]]
        return i

    for band in range(BANDS):
        keys = signatures[:, band * ROWS : (band + 1) * ROWS]
        order = np.lexsort(keys.T)  # stable: of equal keys the earliest text comes first
        begins = np.ones(len(order), bool)
        begins[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
        heads = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
        # A text is held against the one before it in its bucket and against the first: linear, however full it is.
        for a, b in ((order[:-1], order[1:]), (heads, order)):
            for at in range(0, len(a), STEP):
                one, other = a[at : at + STEP], b[at : at + STEP]
                near = (signatures[one] == signatures[other]).mean(axis=1) >= ALIKE
                for i, j in zip(one[near].tolist(), other[near].tolist(), strict=True):
                    low, high = sorted((root(i), root(j)))
                    first[high] = low
    return [root(i) for i in range(len(first))]


def place(name: str, seed: int) -> int:
    """Where a page stands in the order in which pages become eval: 64 bits of the sha256 of seed and page id."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8])


def split(groups: "NDArray[np.integer]", places: "NDArray[np.uint64]", share: float) -> "NDArray[np.bool_]":
    """Which pages are eval, given of each the group that it must be on one side with, and its place.

    Groups go by the smallest place in them; the first ones are eval until the share is reached, those too large for
    what is left of it are passed over. At least one is eval: the smallest, when none fits. Raises UserError when fewer
    than two groups have examples.
    """
    _, group, many = np.unique(groups, return_inverse=True, return_counts=True)
    if len(many) < 2:
        few = "one page has all the examples" if len(groups) < 2 else f"the {len(groups)} pages say nearly the same"
        raise UserError(
            f"{few}: nothing to split",
            why="train and eval must not share a page",
            fix="collect more pages, or raise dataset.max_tokens in recipe.toml",
        )
    least = np.full(len(many), 2**64 - 1, np.uint64)
    np.minimum.at(least, group, places)
    order = np.argsort(least, kind="stable")
    left, most, held = max(1, round(share * len(groups))), len(many) - 1, np.zeros(len(many), bool)
    for one in order:
        if not (left and most):
            break
        if many[one] <= left:
            held[one] = True
            left, most = left - int(many[one]), most - 1
    if not held.any():
        held[order[np.argmin(many[order])]] = True
    return held[group]


def _signature(text: str) -> "NDArray[np.uint32]":
    """The least of each of BANDS x ROWS hash functions over all runs of 5 words; of fewer when there are no more."""
    words = re.findall(r"[\w.]+|[^\w\s]", text.lower())
    hashed = np.fromiter((zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words), np.uint64)
    runs = max(1, len(hashed) - SHINGLE + 1)
    mixed = np.zeros(runs, np.uint64)
    for k in range(min(SHINGLE, len(hashed))):
        mixed = (mixed + hashed[k : k + runs] + np.uint64(1)) * _SPREAD
        mixed ^= mixed >> np.uint64(29)
    out = np.full(BANDS * ROWS, 2**32 - 1, np.uint64)
    for first in range(0, runs, STEP):
        salted = (mixed[first : first + STEP] + _SALTS[:, None]) * _SPREAD
        salted ^= salted >> np.uint64(32)
        np.minimum(out, ((salted * _SPREAD) >> np.uint64(32)).min(axis=1), out)
    return out.astype(np.uint32)
