"""A question set as text for a terminal: what it holds in figures, then its questions. Pure.

Prompts and answers are a stranger's text: everything is escaped.
"""

from collections import Counter
from collections.abc import Iterable

from evalsuite.questions import Question, QuestionSet
from tune.evaluate import OWN
from tune.terminal import escaped

FIELDS = ("split", "kind", "grader", "module")
MODULES = 12  # that are named, and of kinds


def listing(made: QuestionSet, *, kind: str = "", name: str = "", limit: int = 0) -> str:
    """Counts of the whole set, then the questions of this kind or id, at most `limit` of them; 0: all."""
    chosen = [q for q in made.questions if kind in ("", q.kind) and name in ("", q.id)]
    shown = chosen[: limit or None]
    rest = [f"and {len(chosen) - len(shown)} more: --limit 0 shows all"] if len(chosen) > len(shown) else []
    return escaped("\n\n".join([figures(made), *map(_shown, shown), *rest]))


def figures(made: QuestionSet) -> str:
    """Its name, digest and origin, and how many questions there are by split, kind, grader and module."""
    source = f", taken from {made.made[OWN]}" if OWN in made.made else "" if made.made else ", made by hand"
    lines = [f"{made.name}: {len(made.questions)} questions, digest {made.digest[:12]}{source}"]
    about = {"grader": made.judged}  # an answer in prose has none
    lines += [f"{field:7} {tally(getattr(q, field) for q in about.get(field, made.questions))}" for field in FIELDS]
    return "\n".join(lines)


def tally(values: Iterable[str]) -> str:
    """Each value and how often it occurs, the commonest first; of many the first ones."""
    counts = Counter(values)
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = [f"and {len(found) - MODULES} more"] if len(found) > MODULES else []
    return ", ".join([f"{value} {n}" for value, n in found[:MODULES]] + more) or "none"


def _shown(question: Question) -> str:
    head = f"{question.id}  {question.split}, {question.kind}, {question.module}, guess {question.guess:.3g}"
    developer = [f"developer: {question.developer}"] if question.developer else []
    points = [f"{'not' if point.false else 'point'}: {point.says}" for point in question.points]
    answer = points or [f"answer ({question.grader}): {question.answer}"]
    return "\n".join([head, *developer, question.prompt, *answer])
