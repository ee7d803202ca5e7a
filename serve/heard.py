"""What an answer said, how it ended and what is wrong with it, from its bytes as they come: whole or streamed.

A model that loses the harmony format is not noticed else: the engine answers 200 with nothing, with control text as the
answer, or with a thought alone. Holds on to the line that is not whole yet and to a few characters of text. Pure.
"""

import json
import re
from typing import Any, Literal, NamedTuple

from serve.asked import Api

Kind = Literal["empty", "markers", "unanswered"]
KINDS: dict[Kind, str] = {
    "empty": "it stopped without a word and without a call",
    "markers": "control text of the format stands in the answer",
    "unanswered": "it stopped after its reasoning, without an answer",
}

MARKER = re.compile(r"<\|(?:start|end|message|channel|constrain|return|call|endoftext)\|>")
LONGEST = len("<|constrain|>") + len("<|endoftext|>")  # more than any of them
# What the engine shows of an answer that ran out of tokens before its next message began: no fault of the model.
HEADER = re.compile(r"(?:<\|start\|>[^<]*)?(?:<\|channel\|>[^<]*)?(?:<\|constrain\|>[^<]*)?")
KEPT = 256  # characters from the first marker on: more than a header has
LARGEST = 8 * 2**20  # bytes of one line: of an answer with a longer one nothing is said

# Most lines of a stream, as the engine writes them: read so, each takes a fourth of what parsing would. A quote that
# stands within a string has a backslash before it, so what is found is no text of an answer.
TEXT = rb'"([^"\\<\x00-\x1f]*)"'
QUICK = {
    "chat": re.compile(
        rb'"choices":\[\{"index":(\d{1,9}),"delta":\{"(content|reasoning)":' + TEXT + rb"\}"
        rb'(?:,"logprobs":null)?,"finish_reason":null(?:,"token_ids":null)?\}\]\}$'
    ),
    "messages": re.compile(
        rb'^\{"type":"content_block_delta()","delta":\{"type":"(text|thinking)_delta","(?:text|thinking)":'
        + TEXT
        + rb'\},"index":\d{1,9}\}$'
    ),
}
THOUGHTS = (b"reasoning", b"thinking")
ANSWERING = b"response.output_text.delta"

STOPPED = {"stop", "tool_calls", "end_turn", "tool_use"}  # by its own choice, not by a client's stop string
CUT = {"length", "max_tokens"}


class Tokens(NamedTuple):
    """As the engine counts them. `reasoning`: of the analysis, and of calls; `answer`: all others, the format's too."""

    reasoning: int
    answer: int


class Verdict(NamedTuple):
    """`kind`: how it is off the format. `truncated`: it ran out of tokens before its answer began."""

    kind: Kind | None = None
    truncated: bool = False


class Said:
    """One of an answer's choices. The same however its text was cut."""

    def __init__(self) -> None:
        self.thought = self.called = False
        self.ended = ""
        self.length = 0  # characters before the first marker
        self.marked = ""
        self._tail = ""

    def say(self, text: str | None) -> None:
        """More of its answer."""
        if not text:
            return
        if self.marked:
            self.marked = (self.marked + text)[:KEPT]
            return
        seen = self._tail + text
        self.length += len(text)
        if found := MARKER.search(seen) if "<" in seen else None:
            self.length -= len(seen) - found.start()
            self.marked = seen[found.start() :][:KEPT]
        self._tail = seen[-LONGEST:]

    @property
    def lost(self) -> bool:
        """Whether control text stands in it that is not the beginning of a message that no tokens were left for."""
        cut = self.ended in CUT and len(self.marked) < KEPT and HEADER.fullmatch(self.marked)
        return bool(self.marked) and not cut

    @property
    def answered(self) -> bool:
        """Whether there is anything for the client but reasoning."""
        return self.called or self.length > 0 or self.lost

    def kind(self, thought: bool) -> Kind | None:
        """How it is off the format. `thought`: that it had reasoning is known from elsewhere."""
        if self.lost:
            return "markers"
        if self.answered or self.ended not in STOPPED:
            return None
        return "unanswered" if thought or self.thought else "empty"


