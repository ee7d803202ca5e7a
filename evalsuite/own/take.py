"""A file of a team's own questions in, a frozen question set out: every question is one that its grader can grade.

Nothing is mended and nothing left out: what is wrong is listed by line, all of it, and no set comes out.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

from pydantic import JsonValue

from evalsuite.balance import graded, name
from evalsuite.own import file, free
from evalsuite.own.file import Row
from evalsuite.packs.general import general
from evalsuite.packs.tutorial import tutorial
from evalsuite.questions import RUN, Grader, Question, QuestionSet, Split
from tune.artefact import file_digest
from tune.errors import UserError
from tune.evaluate import GENERAL, OWN, TUTORIAL, Evaluate
from tune.recipe import Recipe
from tune.terminal import one_line

KIND = "own"
LONGEST = {"prompt": 20_000, "answer": 200, "developer": 2_000, "kind": 64, "module": 64, "id": 64}  # characters
SHOWN = 20  # bad lines that are listed
GRADERS, SPLITS = tuple(g for g in get_args(Grader) if g not in RUN), get_args(Split)

_LETTER = re.compile(r"\(?([A-Za-z])\)?")
_LISTED = re.compile(
    r"(?m)^[ \t]*\(?([A-Za-z])[).:][ \t]|(?<!\S)\(?([A-Z])\)[ \t]"
)  # on a line of its own, or A) inline


def take(recipe: Recipe, path: Path, report: Callable[[str], None] = lambda _line: None) -> QuestionSet:
    """The questions of the file, in its order, then [evaluate] general ones. `developer` is [evaluate] answer_rule
    where a row has none, and `guess` what the letters or yes and no leave to chance. `report` is told of fewer general
    ones than wanted.

    The set's `made` says the file's name and sha256, how many held-out questions there are, and of which modules.
    Raises UserError that lists every bad line, and where the gate would refuse the report: for other modules than
    [evaluate] names, and fewer questions.
    """
    questions = asked(recipe.evaluate, path)
    held, count = [q for q in questions if q.split == "held-out"], sum(q.split == "general" for q in questions)
    made: dict[str, JsonValue] = {
        OWN: path.name,
        "sha256": file_digest(path),
        "questions": len(held),
        "modules": [*sorted({q.module for q in held})],
        "answer_rule": recipe.evaluate.answer_rule,
        **({GENERAL: recipe.evaluate.general, "seed": recipe.evaluate.seed} if recipe.evaluate.general else {}),
        **({TUTORIAL: True} if recipe.evaluate.tutorial else {}),
    }
    _as_asked(path, held, recipe.evaluate)
    if count < recipe.evaluate.general:
        report(f"only {count} general questions, not {recipe.evaluate.general}: the templates give no more")
    return QuestionSet(name=recipe.project.name, python="", made=made, questions=questions)


def asked(wanted: Evaluate, path: Path) -> tuple[Question, ...]:
    """The questions of the file, however few, and what [evaluate] asks beside them."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"there is no file {path}", fix="evalsuite questions take FILE.csv, or FILE.jsonl") from None
    questions, faults = checked(file.rows(path, data), module=path.stem, rule=wanted.answer_rule)
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise UserError(
            f"{path} has {len(faults)} bad line{'s' if len(faults) > 1 else ''}",
            why="\n       ".join([*faults[:SHOWN], *more]),
            fix=f"edit {path}, then evalsuite questions take {path}",
        )
    prompts = {own.prompt for own in questions}
    beside = [*general(wanted), *(tutorial() if wanted.tutorial else ())]
    return (*questions, *(q for q in beside if q.prompt not in prompts))


def checked(rows: Iterable[Row], *, module: str, rule: str) -> tuple[list[Question], list[str]]:
    """The questions of the good rows, and of each bad one `line N: reason`. `module` and `rule` stand in where a row
    has no module and no developer message."""
    questions, faults = list[Question](), list[str]()
    prompts, ids = dict[str, int](), dict[str, int]()
    for row in rows:
        made = row.fault or _question(row.cells, module, rule)
        if isinstance(made, Question):
            said = " ".join(made.prompt.split())
            if said in prompts:
                made = f"asks what line {prompts[said]} asks"
            elif made.id in ids:
                made = f"has the id of line {ids[made.id]}"
            else:
                prompts[said] = ids[made.id] = row.line
                questions.append(made)
        if isinstance(made, str):
            faults.append(f"line {row.line}: {made}")
    return questions, faults


