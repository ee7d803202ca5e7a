"""A page's sentences in pairs, the next as the answer to the one before: what tutorials do. For comparison alone.

In: a page. Out: facts without a question in them. No code, no table, no heading, as there. Whoever names the kind in
`[dataset] kinds` sees beside the others what it teaches: to go on with a text.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from tune.data.fact import Fact
from tune.data.page import Page

LONGEST = 300  # characters of a sentence
CLAIM = "The documentation goes on after this sentence."


def facts(page: Page) -> Iterator[tuple[str, Fact]]:
    """The heading above the first sentence, and a pair; pairs reach from one paragraph into the next."""
    said = [
        (block.headings[-1], sentence)
        for block in page.blocks
        if block.kind == "prose"
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(block.text.split()))
        if 0 < len(sentence) <= LONGEST
    ]
    for (heading, sentence), (_, after) in pairwise(said):
        yield heading, Fact("neighbours", "grounded", sentence, after, CLAIM, sentence)
