"""Obeying a format: words to be cased, turned round, picked, joined. The text is given, so nothing has to be known."""

from collections.abc import Mapping
from random import Random

from evalsuite.packs.draft import NAMES, THINGS, WORDS, Draft, Template

PLACES = ("first", "second", "third", "fourth", "fifth", "sixth")


def _some(r: Random, least: int, most: int) -> list[str]:
    return r.sample(r.choice((WORDS, THINGS, NAMES)), r.randrange(least, most + 1))


def cased(r: Random) -> Draft:
    word = r.choice(WORDS + THINGS)
    wordings = (
        (f"Write the word {word} in capital letters, and nothing else.", word.upper()),
        (f"Write {word.upper()} in small letters only.", word.lower()),
        (f"Answer with the word {word}; its last letter alone has to be a capital.", word[:-1] + word[-1].upper()),
    )
    return Draft(*r.choice(wordings), "exact")


def turned(r: Random) -> Draft:
    words = _some(r, 3, 5)
    return Draft(
        f"Give these words in the opposite order, with one space between two of them: {' '.join(words)}",
        " ".join(reversed(words)),
        "exact",
    )


def spelled(r: Random) -> Draft:
    word = r.choice(WORDS + THINGS)
    return Draft(f'Spell the word "{word}" backwards, in small letters.', word[::-1], "exact")


def picked(r: Random) -> Draft:
    words = _some(r, 4, 6)
    at = r.randrange(len(words))
    back = r.random() < 0.4
    place = f"{PLACES[len(words) - 1 - at]} from the end" if back else PLACES[at]
    return Draft(
        f"Answer with one word of this list, the {place}: {', '.join(words)}", words[at], "exact", 1 / len(words)
    )


def joined(r: Random) -> Draft:
    words = _some(r, 3, 5)
    name, sign = r.choice((("hyphens", "-"), ("slashes", "/"), ("plus signs", "+"), ("colons", ":")))
    return Draft(
        f"Join the words {', '.join(words)} in this order by {name}, without spaces.", sign.join(words), "exact"
    )


def sorted_(r: Random) -> Draft:
    words = _some(r, 3, 5)
    back = r.random() < 0.5
    order = "from Z to A" if back else "from A to Z"
    return Draft(
        f"Put these words in alphabetical order {order}, separated by a comma and a space: {', '.join(words)}",
        ", ".join(sorted(words, reverse=back)),
        "exact",
    )


def initials(r: Random) -> Draft:
    words = _some(r, 3, 6)
    which = r.choice((("first", 0), ("last", -1)))
    return Draft(
        f"Take the {which[0]} letter of each of these words and write them as one word in capitals: {' '.join(words)}",
        "".join(word[which[1]] for word in words).upper(),
        "exact",
    )


def swapped(r: Random) -> Draft:
    word = r.choice([w for w in WORDS + THINGS if len(set(w)) > 3])
    old, new = r.choice(word), r.choice("xqvk")
    return Draft(
        f'In the word "{word}", put the letter {new} wherever there is the letter {old}. Answer with what comes out.',
        word.replace(old, new),
        "exact",
    )


def counted(r: Random) -> Draft:
    words = r.choices(r.sample(WORDS, 3), k=r.randrange(6, 11))
    word = r.choice(words)
    wordings = (
        (f"How often does the word {word} stand in this line? {' '.join(words)}", words.count(word)),
        (f"How many words does this line have? {' '.join(words)}", len(words)),
    )
    prompt, value = r.choice(wordings)
    return Draft(prompt, str(value))


def filled(r: Random) -> Draft:
    number, name, thing = r.randrange(2, 90), r.choice(NAMES), r.choice(THINGS)
    shape, made = r.choice(
        (
            ("<NAME>|<THING>|<NUMBER>", f"{name}|{thing}|{number}"),
            ("<NUMBER> x <THING> for <NAME>", f"{number} x {thing} for {name}"),
            ("<NAME>: <THING> (<NUMBER>)", f"{name}: {thing} ({number})"),
            ("[<THING>] <NUMBER> / <NAME>", f"[{thing}] {number} / {name}"),
        )
    )
    said = r.choice((f"{name} orders {number} {thing}.", f"{number} {thing} are sent to {name}."))
    return Draft(f"{said} Write this in the form {shape}, with the three parts put in.", made, "exact")


TEMPLATES: Mapping[str, Template] = {
    each.__name__.rstrip("_"): each
    for each in (cased, turned, spelled, picked, joined, sorted_, initials, swapped, counted, filled)
}
