"""What everybody knows, of things that do not change: the calendar, the clock, shapes, letters, directions, units."""

import calendar
from collections.abc import Mapping
from random import Random

from evalsuite.packs.draft import NAMES, WORDS, Draft, Template

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SHAPES = ("triangle", "square", "pentagon", "hexagon", "heptagon", "octagon")  # from three corners on
COMPASS = ("north", "east", "south", "west")
UNITS = (
    ("hours", "minutes", 60), ("days", "hours", 24), ("weeks", "days", 7), ("metres", "centimetres", 100),
    ("kilometres", "metres", 1000), ("kilograms", "grams", 1000), ("minutes", "seconds", 60), ("years", "months", 12),
    ("dozens", "pieces", 12), ("litres", "millilitres", 1000), ("centuries", "years", 100),
)  # fmt: skip
LEGS = {"spiders": 8, "horses": 4, "ants": 6, "hens": 2, "beetles": 6, "dogs": 4, "snakes": 0}
ROMAN = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))


def month(r: Random) -> Draft:
    number = r.randrange(1, 13)
    leap = r.random() < 0.5
    days = calendar.monthrange(2024 if leap else 2023, number)[1]
    year = "a leap year" if leap else "a year that is no leap year"
    wordings = (
        (f"How many days does {MONTHS[number - 1]} have in {year}?", str(days)),
        (f"Which number does the month {MONTHS[number - 1]} have in the year?", str(number)),
        (f"How many months of the year come after {MONTHS[number - 1]}?", str(12 - number)),
    )
    return Draft(*r.choice(wordings))


def weekday(r: Random) -> Draft:
    start, after = r.randrange(7), r.randrange(2, 40)
    back = r.random() < 0.4
    day = DAYS[(start - after) % 7] if back else DAYS[(start + after) % 7]
    when = "was it" if back else "will it be"
    return Draft(
        f"Today is {DAYS[start]}. Which day of the week {when} {after} days {'ago' if back else 'from now'}? Answer "
        "with the English name, with a capital.",
        day,
        "exact",
    )


def clock(r: Random) -> Draft:
    start, length = 5 * r.randrange(72, 200), 5 * r.randrange(5, 60)
    end, name = start + length, r.choice(NAMES)
    began, ended = (f"{t // 60:02}:{t % 60:02}" for t in (start, end))
    wordings = (
        (f"A film begins at {began} and takes {length} minutes. When does it end? Answer as HH:MM.", ended, "exact"),
        (f"{name} sleeps from {began} to {ended} of the same day. How many minutes is that?", str(length), "literal"),
        (f"{name} arrives at {ended} after {length} minutes on the way. When did {name} leave? Answer as HH:MM.", began,
         "exact"),
    )  # fmt: skip
    prompt, answer, grader = r.choice(wordings)
    return Draft(prompt, answer, "exact" if grader == "exact" else "literal")


def shapes(r: Random) -> Draft:
    first, second = r.sample(range(len(SHAPES)), 2)
    many = r.randrange(2, 9)
    wordings = (
        (f"How many corners do {many} separate {SHAPES[first]}s have together?", many * (first + 3)),
        (f"A {SHAPES[first]} and a {SHAPES[second]} are drawn apart. How many sides are drawn?", first + second + 6),
        (f"Every side of a regular {SHAPES[first]} is {many} cm long. How many centimetres is it all around?",
         many * (first + 3)),
    )  # fmt: skip
    prompt, value = r.choice(wordings)
    return Draft(prompt, str(value))


def legs(r: Random) -> Draft:
    first, second = r.sample(list(LEGS), 2)
    one, two = r.randrange(2, 10), r.randrange(2, 10)
    place = r.choice(("barn", "picture", "garden", "story"))
    return Draft(
        f"In a {place} there are {one} {first} and {two} {second}, none hurt. How many legs do they have in all?",
        str(one * LEGS[first] + two * LEGS[second]),
    )


def units(r: Random) -> Draft:
    large, small, factor = r.choice(UNITS)
    n, name = r.randrange(2, 30), r.choice(NAMES)
    wordings = (
        (f"How many {small} are {n} {large}?", n * factor),
        (f"{name} counts {n * factor} {small}. How many {large} is that?", n),
        (f"{name} has {n} {large} and {n + 1} {small}. How many {small} is that altogether?", n * factor + n + 1),
    )
    prompt, value = r.choice(wordings)
    return Draft(prompt, str(value))


def letters(r: Random) -> Draft:
    word, letter = r.choice(WORDS), r.choice("bcdefghijklmnopqrstuvwxy")
    after = r.random() < 0.5
    wordings = (
        (f"How many letters does the word {word} have?", str(len(word)), "literal"),
        (f"Which letter of the English alphabet comes right {'after' if after else 'before'} {letter}? Answer with the "
         "small letter.", chr(ord(letter) + (1 if after else -1)), "exact"),
        (f"How many vowels (a, e, i, o, u) stand in {word}?", str(sum(word.count(v) for v in "aeiou")), "literal"),
    )  # fmt: skip
    prompt, answer, grader = r.choice(wordings)
    return Draft(prompt, answer, "exact" if grader == "exact" else "literal")


def directions(r: Random) -> Draft:
    start, name = r.randrange(4), r.choice(NAMES)
    turns = [
        r.choice((("right", 1), ("left", -1), ("round to face the other way", 2))) for _ in range(r.randrange(2, 5))
    ]
    end = (start + sum(step for _, step in turns)) % 4
    return Draft(
        f"{name} faces {COMPASS[start]} and turns {', then '.join(way for way, _ in turns)}; left and right are "
        f"quarter turns. Which way does {name} face now: north, east, south or west?",
        COMPASS[end],
        "exact",
        0.25,
    )


def roman(r: Random) -> Draft:
    n = r.randrange(9, 300)
    left, said = n, ""
    for value, sign in ROMAN:
        said += sign * (left // value)
        left %= value
    if r.random() < 0.5:
        return Draft(f"Which number is the Roman numeral {said}? Answer in digits.", str(n))
    return Draft(f"Write the number {n} as a Roman numeral, in capitals.", said, "exact")


TEMPLATES: Mapping[str, Template] = {
    each.__name__: each for each in (month, weekday, clock, shapes, legs, units, letters, directions, roman)
}
