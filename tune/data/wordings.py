"""How an open-book fact is asked: wordings and layouts, two of each at least, the last to be asked.

One wording would teach a small model that wording and not to read. Knows nothing about pages or models.
"""

import zlib
from collections.abc import Sequence

PARAMETER = (
    "What is the name of the {place} parameter{less}?",
    "Name the {place} parameter{less}.",
    "Which name does parameter number {number} have{less}?",
    "The {place} parameter{less}: what is it called?",
    "Give the parameter that stands at place {number}{less}.",
    "Which parameter comes {place} in the signature{less}?",
)
DEFAULT = (
    "What is the default value of the parameter `{name}`?",
    "Give the default of `{name}`.",
    "`{name}` is not passed: which value does it have?",
    "What does `{name}` default to?",
    "Which default does the signature give `{name}`?",
    "Which value does `{name}` take when the caller leaves it out?",
)
KEYWORD = (
    "Must the argument `{name}` be passed by keyword? Answer yes or no.",
    "Is `{name}` keyword-only? Answer yes or no.",
    "Is a keyword the only way to give `{name}`? Answer yes or no.",
    "Is there no place, only a keyword, by which `{name}` is given? Answer yes or no.",
    "Yes or no: whoever gives `{name}`, must they write `{name}=`?",
    "Does a call that passes `{name}` have to name it? Answer yes or no.",
)
SECTION = (
    'Under which heading does the passage say "{quote}"?\n{choices}',
    'Which heading stands above "{quote}"?\n{choices}',
    'Where does it say "{quote}"?\n{choices}',
    'Find the words "{quote}". Which heading are they under?\n{choices}',
    'Which of these parts has the words "{quote}" in it?\n{choices}',
)
PRINTS = (
    "What does `{name}` print?",
    "What is the output of `{name}`?",
    "Run `{name}`: what is printed?",
    "What stands under `{name}`?",
    "Which output does the session show for `{name}`?",
)
VALUE = (
    "What does the passage say about `{name}`?",
    "What is written about `{name}`?",
    "Say what is given for `{name}`.",
    "Look up `{name}`: what stands there?",
    "How does the text explain `{name}`?",
)
CELL = (
    "What does the table give for `{name}` under {column}?",
    "Read the row of `{name}`: what is its {column}?",
    "Look up `{name}` in the table. What stands under {column}?",
    "Which {column} belongs to `{name}`?",
)
LAYOUTS = (  # a passage is a stranger's text: nothing in it ends the fence or the quotation
    "Passage:\n{fenced}\n\n{question}",
    "{question}\n\nPassage:\n\n{fenced}",
    "From the documentation:\n\n{quoted}\n\nQuestion: {question}",
    "Read this first.\n\n{fenced}\n\nNow answer: {question}",
    "{question}\n\nThis is what is written:\n\n{quoted}",
    "{question}\n\nGo by this text:\n\n{quoted}",
)
SILENT = "not stated"  # the answer where the passage gives none
RULES = (
    f"If the passage does not say, answer {SILENT}.",
    f"Is it not there? Then answer {SILENT}.",
    f"When nothing is said of it, answer {SILENT}.",
    f"Where the text gives no answer, reply: {SILENT}.",
)


def filled(wordings: Sequence[str], **words: str) -> tuple[str, ...]:
    """Each wording with its words in place, whatever braces those hold."""
    return tuple(wording.format_map(words) for wording in wordings)


def learned(wordings: Sequence[str], name: str) -> str:
    """One of those to learn from, which `name` decides."""
    return wordings[pick(name, len(wordings) - 1)]


def pick(name: str, count: int) -> int:
    """A number under `count` that `name` decides."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % count
