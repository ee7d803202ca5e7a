"""Questions against forgetting: what a model should still do that was tuned for something else. A seed in, they out.

Own wording, made from templates and dice; every answer is computed or proven, hangs on no date and no version, and is
checked by the graders that all questions have. Each template is its own `module`: a model that lost one skill fails
its questions together, and the bounds know that (judging/clusters.py).
"""

from collections.abc import Iterator, Mapping
from itertools import islice

from evalsuite.balance import graded, name, rng, sayable, turns
from evalsuite.packs import arithmetic, everyday, form, languages, logic, objects, rules
from evalsuite.packs.draft import Template
from evalsuite.questions import Question
from tune.data.quality import near_duplicates
from tune.evaluate import Evaluate

FAMILIES: Mapping[str, Mapping[str, Template]] = {
    "arithmetic": arithmetic.TEMPLATES,
    "logic": logic.TEMPLATES,
    "format": form.TEMPLATES,
    "json": objects.TEMPLATES,
    "language": languages.TEMPLATES,
    "refusal": rules.TEMPLATES,
    "common": everyday.TEMPLATES,
}
EACH, TRIES = 24, 200  # questions of a template at most, and throws of the dice for them


def general(wanted: Evaluate) -> list[Question]:
    """`wanted.general` questions for `wanted.seed`, `answer_rule` their developer message; fewer where the templates
    give no more. Families take turns, and in a family its templates. Of fewer the set is the beginning."""
    families = (
        turns(_drawn(family, each, template, wanted) for each, template in templates.items())
        for family, templates in FAMILIES.items()
    )
    found = list(turns(families)) if wanted.general else []
    alike = set(near_duplicates([q.prompt for q in found]))
    return list(islice((q for i, q in enumerate(found) if i not in alike), wanted.general))


def _drawn(family: str, each: str, template: Template, wanted: Evaluate) -> Iterator[Question]:
    """Different ones, EACH at most."""
    dice, seen = rng(wanted.seed, f"general {family} {each}"), set[str]()
    kind = f"general-{family}"
    for _ in range(TRIES):
        draft = template(dice)
        question = Question(
            id=name(kind, draft.prompt),
            kind=kind,
            module=f"{family}.{each}",
            prompt=draft.prompt,
            answer=draft.answer,
            grader=draft.grader,
            split="general",
            guess=draft.guess,
            developer=wanted.answer_rule,
        )
        if draft.prompt not in seen and sayable(draft.answer) and graded(question):
            seen.add(draft.prompt)
            yield question
        if len(seen) == EACH:
            return
