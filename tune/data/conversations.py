"""One row of somebody's data, of any usual format, as harmony messages.

In: what a line of JSON holds. Out: messages that end with an answer, in which only the last may have an analysis. The
format is found by the row's keys. Text is text, whatever control tokens it spells. Pure; knows no files.

Formats: chat (`messages` of role and content, harmony's own with channels too), ShareGPT (`conversations` of from and
value), prompt and completion, each text or messages, and Alpaca (`instruction`, `input`, `output`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tune.harmony import EFFORTS, Effort, Message
from tune.screen import one_line

ROLES: dict[str, Literal["developer", "user", "assistant", "tool"]] = {
    "system": "developer",  # harmony's own system message is the kit's: model, date, effort, channels
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "function_call": "tool",
    "function_response": "tool",
    "tool_call": "tool",
    "tool_response": "tool",
}
THINKING = ("thinking", "reasoning_content", "reasoning")
TOOLS = "has tool calls"
NO_ANSWER = "ends without an answer"
MALFORMED = "not a conversation"

_THOUGHT = re.compile(r"(?s)\s*<think(?:ing)?>(.*?)</think(?:ing)?>\s*")


class Conversation(NamedTuple):
    """Messages, the format that they came in, and the effort that the row names, if any."""

    form: str
    messages: tuple[Message, ...]
    effort: Effort | None


class Refused(Exception):
    """A row that cannot be taken: the reason that it is counted under, and what exactly."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read(row: object) -> Conversation:
    """The conversation that a row holds. Raises Refused when it holds none, calls tools, or is no text alone."""
    if not isinstance(row, dict):
        raise Refused(MALFORMED, f"it is {_kind(row)}, not an object")
    if row.get("tools") or row.get("functions"):
        raise Refused(TOOLS, "it describes tools")
    form, turns = _found(row)
    if row.get("system"):
        turns = [{"role": "system", "content": row["system"]}, *turns]
    named = row.get("reasoning_effort")
    return Conversation(form, _messages(turns), named if named in EFFORTS else None)


def _found(row: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The format's name and the turns. Keys that hold null are not there: Parquet has every key in every row."""
    for key, form in (("messages", "chat"), ("conversations", "ShareGPT")):
        if row.get(key) is not None:
            if not isinstance(row[key], list) or not row[key]:
                raise Refused(MALFORMED, f"{key} is {_kind(row[key])}" if row[key] != [] else f"{key} is empty")
            return form, row[key]
    answer = {"role": "assistant", **{key: row.get(key) for key in THINKING}}
    if row.get("prompt") is not None and row.get("completion") is not None:
        asked, told = row["prompt"], row["completion"]
        asked = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
        return "prompt and completion", [*asked, *(told if isinstance(told, list) else [{**answer, "content": told}])]
    if row.get("instruction") is not None and row.get("output") is not None:
        parts = [row["instruction"], *([row["input"]] if row.get("input") else [])]
        if not all(isinstance(part, str) for part in parts):
            raise Refused(MALFORMED, "instruction or input is no text")
        asked = {"role": "user", "content": "\n\n".join(parts)}
        return "Alpaca", [asked, {**answer, "content": row["output"]}]
    keys = one_line(", ".join(sorted(map(str, row))[:8]), 100)
    raise Refused(MALFORMED, f"no known format has its keys: {keys}" if keys else "it has no keys")


def _messages(turns: Sequence[Any]) -> tuple[Message, ...]:
    out, thought, last = list[Message](), "", len(turns) - 1
    for n, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise Refused(MALFORMED, f"turn {n + 1} is {_kind(turn)}")
        role, channel = _role(turn, n), turn.get("channel")
        if role == "tool" or any(turn.get(key) for key in ("tool_calls", "function_call", "recipient")):
            raise Refused(TOOLS, f"turn {n + 1}")
        text = _text(turn.get("content", turn.get("value")), n)
        if role != "assistant":
            thought = ""
            out.append(Message(role=role, content=text))
            continue
        if channel == "analysis":
            thought = f"{thought}\n{text}" if thought else text
            continue
        if channel not in (None, "", "final"):
            raise Refused(TOOLS, f"turn {n + 1} is on channel {channel!r}")
        own = next((turn[key] for key in THINKING if turn.get(key)), None)
        inside, text = _thought(text, n)
        parts = [part for part in (thought, _text(own, n) if own is not None else "", inside) if part.strip()]
        thought = ""
        if n == last and turn.get("weight") == 0:
            raise Refused(NO_ANSWER, "its last turn has weight 0")
        # The analysis of earlier turns is gone at serving time, and is no part of training either.
        out.append(Message(role="assistant", content=text, thinking="\n".join(parts) or None if n == last else None))
    if not out or out[-1].role != "assistant" or thought:
        raise Refused(NO_ANSWER, f"its last turn is by {out[-1].role}" if out and not thought else "it has no answer")
    if not any(message.role == "user" for message in out):
        raise Refused(MALFORMED, "nobody asks anything")
    return tuple(out)


def _role(turn: Mapping[str, Any], n: int) -> Literal["developer", "user", "assistant", "tool"]:
    said = turn.get("role", turn.get("from"))
    if isinstance(said, dict):  # harmony's own JSON names an author
        said = said.get("role")
    if not isinstance(said, str) or said not in ROLES:
        raise Refused(MALFORMED, f"turn {n + 1} is by {said!r}"[:100])
    return ROLES[said]


def _text(content: object, n: int) -> str:
    """Text, or the joined text of parts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise Refused("more than text", f"turn {n + 1}")
        content = "\n".join(map(str, parts))
    if not isinstance(content, str):
        raise Refused(MALFORMED, f"turn {n + 1} says {_kind(content)}")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise Refused(MALFORMED, f"turn {n + 1} has half a character") from None
    return content


def _thought(text: str, n: int) -> tuple[str, str]:
    """What stands in `<think>` at an answer's beginning, and the answer: learned as text it would break the format."""
    if found := _THOUGHT.match(text):
        return found[1].strip(), text[found.end() :]
    if text.lstrip().startswith(("<think>", "<thinking>")):
        raise Refused(NO_ANSWER, f"turn {n + 1} does not end its <think>")
    return "", text


def _kind(value: object) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
