"""Modules in, a frozen question set out: harvest, ask every kind, verify by running, drop what is unfit, balance.

Deterministic for a seed and a Python. Knows nothing about models.
"""

import hashlib
import json
import platform
import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, zip_longest
from typing import TypeVar

from evalsuite.pydocs.facts import answers, harvest
from evalsuite.pydocs.kinds import KINDS, Candidate
from evalsuite.questions import Grader, Question, QuestionSet
from evalsuite.replies.graders import grade, parse
from tune.errors import UserError
from tune.recipe import Evaluate

T = TypeVar("T")

LONGEST_ANSWER = 60  # characters; a longer one tests typing, not knowledge

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_PATH = re.compile(r"(?:^|[\s'\"=])(?:/[\w.-]+){2,}|[A-Za-z]:\\\\")


def build(wanted: Evaluate, report: Callable[[str], None] = lambda _: None) -> QuestionSet:
    """Up to `wanted.questions` questions about `wanted.modules` alone, `answer_rule` their developer message.

    Kinds, and within a kind answers, take turns, so that no constant reply scores well. Fewer come when
    the modules hold no more: `report` says so. Raises UserError for an unknown module, or when nothing can be asked.
    """
    count, seed = wanted.questions, wanted.seed
    facts = harvest(sorted(set(wanted.modules)))
    asked = _distinct({kind: list(make(facts, _rng(seed, kind))) for kind, make in KINDS.items()})
    truths = answers([c.check for _, c in asked])
    fit: dict[str, list[tuple[str, Question]]] = defaultdict(list)
    for (kind, candidate), truth in zip(asked, truths, strict=True):
        if truth is not None and (question := _question(kind, candidate, truth, seed, wanted.answer_rule)):
            fit[kind].append((truth, question))
    verified = sum(map(len, fit.values()))
    report(f"{verified} of {len(asked)} candidates from {len(facts)} modules verified")
    chosen = tuple(_turns(_diverse(fit[kind], _rng(seed, f"order {kind}")) for kind in KINDS))[:count]
    if not chosen:
        raise UserError(
            "no question can be made from these modules",
            why=", ".join(wanted.modules) or "evaluate.modules is empty",
            fix="name more modules in [evaluate] modules of recipe.toml",
        )
    if len(chosen) < count:
        report(f"only {len(chosen)} questions, not {count}: these modules hold no more")
    tally = Counter(q.kind for q in chosen)
    report(f"{len(chosen)} questions: " + ", ".join(f"{kind} {tally[kind]}" for kind in KINDS if tally[kind]))
    return QuestionSet(
        name="python-docs", python=platform.python_version(), made=wanted.about_questions, questions=chosen
    )


def _distinct(candidates: dict[str, list[Candidate]]) -> list[tuple[str, Candidate]]:
    """Every candidate once, in a fixed order."""
    seen = {c.prompt: (kind, c) for kind, found in reversed(candidates.items()) for c in reversed(found)}
    return sorted(seen.values(), key=lambda item: (item[0], item[1].prompt))


def _question(kind: str, candidate: Candidate, truth: str, seed: int, answer_rule: str) -> Question | None:
    """The question, or None when its truth is unfit: too long, tied to this machine, or told by the prompt."""
    prompt, answer, grader = candidate.prompt, truth, candidate.grader
    if not 0 < len(truth) <= LONGEST_ANSWER or not truth.isprintable() or _ADDRESS.search(truth) or _PATH.search(truth):
        return None
    if candidate.options:
        if truth not in candidate.options:
            return None  # for `exporter`: two of the modules export the name
        options = list(candidate.options)
        _rng(seed, prompt).shuffle(options)
        answer = string.ascii_uppercase[options.index(truth)]
        listed = "\n".join(
            f"{letter}) {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False)
        )
        prompt = f"{prompt}\n\n{listed}\n\nAnswer with the letter."
    elif grader != "yesno" and re.search(rf"(?<!\w){re.escape(truth)}(?!\w)", prompt):
        return None
    question = Question(
        id=hashlib.sha256(json.dumps([kind, prompt]).encode()).hexdigest()[:16],
        kind=kind,
        module=candidate.module,
        prompt=prompt,
        answer=answer,
        grader=grader or _grader(answer),
        guess=1 / len(candidate.options) if candidate.options else 0.5 if grader == "yesno" else 0.0,
        developer=answer_rule,
    )
    return question if grade(question, parse(f"ANSWER: {answer}")) == 1.0 else None


def _grader(answer: str) -> Grader:
    probe = Question(id="", kind="", module="", prompt="", answer=answer, grader="literal")
    return "literal" if grade(probe, answer) else "exact"


def _diverse(found: Iterable[tuple[str, Question]], rng: random.Random) -> Iterator[Question]:
    """Answers take turns, and within an answer modules do, so that neither the commonest value nor module rules."""
    shuffled = list(found)
    rng.shuffle(shuffled)
    groups: dict[str, dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
    for truth, question in shuffled:
        groups[truth][question.module].append(question)
    return _turns(_turns(by_module.values()) for by_module in groups.values())


def _turns(groups: Iterable[Iterable[T]]) -> Iterator[T]:
    """One of each group, then the next of each, until all are empty."""
    return (item for item in chain.from_iterable(zip_longest(*groups)) if item is not None)


def _rng(seed: int, purpose: str) -> random.Random:
    return random.Random(f"{seed} {purpose}")
