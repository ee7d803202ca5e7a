"""A request's body before the engine reads it: JSON, within bounds, its effort decided and nothing that goes round it.

In: path and bytes. Out: the path and the bytes for the engine, and the effort that was applied; or Refused. Knows no
sockets.
"""

import json
from typing import Any, NamedTuple

from serve import limits
from serve.doors import APIS, RAW, Refused
from serve.effort import EffortError, EffortPolicy, apply

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


class Taken(NamedTuple):
    """What the engine gets, and the effort in it."""

    path: str
    body: bytes
    effort: str | None = None


def rewrite(rules: Rules, path: str, body: bytes) -> Taken:
    """A request with its effort decided. Raises Refused for anything that cannot be taken.

    Always written anew, so that a repeated key cannot mean one thing here and another to the engine. A path
    that runs no model keeps its body as it is. /invocations becomes the path of what it holds: the engine's own route
    there tries one kind of request after the other, and would take a chat that it cannot read for a raw completion.
    """
    if path not in APIS and path not in RAW:
        return Taken(path, body)
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
        limits.check(data, rules.max_model_len)
        _straight(data)
        if raw:
            return Taken(path, json.dumps(data).encode())
        data, effort = apply(rules.policy, APIS[path], data)
        return Taken(path, json.dumps(data).encode(), effort)
    except EffortError as e:
        raise Refused(400, "invalid_effort", str(e), param=e.param) from None
    except limits.TextError as e:
        raise Refused(400, e.code, str(e), param=e.param) from None
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_json", "the request body is not JSON that can be read") from None


def _straight(data: dict[str, Any]) -> None:
    """Raise Refused (400) naming a field that goes round the policy."""
    for field, harmless in ROUND.items():
        if (value := data.get(field)) is not None and value != harmless:
            why = "it changes the prompt after the reasoning effort was decided"
            raise Refused(400, "unsupported_parameter", f"{field} is not accepted here: {why}", param=field)
