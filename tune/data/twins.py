"""Texts that are nearly the same as an earlier one that stays, among any number of them, found exactly.

In: the shingles of each text, read in blocks; an empty folder for what does not fit into memory. Out: which texts are
twins, each with the first earlier one that stays. Knows no texts of files, and no dataset.

What two texts that are alike share is rare in both (see pairs), so an index of rare shingles says which pairs to
compare: of documentation less than one a text. How rare one is is counted by bucket. The index, the pairs and all
shingles lie on disk; in memory are 8 bytes of a twin, and at a time a stretch of texts or all that share one shingle.
"""

import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tune.data import pairs
from tune.data.pairs import ALIKE, ENTRY, PAIR, Shingles
from tune.data.spill import Spill
from tune.data.staying import Judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHINGLE = 5  # words
BUCKETS = 2**23  # of shingles, to count how rare one is
TEXTS = 2**16  # of a block, so that a text's place in it takes 16 bits of a key of 64
ENTRIES = 2**18  # of the index that are in memory at a time
STRETCH = 2**17  # texts whose pairs are in memory at a time

_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_TOKEN = re.compile(r"[\w.]+|[^\w\s]")


class Shingled(NamedTuple):
    """Texts as sets: how many shingles each has, and those of one after the other, each text's in order."""

    sizes: "NDArray[np.uint32]"
    shingles: "NDArray[np.uint32]"

    def each(self) -> "Iterator[NDArray[np.uint32]]":
        ends = np.cumsum(self.sizes, dtype=np.int64).tolist()
        return (self.shingles[a:b] for a, b in pairwise([0, *ends]))


class Twins(NamedTuple):
    """Texts that go, in order, and for each the first earlier one that stays and is at least ALIKE to it."""

    texts: "NDArray[np.uint32]"
    firsts: "NDArray[np.uint32]"


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


def find(blocks: Blocks, scratch: Path | None = None) -> Twins:
    """The twins among all texts. Reads every block twice; what lies on disk meanwhile, in `scratch` or where the system
    has such things, is their shingles once and 32 bytes of each rare one."""
    count = np.zeros(BUCKETS, np.uint16)
    texts = shingles = 0
    for read in blocks:
        block = read()
        buckets, n = np.unique(block.shingles % BUCKETS, return_counts=True)
        count[buckets] = np.minimum(count[buckets] + n.astype(np.uint32), 2**16 - 1)
        texts, shingles = texts + len(block.sizes), shingles + len(block.shingles)
    with TemporaryDirectory(dir=scratch, prefix="twins-") as room:
        every = Path(room) / "shingles.part"
        index = _indexed(blocks, count, Path(room), every, 1 + int((texts + (1 - ALIKE) * shingles) / ENTRIES))
        del count
        together = Spill(Path(room), "pairs", PAIR, 1 + texts // STRETCH)
        crowds = Spill(Path(room), "crowds", ENTRY, 1 + texts // STRETCH)
        for entries in index.each():
            found = pairs.candidates(entries)
            together.add(found.pairs, found.pairs["later"] // STRETCH)
            crowds.add(found.crowded, found.crowded["text"] // STRETCH)
        known = Shingles(every)
        try:
            judge = Judge(known)
            for some, crowded in zip(together.each(), crowds.each(), strict=True):
                judge.go_on(pairs.distinct(some), crowded)
        finally:
            known.close()
    return Twins(*judge.twins)


def _indexed(blocks: Blocks, count: "NDArray[np.uint16]", room: Path, every: Path, parts: int) -> Spill:
    """An index of the rare shingles, in parts by shingle; all shingles are written one after the other to `every`."""
    index, first, at = Spill(room, "index", ENTRY, parts), 0, 0
    with every.open("wb") as f:
        for read in blocks:
            block = read()
            entries = _rare(block, count)
            entries["text"] += first
            entries["at"] += at
            index.add(entries, entries["shingle"] % parts)
            block.shingles.tofile(f)
            first, at = first + len(block.sizes), at + len(block.shingles)
    return index


def _rare(block: Shingled, count: "NDArray[np.uint16]") -> "NDArray[np.void]":
    """The rarest shingles of each text, which a twin must share one of. One that nothing else has is left out: no twin
    shares it."""
    sizes, shingles = block
    begins = np.cumsum(sizes, dtype=np.int64) - sizes
    of = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    seen = count[shingles % BUCKETS].astype(np.uint64)
    keys = np.sort((of << np.uint64(48)) | (seen << np.uint64(32)) | shingles)
    place = np.arange(len(keys)) - np.repeat(begins, sizes)
    most = sizes - np.ceil(ALIKE * sizes).astype(np.uint32) + 1
    taken = (place < np.repeat(most, sizes)) & ((keys >> np.uint64(32)) & np.uint64(0xFFFF) > 1)
    out = np.zeros(int(taken.sum()), ENTRY)
    text = (keys[taken] >> np.uint64(48)).astype(np.int64)
    out["shingle"], out["text"], out["place"] = keys[taken] & np.uint64(2**32 - 1), text, place[taken]
    out["size"], out["at"] = sizes[text], begins[text]
    out["whole"] = _whole(sizes, shingles)[text]
    return out


def _whole(sizes: "NDArray[np.uint32]", shingles: "NDArray[np.uint32]") -> "NDArray[np.uint64]":
    """64 bits of each text's shingles, whatever their order."""
    mixed = (shingles + np.uint64(1)) * _SPREAD
    mixed ^= mixed >> np.uint64(29)
    mixed *= _SPREAD
    mixed ^= mixed >> np.uint64(32)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed * _SPREAD, dtype=np.uint64)])  # modulo 2^64
    ends = np.cumsum(sizes, dtype=np.int64)
    found: NDArray[np.uint64] = sums[ends] - sums[ends - sizes]
    return found


def alike(a: Collection[int], b: Collection[int]) -> bool:
    """Whether two sets of shingles are those of one text, nearly."""
    both = len(frozenset(a).intersection(b))
    return both >= ALIKE * (len(a) + len(b) - both)
