"""Filters of examples: shape, near-duplicates, contamination by evaluation questions, spelled-out control tokens.

In: texts. Out: verdicts about them. Pure and deterministic; knows no files and no tokens.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil

from tune.harmony import Message

SHORTEST, LONGEST = 2, 6000  # characters of an answer
SHINGLE = 5  # words
ALIKE = 0.8  # Jaccard similarity of shingles from which two texts are one
GRAM = 13  # words: the overlap that GPT-3's authors called contamination (Brown et al. 2020, appendix C)

_CONTROL = re.compile(
    r"<\|(?:start|end|message|channel|constrain|return|call|startoftext|endoftext|endofprompt|reserved_\d+)\|>"
)


def spells_control(text: str) -> bool:
    """Whether the text spells a control token of the harmony format. Such text is kept: it is encoded as characters."""
    return bool(_CONTROL.search(text))


def problem(messages: Sequence[Message]) -> str:
    """What rules a conversation out: "empty", "no analysis", "short" or "long"; empty when nothing does.

    An answer without analysis, or with a blank one, would teach the model to skip thinking.
    """
    if not messages or messages[-1].role != "assistant" or not all(m.content.strip() for m in messages):
        return "empty"
    if not (messages[-1].thinking or "").strip():
        return "no analysis"
    answer = len(messages[-1].content.strip())
    return "short" if answer < SHORTEST else "long" if answer > LONGEST else ""


def near_duplicates(texts: Sequence[str]) -> list[int]:
    """Positions of texts that are at least ALIKE to an earlier text that stays.

    Exact, not sampled: sets with Jaccard similarity t share a shingle among the |x| - ceil(t |x|) + 1 rarest of
    either (prefix filtering, Chaudhuri et al. 2006), so only those are looked up.
    """
    shingles = [_shingles(text) for text in texts]
    count = Counter(s for found in shingles for s in found)
    kept_by: dict[int, list[int]] = {}
    out = []
    for i, found in enumerate(shingles):
        rare = sorted(found, key=lambda s: (count[s], s))[: len(found) - ceil(ALIKE * len(found)) + 1]
        candidates = {j for s in rare for j in kept_by.get(s, ())}
        if any(_alike(found, shingles[j]) for j in candidates):
            out.append(i)
            continue
        for s in rare:
            kept_by.setdefault(s, []).append(i)
    return out


def contaminated(texts: Sequence[str], questions: Iterable[str]) -> list[int]:
    """Positions of texts that hold a question word for word, or share 13 words in a row with one."""
    exact: set[tuple[str, ...]] = set()
    grams: set[tuple[str, ...]] = set()
    for question in questions:
        said = words(question)
        if len(said) < GRAM:
            exact.add(said)
        grams.update(runs(said, GRAM))
    lengths = sorted({len(each) for each in exact if each})

    def hit(text: str) -> bool:
        said = words(text)
        if not grams.isdisjoint(runs(said, GRAM)):
            return True
        return any(not exact.isdisjoint(runs(said, length)) for length in lengths)

    return [i for i, text in enumerate(texts) if hit(text)]


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


def _alike(a: frozenset[int], b: frozenset[int]) -> bool:
    both = len(a & b)
    return both >= ALIKE * (len(a) + len(b) - both)
