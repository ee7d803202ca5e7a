"""What a model gets right that reads no question: for each question the chance, and what a score shows over it.

Two ways to be right without knowing: to pick blindly among what an answer can be, and to give the reply that is most
often right at questions of its kind. A question's chance is the better of the two.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from evalsuite.questions import Question
from evalsuite.replies.graders import meaning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def chances(questions: Sequence[Question]) -> list[float]:
    """Of each question, how probably a model is right that knows its kind and nothing else, 0 to 1.

    The commonest answer counts as it would have been learned at the other questions: one that occurs once was none to
    learn. Where a kind has only one answer ("not stated"), to know the kind would be to know the answer; there the
    commonest answer of all questions is meant.
    """
    of_all = _commonest(questions)
    share = {}
    for kind in {q.kind for q in questions}:
        mine = [q for q in questions if q.kind == kind]
        share[kind] = _commonest(mine) if len(set(map(meaning, mine))) > 1 else of_all
    return [max(q.guess, share[q.kind]) for q in questions]


def p_value(right: int, chances: Iterable[float]) -> float:
    """One-sided p of H0: at each question, the chance of being right is at most this one. Small: it is more.

    Exact tail P(X >= right) of a sum of unlike Bernoulli draws (Poisson binomial): binomials of equal chances,
    convolved. Y. H. Wang, Statistica Sinica 3 (1993) 295-312. 1 for no questions.
    """
    return float(min(1.0, _masses(chances)[right:].sum()))


def below_p(right: int, chances: Iterable[float]) -> float:
    """One-sided p of H0: at each question, the chance of being right is at least this one. P(X <= right)."""
    return float(min(1.0, _masses(chances)[: right + 1].sum()))


def _masses(chances: Iterable[float]) -> "NDArray[np.float64]":
    """How probably 0, 1, 2, ... are right."""
    import numpy as np
    from scipy.stats import binom

    masses = np.ones(1)
    for chance, n in Counter(chances).items():
        masses = np.convolve(masses, binom.pmf(np.arange(n + 1), n, chance))
    return masses


def _commonest(questions: Sequence[Question]) -> float:
    """The share of the other questions at which the commonest answer is right."""
    counts = Counter(map(meaning, questions))
    return (max(counts.values()) - 1) / (len(questions) - 1) if len(questions) > 1 else 0.0
