"""Questions that pages answer in more than one way: they do not name what makes them unique, so all of them go.

In: examples, gone through twice. Out: whether one is such a question. Keeps 150 bytes of each. Rows of files are taken
as they are: whoever logs conversations has several answers to one question.
"""

import hashlib

from tune.data.examples import Example

REASON = "asked with another answer"


class Answers:
    """What was answered to each question: `hear` every example first, then ask whether one has `several` answers."""

    def __init__(self) -> None:
        self._heard: dict[bytes, bytes] = {}
        self._several: set[bytes] = set()

    def hear(self, example: Example) -> None:
        if example.check != "given":
            asked, answer = _digest(example, last=False), _digest(example, last=True)
            if self._heard.setdefault(asked, answer) != answer:
                self._several.add(asked)

    def several(self, example: Example) -> bool:
        return example.check != "given" and bool(self._several) and _digest(example, last=False) in self._several


def _digest(example: Example, *, last: bool) -> bytes:
    """Of the answer, or of all that is asked; white space and what a developer says do not count."""
    *asked, answer = [message for message in example.messages if message.role != "developer"]
    text = " ".join(" ".join(message.content for message in ([answer] if last else asked)).split())
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
