"""Whether a row's loss mask trains on what it should: the assistant's own words, whole, and nothing else.

Knows the turns of a harmony conversation by their control tokens. What training teaches in silence when a mask is a
token off is named here, before a GPU is paid for.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from tune.data.row import Row
from tune.harmony import CALL, CHANNEL, END, IGNORE, MESSAGE, RANKS, RETURN, START, decode

ENDS = (END, RETURN, CALL)


class Turn(NamedTuple):
    """One message of a row: its places `start` to `end`, from <|start|> on, with its own words from `body` on.

    `role` and `channel` are the header's first words, "" where there are none.
    """

    start: int
    body: int
    end: int
    role: str
    channel: str


def turns(ids: Sequence[int]) -> list[Turn]:
    """The messages of a conversation, in order; what stands before the first <|start|> is one without a role."""
    starts = [n for n, i in enumerate(ids) if i == START]
    bounds = [*([] if starts[:1] == [0] else [0]), *starts, len(ids)]
    return [_turn(ids, start, end) for start, end in pairwise(bounds) if start < end]


def runs(labels: Sequence[int]) -> list[tuple[int, int]]:
    """The stretches that are trained, from their first place to the one after their last."""
    on = [y != IGNORE for y in labels]
    edges = [n for n in range(len(on) + 1) if (n > 0 and on[n - 1]) != (n < len(on) and on[n])]
    return list(zip(edges[::2], edges[1::2], strict=True))


def mask_faults(rows: Iterable[Row]) -> list[str]:
    """What is wrong with the masks, one line a fault, each with its row's id; none for a dataset of this kit.

    A row trains on something; on its own ids; on nothing of a system, developer, user or tool message. Each stretch
    ends with <|end|>, <|return|> or <|call|>. It begins with a message's first own token, or with
    <|channel|>analysis: how a model begins to think is learned on purpose (`harmony.render_training`), while a bare
    <|channel|>final would teach it not to.
    """
    return [f"{row.id}: {fault}" for row in rows for fault in _faults(row.input_ids, row.labels)]


def _faults(ids: Sequence[int], labels: Sequence[int]) -> Iterator[str]:
    if len(ids) != len(labels):
        yield f"{len(ids)} input_ids, {len(labels)} labels"
        return
    stretches, messages = runs(labels), turns(ids)
    if all(y == IGNORE for y in labels[1:]):  # the first token is never predicted
        yield "trains on nothing"
    if (wrong := next((n for n, y in enumerate(labels) if y not in (IGNORE, ids[n])), None)) is not None:
        yield f"trains token {wrong} to be another: input_ids has {ids[wrong]}, labels {labels[wrong]}"
    for turn in messages:
        if turn.role != "assistant" and any(a < turn.end and b > turn.start for a, b in stretches):
            yield f"trains on its {turn.role or 'nameless'} message"
    for a, b in stretches:
        inside = next(turn for turn in messages if turn.start <= a < turn.end)
        if inside.role == "assistant" and not _begins_well(ids, a, inside):
            yield _beginning(ids, a, inside)
        if ids[b - 1] not in ENDS:
            yield f"stops training at {_text(ids[b - 1])}, token {b - 1}: an answer's end is not learned"


def _begins_well(ids: Sequence[int], first: int, turn: Turn) -> bool:
    if first == turn.body:
        return ids[first] < RANKS
    return ids[first] == CHANNEL and turn.channel == "analysis"


def _beginning(ids: Sequence[int], first: int, turn: Turn) -> str:
    if ids[first] == CHANNEL:
        return f"begins to train at a bare <|channel|>{turn.channel}: it would learn to skip thinking"
    place = "in the header" if first < turn.body else "inside the words"
    return (
        f"begins to train at {_text(ids[first])}, token {first}, {place} of its {turn.channel or 'assistant'} message"
    )


def _turn(ids: Sequence[int], start: int, end: int) -> Turn:
    body = next((n + 1 for n in range(start, end) if ids[n] == MESSAGE), end)
    header = tuple(ids[start:body])
    at = header.index(CHANNEL) if CHANNEL in header else len(header)
    named = header[:1] == (START,)
    return Turn(start, body, end, _word(header[1:at]) if named else "", _word(header[at + 1 :]))


@lru_cache(maxsize=1024)
def _word(ids: tuple[int, ...]) -> str:
    """The first word of the ordinary tokens that a part of a header begins with."""
    length = next((n for n, i in enumerate(ids) if i >= RANKS), len(ids))
    return (decode(ids[:length]).split() or [""])[0] if length else ""


def _text(token: int) -> str:
    return decode([token]) if token >= RANKS else repr(decode([token]))
