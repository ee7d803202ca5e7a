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


SAID = st.text(max_size=60) | st.sampled_from(
    ["", " ", "\n\n", "<|end|>", "<|start|>assistant", "a\u200b", "\U0001f600 1  2"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["developer", "user", "assistant"]), SAID, st.none() | SAID), max_size=5),
    st.tuples(SAID, st.none() | SAID),
    st.sampled_from(EFFORTS),
)
def test_turns_put_together_are_what_the_library_makes_of_the_whole(before, last, effort):
    """Held against the library that vLLM renders with, id for id: the prompt as it is served, and the conversation."""
    import openai_harmony as oh

    turns = [Message(role=role, content=text, thinking=thought if role == "assistant" else None)
             for role, text, thought in before]  # fmt: skip
    if turns and turns[-1].role == "assistant":  # nothing was asked since
        turns.append(Message(role="user", content="And?"))
    turns.append(Message(role="assistant", content=last[0], thinking=last[1]))
    rendered = harmony.render_training(turns, effort, DATE)
    keep = oh.RenderConversationConfig(auto_drop_analysis=False)
    whole = harmony.encoding().render_conversation_for_training(harmony._conversation(turns, effort, DATE), keep)
    assert rendered.ids == whole
    prompt = harmony.render_prompt(turns[:-1], effort, DATE)
    assert rendered.ids[: len(prompt)] == prompt
    learned = [i for i, on in zip(rendered.ids, rendered.learned, strict=True) if on]
    if last[1] is not None:
        assert learned == rendered.ids[len(prompt) :]
    else:
        assert learned == [*harmony.encode(last[0]), RETURN]


def test_a_library_that_renders_otherwise_stops_the_stage(monkeypatch):
    harmony._prove.cache_clear()
    monkeypatch.setattr(harmony, "render_prompt", lambda *_: [1])
    with pytest.raises(RuntimeError, match="unlike the serving prompt"):
        harmony.render_training(TURNS, "low", DATE)


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
