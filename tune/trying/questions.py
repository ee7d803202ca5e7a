"""What is asked when nobody says what: held-out questions of work/dataset, with the answers of the data.

A question is read back out of a row's token ids, and taken only if it renders to them again, id for id.
"""

from collections.abc import Sequence

from tune import artefact, harmony
from tune.artefact import Artefact
from tune.data import dataset, mask, row
from tune.data.row import Row
from tune.errors import UserError
from tune.harmony import Message
from tune.recipe import Recipe
from tune.trying.take import Question

HELD_OUT = 2  # questions; three efforts and two sides make twelve replies
INSTRUCTIONS = "# Instructions\n\n"  # what harmony writes before a developer's words


def held_out(recipe: Recipe, adapter: Artefact | None) -> list[Question]:
    """Questions that were not trained on, of different pages spread over all. `adapter`: the one that is asked.

    Raises UserError when there is no dataset, or when the adapter learned from another one: then these questions may
    have been among what it saw.
    """
    found = dataset.read(recipe)
    if adapter is not None and adapter.inputs.get("dataset") != found.digest:
        raise UserError(
            "the adapter in work/adapter was trained on another dataset",
            why="questions that are held out of this one may be what it learned",
            fix="tune train",
        )
    artefact.verify(recipe.work / dataset.KIND, found, remake="tune dataset")
    path = recipe.work / dataset.KIND / "eval.jsonl"
    chosen = _spread(row.read(path, harmony.VOCABULARY), recipe.dataset.date)
    if not chosen:
        raise UserError(f"{path} holds no question that can be asked", fix='tune try "your question"')
    return chosen


def of_row(one: Row, date: str) -> Question | None:
    """The question of a row with one user message at most a developer's before it; None for any other."""
    turns = mask.turns(one.input_ids)
    words = [(turn.role, harmony.decode(_words(one.input_ids, turn))) for turn in turns]
    roles = [role for role, _ in words]
    first = next((turn.start for turn in turns if turn.role == "assistant"), len(one.input_ids))
    if roles[:2] == ["system", "user"]:
        developer, prompt, asked = "", words[1][1], 2
    elif roles[:3] == ["system", "developer", "user"]:
        developer, prompt, asked = words[1][1].removeprefix(INSTRUCTIONS), words[2][1], 3
    else:
        return None
    messages = [Message(role="developer", content=developer)] if developer else []
    ids = harmony.render_prompt([*messages, Message(role="user", content=prompt)], one.effort, date)
    if not prompt.strip() or roles[asked : asked + 1] != ["assistant"] or one.input_ids[: first + 2] != ids:
        return None
    reference = harmony.parse_reply(one.input_ids[len(ids) :]).answer
    return Question(prompt=prompt, developer=developer, reference=reference, source=one.id)


def _words(ids: Sequence[int], turn: mask.Turn) -> Sequence[int]:
    end = turn.end - (ids[turn.end - 1] in mask.ENDS)
    return ids[turn.body : end]


def _spread(rows: Sequence[Row], date: str) -> list[Question]:
    """Up to HELD_OUT questions, each of another page and in other words, at equal distances in the file."""
    chosen: dict[str, Question] = {}
    pages: set[str] = set()
    for start in range(HELD_OUT):
        for one in rows[start * len(rows) // HELD_OUT :]:
            if one.page in pages:
                continue
            if (question := of_row(one, date)) and question.prompt not in chosen:
                chosen[question.prompt] = question
                pages.add(one.page)
                break
    return list(chosen.values())
