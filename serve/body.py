"""A request's body before the engine reads it: JSON, within bounds, its effort decided, and no field that lies.

In: path and bytes. Out: the path and the bytes for the engine, and the effort that was applied; or Refused. Knows no
sockets.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from serve import fields, limits
from serve.asgi import Headers
from serve.asked import HEADER, Asked, apply
from serve.doors import APIS, COUNTING, RAW, RENDERING, Refused
from serve.effort import EffortError, EffortPolicy
from serve.routing import Meant


class Rules(NamedTuple):
    """What bodies are held to."""

    policy: EffortPolicy
    max_model_len: int
    raw_completions: bool
    names: tuple[str, ...] = ()  # what models are called; the engine's own name for the base comes first
    meant: Callable[[str], Meant | None] | None = None  # where adapters lie beside the base: what a name means


class Taken(NamedTuple):
    """What the engine gets; what it may spend on reasoning; what the client is told, and calls the model."""

    path: str
    body: bytes
    told: Headers = ()
    tokens: int | None = None
    name: str = ""
    stops: bool = False  # it may end where its client wants it to, without a word that it did
    meant: Meant | None = None  # which of several models answers; None where there is one
    answer: Callable[[bytes], bytes] | None = None  # makes the client's answer of the engine's, where that is another


def rewrite(rules: Rules, path: str, body: bytes, headers: Sequence[str] = ()) -> Taken:
    """A request with its effort decided. Raises Refused for anything that cannot be taken.

    Always written anew, so that a repeated key cannot mean one thing here and another to the engine. A path
    that runs no model keeps its body as it is. /invocations becomes the path of what it holds: the engine's own route
    there tries one kind of request after the other, and would take a chat that it cannot read for a raw completion. A
    count of input tokens becomes a rendering of the prompt.
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
            limits.check(data, rules.max_model_len)
            fields.check(data, None)
            data, meant, name = _routed(rules, data)
            return Taken(path, json.dumps(data).encode(), name=name, meant=meant)
        if APIS[path] == "responses":
            data = _joined(data)
        asked = apply(rules.policy, APIS[path], data, headers=headers, names=rules.names)
        told = _told(asked)
        limits.check(asked.body, rules.max_model_len)
        fields.check(asked.body, APIS[path], tokens=asked.tokens)
        data, meant, name = _routed(rules, asked.body)
        stops = _stops(APIS[path], data)
        answer = _counted if path == COUNTING else None
        path = RENDERING if path == COUNTING else path
        return Taken(path, json.dumps(data).encode(), told, asked.tokens, asked.name or name, stops, meant, answer)
    except EffortError as e:
        raise Refused(400, "invalid_effort", str(e), param=e.param, headers=_requested(e.word)) from None
    except (limits.TextError, fields.FieldError) as e:
        raise Refused(400, e.code, str(e), param=e.param, headers=told) from None
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_json", "the request body is not JSON that can be read") from None


def _routed(rules: Rules, data: dict[str, Any]) -> tuple[dict[str, Any], Meant | None, str]:
    """The body with the engine's name for the model that it asks for, what that is, and the name as it was asked where
    the engine has another."""
    asked = data.get("model")
    if rules.meant is None or not isinstance(asked, str):
        return data, None, ""
    meant = rules.meant(asked)
    if meant is None:
        raise Refused(404, "model_not_found", f"the model {asked[:200]} does not exist", param="model")
    return {**data, "model": meant.engine}, meant, "" if meant.engine == asked else asked


def _joined(data: dict[str, Any]) -> dict[str, Any]:
    """The same with each result of a tool as one text where it came as a list of texts: the engine breaks at a list."""
    turns = data.get("input")
    if not isinstance(turns, list):
        return data
    joined = list(turns)
    for n, turn in enumerate(turns):
        if not isinstance(turn, dict) or turn.get("type") != "function_call_output":
            continue
        parts = output if isinstance(output := turn.get("output"), list) else []
        told = [part for part in parts if isinstance(part, dict) and part.get("type") == "input_text"]
        texts = [part["text"] for part in told if isinstance(part.get("text"), str)]
        if texts and len(texts) == len(parts):
            joined[n] = {**turn, "output": "".join(texts)}
    return {**data, "input": joined}


def _told(asked: Asked) -> Headers:
    """What the client hears of its effort, whatever comes of the request."""
    applied = [(HEADER.encode(), asked.effort.encode())] if asked.effort else []
    tokens = [(b"x-reasoning-budget", str(asked.tokens).encode())] if asked.tokens else []
    return [*_requested(asked.word), *applied, *tokens]


def _requested(word: str) -> Headers:
    fits = re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", word)  # nothing that could be more than one header's value
    return [(b"x-reasoning-effort-requested", word.encode())] if fits else []


def _counted(rendered: bytes) -> bytes:
    """A count of input tokens; what is no rendered prompt stays as it is."""
    try:
        tokens = len(json.loads(rendered)["token_ids"])
    except (ValueError, KeyError, TypeError):
        return rendered
    return json.dumps({"object": "response.input_tokens", "input_tokens": tokens}).encode()


def _stops(api: str, body: dict[str, Any]) -> bool:
    """Of a stop string the engine tells, but in the Responses API; of a stop's id nowhere by its name."""
    return bool(body.get("stop_token_ids") or (api == "responses" and body.get("stop")))
