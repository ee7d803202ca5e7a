"""The policy alone: words, cap, budgets, and how much less a key may have."""

import pytest
from pydantic import ValidationError

from serve.effort import NEAREST, EffortError, EffortPolicy
from tune.harmony import EFFORTS

STRICT = EffortPolicy(spelling="strict")


def test_other_words_in_any_case_by_map_and_only_by_map():
    for word, effort in NEAREST.items():
        assert EffortPolicy().resolve(word) == EffortPolicy().resolve(word.upper()) == effort
        with pytest.raises(EffortError, match="low, medium, high; a server with spelling map"):
            STRICT.resolve(word)
    for effort in EFFORTS:
        assert EffortPolicy().resolve(effort.title()) == STRICT.resolve(effort) == effort
        with pytest.raises(EffortError, match="serve run --spelling map"):
            STRICT.resolve(effort.upper())
    for policy in (STRICT, EffortPolicy()):
        with pytest.raises(EffortError) as error:
            policy.resolve("ultra")
        assert "spelling" not in str(error.value)  # no switch would help


@pytest.mark.parametrize("spelling", ["strict", "map"])
@pytest.mark.parametrize("maximum", ["low", "medium"])
@pytest.mark.parametrize("allowed", [("low", "medium"), EFFORTS])
def test_a_refusal_and_the_probe_name_exactly_the_words_that_work(spelling, maximum, allowed):
    policy = EffortPolicy(default="low", maximum=maximum, allowed=allowed, spelling=spelling)
    with pytest.raises(EffortError) as error:
        policy.resolve("ultra")
    named = str(error.value).split("is not one of ")[1].split(", ")
    told = dict(policy.answers())
    assert told.pop(None) == "low"
    assert told.keys() == {*EFFORTS, *NEAREST}
    for word, applied in told.items():
        assert (applied is not None) == (word in named)
        if applied:
            assert EFFORTS.index(policy.resolve(word)) <= EFFORTS.index(maximum)
            assert applied == policy.resolve(word)
        else:
            with pytest.raises(EffortError):
                policy.resolve(word)


def test_cap_lowers_and_allowed_refuses():
    policy = EffortPolicy(default="low", maximum="medium", allowed=("low", "medium"))
    assert EffortPolicy(default="low", maximum="medium").resolve("high") == "medium"
    with pytest.raises(EffortError, match="not one of low, medium"):
        policy.resolve("high")


WRONG = [{"default": "high", "maximum": "low"}, {"allowed": ("low",), "maximum": "high"}]
WRONG += [{"default": "max"}, {"allowed": ("max",)}, {"allowed": ("low", "high"), "default": "medium"}]
WRONG += [{"thinking_tokens": {"low": 0}}, {"thinking_tokens": {"max": 9}}]


@pytest.mark.parametrize("given", WRONG)
def test_a_policy_that_contradicts_itself_is_refused(given):
    with pytest.raises(ValidationError):
        EffortPolicy(**given)


@pytest.mark.parametrize(
    ("allowed", "default", "maximum"),
    [
        (("low",), "low", "low"),
        (("low", "high"), "low", "high"),
        (("high",), "high", "high"),
        (EFFORTS, "medium", "high"),
    ],
)
def test_what_is_not_given_is_among_what_is_allowed(allowed, default, maximum):
    policy = EffortPolicy(allowed=allowed)
    assert (policy.default, policy.maximum) == (default, maximum)
    key = EffortPolicy().narrowed(default=None, maximum=None, allowed=allowed, thinking_tokens={})
    assert (key.default, key.maximum, key.allowed) == (default, maximum, allowed)


BUDGETS = {"low": 100, "high": 900}


@pytest.mark.parametrize(
    ("given", "default", "maximum", "tokens"),
    [
        ({}, "medium", "high", BUDGETS),
        ({"maximum": "low"}, "low", "low", BUDGETS),
        ({"default": "high"}, "high", "high", BUDGETS),
        ({"thinking_tokens": {"low": 100, "medium": 7}}, "medium", "high", {"low": 100, "medium": 7, "high": 900}),
    ],
)
def test_a_key_has_what_the_server_has_where_it_has_not_less(given, default, maximum, tokens):
    whole = {"default": None, "maximum": None, "thinking_tokens": {}} | given
    own = EffortPolicy(thinking_tokens=BUDGETS, spelling="strict").narrowed(**whole)
    assert (own.default, own.maximum, own.thinking_tokens, own.spelling) == (default, maximum, tokens, "strict")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"maximum": "high"}, "max_effort high is above the server's, medium"),
        ({"default": "high"}, "default_effort high is above the maximum, medium"),
        ({"default": "medium", "maximum": "low"}, "default_effort medium is above the maximum, low"),
        ({"allowed": ["low", "high"]}, "allowed_efforts has high, which the server does not allow"),
        ({"allowed": ["medium"], "default": "low"}, "default_effort low is none of allowed_efforts, medium"),
        ({"allowed": ["low"], "maximum": "medium"}, "max_effort medium is none of allowed_efforts, low"),
        ({"thinking_tokens": {"low": 101}}, "thinking_tokens low = 101 is over the server's, 100"),
    ],
)
def test_a_key_never_has_more_than_the_server(given, says):
    whole = {"default": None, "maximum": None, "thinking_tokens": {}} | given
    with pytest.raises(ValueError, match=says):
        EffortPolicy(maximum="medium", allowed=("low", "medium"), thinking_tokens=BUDGETS).narrowed(**whole)
