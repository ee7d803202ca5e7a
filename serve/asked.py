"""Where a request names its effort, by API: found, agreed, decided by a policy, written where the engine reads it.

Clients name it in six places and the engine reads one of them. In: a policy, a body as JSON values, what stood beside
it. Out: a body for the engine, and what to tell the client. Pure; knows nothing about HTTP.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from serve.effort import NEAREST, EffortError, EffortPolicy
from tune.harmony import EFFORTS, Effort

Api = Literal["chat", "responses", "messages"]

HEADER = "x-reasoning-effort"
PLACES = (
    ("reasoning", "effort"),
    ("chat_template_kwargs", "reasoning_effort"),
    ("output_config", "effort"),
)
BESIDE = {"effort", "summary", "generate_summary"}  # of an effort given as an object, as the Responses API has it


class Asked(NamedTuple):
    """A request after the policy. `word` is what it named, "" if nothing; `effort` None where it is not known here."""

    body: dict[str, Any]
    word: str
    effort: Effort | None
    tokens: int | None = None  # of reasoning, at most
    name: str = ""  # what the answer calls the model, where that is not what the engine does


def apply(
    policy: EffortPolicy, api: Api, body: dict[str, Any], *, headers: Sequence[str] = (), names: Sequence[str] = ()
) -> Asked:
    """The request with its effort decided; the given body is not changed.

    Looks in `reasoning_effort` (a word, or an object with `effort`), `reasoning.effort`,
    `chat_template_kwargs.reasoning_effort`, `output_config.effort`, a message's `thinking`, the values of HEADER, and
    behind a colon of `model` when what stands before it is one of `names`; null counts as absent. Raises EffortError
    for an unknown word, for two places that disagree, and for an effort on a stored response's next turn, where the
    engine would keep the first turn's effort and echo the new one. That last kind of request without an effort passes
    as it is, and its effort is None.
    """
    body = dict(body)
    found: dict[str, object] = {}
    name = _behind_name(body, names, found)
    _in_body(body, found)
    if api == "messages":
        _in_message(body, found)
    for value in headers:
        if value != found.setdefault(HEADER, value):
            raise EffortError(f"{HEADER} is given twice", HEADER)
    words = {param: _word(policy, param, value) for param, value in found.items()}
    efforts = {param: policy.resolve(word, param) for param, word in words.items()}
    if len({NEAREST.get(word.lower(), word.lower()) for word in words.values()}) > 1:
        raise EffortError("efforts disagree: " + ", ".join(f"{p} is {words[p]}" for p in words), next(iter(words)))

    word = next(iter(words.values()), "")
    if api == "responses" and body.get("previous_response_id") is not None:
        if efforts:
            why = "an effort cannot change within a stored conversation; send the whole input instead"
            raise EffortError(f"{why} of previous_response_id", next(iter(efforts)), word)
        tokens = min(policy.thinking_tokens.values(), default=None)  # at whichever effort it began
        return Asked(body, "", None, _own(api, body, tokens), name)
    effort = next(iter(efforts.values()), policy.default)
    if api == "chat":
        body["reasoning_effort"] = effort
    else:
        field = "reasoning" if api == "responses" else "output_config"
        body[field] = {**(body.get(field) or {}), "effort": effort}
    return Asked(body, word, effort, _own(api, body, policy.thinking_tokens.get(effort)), name)


def _own(api: Api, body: dict[str, Any], tokens: int | None) -> int | None:
    """The smaller of a budget and the request's own, where the engine would not read that one."""
    if api == "chat":
        return tokens
    thinking = body.get("thinking")
    named = {"thinking_token_budget": body.pop("thinking_token_budget", None)}
    if api == "messages" and isinstance(thinking, dict):
        named["thinking.budget_tokens"] = thinking.get("budget_tokens")
    for param, own in named.items():
        if own is None:
            continue
        if type(own) is not int or own < 1:
            raise EffortError(f"{param} must be a whole number of at least 1", param)
        tokens = own if tokens is None else min(tokens, own)
    return tokens


def _behind_name(body: dict[str, Any], names: Sequence[str], found: dict[str, object]) -> str:
    """Take `:low` off a served name. Returns the name as it was asked, "" when nothing was taken off."""
    asked = body.get("model")
    if not isinstance(asked, str) or asked in names:
        return ""
    plain, _, effort = asked.rpartition(":")
    if plain not in names or effort not in EFFORTS:
        return ""  # the engine says which names there are
    body["model"], found["model"] = plain, effort
    return asked


def _in_body(body: dict[str, Any], found: dict[str, object]) -> None:
    """Move the efforts that any body may name from where they stand to `found`."""
    top = body.pop("reasoning_effort", None)
    if isinstance(top, dict):
        if unknown := sorted(top.keys() - BESIDE):
            raise EffortError(
                f"reasoning_effort.{unknown[0][:40]} is not known: only effort and summary", "reasoning_effort"
            )
        top = top.get("effort")
    if top is not None:
        found["reasoning_effort"] = top
    for field, key in PLACES:
        inner = body.get(field)
        if inner is None:
            continue
        if not isinstance(inner, dict):
            raise EffortError(f"{field} must be an object", field)
        if inner.get(key) is not None:
            found[f"{field}.{key}"] = inner[key]
        body[field] = {k: v for k, v in inner.items() if k != key}


def _in_message(body: dict[str, Any], found: dict[str, object]) -> None:
    """Thinking that is disabled counts as the word none, whatever output_config says: there it is about other tokens
    too, here there are no others. The engine would take it for low.
    """
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "disabled":
        del body["thinking"]
        found.pop("output_config.effort", None)
        found["thinking.type"] = "none"


def _word(policy: EffortPolicy, param: str, value: object) -> str:
    if not isinstance(value, str):
        raise EffortError(f"{param} must be one of {', '.join(policy.words)}", param)
    return value
