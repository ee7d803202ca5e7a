"""What is heard of an answer: how it is off the format, whole or streamed and cut anywhere; and nothing of others."""

import itertools
import json

import pytest
from answers import DONE, STREAMED, WHOLE, chat, chat_events, event, message, response
from hypothesis import example, given
from hypothesis import strategies as st

from serve.heard import LARGEST, Heard, Tokens, Verdict

APIS = sorted(WHOLE)
GOOD, CUT = Verdict(), Verdict(truncated=True)
HEADER = "<|start|>assistant<|channel|>fi"
CASES = [
    ({"thought": "hm", "said": "four"}, GOOD),
    ({"said": "four"}, GOOD),
    ({"thought": "hm", "called": True, "end": "tool_calls"}, GOOD),
    ({"called": True, "end": "stop"}, GOOD),  # a call that was named is stopped at
    ({"thought": "hm", "said": "fo", "end": "length"}, GOOD),
    ({"said": "a < b, <|, <|x|> and <channel|>"}, GOOD),
    ({}, Verdict("empty")),
    ({"thought": "hm"}, Verdict("unanswered")),
    ({"said": "<|channel|>final<|message|>four<|return|>"}, Verdict("markers")),
    ({"said": "four<|return|>", "thought": "hm"}, Verdict("markers")),
    ({"said": "four<|end|>", "end": "length"}, Verdict("markers")),
    ({"said": "fo<|constrain|>json", "end": "stop"}, Verdict("markers")),
    ({"thought": "hm", "end": "length"}, CUT),
    ({"end": "length"}, CUT),
    ({"said": HEADER, "thought": "hm", "end": "length"}, CUT),  # no tokens were left for its answer
    ({"said": f"four{HEADER}", "end": "length"}, GOOD),
    ({"said": HEADER}, Verdict("markers")),
    ({"said": HEADER + "x" * 999, "end": "length"}, Verdict("markers")),
]
THOUGHT = [case for case, _ in CASES if case.get("thought")]


def of_whole(api, told):
    heard = Heard(api)
    heard.whole(json.dumps(told).encode())
    return heard


def of_stream(api, pieces):
    heard = Heard(api)
    for piece in pieces:
        heard.add(piece)
    return heard


def streamed(api, case, size=3):
    parts = {field: [text[n : n + size] for n in range(0, len(text), size)] for field, text in case.items()
             if field in {"thought", "said"}}  # fmt: skip
    return b"".join(STREAMED[api](**{**case, **parts}))


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("case", "verdict"), CASES, ids=[json.dumps(case)[:60] for case, _ in CASES])
def test_what_is_wrong_with_an_answer_is_heard_whole_and_streamed(api, case, verdict):
    assert of_whole(api, WHOLE[api](**case)).verdict() == verdict
    assert of_stream(api, [streamed(api, case)]).verdict() == verdict


TEXT = st.lists(
    st.sampled_from(["<|", "|>", "<|channel|>", "<|end|>", "final", "<", "é\u2028😀", "\n\n", "data: [DONE]", "x"])
    | st.text(max_size=6),
    max_size=6,
)
ANSWERS = st.fixed_dictionaries(
    {"end": st.sampled_from(["stop", "length", "tool_calls"]), "called": st.booleans()},
    optional={"thought": TEXT, "said": TEXT},
)


@example("chat", {"end": "stop", "thought": [""]}, [], False, False, False)
@example("messages", {"end": "stop", "thought": [""]}, [], False, False, False)
@example("chat", {"end": "stop", "said": ["<|end|>"]}, [], False, False, True)
@example("messages", {"end": "stop", "said": ["<|end|>"]}, [], False, False, True)
@given(st.sampled_from(APIS), ANSWERS, st.lists(st.integers(0, 10**6), max_size=12), *[st.booleans()] * 3)
def test_a_stream_cut_anywhere_is_heard_as_the_same_answer_whole(api, case, places, windows, spaced, escaped):
    joined = {field: "".join(part) if isinstance(part, list) else part for field, part in case.items()}
    whole = of_whole(api, WHOLE[api](**joined))
    data = b"".join(STREAMED[api](**case))
    data = data.replace(b'":', b'": ') if spaced else data  # as the engine does not write it: parsed, not skimmed
    data = data.replace(b"<", b"\\u003c") if escaped else data
    data = data.replace(b"\n", b"\r\n") if windows else data
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    heard = of_stream(api, [data[a:b] for a, b in itertools.pairwise(edges)])
    assert heard.verdict() == whole.verdict()
    assert heard.verdict(thought=True) == whole.verdict(thought=True)
    assert heard.answering == bool(joined.get("said"))


@pytest.mark.parametrize("api", APIS)
def test_nothing_is_said_of_a_stream_that_did_not_come_to_its_end(api):
    events = list(STREAMED[api](thought=["hm"]))
    assert of_stream(api, events).verdict().kind == "unanswered"
    assert of_stream(api, events[:-1]).verdict() == GOOD


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("told", [{"error": {"message": "x"}}, {"type": "error"}, {"token_ids": [1]}, {}, [], 1, None])
def test_nothing_is_said_of_what_is_no_answer(api, told):
    assert of_whole(api, told).verdict() == GOOD
    assert of_stream(api, [event(told), *STREAMED[api]()]).verdict() == GOOD


