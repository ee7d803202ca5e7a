"""Which examples a dataset takes: every filter in its order, and what exactly each one found.

In: examples. Out: a reason and its detail, both "" for an example that stays. Pure; knows no files and no tokens.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tune.data import code, language, personal, quality, secrets
from tune.data.examples import Example
from tune.recipe import Dataset

CODE = "code of a held-out question"


class Held(NamedTuple):
    """What must not be trained on: the prompts of held-out questions, and the answers of those that are code."""

    prompts: tuple[str, ...] = ()
    solutions: tuple[str, ...] = ()


class Filters(NamedTuple):
    """The filters of one dataset."""

    shared: Callable[[str], str]  # see quality.shared_with
    shapes: frozenset[str]  # of the held-out questions' code
    personal: bool  # whether rows with personal data go
    languages: tuple[str, ...]


def of(held: Held, asked: Dataset) -> Filters:
    """The filters of a recipe's dataset, with held-out questions to be kept out."""
    texts = [*held.prompts, *(text if "```" in text else f"```python\n{text}\n```" for text in held.solutions)]
    shapes = frozenset(shape for text in texts for shape in code.shapes(text))
    return Filters(quality.shared_with(held.prompts), shapes, asked.personal == "drop", tuple(asked.languages))


def judged(example: Example, by: Filters) -> tuple[str, str]:
    """The first reason why an example goes, and what exactly; two empty texts when it stays.

    Contamination is looked for first: a row that would void the evaluation is to be seen as that.
    """
    if words := by.shared(example.taught):
        return "contaminated", words
    answer = example.messages[-1].content if example.messages else ""
    if by.shapes and not by.shapes.isdisjoint(code.shapes(answer)):
        return "contaminated", CODE
    if wrong := quality.problem(example.messages, given=example.check == "given"):
        return wrong, f"an answer of {len(answer.strip()):,} characters" if wrong in {"short", "long"} else ""
    said = [part for message in example.messages for part in (message.thinking or "", message.content) if part]
    whole = "\n".join(said)  # most hold nothing, which is seen of all parts at once
    if secrets.suspected(whole) and (found := _kinds(secrets.found, said)):
        return "holds a secret", found
    if by.personal and personal.suspected(whole) and (found := _kinds(personal.found, said)):
        return "holds personal data", found
    if wrong := code.problem(answer):
        return "code does not parse", wrong
    if by.languages and (spoken := language.of(answer)) and spoken not in by.languages:
        return "in another language", spoken
    return "", ""


def _kinds(find: Callable[[str], list[secrets.Span]], texts: Iterable[str]) -> str:
    return ", ".join(sorted({span.kind for text in texts for span in find(text)}))