def _question(cells: dict[str, str], module: str, rule: str) -> Question | str:
    """The question, or why it is none."""
    needed = ("prompt",) if file.POINTS in cells else file.NEEDED
    if lacking := [key for key in needed if key not in cells]:
        return f"has no {', '.join(lacking)}"
    prompt, answer = cells["prompt"].strip(), cells.get("answer", "").strip()
    given = {"kind": KIND, "module": module, "developer": rule, "split": SPLITS[0]}
    given |= {key: value.strip() for key, value in cells.items()}
    given = {"id": name(given["kind"], prompt), **given}
    for key, most in LONGEST.items():
        if len(given.get(key, "")) > most:
            return f"{key} has {len(given[key])} characters, and at most {most} are taken"
    for key in ("kind", "module", "id"):
        if not given[key].isprintable():
            return f"{key} holds a line break or a control character"
    if file.POINTS in cells:
        return free.question(cells, kind=KIND, module=module)
    for key, known in (("grader", GRADERS), ("split", SPLITS)):
        if given[key] not in known:
            return f'there is no {key} "{one_line(given[key], 40)}": {", ".join(known)}'
    letters = listed(prompt) if given["grader"] == "choice" else 0
    if given["grader"] == "choice":
        found = _LETTER.fullmatch(answer)
        if letters < 2:
            return "the prompt lists no letters to choose from: A) …, B) …, each on a line"
        if not found or not 0 <= ord(found[1].upper()) - ord("A") < letters:
            last = chr(ord("A") + letters - 1)
            return f'the answer "{one_line(answer, 40)}" is none of the letters A to {last} in the prompt'
    chance = _chance(given.pop("guess", ""), 1 / letters if letters else 0.5 if given["grader"] == "yesno" else 0.0)
    if isinstance(chance, str):
        return chance
    question = Question.model_validate({**given, "prompt": prompt, "answer": answer, "guess": chance})
    if not graded(question):
        return f'its grader {question.grader} does not take the answer "{one_line(answer, 40)}" for right'
    return question


def listed(prompt: str) -> int:
    """How many letters the prompt lists to choose from: A, B and so on, without a gap."""
    found = {(line or inline).upper() for line, inline in _LISTED.findall(prompt)}
    return next(n for n in range(27) if chr(ord("A") + n) not in found)


def _chance(said: str, least: float) -> float | str:
    try:
        chance = float(said) if said else least
    except ValueError:
        chance = math.nan
    if not 0 <= chance <= 1:
        return f'guess "{one_line(said, 40)}" is no number from 0 to 1'
    return chance if chance >= least - 1e-3 else f"guess {chance:g} is less than blind guessing gets, {least:.3g}"


def _as_asked(path: Path, held: Sequence[Question], asked: Evaluate) -> None:
    """[evaluate] modules keeps pages out of training: named, it has to be what is asked about."""
    about, wanted = {q.module for q in held}, set(asked.modules)
    why = []
    if wanted and (other := about - wanted):
        why.append(f"held-out questions are about {one_line(', '.join(sorted(other)), 200)}: not in [evaluate] modules")
    if lacking := wanted - about:
        why.append(f"no held-out question is about {one_line(', '.join(sorted(lacking)), 200)}, in [evaluate] modules")
    if asked.questions_file and "questions" in asked.model_fields_set and len(held) < asked.questions:
        why.append(f"there are {len(held)} held-out questions, and [evaluate] questions = {asked.questions}")
    if why:
        raise UserError(
            f"{path} is not what [evaluate] of the recipe asks for",
            why="\n       ".join(why),
            fix="leave modules and questions out of [evaluate] where your file says all, or change them, or the file's "
            "columns module and split",
        )
