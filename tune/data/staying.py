"""Which texts stay, gone through in their order: one that is alike to an earlier one that stays goes.

In: pairs of texts that may be alike, and members of crowds, of a stretch of texts after the other. Out: the texts that
go. Of a crowd, the texts of one shingle that too many have for all their pairs, each is held against those who stay
alone: of a thousand that are nearly the same that is one. Knows nothing of how pairs are found.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from tune.data import pairs
from tune.data.pairs import Shingles

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR = 2**12  # sets kept at hand


class Judge:
    """Texts gone through in their order: what has been decided of earlier ones."""

    def __init__(self, known: Shingles) -> None:
        self._texts, self._firsts = array("I"), array("I")
        self._set = lru_cache(maxsize=NEAR)(known.set)
        self._known = known
        self._staying: dict[int, _Crowd] = {}  # by shingle

    @property
    def twins(self) -> "tuple[NDArray[np.uint32], NDArray[np.uint32]]":
        """The texts that go, in order, and for each the first earlier one that stays and is alike."""
        return np.array(self._texts, np.uint32), np.array(self._firsts, np.uint32)

    def go_on(self, some: "NDArray[np.void]", crowded: "NDArray[np.void]") -> None:
        """Judge the texts that have a pair here as the later one, or are in a crowd: all of them, in order."""
        some = some[some["same"] | self._known.alike(some)]
        crowded = crowded[np.argsort(crowded["text"], kind="stable")]
        met = zip(some["later"].tolist(), some["earlier"].tolist(), some["same"].tolist(), strict=True)
        told = groupby(met, key=lambda pair: pair[0])
        members = ((text, [*own]) for text, own in groupby(crowded, key=lambda one: int(one["text"])))
        text, own = next(members, (-1, []))
        for later, alike in told:
            while own and text < later:
                self._crowd(text, own, -1)
                text, own = next(members, (-1, []))
            first = self._first((earlier, same) for _, earlier, same in alike)
            if own and text == later:
                self._crowd(text, own, first)
                text, own = next(members, (-1, []))
            elif first >= 0:
                self._leave(later, first)
        while own:
            self._crowd(text, own, -1)
            text, own = next(members, (-1, []))

    def _first(self, alike: Iterable[tuple[int, bool]]) -> int:
        """The first of earlier texts that stays; for one that is the same and goes, what that is a twin of. Or -1."""
        for earlier, same in alike:
            stays = self._of(earlier)
            if stays < 0 or same:
                return earlier if stays < 0 else stays
        return -1

    def _of(self, text: int) -> int:
        """What an earlier text is a twin of, or -1."""
        at = bisect_left(self._texts, text)
        return self._firsts[at] if at < len(self._texts) and self._texts[at] == text else -1

    def _leave(self, text: int, first: int) -> None:
        self._texts.append(text)
        self._firsts.append(first)

    def _crowd(self, text: int, own: "list[np.void]", first: int) -> None:
        """Judge a member of crowds, of whom the first that is alike among its pairs is known: it may have an earlier
        one among those that stay of a crowd."""
        found = [self._staying.setdefault(int(one["shingle"]), _Crowd()) for one in own]
        at, size = int(own[0]["at"]), int(own[0]["size"])
        near = dict[int, tuple[int, int]]()
        for crowd, one in zip(found, own, strict=True):
            near.update(crowd.near(size, int(one["place"])))
        mine = self._set(at, size)
        for other in sorted(near):
            if 0 <= first < other:
                break
            if pairs.enough(len(mine & (others := self._set(*near[other]))), size, len(others)):
                first = other
                break
        if first >= 0:
            self._leave(text, first)
            return
        for crowd, one in zip(found, own, strict=True):
            crowd.add(text, size, int(one["place"]), at)


class _Crowd:
    """Those who stay of the texts that share a shingle which many have."""

    def __init__(self) -> None:
        self._said = array("Q")  # text, size, place, at of each

    def add(self, *said: int) -> None:
        self._said.extend(said)

    def near(self, size: int, place: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """The text of each that can be alike, where its shingles are and how many."""
        text, sizes, places, at = np.array(self._said, np.int64).reshape(-1, 4).T
        fit = np.flatnonzero(pairs.fits(size, place, sizes, places))
        return ((int(text[n]), (int(at[n]), int(sizes[n]))) for n in fit)
