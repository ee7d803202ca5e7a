"""Does tuned know items rather than facts: answers to items and to their twins in, one figure an effort out.

The gap of an arm is its accuracy on items that have a twin less that on their twins, pair by pair; the figure is
tuned's gap less base's, which is what tuned gained on the items less what it gained on their twins. Its bounds are
those of the two gains (judging/paired.py: exact, by module too, missing answers at their worst), each at alpha / 2.

Tuned is shown to be beyond the limit when three tests say so: t-tests of the pairs and of the modules against the
limit, and an exact one of base and tuned being equal: each pair's figure, -2 to 2, is as likely to be its negative.
"""

from collections.abc import Mapping, Sequence

from evalsuite.judging import clusters, means, paired
from evalsuite.judging.limits import Figure
from evalsuite.judging.paired import Asked, Sides
from evalsuite.judging.policy import Policy
from evalsuite.questions import Question
from evalsuite.replies.answers import Answer, Item
from tune.section import EffortName

Pairs = Sequence[tuple[Question, Question]]  # an item, its twin


def pairs(questions: Sequence[Question]) -> list[tuple[Question, Question]]:
    """Items and their twins, of one split: splits are never mixed."""
    known = {q.id: q for q in questions}
    found = [(known[q.twin], q) for q in questions if q.twin in known]
    return [(item, twin) for item, twin in found if item.split == twin.split]


def figure(pairs: Pairs, answers: Mapping[Item, Answer], effort: EffortName, limit: float, policy: Policy) -> Figure:
    if not pairs:
        lacking = "no question has a twin in the set; ask some, or take memorisation out of [evaluate.limits]"
        return Figure(effort=effort, name="memorisation", value=None, limit=limit, kept=False, broken_p=1.0, of="",
                      lacking=lacking)  # fmt: skip
    items, twins = ([_asked(pair[i], answers, effort) for pair in pairs] for i in (0, 1))
    on_items, on_twins = (paired.difference(asked, policy.alpha / 2) for asked in (items, twins))
    heard = [(i.sides, t.sides) for i, t in zip(items, twins, strict=True) if None not in i.sides + t.sides]
    upper, seen = on_items.upper - on_twins.lower, sum(_gap(*pair) for pair in heard)
    return Figure(
        effort=effort,
        name="memorisation",
        value=seen / len(heard) if heard else None,
        bound=upper,
        limit=limit,
        kept=upper <= limit,
        broken_p=_over_p(items, twins, limit),
        of=f"{len(pairs)} pairs",
        lacking="ask more questions that have a twin" if seen <= limit * len(heard) else "",
    )


def _asked(question: Question, answers: Mapping[Item, Answer], effort: EffortName) -> Asked:
    base, tuned = (paired.right(answers.get((question.id, arm, effort))) for arm in ("base", "tuned"))
    return Asked(question.kind, question.module, 0.0, (base, tuned))


def _gap(item: Sides, twin: Sides) -> int:
    return (bool(item[1]) - bool(twin[1])) - (bool(item[0]) - bool(twin[0]))


def _over_p(items: Sequence[Asked], twins: Sequence[Asked], limit: float) -> float:
    """Missing answers at their best for tuned."""
    gaps = []
    for item, twin in zip(items, twins, strict=True):
        best = (item.sides[0] is not False, item.sides[1] is True), (twin.sides[0] is True, twin.sides[1] is not False)
        gaps.append(_gap(*best))
    over, each = [gap - limit for gap in gaps], [str(i) for i in range(len(gaps))]
    by_module = clusters.p_value(over, [item.module for item in items])
    return max(means.signs_p(gaps), clusters.p_value(over, each), by_module)
