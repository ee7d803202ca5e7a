"""The chunks of one streamed chat completion, each with its time, to what was said and when: of answers and of load.

Chunks come as JSON has them or as the openai client gives them, and are read alike: what the one calls no chat
completion the other does too. Knows no connection, no clock and no grade.
"""

from typing import Any, NamedTuple

from pydantic import BaseModel

FINISHED = {"stop", "length", "content_filter", "tool_calls", "function_call"}
BROKEN = {"error", "abort"}  # what servers say besides, of a reply that is not whole
MOST_TOKENS = 10**9  # that a server may count: more is no count

# What is raised for a chunk of another shape, and by the parsers before it for JSON that is too deep or too large.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


class Said(NamedTuple):
    """One reply. Times as they were given to `add`, ascending: of every chunk that carried something of that channel.

    A count is None where the server told none, or told 0 though some came. `failed`: a chunk was an error's.
    """

    text: str
    reasoning: str
    moments: tuple[float, ...]  # of any channel; a chunk that carries both is one moment
    thoughts: tuple[float, ...]
    answers: tuple[float, ...]
    finish_reason: str
    refusal: str
    tool_calls: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    failed: bool

    @property
    def unfinished(self) -> str:
        """Why this is no whole reply, as an end to "the stream …"; "" when it is one."""
        if self.failed:
            return "carries an error"
        if not self.finish_reason:
            return "ended without a finish reason"
        if self.finish_reason in BROKEN:
            return f"ended with {self.finish_reason}"
        return f"ended with the unknown finish reason {self.finish_reason[:40]}" if self.odd else ""

    @property
    def odd(self) -> bool:
        """It ended for a reason that no chat completion has: whether it is whole is not known."""
        return bool(self.finish_reason) and self.finish_reason not in FINISHED | BROKEN


class Stream:
    """One reply as it comes. `add` raises one of UNREADABLE for what is no chat completion chunk."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.moments: list[float] = []
        self.thoughts: list[float] = []
        self.answers: list[float] = []
        self.refusal: list[str] = []
        self.tool_calls = False
        self.finish = ""
        self.usage: object = {}
        self.failed = False

    def add(self, time: float, chunk: object) -> None:
        if _of("chunk", chunk, "error"):
            self.failed = True
            return  # it has no choices
        self.usage = _of("chunk", chunk, "usage") or self.usage
        came = False
        for choice in _of("chunk", chunk, "choices"):
            delta = _of("choice", choice, "delta")
            hidden = False
            thought = _word(_of("delta", delta, "reasoning")) or _word(_of("delta", delta, "reasoning_content"))
            if not thought:
                hidden, thought = _details(_of("delta", delta, "reasoning_details"))
            content = _word(_of("delta", delta, "content"))
            refusal = _word(_of("delta", delta, "refusal"))
            called = bool(_of("delta", delta, "tool_calls") or _of("delta", delta, "function_call"))
            self.finish = _word(_of("choice", choice, "finish_reason")) or self.finish
            self.refusal.append(refusal)
            self.tool_calls |= called
            came |= bool(thought or hidden or content or refusal or called)
            if thought or hidden:
                self.thoughts.append(time)
                self.reasoning.append(thought)
            if content:
                self.answers.append(time)
                self.text.append(content)
        if came:
            self.moments.append(time)

    def said(self) -> Said:
        """All that was added. Raises one of UNREADABLE for a usage that counts no tokens."""
        details = _of("usage", self.usage, "completion_tokens_details") or {}
        return Said(
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            moments=tuple(self.moments),
            thoughts=tuple(self.thoughts),
            answers=tuple(self.answers),
            finish_reason=self.finish,
            refusal="".join(self.refusal),
            tool_calls=self.tool_calls,
            prompt_tokens=_count(_of("usage", self.usage, "prompt_tokens")),
            completion_tokens=_count(_of("usage", self.usage, "completion_tokens"), came=bool(self.moments)),
            reasoning_tokens=_count(_of("details", details, "reasoning_tokens"), came=bool(self.thoughts)),
            failed=self.failed,
        )


def _of(what: str, thing: object, name: str) -> Any:
    """What stands under a name of an object, as JSON has it or the openai client gives it; None if nothing does."""
    if isinstance(thing, dict):
        return thing.get(name)
    if isinstance(thing, BaseModel):
        return getattr(thing, name, None)
    raise TypeError(f"its {what} is no object")


def _details(value: object) -> tuple[bool, str]:
    """Whether `reasoning_details` hold any reasoning, which may be encrypted, and what of it can be read (OpenRouter's
    form: objects with `text`, `summary` or `data`)."""
    if not isinstance(value, list):
        if value is None:
            return False, ""
        raise TypeError("its reasoning_details are no list")
    told = [_word(_of("detail", each, "text")) or _word(_of("detail", each, "summary")) for each in value]
    return any(told) or any(_word(_of("detail", each, "data")) for each in value), "".join(told)


def _word(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"{str(value)[:40]!r} is no text")


def _count(value: object, came: bool = False) -> int | None:
    """Tokens, as a server's usage tells them; None for none told, and for 0 where some came."""
    if value is None:
        return None
    if not isinstance(value, int | float) or value != value // 1 or not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"{str(value)[:40]!r} is no count of tokens")
    return int(value) or (None if came else 0)
