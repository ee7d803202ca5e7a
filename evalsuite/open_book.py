"""Pages in, open-book questions out: the passage that answers stands in the prompt, so that reading is measured.

The facts are `tune.data.open_book`'s, in the form that is never trained on. Deterministic for pages and a seed. Knows
neither files nor models.
"""

from collections.abc import Iterator, Sequence
from typing import Final, get_args

from evalsuite.balance import Found, diverse, even, graded, name, rng, sayable, turns
from evalsuite.questions import Question, Split
from tune.data.open_book import Asked, asked, prompt
from tune.data.page import Page
from tune.evaluate import Evaluate
from tune.section import Open

FORM: Final = "ask"  # train is what examples look like


def open_book(pages: Sequence[Page], split: Split, wanted: Evaluate) -> Iterator[Question]:
    """Every question that the pages hold and that keeps the balance, `answer_rule` its developer message.

    Kinds, within a kind answers, and within an answer pages take turns. A held-out question's `module` is the one of
    `wanted.modules` that holds its page out, a taught one's is the page's.
    """
    found: dict[str, list[Found]] = {kind: [] for kind in get_args(Open)}
    seen = set[str]()
    for page in pages:
        held = page.held_out(wanted.modules) if split == "held-out" else None
        module = held.module if held else page.module
        for one in asked(page, form=FORM):
            question = _question(one, module, split, wanted.answer_rule) if one.kind in wanted.open_kinds else None
            if question and question.prompt not in seen:
                seen.add(question.prompt)
                found[one.kind].append(Found(one.answer, one.page, question))
    return even(turns(diverse(each, rng(wanted.seed, f"{split} {kind}")) for kind, each in found.items()))


def _question(one: Asked, module: str, split: Split, answer_rule: str) -> Question | None:
    """The question, or None when its answer is unfit, the line that shows it was cut off the passage, or the passage
    shows nothing else that could be the answer."""
    said = prompt(one, FORM)
    question = Question(
        id=name(one.kind, said),
        kind=one.kind,
        module=module,
        prompt=said,
        answer=one.answer,
        grader=one.grader,
        split=split,
        guess=one.guess,
        developer=answer_rule,
    )
    fit = sayable(one.answer) and one.line in said and one.guess < 1
    return question if fit and graded(question) else None
