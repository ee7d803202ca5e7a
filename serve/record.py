"""One request from its first byte to its last, as it is counted: its id, whose it is, its effort, what became of it.

Holds no word of a prompt or an answer. Knows ASGI messages, no metrics.
"""

import re
import time
import uuid
from collections.abc import Callable, MutableMapping
from typing import Any

from serve.asgi import Headers, Message
from serve.asked import HEADER
from serve.heard import Heard, Tokens, Verdict

ID = b"x-request-id"
PLAIN = re.compile(rb"[A-Za-z0-9._:-]{1,128}")  # what may stand in a log and in an engine's id


class Record:
    """What is known of a request. `key` and `heard` are set by who finds out."""

    def __init__(self, scope: Message, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()
        given = [value for name, value in scope["headers"] if name == ID]
        sane = len(given) == 1 and PLAIN.fullmatch(given[0])
        self.id = given[0].decode() if sane else uuid.uuid4().hex
        # Where the engine leaves what it knows of the request; layers below may copy the scope, but not this.
        self._state: MutableMapping[str, Any] = scope.setdefault("state", {})
        self.key = ""
        self.asked = self.effort = ""
        self.status = 0
        self.heard: Heard | None = None
        self.first_answer: float | None = None  # seconds

    def named(self, headers: Headers) -> Headers:
        """Headers with the id in them, and no other one: the engine calls the request by it."""
        return [*((name, value) for name, value in headers if name.lower() != ID), (ID, self.id.encode())]

    def note(self, message: Message) -> None:
        """Look at one message on its way to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            told = dict(message["headers"])
            self.effort = told.get(HEADER.encode(), b"").decode()
            self.asked = told.get(HEADER.encode() + b"-requested", b"").decode()

    def answering(self) -> None:
        """The answer has begun, if it had not before."""
        if self.first_answer is None:
            self.first_answer = self.seconds

    @property
    def seconds(self) -> float:
        """Since it came."""
        return self._clock() - self._began

    @property
    def tokens(self) -> Tokens | None:
        """Of its answer, by the engine's count. None: nobody counted, as when the client left before the end."""
        usage = getattr(self._state.get("request_metadata"), "final_usage_info", None)
        details = getattr(usage, "completion_tokens_details", None)
        if usage is not None and details is not None:
            return Tokens(details.reasoning_tokens, usage.completion_tokens - details.reasoning_tokens)
        return self.heard.tokens if self.heard else None

    @property
    def verdict(self) -> Verdict:
        """What is wrong with its answer."""
        if self.heard is None:
            return Verdict()
        tokens = self.tokens
        return self.heard.verdict(tokens is not None and tokens.reasoning > 0)
