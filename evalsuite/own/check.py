"""What is to be known of a question set before anything is asked: a set in, and training texts; figures out.

Reads the texts of a dataset; everything else is pure. Which figures are too bad is said by `problems`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evalsuite.balance import graded
from evalsuite.contamination import Contamination, contamination
from evalsuite.judging.blind import chances
from evalsuite.own.show import figures
from evalsuite.questions import ADVICE, Question, QuestionSet, Split
from tune import artefact
from tune.data.quality import near_duplicates
from tune.errors import UserError, reason
from tune.terminal import escaped

DATASET = "dataset"
SHOWN = 5  # ids
KINDS = 20  # that are shown


class Blind(BaseModel):
    """What a model gets right in a kind that reads no question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Split
    kind: str
    questions: int
    answer: str  # the commonest one
    constant: float  # the share of questions that this one reply gets right
    guess: float  # the mean chance of the better way to be right without reading, as the gate counts it


class Check(BaseModel):
    """A question set's figures. `ungraded` and `alike`: ids of questions whose grader does not take their own answer,
    and of those that say nearly what an earlier one says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    questions: int
    modules: dict[Split, dict[str, int]]
    largest: dict[Split, float]  # the share of the module that has most
    ungraded: tuple[str, ...]
    alike: tuple[str, ...]
    blind: tuple[Blind, ...]
    contamination: dict[Split, Contamination] = {}  # empty: held against nothing


def check(made: QuestionSet, against: Path | None = None) -> Check:
    """All figures. `against` is a folder that `tune dataset` made; raises UserError when it is none, or was changed."""
    splits: dict[Split, list[Question]] = {}
    for question in made.questions:
        if question.split != ADVICE:  # is answered in prose: there is nothing to be guessed, graded or learned
            splits.setdefault(question.split, []).append(question)
    modules = {split: Counter(q.module for q in some) for split, some in splits.items()}
    alike = near_duplicates([q.prompt for q in made.questions])
    texts = list(training_texts(against)) if against else []
    return Check(
        digest=made.digest,
        questions=len(made.questions),
        modules={split: dict(sorted(counts.items())) for split, counts in modules.items()},
        largest={split: max(counts.values()) / counts.total() for split, counts in modules.items()},
        ungraded=tuple(q.id for q in made.judged if not graded(q)),
        alike=tuple(made.questions[i].id for i in alike),
        blind=tuple(_blind(split, kind, some) for split, some in splits.items() for kind in _kinds(some)),
        contamination={split: contamination(some, texts) for split, some in splits.items()} if against else {},
    )


def training_texts(folder: Path) -> Iterator[str]:
    """What each example of a dataset teaches: all turns but the developer's, analyses too."""
    artefact.verify(folder, artefact.read(folder, DATASET, remake="tune dataset"), remake="tune dataset")
    path = folder / "examples.jsonl"
    with path.open(encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            try:
                turns = [turn for turn in json.loads(line)["messages"] if turn["role"] != "developer"]
                yield "\n".join(str(turn.get(key) or "") for turn in turns for key in ("thinking", "content"))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
                raise UserError(f"{path}:{number} is no example", why=reason(e), fix="tune dataset") from None


def words(made: QuestionSet, found: Check) -> str:
    """The figures as the terminal shows them, escaped."""
    lines = [figures(made), ""]
    lines += [f"answers that their own grader does not take: {_some(found.ungraded)}"]
    lines += [f"questions that say nearly what an earlier one says: {_some(found.alike)}"]
    for split, counts in found.modules.items():
        lines.append(f"{split} modules: {len(counts)}, the largest has {found.largest[split]:.1%} of the questions")
    for one in _worst(found.blind):
        reply = f'always "{one.answer}" gets {one.constant:.1%} right, blind guessing {one.guess:.1%}'
        lines.append(f"{one.split} {one.kind}: {one.questions} questions; {reply}")
    if len(found.blind) > KINDS:
        lines.append(
            f"and {len(found.blind) - KINDS} more kinds, of which blind guessing gets less: --json has them all"
        )
    for split, leak in found.contamination.items():
        signs = f"prompt {leak.exact.count}, 13 words {leak.ngram.count}, code {leak.ast.count}"
        total = f"{leak.any.count} of {leak.questions} ({leak.any.share:.1%})"
        lines.append(f"{split} questions that stand in {leak.texts:,} training texts: {total}; {signs}")
    return escaped("\n".join(lines))


def _worst(blind: tuple[Blind, ...]) -> list[Blind]:
    """Those that blind guessing gets most of, in their order."""
    first = sorted(range(len(blind)), key=lambda i: -blind[i].guess)[:KINDS]
    return [blind[i] for i in sorted(first)]


def problems(found: Check, most: float) -> list[str]:
    """What must be changed: answers that cannot be right, and held-out questions in the training data, of which the
    share may be `most`. Taught ones are about what is trained on."""
    out = [f"the grader does not take the answer of {_some(found.ungraded)}"] * bool(found.ungraded)
    leak = found.contamination.get("held-out")
    if leak and leak.any.share > most:
        share = f"{leak.any.share:.1%} of the held-out questions, and at most {most:.1%} may"
        out.append(f"training data holds {share}: {_some(leak.any.ids)}")
    return [escaped(each) for each in out]


def _kinds(questions: list[Question]) -> list[str]:
    return sorted({q.kind for q in questions})


def _blind(split: Split, kind: str, questions: list[Question]) -> Blind:
    found = [(q, chance) for q, chance in zip(questions, chances(questions), strict=True) if q.kind == kind]
    (answer, count), *_ = Counter(q.answer for q, _ in found).most_common(1)
    guess = sum(chance for _, chance in found) / len(found)
    return Blind(split=split, kind=kind, questions=len(found), answer=answer, constant=count / len(found), guess=guess)


def _some(ids: tuple[str, ...]) -> str:
    more = f", and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{len(ids)}" + (f" ({', '.join(ids[:SHOWN])}{more})" if ids else "")
