"""The side of the split that each page is on: pages that say nearly the same, as two releases of one do, share a side.

In: texts, one at a time. Out: groups of positions; train or eval by page. MinHash (Broder 1997) over runs of words, and
banding (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4): linear, 300 bytes kept of a text.
Deterministic. Knows no files.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tune.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIKE = 0.5  # Jaccard similarity of shingles, as estimated, from which two texts go together
SHINGLE = 5  # words
BANDS, ROWS = 24, 3  # texts of similarity s meet in a band with 1 - (1 - s^3)^24: 0.96 at 0.5, 0.999997 at 0.75

_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_SALTS = np.arange(BANDS * ROWS, dtype=np.uint64) * _SPREAD  # modulo 2^64, as everything here


def groups(texts: Iterable[str]) -> list[int]:
    """For each text the position of the first one that it goes with: its own when there is none before it.

    Being alike is passed on: two texts may be in one group through a third alone.
    """
    signatures = np.array([_signature(text) for text in texts], np.uint32).reshape(-1, BANDS * ROWS)
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
            near = (signatures[a] == signatures[b]).mean(axis=1) >= ALIKE
            for i, j in zip(a[near].tolist(), b[near].tolist(), strict=True):
                low, high = sorted((root(i), root(j)))
                first[high] = low
    return [root(i) for i in range(len(first))]


def split(pages: Mapping[str, int], share: float, seed: int) -> dict[str, str]:
    """train or eval for each page id, given the group of pages that it must be on one side with.

    Groups go by the smallest sha256 of seed and a page id in them; the first ones are eval until the share is reached,
    those too large for what is left of it are passed over. At least one is eval: the smallest, when none fits. Raises
    UserError when fewer than two groups have examples.
    """
    members: dict[int, list[str]] = {}
    for name, group in pages.items():
        members.setdefault(group, []).append(name)
    if len(members) < 2:
        few = "one page has all the examples" if len(pages) < 2 else f"the {len(pages)} pages say nearly the same"
        raise UserError(
            f"{few}: nothing to split",
            why="train and eval must not share a page",
            fix="collect more pages, or raise dataset.max_tokens in recipe.toml",
        )

    def place(group: int) -> bytes:
        return min(hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in members[group])

    order = sorted(members, key=place)
    left = max(1, round(share * len(pages)))
    held = set[int]()
    for group in order:
        if len(members[group]) <= left and len(held) < len(order) - 1:
            held.add(group)
            left -= len(members[group])
    held = held or {min(order, key=lambda group: len(members[group]))}
    return {name: "eval" if group in held else "train" for name, group in pages.items()}


def _signature(text: str) -> "NDArray[np.uint32]":
    """The least of each of BANDS x ROWS hash functions over all runs of 5 words; of fewer when there are no more."""
    words = re.findall(r"[\w.]+|[^\w\s]", text.lower())
    hashed = np.fromiter((zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words), np.uint64)
    runs = max(1, len(hashed) - SHINGLE + 1)
    mixed = np.zeros(runs, np.uint64)
    for k in range(min(SHINGLE, len(hashed))):
        mixed = (mixed + hashed[k : k + runs] + np.uint64(1)) * _SPREAD
        mixed ^= mixed >> np.uint64(29)
    out = np.empty(BANDS * ROWS, np.uint32)
    for n, salt in enumerate(_SALTS):
        salted = (mixed + salt) * _SPREAD
        salted ^= salted >> np.uint64(32)
        out[n] = ((salted * _SPREAD) >> np.uint64(32)).min()
    return out