class Heard:
    """An answer of one API, as far as it has come. `add` takes pieces of a stream, `whole` one body of JSON.

    `stopped`: its client may have had it stopped before it began, and it would not tell.
    """

    def __init__(self, api: Api, *, stopped: bool = False) -> None:
        self._stopped = stopped
        self.answering = False  # the answer, not its reasoning, has begun
        self.over = False  # it has come to its end
        self.tokens: Tokens | None = None
        self._said: dict[int, Said] = {}
        self._odd = False  # an error, or nothing that we know
        self._rest = self._name = b""
        self._quick = QUICK.get(api)
        self._take = {"chat": self._chat, "responses": self._event, "messages": self._message}[api]

    def verdict(self, thought: bool = False) -> Verdict:
        """What is wrong with it; nothing while it is not over, and of what is no answer."""
        if not self.over or self._odd:
            return Verdict()
        kinds = (each.kind(thought) for each in self._said.values() if each.lost or not self._stopped)
        truncated = any(each.ended in CUT and not each.answered for each in self._said.values())
        return Verdict(next((kind for kind in kinds if kind), None), truncated)

    def whole(self, body: bytes) -> None:
        """All of it at once."""
        self._read(body)
        self.over = True

    def add(self, piece: bytes) -> None:
        """More of a stream, cut anywhere."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LARGEST:
            self._odd, self._rest = True, b""
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    self.over = True
                elif not self._skim(data):
                    self._read(data)
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()

    def _skim(self, data: bytes) -> bool:
        """Whether one line could be taken without being parsed."""
        if self._quick is None:  # of a response, whose last event holds all the pieces again
            return self._name.endswith(b".delta") and (self.answering or self._name != ANSWERING)
        found = self._quick.search(data)
        if found:
            index, kind, text = found.groups()
            said = self._of(int(index or 0))
            if kind in THOUGHTS:
                said.thought |= text != b""
            else:
                said.say(text.decode(errors="replace"))
                self.answering |= text != b""
        return found is not None

    def _read(self, data: bytes) -> None:
        try:
            told = json.loads(data)
            if told.get("error") or told.get("type") == "error":
                self._odd = True
            else:
                self._take(told)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._odd = True

    def _of(self, index: int) -> Said:
        if index not in self._said:
            self._said[index] = Said()
        return self._said[index]

    def _say(self, said: Said, text: str | None) -> None:
        said.say(text)
        self.answering |= bool(text)

    def _chat(self, told: dict[str, Any]) -> None:
        for choice in told["choices"]:
            said = self._of(choice.get("index", 0))
            part = choice["delta"] if "delta" in choice else choice["message"]
            said.thought |= bool(part.get("reasoning"))
            said.called |= bool(part.get("tool_calls"))
            self._say(said, part.get("content"))
            if reason := choice.get("finish_reason"):
                said.ended = "stop string" if isinstance(choice.get("stop_reason"), str) else str(reason)
        if usage := told.get("usage"):
            self.tokens = _tokens(usage.get("completion_tokens"), usage.get("completion_tokens_details"))

    def _message(self, told: dict[str, Any]) -> None:
        said, kind = self._of(0), told["type"]
        if kind == "message":
            for block in told["content"]:
                self._block(said, block["type"], block)
            said.ended = str(told["stop_reason"])
        elif kind == "content_block_start":
            self._block(said, told["content_block"]["type"], told["content_block"])
        elif kind == "content_block_delta":
            self._block(said, told["delta"]["type"], told["delta"])
        elif kind == "message_delta":
            said.ended = str(told["delta"]["stop_reason"])
        self.over |= kind == "message_stop"

    def _block(self, said: Said, kind: str, block: dict[str, Any]) -> None:
        if kind in {"text", "text_delta"}:
            self._say(said, block.get("text"))
        said.thought |= kind in {"thinking", "thinking_delta"} and bool(block.get("thinking"))
        said.called |= kind in {"tool_use", "input_json_delta"}

    def _event(self, told: dict[str, Any]) -> None:
        """A response, or an event of its stream: the last one holds it all."""
        if told.get("object") == "response":
            self._response(told)
        elif told["type"] in {"response.completed", "response.incomplete", "response.failed"}:
            self._response(told["response"])
            self.over = True
        elif told["type"] == "response.output_text.delta":
            self.answering |= bool(told["delta"])

    def _response(self, told: dict[str, Any]) -> None:
        said = self._said[0] = Said()
        for item in told["output"]:
            if item["type"] == "message":
                for part in item["content"]:
                    self._say(said, part.get("text"))
            said.thought |= item["type"] == "reasoning"
            said.called |= item["type"] not in {"message", "reasoning"}
        usage, most = told.get("usage") or {}, told.get("max_output_tokens")
        used = usage.get("output_tokens")
        self.tokens = _tokens(used, usage.get("output_tokens_details"))
        said.ended = {"completed": "stop", "incomplete": "length"}.get(told["status"], "")
        if not told["output"] and said.ended == "length" and used is not None and most and used < most:
            said.ended = "stop"  # the engine calls whatever has no output incomplete


def _tokens(used: int | None, details: dict[str, Any] | None) -> Tokens | None:
    """None where the engine tells no reasoning tokens apart."""
    reasoning = (details or {}).get("reasoning_tokens")
    return Tokens(reasoning, used - reasoning) if type(used) is int and type(reasoning) is int else None
