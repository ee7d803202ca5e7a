"""Whether to go on asking: replies in as they come, and, once the gate cannot say PASS any more, why that is, out.

What is certain of an unfinished run is judging/reach.py's; a report on the same answers says the same. Knows no
endpoint and no file.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from evalsuite.judging import reach
from evalsuite.judging.policy import Policy
from evalsuite.questions import Question, QuestionSet
from evalsuite.replies import graders
from evalsuite.replies.answers import ARMS, Answer, Key, Reply, graded
from evalsuite.report import in_order
from tune.section import EffortName

LOOKS = 15  # an effort, about so many: more would take over 1 % of the processor time of a run


class Stopping:
    """One run's. `why`: what cannot pass any more, and so ends it; "" while the gate may say PASS."""

    def __init__(self, questions: QuestionSet, efforts: Iterable[EffortName], policy: Policy, repeats: int) -> None:
        self.why = ""
        self._questions, self._policy, self._repeats = questions.judged, policy, repeats
        self._efforts = self._open = in_order(efforts)
        self._known = {q.id: q for q in questions.judged}
        self._answers: dict[Key, Answer] = {}
        self._new, self._taken = list[Reply](), list[Reply]()
        self._every = max(len(ARMS), len(ARMS) * len(self._known) * repeats // LOOKS)
        self._looking = False

    def turn(self, question: Question, effort: EffortName) -> int:
        """When to ask: the efforts one after the other, and after them what decides nothing."""
        decides = question.id in self._known and (
            question.split != "taught" or self._policy.require_gain or self._policy.limits.memorisation is not None
        )
        return self._efforts.index(effort) + (0 if decides else len(self._efforts))

    def due(self, reply: Reply) -> bool:
        """Take a reply that came; whether it is time to `look`, which nobody does yet."""
        if reply.question in self._known and not reply.error:
            self._new.append(reply)
        if self._looking or self.why or len(self._new) < self._every:
            return False
        self._looking = True
        self._taken, self._new = self._new, []
        return True

    def look(self, have: Sequence[Answer] = ()) -> str:
        """`why`, with what came until now, and with what was on file. To be called in a thread of its own: it grades,
        runs answers that are code, and takes milliseconds, now and then a second."""
        new, self._taken = self._taken, []
        asked = [(self._known[r.question], r.text) for r in new]
        graders.prepare((q, graders.parse(text, q.grader)) for q, text in asked if q.code)
        fresh = chain((a for a in have if a.question in self._known), (graded(self._known[r.question], r) for r in new))
        heard = {a.key: a for a in fresh}
        self._answers |= heard
        touched = {effort for _, _, effort, _ in heard}
        still = [effort for effort in self._open if effort not in touched]
        for effort in [effort for effort in self._open if effort in touched]:
            found = reach.at(effort, self._efforts, self._questions, self._answers, self._policy, self._repeats)
            if lost := [f.undecided for f in found if f is not None and not f.passes]:
                self.why = f"PASS is out of reach: {'; '.join(lost)}"
            still += [effort] if None in found else []
        self._open, self._looking = still, False
        return self.why
