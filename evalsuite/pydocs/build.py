"""Modules in, closed-book questions out: harvest, ask every kind, verify by running, drop what is unfit, balance.

Deterministic for a seed and a Python. Knows nothing about models.
"""

import platform
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from evalsuite.balance import Found, graded, name, rng, sayable, spread, turns, twinned
from evalsuite.pydocs.facts import Module, answers, harvest
from evalsuite.pydocs.kinds import KINDS, Candidate
from evalsuite.questions import Grader, Question
from evalsuite.replies.graders import grade
from tune.evaluate import Evaluate

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_PATH = re.compile(r"(?:^|[\s'\"=])(?:/[\w.-]+){2,}|[A-Za-z]:\\\\")
UNGRADABLE, SHARED_OUT = "no short answer", "more of one object"


class ClosedBook(NamedTuple):
    """Questions, how many candidates were left out by reason, and the modules that were, with theirs."""

    questions: Iterator[Question]
    left_out: dict[str, int]
    skipped: dict[str, str]


def closed_book(wanted: Evaluate, report: Callable[[str], None] = lambda _: None) -> ClosedBook:
    """Every question that `wanted.modules` allow, `answer_rule` their developer message.

    Kinds take turns, and within a kind answers, then objects, then modules, so that no constant reply scores well and
    no object gives more than its share of a kind. Raises UserError for a module that is not the standard library's.
    """
    seed = wanted.seed
    facts = harvest(sorted(set(wanted.modules)))
    skipped = {m.name: why for m in facts if (why := nothing(m))}
    facts = tuple(m for m in facts if m.name not in skipped)
    candidates = _distinct({kind: list(make(facts, rng(seed, kind))) for kind, make in KINDS.items()})
    left_out = Counter(c.unfit for _, c in candidates if c.unfit)
    asked = [(kind, c) for kind, c in candidates if not c.unfit]
    fit: dict[str, list[Found]] = defaultdict(list)
    twins: dict[str, dict[str, list[Found]]] = {kind: defaultdict(list) for kind in KINDS}  # by whose twins they are
    ids: dict[str, str] = {}
    for (kind, candidate), truth in zip(asked, answers([c.check for _, c in asked]), strict=True):
        if truth.value is None:
            left_out[truth.why] += 1
        elif question := _question(kind, candidate, truth.value, seed, wanted.answer_rule):
            about = f"{question.module}.{candidate.about}"
            found = Found(truth.value, question.module, question, about)
            (twins[kind][candidate.twin_of] if candidate.twin_of else fit[kind]).append(found)
            ids[candidate.prompt] = question.id
        else:
            left_out[UNGRADABLE] += 1
    kept: dict[str, list[Question | None]] = {}
    for kind in KINDS:
        of = {ids[prompt]: found for prompt, found in twins[kind].items() if prompt in ids}
        kept[kind] = [*spread(fit[kind], rng(seed, f"order {kind}"))] or twinned(
            kept.values(), of, rng(seed, f"order {kind}")
        )
    verified = sum(map(len, fit.values())) + sum(len(found) for of in twins.values() for found in of.values())
    count = Counter({kind: sum(q is not None for q in kept[kind]) for kind in KINDS})
    left_out[SHARED_OUT] += verified - count.total()
    _tell_of_few(count, fit, wanted.questions, report)
    report(f"{verified} of {len(candidates)} candidates from {len(facts)} modules verified")
    left = dict(sorted((why, n) for why, n in left_out.items() if n))
    if left:
        report("left out: " + ", ".join(f"{why} {n}" for why, n in left.items()))
    for module, why in skipped.items():
        report(f"skipped {module}: {why}")
    return ClosedBook(turns(kept.values()), left, skipped)


def _tell_of_few(
    count: Mapping[str, int], fit: Mapping[str, list[Found]], wanted: int, report: Callable[[str], None]
) -> None:
    """Which kinds cannot give as many as all have to, if each gives the same."""
    few = {kind: n for kind, n in count.items() if n < wanted / len(KINDS)}
    for kind, n in few.items():
        if n < min(len(fit[kind]), wanted / len(KINDS)):
            report(f"{kind}: {n} of {len(fit[kind])}, since no object may give more than its share")
    if few:
        report(f"too few for an even set of {wanted}: {', '.join(f'{kind} {n}' for kind, n in few.items())}")


def nothing(module: Module) -> str:
    """Why a module gives no question, or ""."""
    holds = module.routines or module.classes or module.constants or module.sessions or module.expressions
    return module.error or ("" if holds else "it defines nothing that can be asked about")


def _distinct(candidates: dict[str, list[Candidate]]) -> list[tuple[str, Candidate]]:
    """Every candidate once, in a fixed order."""
    seen = {c.prompt: (kind, c) for kind, found in reversed(candidates.items()) for c in reversed(found)}
    return sorted(seen.values(), key=lambda item: (item[0], item[1].prompt))


def _question(kind: str, candidate: Candidate, truth: str, seed: int, answer_rule: str) -> Question | None:
    """The question, or None when its truth is unfit: too long, tied to this machine, or told by the prompt."""
    prompt, answer, grader = candidate.prompt, truth, candidate.grader
    if not sayable(truth) or of_this_machine(truth):
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
    elif grader != "yesno" and any(re.search(rf"(?<!\w){re.escape(t)}(?!\w)", prompt) for t in _spellings(truth)):
        return None
    major, minor, _ = platform.python_version_tuple()
    prompt = f"In Python {major}.{minor}, {prompt[0].lower()}{prompt[1:]}"  # after what the prompt tells was looked for
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


def of_this_machine(truth: str) -> bool:
    """Whether it holds an address or a path."""
    return bool(_ADDRESS.search(truth) or _PATH.search(truth))


def _spellings(truth: str) -> set[str]:
    """What gives a truth away: itself, and a text without its quotes."""
    return {truth, truth.strip("'\"") or truth}


def _grader(answer: str) -> Grader:
    probe = Question(id="", kind="", module="", prompt="", answer=answer, grader="literal")
    return "literal" if grade(probe, answer) else "exact"
