"""Modules in, questions out whose answers are code: each verified by running, its own answer graded as a model's is.

Deterministic for a seed and a Python. Apart from closed_book, so that a set without them is what it was before.
"""

import platform
from collections import defaultdict
from itertools import islice

from evalsuite.balance import Found, graded, name, rng, spread, turns
from evalsuite.code import execution
from evalsuite.pydocs.build import nothing, of_this_machine
from evalsuite.pydocs.facts import answers, harvest
from evalsuite.pydocs.kinds.written import WRITTEN, Written
from evalsuite.questions import RUN, Code, Question
from evalsuite.replies import graders
from tune.evaluate import Evaluate

LONGEST = 160  # characters of an answer
DOCTEST_RULE = "End with a fenced code block (```) that holds the example alone"  # in place of the recipe's answer_rule


def written(wanted: Evaluate) -> list[Question]:
    """`wanted.code` questions, fewer where the modules give no more: kinds take turns, as in closed_book.

    Raises UserError where no sandbox shuts code in: there nothing could grade them.
    """
    if not (wanted.code and wanted.modules):
        return []
    execution.require()
    facts = tuple(m for m in harvest(sorted(set(wanted.modules))) if not nothing(m))
    each = {c.prompt: (kind, c) for kind, make in WRITTEN.items() for c in make(facts, rng(wanted.seed, kind))}
    asked = sorted((kind, c) for kind, c in each.values() if not c.unfit)
    fit: dict[str, list[Found]] = defaultdict(list)
    for (kind, c), truth in zip(asked, answers([c.check for _, c in asked]), strict=True):
        if truth.value and (not c.value or truth.value == c.value) and not of_this_machine(truth.value):
            question = _question(kind, c, truth.value, wanted.answer_rule)
            if len(question.answer) <= LONGEST:
                fit[kind].append(Found(truth.value, c.module, question, f"{c.module}.{c.about}"))
    ordered = turns(spread(fit[kind], rng(wanted.seed, f"order {kind}")) for kind in WRITTEN)
    kept = list[Question]()
    while batch := list(islice(ordered, wanted.code - len(kept))):
        graders.prepare((q, graders.parse(graders.said(q.grader, q.answer), q.grader)) for q in batch)
        kept += [q for q in batch if graded(q)]
    return kept


def _question(kind: str, c: Written, truth: str, rule: str) -> Question:
    major, minor, _ = platform.python_version_tuple()
    prompt = f"In Python {major}.{minor}, {c.prompt[0].lower()}{c.prompt[1:]}"
    return Question(
        id=name(kind, prompt),
        kind=kind,
        module=c.module,
        prompt=prompt,
        answer=c.answer or truth,
        grader=c.grader,
        developer=DOCTEST_RULE if c.grader == "doctest" else rule,
        code=Code(about=c.about, source=c.source, value=c.value) if c.grader in RUN else None,
    )
