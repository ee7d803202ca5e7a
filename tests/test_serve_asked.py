"""Where a request names its effort: every place, every pair of places, and what the engine then gets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.asked import HEADER, apply
from serve.effort import NEAREST, EffortError, EffortPolicy
from tune.harmony import EFFORTS

POLICY = EffortPolicy()
STRICT = EffortPolicy(spelling="strict")
NAMES = ("m", "m@0123", "a:b")


@pytest.mark.parametrize(
    ("api", "body", "effort"),
    [
        ("chat", {}, "medium"),
        ("chat", {"reasoning_effort": None}, "medium"),
        ("chat", {"reasoning_effort": "high"}, "high"),
        ("chat", {"reasoning_effort": {"effort": "low", "summary": "auto"}}, "low"),
        ("chat", {"reasoning_effort": {"effort": None}}, "medium"),
        ("chat", {"reasoning_effort": {}}, "medium"),
        ("chat", {"reasoning": {"effort": "low"}}, "low"),
        ("chat", {"chat_template_kwargs": {"reasoning_effort": "low", "x": 1}}, "low"),
        ("chat", {"reasoning_effort": "low", "reasoning": {"effort": "low"}}, "low"),
        ("chat", {"model": "m:low"}, "low"),
        ("chat", {"model": "m@0123:high", "reasoning_effort": "high"}, "high"),
        ("responses", {"model": "a:b:low"}, "low"),
        ("responses", {}, "medium"),
        ("responses", {"reasoning": {"effort": "high", "summary": "auto"}}, "high"),
        ("responses", {"reasoning_effort": "high"}, "high"),
        ("responses", {"reasoning_effort": {"effort": "low"}}, "low"),
        ("responses", {"reasoning": None}, "medium"),
        ("messages", {}, "medium"),
        ("messages", {"output_config": {"effort": "max", "format": None}}, "high"),
        ("messages", {"thinking": {"type": "disabled"}}, "low"),
        ("messages", {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "low"),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "medium"),
        ("messages", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ("messages", {"model": "m:high"}, "high"),
        ("messages", {"model": "m:low", "thinking": {"type": "disabled"}}, "low"),  # two words for one effort
    ],
)
def test_the_effort_is_written_where_the_engine_reads_it(api, body, effort):
    before = repr(body)
    out, _, applied, *_ = apply(POLICY, api, body, names=NAMES)
    assert applied == effort
    assert written(api, out) == effort
    assert repr(body) == before


def written(api, out):
    if api == "chat":
        return out["reasoning_effort"]
    return out["reasoning" if api == "responses" else "output_config"]["effort"]


@pytest.mark.parametrize(
    ("api", "own", "tokens"),
    [
        ("responses", {"thinking_token_budget": 3}, 3),
        ("responses", {"thinking_token_budget": 30}, 9),
        ("messages", {"thinking_token_budget": 3}, 3),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 4}}, 4),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, 9),
        ("chat", {"thinking_token_budget": 3}, 9),  # the engine reads that one itself
    ],
)
def test_a_request_s_own_budget_may_only_be_lower(api, own, tokens):
    asked = apply(EffortPolicy(thinking_tokens={"medium": 9}), api, own)
    assert asked.tokens == tokens
    assert ("thinking_token_budget" in asked.body) == (api == "chat")
    if api != "chat":
        assert apply(POLICY, api, own).tokens == (own.get("thinking_token_budget") or own["thinking"]["budget_tokens"])
        for wrong in (0, -1, True, 1.5, "9"):
            with pytest.raises(EffortError, match="whole number of at least 1"):
                apply(POLICY, api, {"thinking_token_budget": wrong})


def test_what_stands_beside_an_effort_is_kept():
    out = apply(POLICY, "responses", {"reasoning": {"effort": "low", "summary": "auto"}, "input": "x"}).body
    assert out == {"reasoning": {"effort": "low", "summary": "auto"}, "input": "x"}
    out = apply(POLICY, "chat", {"chat_template_kwargs": {"reasoning_effort": "low", "a": 1}}).body
    assert out == {"chat_template_kwargs": {"a": 1}, "reasoning_effort": "low"}
    thinking = {"type": "enabled", "budget_tokens": 2000}
    out = apply(POLICY, "messages", {"thinking": thinking, "output_config": {"format": {"type": "json_schema"}}}).body
    assert out == {"thinking": thinking, "output_config": {"format": {"type": "json_schema"}, "effort": "medium"}}
    assert "thinking" not in apply(POLICY, "messages", {"thinking": {"type": "disabled"}}).body
    with pytest.raises(EffortError, match="'none' is not one of low, medium, high; a server with spelling map") as e:
        apply(STRICT, "messages", {"thinking": {"type": "disabled"}})
    assert e.value.param == "thinking.type"


@pytest.mark.parametrize(
    "body",
    [
        {"reasoning_effort": "hgih"},
        {"reasoning_effort": ""},
        {"reasoning_effort": 3},
        {"reasoning_effort": {"a": []}},
        {"reasoning_effort": {"effort": ["low"]}},
        {"reasoning_effort": {"effort": "low", "max_tokens": 3}},
        {"reasoning": {"effort": "ultra"}},
        {"reasoning": "high"},
        {"chat_template_kwargs": ["reasoning_effort"]},
    ],
)
def test_what_is_no_effort_is_refused(body):
    with pytest.raises(EffortError) as error:
        apply(POLICY, "chat", body)
    assert error.value.param.split(".")[0] in body


@pytest.mark.parametrize("body", [{"reasoning_effort": 3}, {"reasoning": {"effort": []}}])
@pytest.mark.parametrize("policy", [STRICT, POLICY])
def test_a_refusal_of_what_is_no_word_names_the_words(policy, body):
    with pytest.raises(EffortError, match=f"must be one of {', '.join(policy.words)}"):
        apply(policy, "chat", body)


PLACES = {
    "reasoning_effort": lambda word: {"body": {"reasoning_effort": word}},
    "reasoning.effort": lambda word: {"body": {"reasoning": {"effort": word}}},
    "chat_template_kwargs.reasoning_effort": lambda word: {
        "body": {"chat_template_kwargs": {"reasoning_effort": word}}
    },
    "output_config.effort": lambda word: {"body": {"output_config": {"effort": word}}},
    "model": lambda word: {"body": {"model": f"m:{word}"}},
    HEADER: lambda word: {"headers": [word]},
}


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
@pytest.mark.parametrize("first", PLACES)
@pytest.mark.parametrize("second", PLACES)
def test_two_places_agree_or_are_refused(api, first, second):
    """Even where the cap would make them equal."""
    policy = EffortPolicy(default="low", maximum="low")

    def ask(one, two):
        given = [PLACES[first](one), PLACES[second](two)]
        body = {k: v for part in given for k, v in part.get("body", {}).items()}
        return apply(policy, api, body, headers=[v for p in given for v in p.get("headers", [])], names=NAMES)

    assert ask("high", "high").word == "high"
    assert ask("high", "high").effort == "low"
    if first != second or first == HEADER:
        with pytest.raises(EffortError, match=r"disagree|given twice") as error:
            ask("high", "medium")
        assert error.value.param in {first, second}


def test_places_agree_whatever_their_case_where_case_does_not_matter():
    body = {"reasoning_effort": "High", "reasoning": {"effort": "high"}}
    assert apply(POLICY, "chat", body).effort == "high"
    with pytest.raises(EffortError, match="spelling map"):
        apply(STRICT, "chat", body)


@pytest.mark.parametrize("name", ["m", "m@0123", "a:b", "x:low", "m:none", "m:LOW", "m:", ":low", "b:low", "m:low:low"])
def test_a_name_that_has_no_effort_behind_it_goes_to_the_engine_as_it_is(name):
    asked = apply(POLICY, "chat", {"model": name}, names=NAMES)
    assert (asked.body["model"], asked.effort, asked.word, asked.name) == (name, "medium", "", "")


def test_an_effort_behind_a_name_is_taken_off_and_the_name_remembered():
    asked = apply(POLICY, "chat", {"model": "m@0123:low"}, names=NAMES)
    assert (asked.body["model"], asked.effort, asked.word, asked.name) == ("m@0123", "low", "low", "m@0123:low")
    assert apply(POLICY, "chat", {"model": "m:low"}, names=("m", "m:low")).body["model"] == "m:low"


def test_the_word_that_was_asked_is_told_beside_what_it_got():
    capped = EffortPolicy(maximum="medium", thinking_tokens={"medium": 5})
    asked = apply(capped, "chat", {"reasoning_effort": "xhigh"})
    assert (asked.word, asked.effort, asked.tokens) == ("xhigh", "medium", 5)
    assert apply(capped, "chat", {})[1:4] == ("", "medium", 5)
    assert apply(capped, "chat", {"reasoning_effort": "low"}).tokens is None


def test_an_effort_cannot_change_within_a_stored_conversation():
    body = {"previous_response_id": "resp_1", "input": "x"}
    assert apply(POLICY, "responses", body)[:4] == (body, "", None, None)
    tight = EffortPolicy(thinking_tokens={"low": 5, "high": 9})
    assert apply(tight, "responses", body).tokens == 5  # at which effort it began is not known
    for asked in ({"body": {**body, "reasoning": {"effort": "high"}}}, {"body": body, "headers": ["high"]}):
        with pytest.raises(EffortError, match="previous_response_id"):
            apply(POLICY, "responses", **asked)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from([*EFFORTS, *NEAREST, ""]) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
WHERE = st.sampled_from(
    [
        "reasoning_effort",
        "reasoning",
        "chat_template_kwargs",
        "previous_response_id",
        "input",
        "model",
        "output_config",
        "thinking",
    ]
)
INNER = st.dictionaries(st.sampled_from(["effort", "reasoning_effort", "summary", "type"]), JSON, max_size=3) | st.just(
    {"type": "disabled"}
)
MODEL = st.sampled_from(["m", "m:low", "m:high", "x"])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["chat", "responses", "messages"]),
    st.dictionaries(WHERE, JSON | INNER | MODEL),
    st.sampled_from(EFFORTS),
    st.lists(st.sampled_from([*EFFORTS, "max", "x"]), max_size=2),
)
def test_any_body_is_refused_or_gets_an_effort_within_the_cap(api, body, cap, headers):
    policy = EffortPolicy(default="low", maximum=cap, thinking_tokens={"low": 1, "medium": 2})
    try:
        out, word, effort, tokens, _ = apply(policy, api, body, headers=headers, names=NAMES)
    except EffortError:
        return
    if effort is None:
        assert api == "responses"
        assert body["previous_response_id"] is not None
        return
    assert EFFORTS.index(effort) <= EFFORTS.index(cap)
    assert written(api, out) == effort
    assert tokens == {"low": 1, "medium": 2, "high": None}[effort]
    assert bool(word) == any(words_of(api, body, headers))
    moved = {"reasoning_effort", "reasoning", "chat_template_kwargs", "output_config", "thinking", "model"}
    untouched = body.keys() - moved
    assert {k: repr(out[k]) for k in untouched} == {k: repr(body[k]) for k in untouched}


def words_of(api, body, headers):
    """Every effort that a body or its headers name, found without the code under test."""
    top = body.get("reasoning_effort")
    yield top.get("effort") if isinstance(top, dict) else top
    yield (body.get("reasoning") or {}).get("effort")
    yield (body.get("chat_template_kwargs") or {}).get("reasoning_effort")
    yield (body.get("output_config") or {}).get("effort")
    thinking = body.get("thinking")
    yield api == "messages" and isinstance(thinking, dict) and thinking.get("type") == "disabled"
    yield from headers
    yield str(body.get("model")) in {"m:low", "m:high"}
