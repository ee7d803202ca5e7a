"""Questions that can be asked in; those that are worth asking out, in an order in which no constant reply scores well.

What closed-book and open-book questions share: the proof that the grader takes an answer, and turns. Pure: knows no
modules and no pages.
"""

import hashlib
import heapq
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import NamedTuple, TypeVar

from evalsuite.questions import Question
from evalsuite.replies.graders import grade, parse, said

T = TypeVar("T")

LONGEST_ANSWER = 60  # characters; a longer one tests typing, not knowledge or reading
SPARE = 1 / 8  # of the questions: what one reply to them all may get right beyond guessing
SHARE = 1 / 8  # of a kind: what one object may give, where it has more than one question to give


class Found(NamedTuple):
    """A question, the truth behind its answer (for a choice not the letter), and what it is about: a page or module,
    and the function, class or constant in it."""

    truth: str
    place: str
    question: Question
    about: str = ""


def name(kind: str, prompt: str) -> str:
    """A question's id: 16 hex characters that depend on its kind and prompt alone."""
    return hashlib.sha256(json.dumps([kind, prompt]).encode()).hexdigest()[:16]


def sayable(truth: str) -> bool:
    """Whether it is one short line that a reply can hold."""
    return 0 < len(truth) <= LONGEST_ANSWER and truth.isprintable()


def graded(question: Question) -> bool:
    """Whether the grader takes the question's own answer for right when a reply ends with it."""
    return grade(question, parse(said(question.grader, question.answer), question.grader)) == 1.0


def diverse(found: Iterable[Found], rng: random.Random) -> Iterator[Question]:
    """Truths take turns, and within a truth places do, so that neither the commonest value nor one place rules."""
    shuffled = list(found)
    rng.shuffle(shuffled)
    groups: dict[str, dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
    for truth, place, question, _ in shuffled:
        groups[truth][place].append(question)
    return turns(turns(by_place.values()) for by_place in groups.values())


def spread(found: Iterable[Found], rng: random.Random) -> list[Question]:
    """Truths take turns, within a truth objects do, and then places. Every object gives at most the same number, the
    largest that is not over SHARE of all that come out; one at least."""
    shuffled = list(found)
    rng.shuffle(shuffled)
    each = Counter(f.about for f in shuffled)
    most = 1
    while most < max(each.values(), default=1) and most + 1 <= SHARE * sum(min(n, most + 1) for n in each.values()):
        most += 1
    truths, abouts, places = Counter[str](), Counter[str](), Counter[str]()

    def rank(i: int) -> tuple[int, int, int, int]:
        truth, place, _, about = shuffled[i]
        return truths[truth], abouts[about], places[place], i

    out, waiting = list[Question](), [(0, 0, 0, i) for i in range(len(shuffled))]
    while waiting:
        i = waiting[0][-1]
        truth, place, question, about = shuffled[i]
        if abouts[about] >= most:
            heapq.heappop(waiting)
        elif waiting[0] != rank(i):  # ranks only grow: whatever still has its own is the least
            heapq.heapreplace(waiting, rank(i))
        else:
            heapq.heappop(waiting)
            out.append(question)
            truths[truth] += 1
            abouts[about] += 1
            places[place] += 1
    return out


def twinned(
    kept: Iterable[Sequence[Question | None]], twins: Mapping[str, Sequence[Found]], rng: random.Random
) -> list[Question | None]:
    """At most one twin of each kept question, and no object over its share of them, in the turns in which to ask them:
    none before its question's own. `twins`: by the id of what they are twins of; None: a turn without one.

    Of several twins the one is taken whose truth is the rarest so far.
    """
    place = {q.id: i for questions in kept for i, q in enumerate(questions) if q and q.id in twins}
    truths, chosen = Counter[str](), list[Found]()
    for id in sorted(place, key=lambda id: (place[id], id)):
        found = min(twins[id], key=lambda f: truths[f.truth])
        truths[found.truth] += 1
        chosen.append(found._replace(question=found.question.model_copy(update={"twin": id})))
    out: list[Question | None] = []
    for question in sorted(spread(chosen, rng), key=lambda q: (place[q.twin], q.twin)):
        out += [None] * (place[question.twin] - len(out))
        out.append(question)
    return out


def turns(groups: Iterable[Iterable[T | None]]) -> Iterator[T]:
    """One of each group, then the next of each, until all are empty. None is a turn that a group lets pass."""
    return (item for item in chain.from_iterable(zip_longest(*groups)) if item is not None)


def even(questions: Iterable[Question]) -> Iterator[Question]:
    """Those that leave every constant reply near to guessing: it gets no more right than SPARE of all and what it would
    by guessing, which it can where the replies to choose from are the same for all.

    Turns alone do not see to that: where one kind has plenty and the others run out, its commonest answer would rule.
    """
    said, asked, guessed = Counter[str](), 0, 0.0
    for question in questions:
        chance = question.guess if question.grader in {"choice", "yesno"} else 0.0
        if said[question.answer] <= guessed + chance + SPARE * (asked + 1):
            said[question.answer] += 1
            asked += 1
            guessed += chance
            yield question


def rng(seed: int, purpose: str) -> random.Random:
    """The dice for one purpose: what else is thrown elsewhere changes nothing here."""
    return random.Random(f"{seed} {purpose}")
