"""Which pairs of texts may be nearly the same, by the shingles that few texts have, and which of them are.

In: entries, a shingle that is rare in a text with what has to be known of the text. Out: pairs; of a shingle that too
many texts have, its members instead of their pairs; whether pairs are alike. Knows nothing of the order in which texts
are judged.

Sets with Jaccard similarity t share a shingle among the |x| - ceil(t |x|) + 1 rarest of either (prefix filtering,
Chaudhuri et al. 2006); of the first one that they share the places in both say how many more it can be at most
(positional filtering, Xiao et al. 2008). Any order of all shingles will do for that.
"""

import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIKE = 0.8  # Jaccard similarity of shingles from which two texts are one
CROWD = 32  # texts of one shingle, all different, from which on not every pair of them is made
TOGETHER = 2**19  # shingles that are compared at a time

ENTRY = np.dtype(
    [
        ("shingle", "u4"),
        ("text", "u4"),  # its place among all
        ("size", "u4"),  # how many shingles it has
        ("place", "u4"),  # of this one among them, the rarest first
        ("at", "u8"),  # of its first one in the file of all shingles
        ("whole", "u8"),  # a digest of all of them
    ]
)
PAIR = np.dtype(
    [
        ("later", "u4"),
        ("earlier", "u4"),
        ("sizes", "u4", 2),  # of the later, and of the earlier
        ("at", "u8", 2),
        ("same", "?"),  # the earlier is the first that has exactly the later's shingles
    ]
)


class Candidates(NamedTuple):
    """Pairs, some of them several times, and the members of crowds: the entries of shingles that many texts have."""

    pairs: "NDArray[np.void]"
    crowded: "NDArray[np.void]"


def candidates(entries: "NDArray[np.void]") -> Candidates:
    """What two texts that are alike meet in. `entries`: all that there are of some shingles.

    Of texts with the same shingles the first alone is held against others; the others have a pair with it each.
    """
    order = np.lexsort((entries["text"], entries["whole"], entries["shingle"]))
    found = entries[order]
    new = np.ones(len(found), bool)
    new[1:] = (found["shingle"][1:] != found["shingle"][:-1]) | (found["whole"][1:] != found["whole"][:-1])
    heads = np.maximum.accumulate(np.where(new, np.arange(len(found)), 0))
    copies = np.flatnonzero(~new)
    pairs = [_pairs(found[heads[copies]], found[copies], same=True)]

    found = found[new]
    found = found[np.lexsort((found["text"], found["shingle"]))]
    _, begins, counts = np.unique(found["shingle"], return_index=True, return_counts=True)
    many = np.repeat(counts, counts)
    after = many - 1 - (np.arange(len(found)) - np.repeat(begins, counts))  # entries of the same shingle behind it
    at = np.flatnonzero(many < CROWD)
    for apart in range(1, CROWD):
        at = at[after[at] >= apart]
        if not len(at):
            break
        a, b = found[at], found[at + apart]
        near = fits(a["size"], a["place"], b["size"], b["place"])
        pairs.append(_pairs(a[near], b[near], same=False))
    return Candidates(np.concatenate(pairs), found[many >= CROWD])


def fits(size: Any, place: Any, other: Any, others_place: Any) -> "NDArray[np.bool_]":
    """Whether texts of these sizes can be alike that share a shingle at these places, and none before it."""
    return enough(np.minimum(size - place, other - others_place), size, other)


def enough(both: Any, size: Any, other: Any) -> "NDArray[np.bool_]":
    """Whether sets of these sizes are ALIKE when so many shingles are in both."""
    return np.asarray(both >= ALIKE * (np.asarray(size).astype(np.int64) + other - both))


def distinct(pairs: "NDArray[np.void]") -> "NDArray[np.void]":
    """Each pair once, in the order of the later texts, of one later text in that of the earlier ones."""
    keys = (pairs["later"].astype(np.uint64) << np.uint64(32)) | pairs["earlier"]
    found: NDArray[np.void] = pairs[np.unique(keys, return_index=True)[1]]
    return found


def _pairs(earlier: "NDArray[np.void]", later: "NDArray[np.void]", *, same: bool) -> "NDArray[np.void]":
    out = np.zeros(len(later), PAIR)
    out["later"], out["earlier"], out["same"] = later["text"], earlier["text"], same
    for column, key in (("sizes", "size"), ("at", "at")):
        out[column][:, 0], out[column][:, 1] = later[key], earlier[key]
    return out


class Shingles:
    """The file of all shingles, each text's in order; read at a place, so that nothing of it stays in memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def close(self) -> None:
        self._file.close()

    def read(self, at: int, size: int) -> bytes:
        """Those of one text: 4 bytes each."""
        return os.pread(self._file.fileno(), 4 * size, 4 * at)

    def set(self, at: int, size: int) -> frozenset[int]:
        return frozenset(np.frombuffer(self.read(at, size), np.uint32).tolist())

    def alike(self, pairs: "NDArray[np.void]") -> "NDArray[np.bool_]":
        """Whether the texts of each pair are alike, TOGETHER shingles at a time."""
        parts = np.cumsum(pairs["sizes"].sum(axis=1, dtype=np.int64)) // TOGETHER
        cuts = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(pairs)]
        found = [self._alike(pairs[a:b]) for a, b in pairwise(cuts) if a < b]
        return np.concatenate(found) if found else np.zeros(0, bool)

    def _alike(self, pairs: "NDArray[np.void]") -> "NDArray[np.bool_]":
        at, first = np.unique(pairs["at"], return_index=True)
        where = np.searchsorted(at, pairs["at"])
        sizes = pairs["sizes"].reshape(-1)[first].astype(np.int64)
        said = b"".join(map(self.read, at.tolist(), sizes.tolist()))
        shingles, begins = np.frombuffer(said, np.uint32), np.cumsum(sizes) - sizes
        sides = ((begins[where[:, side]], pairs["sizes"][:, side]) for side in (0, 1))
        keys = np.concatenate([_keys(shingles, *side) for side in sides])
        keys.sort()
        shared = keys[1:][keys[1:] == keys[:-1]]
        both = np.bincount((shared >> np.uint64(32)).astype(np.int64), minlength=len(pairs))
        return enough(both, *pairs["sizes"].T)


def _keys(
    shingles: "NDArray[np.uint32]", begins: "NDArray[np.int64]", sizes: "NDArray[np.uint32]"
) -> "NDArray[np.uint64]":
    """The shingles of each pair's one text, each behind the pair's number."""
    many = sizes.astype(np.int64)
    of = np.repeat(np.arange(len(many)), many)
    own = np.arange(len(of)) - np.repeat(np.cumsum(many) - many, many)
    found: NDArray[np.uint64] = (of.astype(np.uint64) << np.uint64(32)) | shingles[begins[of] + own]
    return found
