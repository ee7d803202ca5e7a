"""`tune check --rows`: what a dataset trains on, token by token in some rows, and in shares over all of them.

Reads work/dataset; changes nothing. Control tokens are shown as they are; one that a text spells gets a backslash, and
spaces and line breaks at an edge of a part are made visible.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from tune import artefact, harmony
from tune.data import dataset, mask, row
from tune.data.row import Row
from tune.errors import UserError
from tune.harmony import EFFORTS, IGNORE, RANKS
from tune.recipe import Recipe
from tune.screen import Line, escaped
from tune.trying import show

OPEN, CLOSE = "⟦", "⟧"  # around what is trained, where there is no colour
EDGES = str.maketrans({" ": "·", "\t": "⇥", "\n": "⏎\n"})
FAULTS = 8  # shown


class Share(BaseModel):
    """Tokens of a part of the data, and how many of them are trained."""

    model_config = ConfigDict(frozen=True)

    what: str
    rows: int
    tokens: int
    trained: int


class Part(NamedTuple):
    """Neighbouring tokens of one kind, and their text as it is shown."""

    text: str
    trained: bool
    control: bool


def findings(recipe: Recipe, count: int, *, as_json: bool) -> list[Any]:
    """What the command prints: rows in colour, or in brackets, then the shares; for a script the shares alone.

    Raises UserError as `read` does.
    """
    rows = read(recipe)
    found = shares(rows)
    if as_json:
        return [share.model_dump() for share in found]
    bare, shown = not show.colours(), []
    for one in some(rows["train"], count):
        shown += [show.styled(Line(title(one), "title")), text(one, show.styled, brackets=bare), ""]
    right = "every row trains on the assistant's own words, whole, and on nothing else"
    return [*shown, table(found), "", longest(rows), f"rows in which nothing is trained: 0; {right}"]


def read(recipe: Recipe) -> dict[str, list[Row]]:
    """The rows of train and eval. Raises UserError when there is no dataset of this recipe, when it was changed, or
    when a row's mask is wrong (`mask.mask_faults`)."""
    folder, found = recipe.work / dataset.KIND, dataset.read(recipe)
    artefact.verify(folder, found, remake="tune dataset")
    rows = {part: row.read(folder / f"{part}.jsonl", harmony.VOCABULARY) for part in ("train", "eval")}
    faults = [f"{part} {fault}" for part, some in rows.items() for fault in mask.mask_faults(some)]
    if faults:
        more = [f"and {len(faults) - FAULTS} more"] if faults[FAULTS:] else []
        raise UserError(
            f"{folder} would train on what it should not: {len(faults)} fault{'s' if faults[1:] else ''}",
            why=escaped("\n       ".join([*faults[:FAULTS], *more])),
            fix="tune dataset",
        )
    return rows


def shares(rows: dict[str, list[Row]]) -> list[Share]:
    """Of all rows, of train and eval, of each effort, and of each kind of message: analysis, final and the prompt."""
    every = [one for some in rows.values() for one in some]
    groups: dict[str, list[Row]] = {
        "all": every,
        **rows,
        **{e: [one for one in every if one.effort == e] for e in EFFORTS},
    }
    out = [
        Share(what=what, rows=len(some), tokens=sum(len(o.input_ids) for o in some), trained=sum(map(_trained, some)))
        for what, some in groups.items()
    ]
    having, tokens, trained = Counter[str](), Counter[str](), Counter[str]()
    for one in every:
        turns = mask.turns(one.input_ids)
        kinds = [turn.channel or "assistant" if turn.role == "assistant" else "prompt" for turn in turns]
        having.update(set(kinds))
        for kind, turn in zip(kinds, turns, strict=True):
            tokens[kind] += turn.end - turn.start
            trained[kind] += sum(y != IGNORE for y in one.labels[turn.start : turn.end])
    out += [Share(what=kind, rows=having[kind], tokens=tokens[kind], trained=trained[kind]) for kind in sorted(tokens)]
    return [share for share in out if share.rows]


def table(found: Sequence[Share]) -> str:
    """Shares, a line each."""
    cells = [("what", "rows", "tokens", "trained", "share")] + [
        (escaped(s.what), f"{s.rows:,}", f"{s.tokens:,}", f"{s.trained:,}", f"{s.trained / s.tokens:.1%}")
        for s in found
    ]
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(wide[0]), *(c.rjust(w) for c, w in zip(line[1:], wide[1:], strict=True))])
        for line in cells
    )


def some(rows: Sequence[Row], count: int) -> list[Row]:
    """Up to `count` rows of each effort, spread over the file."""
    out = []
    for effort in EFFORTS:
        mine = [one for one in rows if one.effort == effort]
        out += mine[:: max(1, len(mine) // count)][:count]
    return out


def longest(rows: dict[str, list[Row]]) -> str:
    """The row that decides how much memory training takes, in a line."""
    one = max((one for found in rows.values() for one in found), key=lambda one: len(one.input_ids), default=None)
    return f"longest row: {escaped(one.id)}, {len(one.input_ids)} tokens" if one else "there are no rows"


def title(one: Row) -> str:
    total, trained = len(one.input_ids), _trained(one)
    return escaped(f"{one.id}, effort {one.effort}, page {one.page}: {trained} of {total} tokens trained")


def text(one: Row, style: Callable[[Line], str], *, brackets: bool) -> str:
    """A whole row as it is shown. `brackets`: what is trained stands in ⟦…⟧, and no other bracket of that kind is."""
    out, inside = [], False
    for part in parts(one):
        if brackets and part.trained != inside:
            out.append(CLOSE if inside else OPEN)
            inside = part.trained
        shown = part.text
        if brackets:
            shown = "".join(c.encode("unicode_escape").decode() if c in {OPEN, CLOSE} else c for c in shown)
        look = "good" if part.trained else "dim"
        out.append("\n".join(style(Line(line, look)) for line in shown.split("\n")))
    return "".join(out) + (CLOSE if inside else "")


def parts(one: Row) -> Iterator[Part]:
    """The row cut where its mask changes and at each control token, in order."""
    kinds = [(y != IGNORE, i if i >= RANKS else -1) for i, y in zip(one.input_ids, one.labels, strict=True)]
    cuts = [n for n in range(1, len(kinds)) if kinds[n] != kinds[n - 1] or kinds[n][1] >= 0]
    for start, end in pairwise([0, *cuts, len(kinds)]):
        control = kinds[start][1] >= 0
        decoded = harmony.decode(one.input_ids[start:end])
        yield Part(decoded if control else _visible(decoded), kinds[start][0], control)


def _visible(text: str) -> str:
    """Text escaped, its outer white space made visible, and a spelled control token told from a real one."""
    body = text.strip(" \t\n")
    at = text.index(body) if body else len(text)
    before, after = text[:at], text[at + len(body) :]
    return before.translate(EDGES) + escaped(body).replace("<|", "<\\|") + after.translate(EDGES)


def _trained(one: Row) -> int:
    return sum(y != IGNORE for y in one.labels)
