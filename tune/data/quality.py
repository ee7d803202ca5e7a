"""Filters of examples: shape, near-duplicates, contamination by evaluation questions, spelled-out control tokens.

In: texts. Out: verdicts about them. Pure and deterministic; knows no files and no tokens.
"""

import re
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from math import ceil

from tune.harmony import Message

SHORTEST, LONGEST = 2, 6000  # characters of an answer
SHINGLE = 5  # words
ALIKE = 0.8  # Jaccard similarity of shingles from which two texts are one
BUCKETS = 2**22  # of shingles: at two million texts some eight entries each
GRAM = 13  # words: the overlap that GPT-3's authors called contamination (Brown et al. 2020, appendix C)

_CONTROL = re.compile(
    r"<\|(?:start|end|message|channel|constrain|return|call|startoftext|endoftext|endofprompt|reserved_\d+)\|>"
)


def spells_control(text: str) -> bool:
    """Whether the text spells a control token of the harmony format. Such text is kept: it is encoded as characters."""
    return bool(_CONTROL.search(text))


def problem(messages: Sequence[Message], *, given: bool = False) -> str:
    """What rules a conversation out: "empty", "no analysis", "short" or "long"; empty when nothing does.

    A blank analysis would teach the model to skip thinking; so would an answer without one, at an effort that says to
    think. `given`: somebody else's row, which stays without analysis (`tune.data.imported` says at which effort), and
    at any length.
    """
    if not messages or messages[-1].role != "assistant" or not all(m.content.strip() for m in messages):
        return "empty"
    if given:
        return "" if (messages[-1].thinking or "-").strip() else "no analysis"
    if not (messages[-1].thinking or "").strip():
        return "no analysis"
    answer = len(messages[-1].content.strip())
    return "short" if answer < SHORTEST else "long" if answer > LONGEST else ""


def near_duplicates(texts: Sequence[str]) -> list[int]:
    """Positions of texts that are at least ALIKE to an earlier text that stays."""
    return list(twins(texts))


def twins(texts: Iterable[str]) -> dict[int, int]:
    """The same positions, each with that of the first earlier text that stays and is alike.

    Exact, not sampled: sets with Jaccard similarity t share a shingle among the |x| - ceil(t |x|) + 1 rarest of
    either (prefix filtering, Chaudhuri et al. 2006), so only those are looked up. Any order of all shingles will do for
    that, so how rare one is is counted by bucket. Texts are read once; half a kilobyte is kept of each.
    """
    shingles, starts = array("I"), array("Q", [0])
    count = array("I", bytes(4 * BUCKETS))
    for text in texts:
        found = _shingles(text)
        for s in found:
            count[s % BUCKETS] += 1
        shingles.extend(sorted(found))
        starts.append(len(shingles))
    newest = array("i", [-1]) * BUCKETS  # the last entry of each bucket, and what entries hold:
    entries, holders, before = array("I"), array("I"), array("i")  # a rare shingle, its text, the entry before
    out = {}
    for i in range(len(starts) - 1):
        mine = shingles[starts[i] : starts[i + 1]]
        rare = sorted(mine, key=lambda s: (count[s % BUCKETS], s))[: len(mine) - ceil(ALIKE * len(mine)) + 1]
        candidates = set()
        for s in rare:
            at = newest[s % BUCKETS]
            while at >= 0:
                if entries[at] == s:
                    candidates.add(holders[at])
                at = before[at]
        own = frozenset(mine)
        first = next((j for j in sorted(candidates) if _alike(own, shingles[starts[j] : starts[j + 1]])), None)
        if first is not None:
            out[i] = first
            continue
        for s in rare:
            before.append(newest[s % BUCKETS])
            newest[s % BUCKETS] = len(entries)
            entries.append(s)
            holders.append(i)
    return out


def contaminated(texts: Sequence[str], questions: Iterable[str]) -> list[int]:
    """Positions of texts that hold a question word for word, or share 13 words in a row with one."""
    shared = shared_with(questions)
    return [i for i, text in enumerate(texts) if shared(text)]


def shared_with(questions: Iterable[str]) -> Callable[[str], str]:
    """A function that finds in a text the first 13 words in a row, or the whole question of fewer, that it shares with
    one of the questions; "" when it shares none."""
    exact: set[tuple[str, ...]] = set()
    grams: set[tuple[str, ...]] = set()
    for question in questions:
        said = words(question)
        if len(said) < GRAM:
            exact.add(said)
        grams.update(runs(said, GRAM))
    lengths = sorted({len(each) for each in exact if each})

    def shared(text: str) -> str:
        said = words(text)
        found = next((gram for gram in runs(said, GRAM) if gram in grams), None)
        short = (run for length in lengths for run in runs(said, length) if run in exact)
        return " ".join(found or next(short, ()))

    return shared


def words(text: str) -> tuple[str, ...]:
    """Letters, digits and underscores, in lower case: what stands between them counts as nothing."""
    return tuple(re.findall(r"\w+", text.lower()))


def runs(words: tuple[str, ...], length: int) -> Iterable[tuple[str, ...]]:
    """Every `length` words in a row, from the first on; none of fewer words."""
    return (words[i : i + length] for i in range(len(words) - length + 1))


def _shingles(text: str) -> frozenset[int]:
    """Checksums of every 5 words in a row, of the whole text when it is shorter. Signs count: `*` is not `/`."""
    words = re.findall(r"[\w.]+|[^\w\s]", text.lower())
    runs = [words[i : i + SHINGLE] for i in range(max(1, len(words) - SHINGLE + 1))]
    return frozenset(zlib.crc32(" ".join(run).encode("utf-8", "surrogatepass")) for run in runs)


def _alike(a: frozenset[int], b: Collection[int]) -> bool:
    both = len(a.intersection(b))
    return both >= ALIKE * (len(a) + len(b) - both)
