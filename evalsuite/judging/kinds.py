"""The kinds of question apart: how each went, at which base only guesses, and what is left to claim right answers on.

Where base only guesses, a model that knows nothing is as good, so not being worse there shows nothing: such a kind is
left out of the claim of non-inferiority. Which kinds those are hangs on base's answers alone, and on the very ones
that the claim is tested with. That does not let more bad models through. A kind is kept when base got enough of it
right. The more base got right, the fewer questions are left to be gained and the more there are to be lost, so the
chance of a PASS falls with it, whatever tuned is; and of two things of which one rises and the other falls with the
same independent draws, the one is no more likely for the other having happened (T. E. Harris, Mathematical
Proceedings of the Cambridge Philosophical Society 56 (1960) 13-20). So, whichever kinds are kept, a tuned model that
is worse on them by the margin passes no more often than on a set of those kinds alone: at most alpha.

The price is on the other side: kinds on which base was lucky are kept, those where it was unlucky are not (regression
to the mean), so tuned looks worse on what is kept than it is. It would be called worse too often; therefore whether
it is worse is told by all questions together, which nobody chose. benchmarks/gate_groups.py
measures both. Where no kind is kept, base was unlucky and tuned looks too good, but only being better passes there.
"""

from collections.abc import Sequence

from evalsuite.judging import paired
from evalsuite.judging.paired import Asked, Group

OPEN_BOOK = "open-"  # begins a kind whose questions hold the passage that says the answer


class KindRow(Group):
    """One kind of question."""

    kind: str
    base_above: float  # one-sided Wilson lower bound of base's accuracy, at the report's alpha
    only_guesses: bool  # base is not shown to beat blind guessing by more than the margin


def rows(asked: Sequence[Asked], alpha: float, margin: float) -> tuple[KindRow, ...]:
    """A row a kind, by name."""
    return tuple(_row(kind, asked, alpha, margin) for kind in sorted({one.kind for one in asked}))


def known(asked: Sequence[Asked], rows: Sequence[KindRow], alpha: float) -> Group | None:
    """The questions of all kinds at which base does not only guess. None when there is no such kind."""
    kept = {row.kind for row in rows if not row.only_guesses}
    return _some([one for one in asked if one.kind in kept], alpha)


def open_book(asked: Sequence[Asked], alpha: float) -> Group | None:
    """The questions whose passage stands in the prompt. None when there is none."""
    return _some([one for one in asked if one.kind.startswith(OPEN_BOOK)], alpha)


def _some(asked: Sequence[Asked], alpha: float) -> Group | None:
    return paired.group(asked, alpha) if asked else None


def _row(kind: str, asked: Sequence[Asked], alpha: float, margin: float) -> KindRow:
    mine = [one for one in asked if one.kind == kind]
    found, above = paired.group(mine, alpha), paired.base_above(mine, alpha)
    figures = {name: getattr(found, name) for name in Group.model_fields}
    return KindRow(**figures, kind=kind, base_above=above, only_guesses=above <= found.guess + margin)
