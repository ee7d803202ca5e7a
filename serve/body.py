"""A request's body before the engine reads it: JSON, within bounds, its effort decided and nothing that goes round it.

In: path and bytes. Out: the path and the bytes for the engine, and the effort that was applied; or Refused. Knows no
sockets.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from serve import limits
from serve.asked import HEADER, Asked, apply
from serve.doors import APIS, RAW, Headers, Refused
from serve.effort import EffortError, EffortPolicy

# Fields by which a request replaces or cuts the prompt after its effort was decided, and the value that does neither.
# vLLM 0.32 acts on the first five; GPT-OSS's renderer ignores the others today.
ROUND: dict[str, object] = {
    "kv_transfer_params": None,  # prompt_token_ids in it are the prompt
    "previous_input_messages": None,  # harmony messages as they are
    "truncation": "disabled",  # "auto" cuts what is too long at the end, the words that make the model answer with it
    "vllm_xargs": None,  # goes where kv_transfer_params goes
    "ec_transfer_params": None,
    "truncate_prompt_tokens": None,
    "prompt_embeds": None,
    "chat_template": None,
    "documents": None,
    "add_generation_prompt": True,
    "continue_final_message": False,
}


class Rules(NamedTuple):
    """What bodies are held to."""

    policy: EffortPolicy
    max_model_len: int
    raw_completions: bool
    names: tuple[str, ...] = ()  # what the model is called; the engine's own name for it comes first


class Taken(NamedTuple):
    """What the engine gets; what it may spend on reasoning; what the client is told, and calls the model."""

    path: str
    body: bytes
    told: Headers = ()
    tokens: int | None = None
    name: str = ""


def rewrite(rules: Rules, path: str, body: bytes, headers: Sequence[str] = ()) -> Taken:
    """A request with its effort decided. Raises Refused for anything that cannot be taken.

    Always written anew, so that a repeated key cannot mean one thing here and another to the engine. A path
    that runs no model keeps its body as it is. /invocations becomes the path of what it holds: the engine's own route
    there tries one kind of request after the other, and would take a chat that it cannot read for a raw completion.
    `headers`: what stood in the header that may name an effort.
    """
    if path not in APIS and path not in RAW:
        return Taken(path, body)
    told: Headers = ()
    try:
        data = json.loads(body)
        if not isinstance(data, dict):
            raise Refused(400, "invalid_body", "the request body must be a JSON object")
        if path == "/invocations":
            path = "/v1/chat/completions" if "messages" in data else "/v1/completions"
        raw = path in RAW
        if raw and not rules.raw_completions:
            why = "raw completions are closed, since no effort applies to them"
            raise Refused(404, "not_found", f"{why}: serve run --raw-completions opens them")
        if raw:
            _check(rules, data)
            return Taken(path, json.dumps(data).encode())
        asked = apply(rules.policy, APIS[path], data, headers=headers, names=rules.names)
        told = _told(asked)
        _check(rules, asked.body, tokens=asked.tokens)
        return Taken(path, json.dumps(asked.body).encode(), told, asked.tokens, asked.name)
    except EffortError as e:
        raise Refused(400, "invalid_effort", str(e), param=e.param, headers=_requested(e.word)) from None
    except limits.TextError as e:
        raise Refused(400, e.code, str(e), param=e.param, headers=told) from None
    except Refused as e:
        raise Refused(e.status, e.code, str(e), param=e.param, headers=told) from None
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_json", "the request body is not JSON that can be read") from None


def _told(asked: Asked) -> Headers:
    """What the client hears of its effort, whatever comes of the request."""
    applied = [(HEADER.encode(), asked.effort.encode())] if asked.effort else []
    tokens = [(b"x-reasoning-budget", str(asked.tokens).encode())] if asked.tokens else []
    return [*_requested(asked.word), *applied, *tokens]


def _requested(word: str) -> Headers:
    fits = re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", word)  # nothing that could be more than one header's value
    return [(b"x-reasoning-effort-requested", word.encode())] if fits else []


def _check(rules: Rules, data: dict[str, Any], *, tokens: int | None = None) -> None:
    """Raise TextError for too much text, Refused (400) naming a field that goes round the policy."""
    limits.check(data, rules.max_model_len)
    if tokens and data.get("use_beam_search"):
        why = "a budget of reasoning tokens does not hold in it"
        raise Refused(
            400, "unsupported_parameter", f"use_beam_search is not accepted here: {why}", param="use_beam_search"
        )
    if data.get("thinking_token_budget") == 0 and data["thinking_token_budget"] is not False:
        what = "thinking_token_budget must be at least 1: with no token for it, reasoning falls into the answer"
        raise Refused(400, "invalid_value", what, param="thinking_token_budget")
    for field, harmless in ROUND.items():
        if (value := data.get(field)) is not None and value != harmless:
            why = "it changes the prompt after the reasoning effort was decided"
            raise Refused(400, "unsupported_parameter", f"{field} is not accepted here: {why}", param=field)
