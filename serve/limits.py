"""How much text one request may bring, decided before it is tokenised. Pure; knows JSON values, not HTTP.

The engine tokenises in its event loop, at a cost that grows with the square of a piece that its tokenizer cannot
split: one word of 200 kB holds everyone up for half a minute. Here such a body is refused for a fraction of that.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

LONGEST_TOKEN = 128  # bytes, of the o200k vocabulary
DEEPEST = 100  # levels of nesting; readers of JSON behind us give up, or fall over, at a few more
SHORT = 64  # characters of a run that costs no more than any other text

# Bytes squared, over all long runs of a request. Tokenising costs 2e-10 to 7e-10 s for each (letters, Chinese, emoji,
# line breaks; x86-64, 2026-11): 0.3 s at most, and 20 kB of Chinese without a single mark pass.
BUDGET = 20_480**2

_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # \s of Rust; Python's has four more
_INLINE = r"\t\x0b\x0c \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # without \r and \n


class TextError(ValueError):
    """A request with more text than can be taken. `param` is the field at fault, `code` the kind."""

    def __init__(self, message: str, param: str, code: str) -> None:
        super().__init__(message)
        self.param, self.code = param, code


def check(body: Mapping[str, Any], max_model_len: int) -> None:
    """Raise TextError for a body that is nested too deeply, cannot fit, or would take too long to tokenise."""
    room, budget = max_model_len * LONGEST_TOKEN, BUDGET
    for param, value in body.items():
        found = list(_texts(param, value))
        sizes = [_size(text) for text in found]
        room -= max(sizes, default=0) if param == "prompt" else sum(sizes)  # a list of prompts is many requests
        if room < 0:
            why = f"{sum(sizes):,} bytes of text cannot fit into {max_model_len:,} tokens"
            raise TextError(f"{param} is too long: {why}", param, "context_length_exceeded")
        long = [run for text in found if len(text) >= SHORT and not ordinary(text) for run in runs(text)]
        budget -= sum(run * run for run in long)
        if budget < 0:
            why = f"up to {max(long):,} bytes without a space or another kind of character"
            what = f"{param} holds text that takes too long to tokenise: {why}"
            raise TextError(f"{what}; break it into words or lines", param, "unbroken_text")


def ordinary(text: str) -> bool:
    """Whether no run can be that long, told by spaces alone, in a fifth of the time that it takes to look for one."""
    words = text.split(" ")  # which no run of letters or of symbols holds
    if max(map(len, words)) >= SHORT:
        return False
    apart = text.split()  # at Python's white space, which is Rust's and four more
    return len(text) - len("".join(apart)) - len(apart) < SHORT - 2  # what gaps have beyond one character each


def runs(text: str) -> Iterator[int]:
    """Bytes of every run of at least SHORT characters that the tokenizer may have to take as one piece.

    A piece is letters and marks with at most one character before and 's after; or symbols and marks, then line
    breaks and slashes; or whitespace; or three digits. A character that may be either counts as both.
    """
    text = text.replace("_", "-")  # \w would take it for a letter
    for pattern in _patterns():
        for match in pattern.finditer(text):
            yield _size(match[0])


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Whatever may be a letter or mark; whatever may be a symbol, a mark or a line break; whitespace."""
    symbols = (chr(c) for c in range(0x10000) if unicodedata.category(chr(c))[0] in "PS")
    apart = "".join(map(re.escape, symbols)) + "\U0001f000-\U0001faff"
    classes = (rf"[^{_SPACE}\d{apart}]", rf"[^\w{_INLINE}]", rf"[{_SPACE}]")
    # Starting only where a run starts keeps this linear.
    return tuple(re.compile(f"(?<!{kind}){kind}{{{SHORT},}}") for kind in classes)


def _texts(param: str, value: object) -> Iterator[str]:
    """Every string in a value, keys too. Parts of one message are joined, as the engine joins them."""
    waiting: list[tuple[str, object, int]] = [(param, value, 1)]
    while waiting:
        name, here, depth = waiting.pop()
        if depth > DEEPEST:
            raise TextError(f"{param} is nested deeper than {DEEPEST} levels", param, "invalid_body")
        if isinstance(here, str):
            yield here
        elif isinstance(here, dict):
            yield from here
            waiting += [(key, inner, depth + 1) for key, inner in here.items()]
        elif isinstance(here, list):
            if name == "content":
                yield "".join(map(_part, here))
                here = [_without_text(part) for part in here if not isinstance(part, str)]
            waiting += [("", inner, depth + 1) for inner in here]


def _part(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def _without_text(part: object) -> object:
    return {k: v for k, v in part.items() if k != "text" or not isinstance(v, str)} if isinstance(part, dict) else part


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
