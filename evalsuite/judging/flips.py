"""Questions that one arm got right and the other did not: which of them a report shows. Knows no page.

Of repeats each arm's answer is one of its majority (judging/comparison.py), and that is what flipped."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, get_args

from evalsuite.judging import paired
from evalsuite.judging.excerpt import cut
from evalsuite.judging.kinds import KindRow
from evalsuite.judging.paired import Part
from evalsuite.questions import Question
from evalsuite.replies.answers import Answer, Outcome

SHOWN = 20  # in each direction, an effort and split
TEXT_SHOWN = 600  # characters of a prompt or reply
REASONING_SHOWN = 600

Pair = tuple[Question, Answer, Answer]  # base, tuned: both have a score
Direction = Literal["lost", "gained"]  # lost: base right, tuned wrong


class Flip(Part):
    """A question that one arm got right and the other did not. Longer texts are cut to 600 characters, of both ends."""

    question: str
    kind: str
    prompt: str
    answer: str
    direction: Direction
    base_outcome: Outcome
    tuned_outcome: Outcome
    base_text: str
    tuned_text: str
    base_reasoning: str = ""
    tuned_reasoning: str = ""


def flips(pairs: Sequence[Pair], kinds: Sequence[KindRow]) -> tuple[Flip, ...]:
    """At most 20 lost and 20 gained, each in the order of the questions.

    They are taken from the kinds in turns, that with the greatest loss first: no kind hides the others.
    """
    order = worst_first(kinds)
    return tuple(_flip(pair, way) for way in get_args(Direction) for pair in _spread(_of(pairs, way), order))


def worst_first(rows: Iterable[KindRow]) -> list[str]:
    """Their kinds of question, by the lowest difference that a kind has in any of them; ties by name."""
    lowest: dict[str, float] = {}
    for row in rows:
        lowest[row.kind] = min(row.difference.estimate, lowest.get(row.kind, 1.0))
    return sorted(lowest, key=lambda kind: (lowest[kind], kind))


def _of(pairs: Sequence[Pair], direction: Direction) -> list[Pair]:
    return [
        (q, b, t)
        for q, b, t in pairs
        if paired.right(b) != paired.right(t) and bool(paired.right(b)) == (direction == "lost")
    ]


def _spread(found: Sequence[Pair], kinds: Sequence[str]) -> list[Pair]:
    def turns() -> Iterator[int]:
        left = {kind: [i for i, (q, _, _) in enumerate(found) if q.kind == kind] for kind in kinds}
        while any(left.values()):
            yield from (rows.pop(0) for rows in left.values() if rows)

    return [found[i] for i in sorted(islice(turns(), SHOWN))]


def _flip(pair: Pair, direction: Direction) -> Flip:
    q, b, t = pair
    return Flip(
        question=q.id,
        kind=q.kind,
        prompt=cut(q.prompt, TEXT_SHOWN),
        answer=cut(q.answer, TEXT_SHOWN),
        direction=direction,
        base_outcome=b.outcome,
        tuned_outcome=t.outcome,
        base_text=cut(b.text, TEXT_SHOWN),
        tuned_text=cut(t.text, TEXT_SHOWN),
        base_reasoning=cut(b.reasoning, REASONING_SHOWN),
        tuned_reasoning=cut(t.reasoning, REASONING_SHOWN),
    )