@given(
    st.sampled_from(APIS),
    st.binary()
    | st.recursive(
        st.text() | st.none() | st.sampled_from(["message", "response", "stop", "text"]),
        lambda inner: st.dictionaries(
            st.sampled_from(["choices", "finish_reason", "message", "delta", "object", "output", "type", "status",
                             "content", "stop_reason", "usage", "response", "content_block", "text", "index"]), inner
        ) | st.lists(inner),
    ).map(lambda told: json.dumps(told).encode()),
)  # fmt: skip
def test_no_answer_makes_listening_fail(api, body):
    heard = Heard(api)
    heard.add(b"data: " + body + b"\n")
    heard.add(DONE)
    heard.whole(body)
    assert heard.verdict().kind in {None, "empty", "markers", "unanswered"}


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_pieces_as_the_engine_writes_them_are_taken_without_being_parsed(api):
    events = list(STREAMED[api](thought=["hm"], said=["<", "|end", "|> é"]))
    heard = of_stream(api, events)
    assert heard.verdict() == Verdict("markers")
    lines = [line[6:] for e in events for line in e.splitlines() if line.startswith(b"data: {")]
    assert [heard._skim(line) for line in lines].count(True) == 3  # all but the one that has a "<"
    other = b'data: {"choices":[],"x":"\\"choices\\":[{\\"index\\":0,\\"delta\\":{\\"content\\":\\"y\\"}"}'
    assert not heard._skim(other[6:])


def places(told):
    """Every place in it."""
    items = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ()
    for key, value in items:
        yield (key,)
        yield from ((key, *rest) for rest in places(value))


@pytest.mark.parametrize("api", APIS)
def test_no_odd_value_in_any_place_makes_listening_fail(api):
    case = {"thought": "hm", "said": "<|end|>", "called": True}
    for told in (WHOLE[api](**case), *(json.loads(e.partition(b"data: ")[2]) for e in STREAMED[api](**case)
                                       if e != DONE)):  # fmt: skip
        for *way, last in places(told):
            for odd in (None, True, 1, "x", [], [1], {}, {"a": 1}):
                changed = json.loads(json.dumps(told))
                inner = changed
                for key in way:
                    inner = inner[key]
                inner[last] = odd
                heard = of_stream(api, [event(changed), DONE])
                heard.whole(json.dumps(changed).encode())
                assert heard.verdict().kind in {None, "empty", "markers", "unanswered"}


def test_a_client_s_stop_string_is_no_fault_of_the_model():
    assert of_whole("chat", chat("hm", stop_reason="\n")).verdict() == GOOD
    assert of_whole("chat", chat("hm", stop_reason=200002)).verdict() == Verdict("unanswered")
    told = {**message("hm"), "stop_reason": "stop_sequence"}
    assert of_whole("messages", told).verdict() == GOOD


def test_a_response_without_output_was_cut_off_only_if_all_its_tokens_were_used():
    """The engine calls both incomplete."""
    assert of_whole("responses", response(used=64, most=64)).verdict() == CUT
    assert of_whole("responses", response(used=63, most=64)).verdict() == Verdict("empty")


def test_reasoning_that_was_hidden_is_known_from_its_tokens():
    assert of_whole("chat", chat()).verdict(thought=True) == Verdict("unanswered")


def test_each_choice_is_judged_and_the_first_that_is_off_the_format_is_told():
    good, bad, worse = (c["choices"][0] for c in (chat(said="x"), chat("hm"), chat(said="<|end|>")))
    told = {"choices": [good, {**bad, "index": 1}, {**worse, "index": 2}]}
    assert of_whole("chat", told).verdict() == Verdict("unanswered")


def test_tokens_are_the_engine_s():
    assert of_whole("chat", chat("hm", "x")).tokens == Tokens(4, 5)
    assert of_whole("chat", chat(said="x")).tokens == Tokens(0, 9)
    assert of_whole("chat", chat(said="x", usage=False)).tokens is None
    assert of_stream("chat", chat_events(said=["x"])).tokens is None
    assert of_stream("chat", chat_events(["hm"], ["x"], usage=True)).tokens == Tokens(4, 5)
    assert of_whole("responses", response("x")).tokens == Tokens(4, 5)
    assert of_whole("messages", message("x")).tokens is None  # that API does not tell them apart


def test_a_line_without_an_end_is_not_held_on_to():
    heard = of_stream("chat", [b"data: " + b"x" * 2**20] + [b"x" * 2**20] * (LARGEST // 2**20))
    assert len(heard._rest) < LARGEST
    for piece in chat_events(thought=["hm"]):
        heard.add(piece)
    assert heard.verdict() == GOOD


@pytest.mark.parametrize("said", ["", "x <|end|>"])
def test_a_stop_that_the_engine_does_not_tell_is_no_lost_format(said):
    body = json.dumps(
        {"choices": [{"index": 0, "finish_reason": "stop", "message": {"reasoning": "hm", "content": said}}]}
    ).encode()
    for stopped, kind in (False, "unanswered"), (True, None):
        heard = Heard("chat", stopped=stopped)
        heard.whole(body)
        assert heard.verdict().kind == ("markers" if said else kind)
