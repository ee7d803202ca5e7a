"""Texts that are nearly the same as an earlier one that stays, among any number of them, found exactly.

In: the shingles of each text, read in blocks; an empty folder for what does not fit into memory. Out: for each text the
first earlier one that it is a twin of. Knows no texts of files, and no dataset.

Sets with Jaccard similarity t share a shingle among the |x| - ceil(t |x|) + 1 rarest of either (prefix filtering,
Chaudhuri et al. 2006); any order of all shingles will do for that, so how rare one is is counted by bucket. What shares
such a shingle is linked, and what is linked through others too: no text outside such a cluster has a say in which of it
stay. So the index lies on disk, in parts by shingle, and the texts of one cluster at a time are in memory.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHINGLE = 5  # words
ALIKE = 0.8  # Jaccard similarity of shingles from which two texts are one
BUCKETS = 2**22  # of shingles, to count how rare one is
TEXTS = 2**16  # of a block, so that a text's place in it takes 16 bits of a key of 64
ENTRIES = 2**22  # of the index that are in memory at a time
NEAR = 8  # blocks kept at hand

_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_TOKEN = re.compile(r"[\w.]+|[^\w\s]")


class Shingled(NamedTuple):
    """Texts as sets: how many shingles each has, and those of one after the other, each text's in order."""

    sizes: "NDArray[np.uint32]"
    shingles: "NDArray[np.uint32]"

    def each(self) -> "Iterator[NDArray[np.uint32]]":
        ends = np.cumsum(self.sizes, dtype=np.int64).tolist()
        return (self.shingles[a:b] for a, b in pairwise([0, *ends]))


Blocks = Sequence[Callable[[], Shingled]]  # of the texts in order, each of at most TEXTS, read when asked for


class _Words(dict[str, int]):
    """Checksums of words; each is computed once."""

    def __missing__(self, word: str) -> int:
        self[word] = found = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        return found


def shingled(texts: Iterable[str]) -> Shingled:
    """Checksums of every 5 words in a row, of the whole text when it is shorter. Signs count: `*` is not `/`."""
    known = _Words()
    hashes = [[known[word] for word in _TOKEN.findall(text.lower())] for text in texts]
    lengths = np.fromiter(map(len, hashes), np.int64, len(hashes))
    wide = np.maximum(lengths, SHINGLE)  # a short text is filled up with what is no word's checksum
    starts = np.cumsum(wide) - wide
    words = np.full(int(wide.sum()), 2**32, np.uint64)
    of = np.repeat(np.arange(len(hashes)), lengths)
    at = np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + starts[of]
    words[at] = np.fromiter(chain.from_iterable(hashes), np.uint64, len(of))
    mixed = np.zeros(max(0, len(words) - SHINGLE + 1), np.uint64)
    for k in range(SHINGLE):
        mixed = (mixed + words[k : k + len(mixed)] + np.uint64(1)) * _SPREAD
        mixed ^= mixed >> np.uint64(29)
    runs = wide - SHINGLE + 1
    of = np.repeat(np.arange(len(hashes)), runs)
    at = np.arange(len(of)) - np.repeat(np.cumsum(runs) - runs, runs) + starts[of]
    keys = np.unique((of.astype(np.uint64) << np.uint64(32)) | (mixed[at] >> np.uint64(32)))
    sizes = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(hashes))
    return Shingled(sizes.astype(np.uint32), keys.astype(np.uint32))


def find(blocks: Blocks, scratch: Path | None = None) -> "NDArray[np.int32]":
    """For each text the position of the first earlier one that stays and is at least ALIKE to it, or -1.

    Reads every block three times and keeps 12 bytes of a text. Without `scratch` the index is in memory too.
    """
    count = np.zeros(BUCKETS, np.uint32)
    told = [np.zeros(0, np.uint32)]
    for read in blocks:
        block = read()
        told.append(block.sizes)
        buckets, n = np.unique(block.shingles % BUCKETS, return_counts=True)
        count[buckets] += n.astype(np.uint32)
    sizes, begins = np.concatenate(told), np.cumsum([len(one) for one in told[:-1]])
    index = _Index(scratch, 1 << max(0, int(sizes.sum() * (1 - ALIKE) / ENTRIES)).bit_length())
    for read, first in zip(blocks, begins, strict=True):
        index.add(*_rare(read(), count), int(first))
    label = np.arange(len(sizes), dtype=np.int32)
    for shingles, texts in index.parts():
        label = _linked(label, sizes, shingles, texts)
    return _resolved(blocks, begins, label)


def _rare(block: Shingled, count: "NDArray[np.uint32]") -> "tuple[NDArray[np.uint32], NDArray[np.int32]]":
    """The rarest shingles of each text, which a twin must share one of, and whose they are. One that nothing else has
    is left out: no twin shares it."""
    sizes, shingles = block
    of = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    seen = np.minimum(count[shingles % BUCKETS], 2**16 - 1).astype(np.uint64)
    keys = np.sort((of << np.uint64(48)) | (seen << np.uint64(32)) | shingles)
    place = np.arange(len(keys)) - np.repeat(np.cumsum(sizes, dtype=np.int64) - sizes, sizes)
    most = sizes - np.ceil(ALIKE * sizes).astype(np.uint32) + 1
    keys = keys[(place < np.repeat(most, sizes)) & ((keys >> np.uint64(32)) & np.uint64(0xFFFF) > 1)]
    return keys.astype(np.uint32), (keys >> np.uint64(48)).astype(np.int32)


