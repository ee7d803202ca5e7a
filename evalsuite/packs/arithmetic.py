"""Arithmetic as it is met in words: every answer is computed, and none needs rounding that is not asked for."""

from collections.abc import Mapping
from fractions import Fraction
from math import gcd, lcm, prod
from random import Random

from evalsuite.packs.draft import NAMES, THINGS, Draft, Template


def percent(r: Random) -> Draft:
    share, hundreds, thing = r.choice(range(3, 98)), r.randrange(2, 60), r.choice(THINGS)
    whole, found = hundreds * 100, share * hundreds
    wordings = (
        f"A store holds {whole} {thing}, and {share} % of them are sold. How many {thing} are sold?",
        f"What is {share} per cent of {whole}? Give a whole number.",
        f"Of {whole} visitors {share} % come by train. How many visitors are that?",
    )
    return Draft(r.choice(wordings), str(found))


def discount(r: Random) -> Draft:
    price, off = 20 * r.randrange(3, 60), 5 * r.randrange(1, 15)
    name = r.choice(NAMES)
    return Draft(
        f"{name} buys a coat that was priced at {price} crowns, with {off} % off. How many crowns does {name} pay? "
        "Give a whole number.",
        str(price * (100 - off) // 100),
    )


def chain(r: Random) -> Draft:
    a, b, c, d = r.randrange(12, 99), r.randrange(3, 19), r.randrange(10, 500), r.randrange(2, 9)
    sums = (
        (f"{a} * {b} - {c}", a * b - c),
        (f"{c} + {a} * {d}", c + a * d),
        (f"({a} + {c}) * {d}", (a + c) * d),
        (f"{a} - ({c} - {b} * {d})", a - (c - b * d)),
    )
    shown, value = r.choice(sums)
    asked = r.choice(("Work out", "Calculate", "Give the value of"))
    return Draft(f"{asked} {shown}, with the usual order of operations.", str(value))


def remainder(r: Random) -> Draft:
    a, b, thing = r.randrange(60, 2000), r.randrange(6, 37), r.choice(THINGS)
    wordings = (
        f"{a} {thing} are packed into boxes of {b}. How many {thing} are left when no further box can be filled?",
        f"What is the remainder when {a} is divided by {b}?",
        f"In a row of {a} {thing} each group of {b} is taken away until fewer than {b} remain. How many remain?",
    )
    return Draft(r.choice(wordings), str(a % b))


def average(r: Random) -> Draft:
    count, mean = r.randrange(3, 7), r.randrange(12, 90)
    found = [mean + r.randrange(-11, 12) for _ in range(count - 1)]
    found.append(mean * count - sum(found))
    if found[-1] < 1:
        return average(r)
    r.shuffle(found)
    what = r.choice(("temperatures in a greenhouse were", "scores of a team were", "lengths of some planks are"))
    return Draft(f"The {what} {', '.join(map(str, found))}. What is their mean?", str(mean))


def fraction(r: Random) -> Draft:
    a, b = Fraction(r.randrange(1, 12), r.randrange(3, 13)), Fraction(r.randrange(1, 9), r.randrange(2, 11))
    sign, found = r.choice((("+", a + b), ("-", a - b), ("*", a * b)))
    if found.denominator == 1 or a.denominator == 1 or b.denominator == 1:
        return fraction(r)
    shown = f"{a.numerator}/{a.denominator} {sign} {b.numerator}/{b.denominator}"
    words = "Give the result in lowest terms, as numerator/denominator without spaces."
    asked = r.choice((f"Work out {shown}.", f"What is {shown}?", f"Calculate the value of {shown}."))
    return Draft(f"{asked} {words}", str(found), "exact")


def divisor(r: Random) -> Draft:
    step = r.randrange(4, 28)
    a, b = step * r.randrange(3, 20), step * r.randrange(3, 20)
    if a == b:
        return divisor(r)
    wordings = (
        (f"What is the greatest common divisor of {a} and {b}?", gcd(a, b)),
        (f"What is the least common multiple of {a} and {b}?", lcm(a, b)),
        (f"Two ribbons of {a} cm and {b} cm are cut into equal pieces without waste. How long, in whole cm, can a "
         "piece be at most?", gcd(a, b)),
    )  # fmt: skip
    prompt, value = r.choice(wordings)
    return Draft(prompt, str(value))


def binary(r: Random) -> Draft:
    n = r.randrange(17, 1024)
    wordings = (
        (f"Which decimal number is the binary number {n:b}?", str(n)),
        (f"Which decimal number is the hexadecimal number {n:X}?", str(n)),
        (f"Count the ones in the binary form of the decimal number {n}.", str(n.bit_count())),
    )
    return Draft(*r.choice(wordings))


def larger(r: Random) -> Draft:
    whole, tenth = r.randrange(1, 99), r.randrange(3, 9)
    low = f"{whole}.{r.randrange(1, tenth)}{r.randrange(1, 10)}"  # longer to read, and less
    pair = [low, f"{whole}.{tenth}"]
    r.shuffle(pair)
    most = r.random() < 0.5
    found = max(pair, key=Fraction) if most else min(pair, key=Fraction)
    asked = r.choice(("Which of these two decimal numbers", "Of two measured lengths in metres, which one"))
    return Draft(f"{asked} is {'larger' if most else 'smaller'}: {pair[0]} or {pair[1]}?", found, "exact", 0.5)


def sequence(r: Random) -> Draft:
    start, step, factor = r.randrange(2, 40), r.randrange(3, 15), r.randrange(2, 5)
    rules = (
        [start + step * i for i in range(6)],
        [start * factor**i for i in range(6)],
        [start + step * i * (i + 1) // 2 for i in range(6)],
        [1000 - start - step * i for i in range(6)],
    )
    rows = ("a fixed amount is added", "a fixed factor is applied", "an amount is added that grows evenly",
            "a fixed amount is taken away")  # fmt: skip
    which = r.randrange(4)
    shown = ", ".join(map(str, rules[which][:5]))
    return Draft(f"From each number to the next {rows[which]}: {shown}. Which number follows?", str(rules[which][5]))


def journey(r: Random) -> Draft:
    speed, quarters, vehicle = (
        4 * r.randrange(4, 31),
        r.randrange(3, 23),
        r.choice(("train", "bus", "ferry", "cyclist")),
    )
    hours, minutes = divmod(quarters * 15, 60)
    way = speed * quarters // 4
    wordings = (
        (f"At a steady {speed} km/h, how many kilometres does a {vehicle} cover in {hours} h {minutes} min?", way),
        (f"How many minutes does a {vehicle} need for {way} km at a steady {speed} km/h?", quarters * 15),
    )
    prompt, value = r.choice(wordings)
    return Draft(prompt, str(value))


def shopping(r: Random) -> Draft:
    (first, second), name = r.sample(THINGS, 2), r.choice(NAMES)
    counts, prices = (r.randrange(2, 9), r.randrange(2, 9)), (r.randrange(2, 30), r.randrange(2, 30))
    cost = sum(map(prod, zip(counts, prices, strict=True)))
    paid = -(-cost // 100) * 100
    return Draft(
        f"{name} takes {counts[0]} {first} at {prices[0]} crowns each and {counts[1]} {second} at {prices[1]} crowns "
        f"each, and pays with {paid} crowns. How many crowns come back?",
        str(paid - cost),
    )


TEMPLATES: Mapping[str, Template] = {
    each.__name__: each
    for each in (percent, discount, chain, remainder, average, fraction, divisor, binary, larger, sequence, journey,
                 shopping)
}  # fmt: skip
