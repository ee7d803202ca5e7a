"""What an answer shows: what came back for a smoke check in, what is to be said of it out. Asks nobody; pure."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from deploy.exchange import Heard
from evalsuite.asking.access import Door
from tune.terminal import one_line

MARKERS = re.compile(r"<\|(channel|start|message|end|return|call|constrain)\|>")  # harmony's, never for a client
SPARE = 160  # tokens: of the template, and of the answer
WEATHER = "What is the weather in Paris now? Use the tool."
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Found(NamedTuple):
    """`length`: tokens of the context, where a check came to know it."""

    outcome: Literal["passed", "failed", "warned", "skipped"]
    words: str
    length: int = 0


def listed(models: Any) -> dict[str, str]:
    """The ids that a list of models holds, each with the digest that it is listed with, as `serve run` does, or ""."""
    data = models.get("data") if isinstance(models, dict) else None
    cards = [c for c in data if isinstance(c, dict)] if isinstance(data, list) else []
    return {str(c["id"]): d if isinstance(d := c.get("digest"), str) else "" for c in cards if c.get("id")}


def context(models: Any, model: str) -> int:
    """Tokens of the model's context, as vLLM lists it; 0 where it does not."""
    data = models.get("data") if isinstance(models, dict) else None
    cards = [c for c in data if isinstance(c, dict) and c.get("id") == model] if isinstance(data, list) else []
    length = cards[0].get("max_model_len") if cards else 0
    return length if type(length) is int and 0 < length < 1 << 31 else 0


def answered(heard: Heard) -> Found:
    """Whether there is an answer in the final channel, and nothing of harmony's own marks in it."""
    said = heard.said
    if heard.wrong or not said:
        return Found("failed", heard.wrong)
    if found := MARKERS.search(said.text) or MARKERS.search(said.reasoning):
        return Found("failed", f"the raw harmony mark {found[0]} stands in the answer: it is not parsed")
    if not said.text.strip():
        why = "the token limit cut it off in its thoughts" if said.finish_reason == "length" else "content is empty"
        return Found("failed", f"no answer: {why} ({said.completion_tokens} tokens, {said.finish_reason})")
    thought = "with" if said.reasoning else "without"
    tokens = f"{said.completion_tokens} tokens" if said.completion_tokens else "tokens not counted"
    return Found("passed", f"answered ({tokens}, {said.finish_reason}), {thought} reasoning, in {heard.total_s:.2f} s")


def streamed(heard: Heard) -> Found:
    """The same of a stream, which also has to count its tokens."""
    found = answered(heard)
    if found.outcome != "passed" or not heard.said:
        return found
    if heard.said.completion_tokens is None:
        return Found("failed", "the stream carries no usage, which was asked for")
    return Found("passed", f"{found.words}; first token after {heard.first_s:.2f} s, [DONE]")


def efforts(heards: Mapping[str, Heard]) -> Found:
    """How long it thinks at a lower and a higher effort: a fact. That it thinks the very same is a fault."""
    for effort, heard in heards.items():
        if heard.wrong or not heard.said:
            return Found("failed", f"at effort {effort}: {heard.wrong}")
        if (applied := heard.headers.get("x-reasoning-effort", effort)) != effort:
            return Found("failed", f"effort {effort} was asked and {one_line(applied, 20)} applied")
    (low, one), (high, two) = ((effort, heard.said) for effort, heard in heards.items())
    if not (one and two):
        return Found("failed", "no answer")
    if not (one.reasoning or two.reasoning):
        return Found("warned", "it shows no reasoning at either effort")
    if one.reasoning == two.reasoning:
        return Found(
            "failed", f"it thinks the very same at effort {low} and {high}: the effort does not reach the prompt"
        )
    told = [said.reasoning_tokens or len(said.reasoning.split()) for said in (one, two)]
    unit = "tokens" if one.reasoning_tokens and two.reasoning_tokens else "words"
    less = "" if told[0] < told[1] else f", though {high} is to be more"
    return Found("passed", f"thinks {told[0]} {unit} at effort {low}, {told[1]} at {high}{less}")


def called(heard: Heard) -> Found:
    """Whether a tool call came as one. None at all is a warning: a small model may not call."""
    if heard.wrong:
        weak = 400 <= heard.status < 500
        return Found("warned" if weak else "failed", heard.wrong)
    text = heard.said.text if heard.said else ""
    mark = MARKERS.search(text)
    if mark and TOOL["function"]["name"] in text and not heard.calls:
        return Found("failed", f"a call stands raw in the answer, with harmony's {mark[0]}: tool calls are not parsed")
    if not heard.calls:
        odd = f", and the mark {mark[0]} stands in the answer" if mark else ""
        return Found("warned", f"no tool is called{odd}: a small model may write so")
    name, arguments = heard.calls[0]
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        whole = heard.said is None or heard.said.finish_reason != "length"
        words = f"a call of {one_line(name, 40)} whose arguments are no JSON object"
        return Found("failed" if whole else "warned", words if whole else f"{words}: the token limit cut it off")
    if name != TOOL["function"]["name"]:
        return Found("warned", f"calls {one_line(name, 40)!r}, which it was not given")
    return Found("passed", f"calls {name} with {'a' if parsed.get('city') else 'no'} city")


def filler(words: int) -> str:
    """A prompt of so many short words."""
    return "Repeat nothing." + " one" * words


def words_for(tokens: int, few: Heard, more: Heard) -> int | None:
    """How many words of `filler` make a prompt of so many tokens, by what 64 and 128 of them took."""
    one, two = (h.said.prompt_tokens if h.said else None for h in (few, more))
    if not one or not two or two <= one:
        return None
    each = (two - one) / 64
    return max(0, math.floor((tokens - one) / each) + 64)


def wrong(door: Door) -> dict[str, str]:
    """The door's headers with another value in each, of the same form."""
    return {name: re.sub(r"[A-Za-z0-9]{4}$", "0000", value) + "x" for name, value in door.sent().items()}
