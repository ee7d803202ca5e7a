"""What a load asks: prompts that share no beginning, so that no prefix cache answers, or the user's own.

In: how many, how long, a seed; or a file of prompts. Out: texts, and a Sent that says what they were. Lengths are
counted in GPT-OSS's tokens, of the text alone. Knows nothing about requests.
"""

import random
import re
import secrets
import statistics
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tune import harmony
from tune.errors import UserError

TASK = "\n\nExplain each of these words in a sentence of its own, one after the other."
LENGTHS = "128-384"
CONTEXT = 131_072  # tokens: as many as GPT-OSS takes, prompt and answer together
_WORD = re.compile("[a-z]{3,9}")
_FEW = 1000  # words to draw from, at least
_COMMON = 100_000  # of the byte-pair ranks, the half with the common words


class Sent(BaseModel):
    """What was sent to each arm, warm-up included. `lengths` is "" for the user's own prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int
    distinct: int
    median_tokens: float
    lengths: str  # tokens: one number, or LOW-HIGH, drawn evenly
    seed: int

    @property
    def note(self) -> str:
        """What a reader of the figures has to know; "" for nothing."""
        if self.distinct == self.requests:
            return ""
        asked = f"{self.distinct} distinct prompts for {self.requests} requests"
        return f"{asked}: they repeat, and a prefix cache may answer"


def made(count: int, lengths: str = LENGTHS, *, seed: int = 0) -> tuple[str, ...]:
    """`count` prompts, each of words drawn for it, its first token like no other's. The same for the same seed.

    A word is one token, with a space before it or without, so a length is kept exactly. Raises UserError for lengths
    that are none, and for more prompts than the vocabulary has such words.
    """
    low, high = bounds(lengths)
    rng = random.Random(seed)
    task, words = len(harmony.encode(TASK)), _words(max(count, _FEW), rng)
    if len(words) < count:
        fix = f"ask for at most {len(words)}, or give your own by --prompts FILE.jsonl"
        raise UserError(f"no {count} prompts can begin differently", why="there are not so many words", fix=fix)
    sizes = [rng.randint(low, high) - task - 1 for _ in range(count)]
    return tuple(
        " ".join([first, *rng.choices(words, k=size)]) + TASK for first, size in zip(words, sizes, strict=False)
    )


def drawn() -> int:
    """A seed for a run that asks what no run before it did."""
    return secrets.randbelow(2**31)


def read(path: Path) -> tuple[str, ...]:
    """The prompts of a file, {"prompt": "..."} a line. Raises UserError for a file or a line that is not that."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a prompt may hold Unicode's other line separators
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read", why=str(e), fix=f"ls -l {path}") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                found.append(_Line.model_validate_json(line).prompt)
        except ValidationError as e:
            why, fix = e.errors()[0]["msg"], """write lines such as {"prompt": "What does len return?"}"""
            raise UserError(f"line {number} of {path} is no prompt", why=why, fix=fix) from None
    if not found:
        raise UserError(f"{path} holds no prompt", fix=f"""echo '{{"prompt": "What does len return?"}}' >> {path}""")
    return tuple(found)


def sent(texts: Sequence[str], lengths: str, seed: int) -> Sent:
    """What these were, counted."""
    tokens = {text: len(harmony.encode(text)) for text in set(texts)}
    median = statistics.median(tokens[text] for text in texts)
    return Sent(requests=len(texts), distinct=len(tokens), median_tokens=median, lengths=lengths, seed=seed)


class _Line(BaseModel):
    prompt: str


def bounds(lengths: str) -> tuple[int, int]:
    """The bounds of "256" or of "128-384", both within. Raises UserError for what is no length, or over CONTEXT."""
    match = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", lengths)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    least = len(harmony.encode(TASK)) + 1
    if not least <= low <= high <= CONTEXT:
        why = f"a length is a number of tokens, {least} to {CONTEXT}, or two with a - between them, the lower first"
        raise UserError(f"{lengths!r} is no length of a prompt", why=why, fix=f"--prompt-tokens {LENGTHS}")
    return low, high


def _words(count: int, rng: random.Random) -> list[str]:
    """Distinct words, at most `count`, of one token each, in random order."""
    ids = list(range(_COMMON))
    rng.shuffle(ids)
    return list(islice(filter(None, map(_word, ids)), count))


def _word(token: int) -> str:
    """The word that this token is, if with a space before it, it is one token too; else ""."""
    text = harmony.decode([token])
    return text if _WORD.fullmatch(text) and len(harmony.encode(f" {text}")) == 1 else ""
