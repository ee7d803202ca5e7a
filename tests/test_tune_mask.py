"""What a loss mask may train on: exactly the assistant's own words, whole."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune import harmony
from tune.data.mask import mask_faults, runs, turns
from tune.data.row import Row
from tune.harmony import CALL, CHANNEL, EFFORTS, END, IGNORE, MESSAGE, RETURN, START, Message

DATE = "2026-01-01"
DEVELOPER = Message(role="developer", content="Be exact.")
USER = Message(role="user", content="What is heapq.merge?")
ANSWER = Message(role="assistant", content="It merges sorted inputs.", thinking="heapq.merge takes iterables.")

TEXT = st.text(min_size=1, max_size=30) | st.sampled_from(["<|channel|>final", "<|end|>", "assistant", " \n", "🤷🏽‍♂️"])
TALKS = st.builds(
    lambda developer, earlier, user, thinking, answer: [
        *([Message(role="developer", content=developer)] if developer else []),
        *([Message(role="user", content=earlier), Message(role="assistant", content=earlier)] if earlier else []),
        Message(role="user", content=user),
        Message(role="assistant", content=answer, thinking=thinking),
    ],
    st.none() | TEXT,
    st.none() | TEXT,
    TEXT,
    st.none() | TEXT,
    TEXT,
)


def row(ids: list[int], learned: list[bool], **more: object) -> Row:
    labels = [i if on else IGNORE for i, on in zip(ids, learned, strict=True)]
    return Row.model_construct(**{"id": "r", "page": "p", "effort": "low", "input_ids": ids, "labels": labels, **more})


def stretch(ids: list[int], *places: tuple[int, int]) -> Row:
    """A row of which these stretches are trained."""
    return row(ids, [any(a <= n < b for a, b in places) for n in range(len(ids))])


def rendered() -> tuple[list[int], int]:
    """A whole row, and where what it trains on begins."""
    made = harmony.render_training([DEVELOPER, USER, ANSWER], "low", DATE)
    return made.ids, made.learned.index(True)


@settings(max_examples=60, deadline=None)
@given(TALKS, st.sampled_from(EFFORTS))
def test_what_the_dataset_stage_renders_has_no_fault(talk: list[Message], effort: harmony.Effort) -> None:
    made = harmony.render_training(talk, effort, DATE)
    assert mask_faults([row(made.ids, made.learned)]) == []
    assert [turn.role for turn in turns(made.ids)][:1] == ["system"]
    assert sum(turn.end - turn.start for turn in turns(made.ids)) == len(made.ids)


@settings(max_examples=40, deadline=None)
@given(TALKS, st.data())
def test_a_stretch_is_right_exactly_where_it_begins_and_ends_whole(talk: list[Message], data: st.DataObject) -> None:
    """Held against places that are counted here: after the user's last <|end|>, from the control tokens alone."""
    ids = harmony.render_training(talk, "low", DATE).ids
    reply = len(harmony.render_prompt(talk[:-1], "low", DATE))
    bodies = [n + 1 for n in range(reply, len(ids)) if ids[n] == MESSAGE]
    starts = {*bodies, *([reply] if talk[-1].thinking is not None else [])}
    ends = {n + 1 for n in range(reply, len(ids)) if ids[n] in (END, RETURN)}
    start = data.draw(st.sampled_from(sorted(starts)) | st.integers(0, len(ids) - 1), label="start")
    end = data.draw(st.sampled_from(sorted(e for e in ends if e > start)) | st.integers(start + 1, len(ids)))
    well = start in starts and end in ends and all(i not in (CALL,) for i in ids)
    if start < reply:  # an earlier answer of the assistant may be trained, too: it begins with its words
        earlier = [t for t in turns(ids) if t.role == "assistant" and t.body == start and t.end == end <= reply]
        well = bool(earlier)
    assert (mask_faults([stretch(ids, (start, end))]) == []) == well


@given(st.lists(st.booleans(), max_size=40))
def test_runs_are_the_trained_places_in_order(on: list[bool]) -> None:
    found = runs([7 if one else IGNORE for one in on])
    assert [n for a, b in found for n in range(a, b)] == [n for n, one in enumerate(on) if one]
    assert all(b < a for (_, b), (a, _) in pairwise(found))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([START, END, MESSAGE, CHANNEL, RETURN, CALL, 200_000, 5, 17196]), max_size=20), st.data()
)
def test_any_ids_are_judged_and_none_is_an_accident(ids: list[int], data: st.DataObject) -> None:
    on = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    found = mask_faults([row(ids, on)])
    assert all(line.startswith("r: ") for line in found)
    if not any(on[1:]):
        assert "r: trains on nothing" in found


def planted() -> dict[str, tuple[Row, str]]:
    ids, first = rendered()
    prompt, bare = first, ids.index(MESSAGE, ids.index(END, first)) - 2  # the second <|channel|>
    user = turns(ids)[2]
    tool = [START, *harmony.encode("functions.f to=assistant"), CHANNEL, *harmony.encode("commentary"), MESSAGE, 5, END]
    whole = (first, len(ids))
    return {
        "nothing": (stretch(ids), "trains on nothing"),
        "first token alone": (stretch(ids, (0, 1)), "trains on nothing"),
        "lengths": (row(ids, [True] * len(ids), labels=ids[1:]), f"{len(ids)} input_ids, {len(ids) - 1} labels"),
        "shifted ids": (row(ids, [True] * len(ids), labels=[*ids[:first], *ids[first - 1 : -1]]), "to be another"),
        "wrong first id": (row(ids, [True] * len(ids), labels=[5, *ids[1:]]), "trains token 0 to be another"),
        "system": (stretch(ids, (0, len(ids))), "trains on its system message"),
        "developer": (stretch(ids, (turns(ids)[1].body, turns(ids)[1].end), whole), "on its developer message"),
        "user": (stretch(ids, (user.body, user.end), whole), "trains on its user message"),
        "tool": (stretch([*ids, *tool], (first, len(ids) + len(tool))), "trains on its functions.f message"),
        "bare final": (stretch(ids, (bare, len(ids))), "bare <|channel|>final"),
        "header": (stretch(ids, (prompt - 1, len(ids))), "begins to train at 'assistant', token"),
        "message token": (stretch(ids, (bare + 2, len(ids))), "at <|message|>, token"),
        "late": (stretch(ids, (first + 4, len(ids))), "inside the words of its analysis message"),
        "cut": (stretch(ids, (first, len(ids) - 1)), "stops training at '.', token"),
        "hole": (stretch(ids, (first, bare - 4), (bare, len(ids))), "stops training at"),
        "no start": (stretch(ids[1:], (first - 1, len(ids) - 1), (2, 3)), "trains on its nameless message"),
    }


@pytest.mark.parametrize("name", planted())
def test_a_planted_fault_is_named(name: str) -> None:
    bad, said = planted()[name]
    good = stretch(rendered()[0], (rendered()[1], len(rendered()[0])))
    found = mask_faults([good, bad.model_copy(update={"id": "bad"}), good])
    assert found
    assert all(line.startswith("bad: ") for line in found)
    assert any(said in line for line in found), found


def test_the_effort_does_not_excuse_a_bare_final_header() -> None:
    ids, _ = rendered()
    bare = ids.index(MESSAGE, ids.index(END, rendered()[1])) - 2
    for effort in EFFORTS:
        assert "skip thinking" in mask_faults([stretch(ids, (bare, len(ids))).model_copy(update={"effort": effort})])[0]
