"""Modules in, closed-book questions out: harvest, ask every kind, verify by running, drop what is unfit, balance.

Deterministic for a seed and a Python. Knows nothing about models.
"""

import re
import string
from collections import defaultdict
from collections.abc import Callable, Iterator

from evalsuite.balance import Found, diverse, graded, name, rng, sayable, turns
from evalsuite.pydocs.facts import answers, harvest
from evalsuite.pydocs.kinds import KINDS, Candidate
from evalsuite.questions import Grader, Question
from evalsuite.replies.graders import grade
from tune.recipe import Evaluate

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_PATH = re.compile(r"(?:^|[\s'\"=])(?:/[\w.-]+){2,}|[A-Za-z]:\\\\")


def closed_book(wanted: Evaluate, report: Callable[[str], None] = lambda _: None) -> Iterator[Question]:
    """Every question that `wanted.modules` allow, `answer_rule` their developer message.

    Kinds, and within a kind answers, take turns, so that no constant reply scores well. Raises UserError for an unknown
    module.
    """
    seed = wanted.seed
    facts = harvest(sorted(set(wanted.modules)))
    asked = _distinct({kind: list(make(facts, rng(seed, kind))) for kind, make in KINDS.items()})
    truths = answers([c.check for _, c in asked])
    fit: dict[str, list[Found]] = defaultdict(list)
    for (kind, candidate), truth in zip(asked, truths, strict=True):
        if truth is not None and (question := _question(kind, candidate, truth, seed, wanted.answer_rule)):
            fit[kind].append(Found(truth, question.module, question))
    verified = sum(map(len, fit.values()))
    report(f"{verified} of {len(asked)} candidates from {len(facts)} modules verified")
    return turns(diverse(fit[kind], rng(seed, f"order {kind}")) for kind in KINDS)


def _distinct(candidates: dict[str, list[Candidate]]) -> list[tuple[str, Candidate]]:
    """Every candidate once, in a fixed order."""
    seen = {c.prompt: (kind, c) for kind, found in reversed(candidates.items()) for c in reversed(found)}
    return sorted(seen.values(), key=lambda item: (item[0], item[1].prompt))


def _question(kind: str, candidate: Candidate, truth: str, seed: int, answer_rule: str) -> Question | None:
    """The question, or None when its truth is unfit: too long, tied to this machine, or told by the prompt."""
    prompt, answer, grader = candidate.prompt, truth, candidate.grader
    if not sayable(truth) or _ADDRESS.search(truth) or _PATH.search(truth):
        return None
    if candidate.options:
        if truth not in candidate.options:
            return None  # for `exporter`: two of the modules export the name
        options = list(candidate.options)
        rng(seed, prompt).shuffle(options)
        answer = string.ascii_uppercase[options.index(truth)]
        listed = "\n".join(
            f"{letter}) {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False)
        )
        prompt = f"{prompt}\n\n{listed}\n\nAnswer with the letter."
    elif grader != "yesno" and re.search(rf"(?<!\w){re.escape(truth)}(?!\w)", prompt):
        return None
    question = Question(
        id=name(kind, prompt),
        kind=kind,
        module=candidate.module,
        prompt=prompt,
        answer=answer,
        grader=grader or _grader(answer),
        guess=1 / len(candidate.options) if candidate.options else 0.5 if grader == "yesno" else 0.0,
        developer=answer_rule,
    )
    return question if graded(question) else None


def _grader(answer: str) -> Grader:
    probe = Question(id="", kind="", module="", prompt="", answer=answer, grader="literal")
    return "literal" if grade(probe, answer) else "exact"
