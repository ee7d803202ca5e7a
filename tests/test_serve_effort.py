import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.effort import NEAREST, EffortError, EffortPolicy, apply
from tune.harmony import EFFORTS

POLICY = EffortPolicy()


@pytest.mark.parametrize(
    ("api", "body", "effort"),
    [
        ("chat", {}, "medium"),
        ("chat", {"reasoning_effort": None}, "medium"),
        ("chat", {"reasoning_effort": "high"}, "high"),
        ("chat", {"reasoning": {"effort": "low"}}, "low"),
        ("chat", {"chat_template_kwargs": {"reasoning_effort": "low", "x": 1}}, "low"),
        ("chat", {"reasoning_effort": "low", "reasoning": {"effort": "low"}}, "low"),
        ("responses", {}, "medium"),
        ("responses", {"reasoning": {"effort": "high", "summary": "auto"}}, "high"),
        ("responses", {"reasoning_effort": "high"}, "high"),
        ("responses", {"reasoning": None}, "medium"),
    ],
)
def test_the_effort_is_written_where_the_engine_reads_it(api, body, effort):
    before = repr(body)
    out, applied = apply(POLICY, api, body)
    assert applied == effort
    assert (out["reasoning_effort"] if api == "chat" else out["reasoning"]["effort"]) == effort
    assert repr(body) == before


def test_what_stands_beside_an_effort_is_kept():
    out, _ = apply(POLICY, "responses", {"reasoning": {"effort": "low", "summary": "auto"}, "input": "x"})
    assert out == {"reasoning": {"effort": "low", "summary": "auto"}, "input": "x"}
    out, _ = apply(POLICY, "chat", {"chat_template_kwargs": {"reasoning_effort": "low", "a": 1}})
    assert out == {"chat_template_kwargs": {"a": 1}, "reasoning_effort": "low"}


@pytest.mark.parametrize(
    "body",
    [
        {"reasoning_effort": "hgih"},
        {"reasoning_effort": "HIGH"},
        {"reasoning_effort": 3},
        {"reasoning_effort": {"a": []}},
        {"reasoning": {"effort": "xhigh"}},
        {"reasoning": "high"},
        {"chat_template_kwargs": ["reasoning_effort"]},
    ],
)
def test_what_is_no_effort_is_refused(body):
    with pytest.raises(EffortError) as error:
        apply(POLICY, "chat", body)
    assert error.value.param.split(".")[0] in body


def test_efforts_that_disagree_are_refused_even_where_the_cap_would_make_them_equal():
    low = EffortPolicy(default="low", maximum="low")
    with pytest.raises(EffortError, match=r"disagree.*reasoning_effort is high.*reasoning\.effort is medium"):
        apply(low, "chat", {"reasoning_effort": "high", "reasoning": {"effort": "medium"}})


def test_other_words_only_by_the_map_policy():
    mapped = EffortPolicy(spelling="map")
    for word, effort in NEAREST.items():
        assert mapped.resolve(word) == effort
        with pytest.raises(EffortError, match="low, medium, high"):
            POLICY.resolve(word)
    with pytest.raises(EffortError):
        mapped.resolve("ultra")


@pytest.mark.parametrize("spelling", ["strict", "map"])
@pytest.mark.parametrize("maximum", ["low", "medium"])
@pytest.mark.parametrize("allowed", [("low", "medium"), EFFORTS])
def test_a_refusal_names_exactly_the_words_that_work(spelling, maximum, allowed):
    policy = EffortPolicy(default="low", maximum=maximum, allowed=allowed, spelling=spelling)
    with pytest.raises(EffortError) as error:
        apply(policy, "chat", {"reasoning_effort": "ultra"})
    named = str(error.value).split("is not one of ")[1].split(", ")
    for word in (*EFFORTS, *NEAREST):
        if word in named:
            assert EFFORTS.index(policy.resolve(word)) <= EFFORTS.index(maximum)
        else:
            with pytest.raises(EffortError):
                policy.resolve(word)
    with pytest.raises(EffortError, match=f"must be one of {', '.join(named)}"):
        apply(policy, "chat", {"reasoning_effort": 3})


def test_cap_lowers_and_allowed_refuses():
    policy = EffortPolicy(default="low", maximum="medium", allowed=("low", "medium"))
    assert EffortPolicy(default="low", maximum="medium").resolve("high") == "medium"
    with pytest.raises(EffortError, match="not one of low, medium"):
        policy.resolve("high")


@pytest.mark.parametrize("given", [{"default": "high", "maximum": "low"}, {"allowed": ("low",)}, {"default": "max"}])
def test_a_policy_that_contradicts_itself_is_refused(given):
    with pytest.raises(ValidationError):
        EffortPolicy(**given)


def test_an_effort_cannot_change_within_a_stored_conversation():
    body = {"previous_response_id": "resp_1", "input": "x"}
    assert apply(POLICY, "responses", body) == (body, None)
    with pytest.raises(EffortError, match="previous_response_id"):
        apply(POLICY, "responses", {**body, "reasoning": {"effort": "high"}})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from([*EFFORTS, *NEAREST, ""]) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
WHERE = st.sampled_from(["reasoning_effort", "reasoning", "chat_template_kwargs", "previous_response_id", "input"])
INNER = st.dictionaries(st.sampled_from(["effort", "reasoning_effort", "summary"]), JSON, max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["chat", "responses"]), st.dictionaries(WHERE, JSON | INNER), st.sampled_from(EFFORTS))
def test_any_body_is_refused_or_gets_an_effort_within_the_cap(api, body, cap):
    policy = EffortPolicy(default="low", maximum=cap, spelling="map")
    try:
        out, effort = apply(policy, api, body)
    except EffortError:
        return
    if effort is None:
        assert api == "responses"
        assert body["previous_response_id"] is not None
        return
    assert EFFORTS.index(effort) <= EFFORTS.index(cap)
    assert (out["reasoning_effort"] if api == "chat" else out["reasoning"]["effort"]) == effort
    untouched = body.keys() - {"reasoning_effort", "reasoning", "chat_template_kwargs"}
    assert {k: repr(out[k]) for k in untouched} == {k: repr(body[k]) for k in untouched}
