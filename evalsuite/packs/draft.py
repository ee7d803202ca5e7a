"""CONTRACT: a template of questions: dice in, one question with its one right answer out. Knows no set and no split."""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from evalsuite.questions import Grader

NAMES = (
    "Ada", "Bilal", "Carmen", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Lars", "Mina",
    "Nuno", "Olga", "Pavel", "Quinn", "Rosa", "Sven", "Tariq", "Uma", "Vera", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip
THINGS = (
    "apples", "bolts", "candles", "drums", "eggs", "flags", "gloves", "hats", "jars", "kites", "lamps", "maps", "nails",
    "oars", "pens", "ropes", "spoons", "tiles", "vases", "wheels",
)  # fmt: skip
WORDS = (
    "amber", "bridge", "cedar", "delta", "ember", "fable", "garden", "harbor", "island", "jacket", "kettle", "lantern",
    "meadow", "nectar", "orchard", "pebble", "quartz", "ribbon", "saddle", "timber", "umbrella", "velvet", "window",
    "yarrow", "zephyr",
)  # fmt: skip


class Draft(NamedTuple):
    """What a template makes. `guess`: the chance of a blind guess, where the prompt shows what to choose from."""

    prompt: str
    answer: str
    grader: Grader = "literal"
    guess: float = 0.0


Template = Callable[[Random], Draft]


def listed(words: list[str]) -> str:
    """ "a, b and c"."""
    return f"{', '.join(words[:-1])} and {words[-1]}"


def lettered(options: list[str]) -> str:
    """Each on a line of its own, behind its letter."""
    return "\n".join(f"{chr(ord('A') + i)}) {option}" for i, option in enumerate(options))