class _Index:
    """Pairs of a shingle and a text, in parts by shingle: on disk when there are several."""

    def __init__(self, folder: Path | None, parts: int) -> None:
        self._folder = folder if parts > 1 else None
        self._bits = parts.bit_length() - 1 if self._folder else 0
        self._here: list[NDArray[np.uint32]] = []

    def add(self, shingles: "NDArray[np.uint32]", texts: "NDArray[np.int32]", first: int) -> None:
        pairs = np.stack([shingles, (texts + first).astype(np.uint32)], axis=1)
        if self._folder is None:
            self._here.append(pairs)
            return
        pairs = pairs[np.argsort(shingles)]
        part = pairs[:, 0] >> np.uint32(32 - self._bits)
        for one, rows in zip(*np.unique(part, return_index=True), strict=True):
            with self._path(int(one)).open("ab") as f:
                pairs[rows : rows + np.searchsorted(part[rows:], one, "right")].tofile(f)

    def parts(self) -> "Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]":
        """Each part once; what was on disk is gone then."""
        if self._folder is None:
            found = np.concatenate(self._here) if self._here else np.zeros((0, 2), np.uint32)
            self._here.clear()
            yield found[:, 0], found[:, 1]
            return
        for path in filter(Path.is_file, map(self._path, range(1 << self._bits))):
            found = np.fromfile(path, np.uint32).reshape(-1, 2)
            path.unlink()
            yield found[:, 0], found[:, 1]

    def _path(self, part: int) -> Path:
        assert self._folder is not None
        return self._folder / f"index-{part:05d}.part"


def _linked(
    label: "NDArray[np.int32]",
    sizes: "NDArray[np.uint32]",
    shingles: "NDArray[np.uint32]",
    texts: "NDArray[np.uint32]",
) -> "NDArray[np.int32]":
    """`label`, the first text of each cluster, after texts that share a shingle, and could be alike by their sizes,
    have come together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    order = np.lexsort((sizes[texts], shingles))
    shingles, texts = shingles[order], texts[order]
    # Neighbours by size are enough: where any two of one shingle fit, so do all that lie between them.
    near = (shingles[1:] == shingles[:-1]) & (sizes[texts[:-1]] >= np.floor(ALIKE * sizes[texts[1:]]))
    a, b = label[texts[:-1][near]], label[texts[1:][near]]
    nodes, at = np.unique(np.concatenate([a, b]), return_inverse=True)
    if not len(nodes):
        return label
    ends = at[: len(a)], at[len(a) :]
    _, cluster = connected_components(coo_array((np.ones(len(a), np.int8), ends), shape=(len(nodes),) * 2), False)
    _, heads = np.unique(cluster, return_index=True)  # nodes are in order: the first of a cluster is its least
    to = np.arange(len(label), dtype=np.int32)
    to[nodes] = nodes[heads[cluster]]
    return to[label]


def _resolved(blocks: Blocks, begins: "NDArray[np.int64]", label: "NDArray[np.int32]") -> "NDArray[np.int32]":
    """Each cluster of several texts gone through in order. `begins`: the first text of each block."""

    @lru_cache(maxsize=NEAR)  # a cluster's texts are mostly of one page, or of two
    def block(number: int) -> "list[NDArray[np.uint32]]":
        return [*blocks[number]().each()]

    def shingles(text: int) -> frozenset[int]:
        number = int(np.searchsorted(begins, text, "right")) - 1
        return frozenset(block(number)[text - int(begins[number])].tolist())

    out = np.full(len(label), -1, np.int32)
    order = np.argsort(label, kind="stable").astype(np.int32)
    ends = np.flatnonzero(np.diff(label[order], append=-1)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    for a, b in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        texts = order[a:b].tolist()
        for twin, first in first_alike([shingles(text) for text in texts]).items():
            out[texts[twin]] = texts[first]
    return out


def first_alike(sets: Sequence[frozenset[int]]) -> dict[int, int]:
    """Positions of sets that are at least ALIKE to an earlier one that stays, each with the first such."""
    if len(sets) == 2:
        return {1: 0} if alike(*sets) else {}
    count = Counter(chain.from_iterable(sets))
    holders: dict[int, list[int]] = {}
    out = {}
    for i, mine in enumerate(sets):
        rare = sorted(mine, key=lambda s: (count[s], s))[: len(mine) - ceil(ALIKE * len(mine)) + 1]
        candidates = sorted({j for s in rare for j in holders.get(s, ())})
        first = next((j for j in candidates if alike(mine, sets[j])), None)
        if first is not None:
            out[i] = first
            continue
        for s in rare:
            if count[s] > 1:
                holders.setdefault(s, []).append(i)
    return out


def alike(a: Collection[int], b: Collection[int]) -> bool:
    """Whether two sets of shingles are those of one text, nearly."""
    both = len(frozenset(a).intersection(b))
    return both >= ALIKE * (len(a) + len(b) - both)
