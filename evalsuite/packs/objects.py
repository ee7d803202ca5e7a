"""Obeying a request for JSON: the keys are stated, the values stand in the prompt.

Strings, whole numbers, lists and objects alone: such JSON is a Python literal too, which the grader reads.
"""

import json
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from evalsuite.packs.draft import NAMES, THINGS, WORDS, Draft, Template, listed

CITIES = ("Bergen", "Cork", "Delft", "Erfurt", "Faro", "Ghent", "Turin", "Lyon", "Malaga", "Porto", "Riga", "Split")


def _draft(prompt: str, value: Any) -> Draft:
    return Draft(f"{prompt} Answer with JSON on one line.", json.dumps(value))


def person(r: Random) -> Draft:
    name, age, city = r.choice(NAMES), r.randrange(18, 90), r.choice(CITIES)
    said = r.choice((f"{name} is {age} years old and lives in {city}.", f"In {city} there lives {name}, aged {age}."))
    return _draft(
        f'{said} Give an object with the keys "name", "age" (a number) and "city".',
        {"name": name, "age": age, "city": city},
    )


def order(r: Random) -> Draft:
    some = r.sample(THINGS, 2)
    counts = {thing: r.randrange(2, 60) for thing in some}
    name = r.choice(NAMES)
    asked = listed([f"{n} {thing}" for thing, n in counts.items()])
    return _draft(f"{name} orders {asked}. Give an object from each thing, as it is written, to its number.", counts)


def numbers(r: Random) -> Draft:
    found = r.sample(range(2, 99), r.randrange(5, 8))
    limit = r.randrange(25, 75)
    wordings = (
        (f"Of {listed([*map(str, found)])}, give the even ones as an array, in this order.",
         [n for n in found if n % 2 == 0]),
        (f"Give the numbers {listed([*map(str, found)])} as an array, the smallest first.", sorted(found)),
        (f"Give an array of those of the numbers {listed([*map(str, found)])} that are over {limit}, in this order.",
         [n for n in found if n > limit]),
    )  # fmt: skip
    return _draft(*r.choice(wordings))


def tally(r: Random) -> Draft:
    words = r.choices(r.sample(WORDS, 3), k=r.randrange(5, 9))
    return _draft(
        f"How often does each word occur here: {' '.join(words)}? Give an object from word to number.", Counter(words)
    )


def nested(r: Random) -> Draft:
    name, city, thing, n = r.choice(NAMES), r.choice(CITIES), r.choice(THINGS), r.randrange(2, 80)
    return _draft(
        f'Wrap {n} {thing} for {name} of {city}: an object with the key "to", an object with "name" and "city", and '
        f'the key "{thing}" with the number.',
        {"to": {"name": name, "city": city}, thing: n},
    )


def turned(r: Random) -> Draft:
    keys, values = r.sample(WORDS, 3), r.sample(CITIES, 3)
    given = dict(zip(keys, values, strict=True))
    return _draft(f"Swap keys and values of this object: {json.dumps(given)}", {v: k for k, v in given.items()})


def renamed(r: Random) -> Draft:
    given: dict[str, object] = {"id": r.randrange(100, 999), "city": r.choice(CITIES), "item": r.choice(THINGS)}
    old, new = r.choice(list(given)), r.choice(("code", "place", "part", "field"))
    changed = {new if key == old else key: value for key, value in given.items()}
    wordings = (
        (f'In {json.dumps(given)} the key "{old}" has to be called "{new}". Give the whole object.', changed),
        (f'Give {json.dumps(given)} without the key "{old}".', {k: v for k, v in given.items() if k != old}),
    )
    return _draft(*r.choice(wordings))


def rows(r: Random) -> Draft:
    names = r.sample(NAMES, 3)
    points = r.sample(range(1, 60), 3)
    told = "; ".join(f"{name}, {n}" for name, n in zip(names, points, strict=True))
    pairs = sorted(zip(names, points, strict=True), key=lambda pair: -pair[1])
    return _draft(
        f"Points: {told}. Give an array of arrays of name and points, the most points first.", [list(p) for p in pairs]
    )


TEMPLATES: Mapping[str, Template] = {
    each.__name__: each for each in (person, order, numbers, tally, nested, turned, renamed, rows)
}
