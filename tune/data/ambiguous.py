"""Questions that pages answer in more than one way: they do not name what makes them unique, so all of them go.

In: examples, one at a time; then digests of all of them. Out: which have such a question. Rows of files are taken as
they are: whoever logs conversations has several answers to one question.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from tune.data.examples import Example

if TYPE_CHECKING:
    from numpy.typing import NDArray

REASON = "asked with another answer"


def digests(example: Example) -> tuple[int, int]:
    """Of all that is asked, and of the answer, 64 bits each; white space and what a developer says do not count."""
    *asked, answer = [message.content for message in example.messages if message.role != "developer"]
    return _digest(" ".join(asked)), _digest(answer)


def several(asked: "NDArray[np.uint64]", answers: "NDArray[np.uint64]") -> "NDArray[np.bool_]":
    """Which questions are asked with another answer, too."""
    order = np.lexsort((answers, asked))
    one, said = asked[order], answers[order]
    apart = one[1:][(one[1:] == one[:-1]) & (said[1:] != said[:-1])]
    return np.isin(asked, apart)


def _digest(text: str) -> int:
    flat = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(flat, digest_size=8).digest())
