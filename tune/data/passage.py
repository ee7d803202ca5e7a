"""A section of a page -> the passage that an open-book question shows: its signature, and what is said of it first.

In: sections. Out: short plain text, at most PASSAGE characters. Knows nothing about questions.
"""

import re

from tune.data import signatures
from tune.data.block import Section

PASSAGE = 700  # characters of a passage at most
LEAD = 240  # of them, at most, the sentences under a signature


def signature_of(section: Section) -> signatures.Signature | None:
    """What the section's first block says, when it is code that reads as a signature."""
    first = section.blocks[0]
    return signatures.parse(first.text) if first.kind == "code" else None


def documented(section: Section) -> signatures.Signature | None:
    """The signature of what the section's heading names."""
    found = signature_of(section)
    named = found and section.title.rpartition(".")[2] == found.name.rpartition(".")[2]
    return found if named else None


def of_signature(section: Section, found: signatures.Signature) -> str:
    """The signature and the first sentences under it; empty when the signature alone is too long."""
    lead = next((sentences(block.text) for block in section.blocks[1:] if block.kind == "prose"), "")
    return "" if len(found.text) > PASSAGE - LEAD - 1 else f"{found.text}\n{lead}".rstrip()


def sentences(text: str, most: int = 2, limit: int = LEAD) -> str:
    """Whole sentences from the start, at most `most` and `limit` characters, on one line; may be empty."""
    found = ""
    for said in re.split(r"(?<=[.!?]) +", " ".join(text.split()))[:most]:
        if len(found) + len(said) >= limit:
            break
        found = f"{found} {said}".lstrip()
    return found
