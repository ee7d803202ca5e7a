"""Logic puzzles whose truth is proven by enumeration: every case that the premises allow is gone through.

A puzzle that leaves more than one answer is thrown away and drawn again, so "one right answer" is no claim of ours.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import combinations, permutations, product
from random import Random

from evalsuite.packs.draft import NAMES, Draft, Template, lettered

KINDS = ("bakers", "divers", "gardeners", "jugglers", "knitters", "painters", "pilots", "sailors", "tailors", "walkers")
CERTAIN = ["yes, certainly", "no, certainly not", "it cannot be told"]

Case = tuple[bool, ...]
Said = tuple[str, int, int]  # a quantifier, and the kinds that it is about
QUANTIFIERS: Mapping[str, Callable[[set[Case], int, int], bool]] = {
    "All {} are {}.": lambda there, a, b: all(one[b] for one in there if one[a]),
    "No {} are {}.": lambda there, a, b: not any(one[a] and one[b] for one in there),
    "Some {} are {}.": lambda there, a, b: any(one[a] and one[b] for one in there),
    "Some {} are not {}.": lambda there, a, b: any(one[a] and not one[b] for one in there),
}


@cache
def worlds(q: str, a: int, b: int) -> int:
    """In which of the 256 ways in which people of three kinds can exist (each of eight combinations occurs or does
    not) this is true: a bit each."""
    return sum(1 << i for i, there in enumerate(_worlds()) if QUANTIFIERS[q](there, a, b))


@cache
def _worlds() -> list[set[Case]]:
    combos = list(product((False, True), repeat=3))
    return [{one for k, one in enumerate(combos) if i >> k & 1} for i in range(256)]


@cache
def _lively() -> int:
    """The worlds with somebody of every kind."""
    return sum(1 << i for i, there in enumerate(_worlds()) if all(any(one[k] for one in there) for k in range(3)))


def follows(premises: Sequence[Said], conclusion: Said) -> bool | None:
    """Whether every world of the premises has the conclusion. None when that hangs on whether there is somebody of
    every kind, or when no world has them all."""
    kept = (1 << 256) - 1
    for said in premises:
        kept &= worlds(*said)
    outside, lively = kept & ~worlds(*conclusion), _lively()
    if not kept & lively or bool(outside) != bool(outside & lively):
        return None
    return not outside


def syllogism(r: Random) -> Draft:
    wanted = r.random() < 0.5  # else nearly all would be "no"
    while True:
        kinds = r.sample(KINDS, 3)
        sides = [r.sample((0, 1), 2), r.sample((1, 2), 2), r.sample((0, 2), 2)]
        said = [(r.choice(list(QUANTIFIERS)), a, b) for a, b in sides]
        if follows(said[:2], said[2]) is wanted:
            break
    *premises, last = [q.format(kinds[a], kinds[b]) for q, a, b in said]
    conclusion = f"{last[0].lower()}{last[1:-1]}"
    return Draft(
        f"{' '.join(premises)} Does it follow, whoever else there may be, that {conclusion}? Answer yes or no.",
        "yes" if wanted else "no",
        "yesno",
        0.5,
    )


def ordered(r: Random) -> Draft:
    names = r.sample(NAMES, r.randrange(4, 6))
    true = r.sample(names, len(names))
    more, least = r.choice((("taller", "shortest"), ("older", "youngest"), ("faster", "slowest")))
    most = {"taller": "tallest", "older": "oldest", "faster": "fastest"}[more]
    facts = [(true[i], true[j]) for i, j in combinations(range(len(true)), 2)]
    r.shuffle(facts)
    end = r.choice((0, -1))
    said: list[tuple[str, str]] = []
    possible = set(names)
    while len(possible) > 1:
        said.append(facts[len(said)])
        possible = {p[end] for p in permutations(names) if all(p.index(a) < p.index(b) for a, b in said)}
    told = " ".join(f"{a} is {more} than {b}." for a, b in said)
    return Draft(
        f"{told} Nobody equals anybody. Who of {', '.join(sorted(names))} is the {least if end else most}?",
        possible.pop(),
        "exact",
        1 / len(names),
    )


def implied(r: Random) -> Draft:
    things = r.sample(("the gate is open", "the lamp is lit", "the pump runs", "the flag is up", "the bell rings",
                       "the heater is on", "the boat is out"), 3)  # fmt: skip
    wanted = r.choice(CERTAIN)
    while True:
        chain = [tuple(r.sample(range(3), 2)) for _ in range(2)]
        fact, known, asked = r.randrange(3), r.random() < 0.5, r.randrange(3)
        values = {
            case[asked]
            for case in product((False, True), repeat=3)
            if case[fact] is known and all(case[b] or not case[a] for a, b in chain)
        }
        if len(set(chain)) == 2 and fact != asked and values and wanted == _certain(values):
            break
    rules = " ".join(f"Whenever {things[a]}, {things[b]}." for a, b in chain)
    now = f"Now it is {'true' if known else 'false'} that {things[fact]}."
    options = r.sample(CERTAIN, 3)
    return Draft(
        f"{rules} {now} Is it true that {things[asked]}? Answer with a letter.\n{lettered(options)}",
        chr(ord("A") + options.index(wanted)),
        "choice",
        1 / 3,
    )


def _certain(values: set[bool]) -> str:
    return CERTAIN[2] if len(values) > 1 else CERTAIN[0] if True in values else CERTAIN[1]


def liars(r: Random) -> Draft:
    """Each always says the truth or always lies, and speaks of one other."""
    while True:
        names = r.sample(NAMES, 3)
        said = [(i, r.choice([j for j in range(3) if j != i]), r.random() < 0.5) for i in range(3)]
        count = r.randrange(1, 3)
        cases = [
            case
            for case in product((False, True), repeat=3)
            if all(case[i] == (case[j] is h) for i, j, h in said) and sum(case) == count
        ]
        if len(cases) == 1:
            break
    told = " ".join(f'{names[i]} says: "{names[j]} {"never" if h else "always"} lies."' for i, j, h in said)
    who, some = r.randrange(3), "one of them never lies" if count == 1 else "two of them never lie"
    return Draft(
        f"Of three people everyone either always lies or never does, and {some}. {told} Does {names[who]} always lie? "
        "Answer yes or no.",
        "no" if cases[0][who] else "yes",
        "yesno",
        0.5,
    )


def seats(r: Random) -> Draft:
    names = r.sample(NAMES, 4)
    true = r.sample(range(1, 5), 4)
    at = dict(zip(names, true, strict=True))
    a, b, c, d = names
    facts: list[tuple[str, Callable[[Mapping[str, int]], bool]]] = [
        (f"{a} sits on a seat with a {'higher' if at[a] > at[b] else 'lower'} number than {b}.",
         lambda s: (s[a] > s[b]) is (at[a] > at[b])),
        (f"The numbers of {b} and {c} differ by {abs(at[b] - at[c])}.",
         lambda s: abs(s[b] - s[c]) == abs(at[b] - at[c])),
        (f"{c} sits on an {'odd' if at[c] % 2 else 'even'} number.", lambda s: s[c] % 2 == at[c] % 2),
        (f"{d} does not sit on seat {(at[d] + 1) % 4 + 1}.", lambda s: s[d] != (at[d] + 1) % 4 + 1),
        (f"The numbers of {a} and {d} add up to {at[a] + at[d]}.", lambda s: s[a] + s[d] == at[a] + at[d]),
    ]  # fmt: skip
    r.shuffle(facts)
    who = r.choice(names)
    kept = [dict(zip(names, p, strict=True)) for p in permutations(range(1, 5))]
    said = list[str]()
    for words, holds in facts:
        said.append(words)
        kept = [s for s in kept if holds(s)]
        if len({s[who] for s in kept}) == 1:
            head = "Four people sit on the seats 1, 2, 3 and 4, one on each."
            return Draft(f"{head} {' '.join(said)} On which seat sits {who}?", str(at[who]), "literal", 0.25)
    return seats(r)


def groups(r: Random) -> Draft:
    """Of so many people, by what they do: counted over the people themselves."""
    first, second = r.sample(("chess", "tennis", "the piano", "cards", "football", "the drums"), 2)
    people = [(r.random() < 0.5, r.random() < 0.4) for _ in range(r.randrange(18, 60))]
    one, two = sum(a for a, _ in people), sum(b for _, b in people)
    both, none = sum(a and b for a, b in people), sum(not (a or b) for a, b in people)
    known = f"Of {len(people)} people {one} play {first}, {two} play {second}"
    wordings = (
        (f"{known} and {both} play both. How many play neither?", none),
        (f"{known} and {none} play neither. How many play both?", both),
        (f"{known} and {both} play both. How many play exactly one of the two?", one + two - 2 * both),
    )
    prompt, value = r.choice(wordings)
    return Draft(prompt, str(value))


TEMPLATES: Mapping[str, Template] = {
    each.__name__: each for each in (syllogism, ordered, implied, liars, seats, groups)
}
