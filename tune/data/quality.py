"""Filters of examples: shape, near-duplicates, contamination by evaluation questions, spelled-out control tokens.

In: texts. Out: verdicts about them. Pure and deterministic; knows no files and no tokens.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

from tune.data import twins
from tune.harmony import Message

SHORTEST, LONGEST = 2, 6000  # characters of an answer
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
    """Positions of texts that are nearly the same as an earlier text that stays. See twins.find."""
    blocks = [partial(twins.shingled, texts[i : i + twins.TEXTS]) for i in range(0, len(texts), twins.TEXTS)]
    return [*map(int, twins.find(blocks).texts)]


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
    heads = {each[:2] for each in exact if each}

    def shared(text: str) -> str:
        if not (heads or grams):
            return ""
        said = words(text)
        # Nearly every text shares nothing, which is seen sooner than what it would be.
        alone = heads.isdisjoint(pairwise(said)) and heads.isdisjoint(zip(said, strict=True))
        if alone and grams.isdisjoint(zip(*(said[i:] for i in range(GRAM)), strict=False)):
            return ""
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
