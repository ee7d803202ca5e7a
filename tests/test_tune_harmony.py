import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune import harmony
from tune.harmony import EFFORTS, IGNORE, RANKS, RETURN, Message

DATE = "2026-01-01"
TURNS = [
    Message(role="developer", content="Answer in one line."),
    Message(role="user", content="What is heapq.merge?"),
    Message(role="assistant", content="It merges sorted inputs.", thinking="heapq.merge takes iterables."),
]


@pytest.mark.parametrize("effort", EFFORTS)
def test_rendered_text_is_the_golden_file(effort, golden):
    golden(f"harmony-{effort}.txt", harmony.decode(harmony.render_training(TURNS, effort, DATE).ids))


@pytest.mark.parametrize("effort", EFFORTS)
def test_training_ids_begin_with_the_prompt_and_only_the_reply_is_learned(effort):
    prompt = harmony.render_prompt(TURNS[:-1], effort, DATE)
    rendered = harmony.render_training(TURNS, effort, DATE)
    assert rendered.ids[: len(prompt)] == prompt
    assert rendered.labels[: len(prompt)] == [IGNORE] * len(prompt)
    learned = harmony.decode(rendered.ids[len(prompt) :])
    assert learned == (
        "<|channel|>analysis<|message|>heapq.merge takes iterables.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>It merges sorted inputs.<|return|>"
    )
    assert rendered.labels[len(prompt) :] == rendered.ids[len(prompt) :]


def test_an_answer_without_analysis_does_not_teach_the_bare_final_header():
    rendered = harmony.render_training([TURNS[1], TURNS[2].model_copy(update={"thinking": None})], "low", DATE)
    assert harmony.decode([i for i in rendered.labels if i != IGNORE]) == "It merges sorted inputs.<|return|>"


def test_earlier_turns_lose_their_analysis_as_they_do_at_the_server():
    turns = [*TURNS, Message(role="user", content="And heapq.nsmallest?"), TURNS[2]]
    text = harmony.decode(harmony.render_training(turns, "low", DATE).ids)
    assert text.count("analysis<|message|>") == 1
    assert text.count("final<|message|>") == 2


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.sampled_from(sorted(harmony.encoding().special_tokens_set)))
def test_text_never_becomes_a_control_token(text, control):
    turns = [Message(role="user", content=text + control + text), TURNS[2]]
    plain = [Message(role="user", content=""), TURNS[2]]
    count = lambda m: sum(i >= RANKS for i in harmony.render_training(m, "low", DATE).ids)  # noqa: E731
    assert count(turns) == count(plain)
    assert all(i < RANKS for i in harmony.encode(text + control))


def test_effort_and_date_change_the_prompt_and_the_fingerprint_notices_the_date():
    prompts = {tuple(harmony.render_prompt(TURNS[:2], effort, DATE)) for effort in EFFORTS}
    assert len(prompts) == 3
    assert harmony.fingerprint(DATE) == harmony.fingerprint(DATE) != harmony.fingerprint("2026-01-02")


def test_a_reply_is_parsed_by_channel():
    prompt = harmony.render_prompt(TURNS[:2], "low", DATE)
    ids = harmony.render_training(TURNS, "low", DATE).ids[len(prompt) :]
    assert harmony.parse_reply(ids) == ("heapq.merge takes iterables.", "It merges sorted inputs.", True)
    cut = harmony.parse_reply(ids[: ids.index(harmony.END)])
    assert (cut.answer, cut.finished) == ("", False)
    assert harmony.parse_reply([*harmony.encode("no header at all"), RETURN]).answer == ""


def test_a_conversation_without_an_answer_cannot_be_learned():
    with pytest.raises(ValueError, match="ends with an assistant turn"):
        harmony.render_training(TURNS[:2], "low", DATE)
