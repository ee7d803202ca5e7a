"""A question with its answer, before it is a conversation: what every kind of example is made as.

Knows nothing about pages, efforts or messages.
"""

import re
from typing import Literal, NamedTuple

from tune.recipe import Kind

# judged: by another model; given: somebody's row, taken as it is
Check = Literal["executed", "grounded", "inspected", "judged", "given"]


class Fact(NamedTuple):
    """A question with its answer, and what the analysis may say: a claim, and the line of the page behind it."""

    kind: Kind
    check: Check
    question: str
    answer: str
    claim: str
    line: str
    value: str = ""  # of a short answer
    given: bool = False  # the passage stands in the question


def short(claim: str, value: str, line: str) -> tuple[str, str, str, str]:
    """The answer, claim, line and value of a fact with a short answer. The claim is for the analysis alone: a small
    model that has said it there and begins it again goes on as it did there, and ends before the answer line."""
    return f"ANSWER: {value}", claim, line, value


def named(title: str) -> str:
    return f"`{title}`" if re.fullmatch(r"[\w.]+", title) and ("." in title or title.islower()) else title


def sentence(text: str) -> str:
    """The first sentence, on one line, at most 200 characters."""
    flat = re.sub(r"\s+", " ", text).strip()
    cut = re.match(r".{10,198}?[.!?](?= |$)", flat)
    return cut[0] if cut else flat[:197] + ("..." if len(flat) > 197 else "")
